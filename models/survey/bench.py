"""A row beside its baselines: the same inputs, figures and speeds of one run. n = records.

A simulator's variant is judged with the weights that ship, on fresh examples of another seed; a real set by five folds,
pooled out of fold: each fold is answered by networks that never saw it. A set that only judges is answered by the
weights that ship of a variant. ``answered`` is the share of records that have an answer; all other figures, the
baselines' too, are of these.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from broker.models.survey import registry
from broker.models.survey.baselines import one_thread
from broker.models.survey.judge import JUDGES, take
from broker.models.survey.progress import Show, silent
from broker.models.survey.row import Columns, Examples, Floats, Row, Variant
from broker.sidecar.answer import Answer, Output

FOLDS = 5
FRESH = 5_000
"""Examples that a simulator's variant is judged on."""
FRESH_SEED = 1_000_003
"""Added to the bench's seed: no row is trained with a seed near it."""
TIMED = 2_000
Found = dict[str, Any]
Predict = Callable[[Columns], Floats]


@dataclass(frozen=True, slots=True)
class Run:
    """Answers to examples that those who answer have not seen.

    Attributes
    ----------
    examples : Examples
    answers : dict of str to Answer
        The row's under ``model``, then each baseline's by its name.
    speeds : dict of str to float
        Records per second of one thread, by the same names, on the same records.
    """

    examples: Examples
    answers: dict[str, Answer]
    speeds: dict[str, float]


def bench(name: str, data: Path | None, seed: int = 1, report: Show | None = None) -> Found:
    """Return the result of one variant of a row, such as ``pz-mdn@dc2``, as it is written to a file.

    Raises
    ------
    TocsinError
        No such row or variant, or its real set is not there.
    """
    began = time.perf_counter()
    row, variant, wanted = registry.judged(name)
    say, trained = report or silent, row.variants[variant]
    folded = trained.real and wanted == variant
    run = _folds(row, trained, data, seed, say) if folded else _shipped(row, variant, wanted, data, seed, say)
    about = run.examples.data
    return {
        "row": row.id,
        "variant": wanted,
        "data": {"id": about.id, "version": about.version, "toy": about.toy, "real": about.real},
        "protocol": _protocol(variant, wanted, folded=folded),
        "seed": seed,
        "records": len(run.examples),
        "metrics": _metrics(row, run),
        "records_per_s": {who: float(f"{speed:.3g}") for who, speed in run.speeds.items()},
        "seconds": round(time.perf_counter() - began, 1),
        "command": f"tocsin bench survey {row.id}@{wanted} --seed {seed}",
    }


def _protocol(variant: str, wanted: str, *, folded: bool) -> str:
    if wanted != variant:
        return f"shipped weights of {variant}, on a set that only judges"
    return f"{FOLDS} folds, pooled" if folded else "shipped weights, fresh examples"


def _shipped(row: Row, variant: str, wanted: str, data: Path | None, seed: int, report: Show) -> Run:
    """Judge a variant's weights that ship; the baselines are trained on as many of its examples as they were."""
    from broker.models.survey import serve  # torch, which services that bench rows are stated without

    served, trained = serve.load(f"{row.id}@{variant}"), row.variants[variant]
    examples = fresh(row, wanted, seed, data=data)
    seen = trained.make(trained.n, served.card.training.seed, data)
    fitted = baselines(row, seen, seed, report)
    answers = {"model": served.fitted.answer(examples.columns)}
    answers |= {who: as_answer(row, predict(examples.columns)) for who, predict in fitted.items()}
    return Run(examples, answers, speeds(served.fitted.answer, fitted, examples))


def fresh(row: Row, name: str, seed: int, n: int = FRESH, data: Path | None = None) -> Examples:
    """Return what shipped weights are judged on: the same for the same seed, and never trained on."""
    return row.sets[name].make(n, FRESH_SEED + seed, data)


def figures(row: Row, answer: Answer, examples: Examples) -> dict[str, float]:
    """Return the figures of an answer as results hold them."""
    judged = JUDGES[row.judge](answer, examples.truth, examples.extra)
    return {name: _rounded(figure.value) for name, figure in judged.items()}


def _folds(row: Row, variant: Variant, data: Path | None, seed: int, report: Show) -> Run:
    """Train on four fifths and answer the fifth, five times."""
    from broker.models.survey import train

    examples = variant.make(variant.n, seed, data)
    parts = folds(row, examples, seed)
    answers: dict[str, list[Answer]] = {}
    rates: dict[str, list[float]] = {}
    for number, part in enumerate(parts):
        rest, held = np.setdiff1d(np.arange(len(examples)), part), examples.take(part)
        fitted = train.fit(row, examples.take(rest), seed * FOLDS + number, report=report)
        others = baselines(row, examples.take(rest), seed, report)
        answers.setdefault("model", []).append(fitted.answer(held.columns))
        for who, predict in others.items():
            answers.setdefault(who, []).append(as_answer(row, predict(held.columns)))
        for who, speed in speeds(fitted.answer, others, held).items():
            rates.setdefault(who, []).append(speed)
        report(f"{row.id}: folds", number + 1, FOLDS)
    pooled = {who: joined(said) for who, said in answers.items()}
    return Run(examples.take(np.concatenate(parts)), pooled, {who: max(s) for who, s in rates.items()})


def folds(row: Row, examples: Examples, seed: int) -> list[NDArray[np.int64]]:
    """Return the rows of each fold; a classifier's classes are as common in all of them."""
    shuffled = np.random.default_rng(seed).permutation(len(examples))
    if row.classes:
        shuffled = shuffled[np.argsort(examples.truth[shuffled], kind="stable")]
    return [np.sort(shuffled[number::FOLDS]) for number in range(FOLDS)]


def baselines(row: Row, examples: Examples, seed: int, report: Show) -> dict[str, Predict]:
    """Return the row's baselines, fitted to the examples."""
    fitted = {}
    for number, (who, baseline) in enumerate(row.baselines.items()):
        fitted[who] = baseline(examples, seed)
        report(f"{row.id}: baselines", number + 1, len(row.baselines))
    return fitted


def as_answer(row: Row, estimates: Floats) -> Answer:
    """Return a baseline's estimates (n, targets), or probabilities (n, classes), as a row would say them."""
    nothing = np.full(len(estimates), np.nan)
    if row.classes:
        likeliest, parts = estimates.argmax(axis=1).astype(np.float64), {"probabilities": estimates}
        outputs = [Output("class", "", "classes", likeliest, nothing, parts, row.classes)]
    else:
        columns = zip(row.targets, estimates.T, strict=True)
        outputs = [Output(target.name, target.unit, "value", column, nothing) for target, column in columns]
    return Answer(tuple(outputs), nothing, [""] * len(estimates))


def joined(answers: list[Answer]) -> Answer:
    """Return the answers to several parts as one."""
    outputs = [_joined([answer.outputs[i] for answer in answers]) for i in range(len(answers[0].outputs))]
    rank = np.concatenate([answer.out_of_domain for answer in answers])
    return Answer(tuple(outputs), rank, [why for answer in answers for why in answer.reason])


def _part(answer: Answer, rows: NDArray[np.bool_]) -> Answer:
    """Return the answer to some of its records (n,)."""
    outputs = tuple(take(output, rows) for output in answer.outputs)
    return Answer(outputs, answer.out_of_domain[rows], [answer.reason[k] for k in np.flatnonzero(rows)])


def _joined(outputs: list[Output]) -> Output:
    first = outputs[0]
    parts = {
        name: part if name == "grid" else np.concatenate([output.parts[name] for output in outputs])
        for name, part in first.parts.items()
    }
    value, sigma = (np.concatenate([getattr(output, name) for output in outputs]) for name in ("value", "sigma"))
    return replace(first, value=value, sigma=sigma, parts=parts)


def speeds(answer: Callable[[Columns], Answer], others: dict[str, Predict], examples: Examples) -> dict[str, float]:
    """Return records per second of the row and of each baseline: the same records, one thread, the best of three."""
    columns = examples.take(np.arange(len(examples))[:TIMED]).columns
    n = min(len(examples), TIMED)
    calls: dict[str, Callable[[Columns], Any]] = {"model": answer, **others}
    with one_thread():
        return {who: n / min(_seconds(call, columns) for _ in range(3)) for who, call in calls.items()}


def _seconds(call: Callable[[Columns], Any], columns: Columns) -> float:
    began = time.perf_counter()
    call(columns)
    return time.perf_counter() - began


def _metrics(row: Row, run: Run) -> dict[str, Found]:
    """Return each figure of the row, its 95 % interval, and the same figure of each baseline that has it.

    Baselines are judged on the records that the row answers: those that it declines are the hard ones.
    """
    judge, model = JUDGES[row.judge], run.answers["model"]
    own = judge(model, run.examples.truth, run.examples.extra)
    answered = np.array([why == "" for why in model.reason], dtype=np.bool_)
    same = run.examples.take(answered)
    others = {who: _part(answer, answered) for who, answer in run.answers.items() if who != "model"}
    figures = {who: judge(answer, same.truth, same.extra) for who, answer in others.items()}
    return {
        name: {
            "unit": figure.unit,
            "better": figure.better,
            "model": _rounded(figure.value),
            "interval": [_rounded(limit) for limit in figure.interval()],
            "baselines": {who: _rounded(said[name].value) for who, said in figures.items() if name in said},
        }
        for name, figure in own.items()
    }


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
