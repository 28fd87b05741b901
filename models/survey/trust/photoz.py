"""pz-bench: every row that gives photometric redshifts beside the classical methods, on the same galaxies.

After Schmidt et al. (2020). The galaxies, the classical methods and their training are those of each row's own bench:
of a simulator the same fresh ones, of a real set the first of its folds. So are the figures; here they stand side by
side, with the classical methods' posteriors. n = galaxies.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from broker.models.survey import bench, posterior, registry
from broker.models.survey import card as cards
from broker.models.survey.baselines import one_thread
from broker.models.survey.judge import JUDGES, OUTLIER, by_bin
from broker.models.survey.row import Baseline, Columns, Examples, Finding, Row
from broker.models.survey.trust import photoz_classics as classics
from broker.sidecar.answer import Answer, Output

JUDGE = "photo-z"
PIT_BINS = 20
QUANTILES = np.linspace(0.0, 1.0, 7)
"""Of the bins of redshift and magnitude: as many galaxies in each."""
MAGNITUDES = ("mag_r", "mag_i")
Line = dict[str, Any]
Make = Callable[[], Callable[[Columns], Output]]
"""Trains a method; returns what answers."""


@cache
def table(seed: int, data: Path | None) -> list[Line]:
    """Return one line for each method on each set, fit for JSON.

    A line holds ``set``, ``method``, ``model`` (a row, or a classical method), ``galaxies``, ``whole`` (how many the
    set has of which these are a fold; 0: no fold), ``figures`` (value, unit, better, interval by name), ``by_redshift``
    and ``by_magnitude`` (lists of `broker.models.survey.judge.Bin`), ``pit`` (shares of `PIT_BINS`, 1 is flat; empty
    without a posterior), ``train_s`` and ``galaxies_per_s``.
    """
    return [line for group in groups(data) for line in _lines(group, seed, data)]


def groups(data: Path | None) -> list[list[tuple[Row, str]]]:
    """Return rows and variants that are trained on the same set, group by group; real sets only where they are."""
    found: dict[Any, list[tuple[Row, str]]] = {}
    for row in registry.rows(registry.OURS).values():
        if isinstance(row, Row) and row.judge == JUDGE:
            for name, variant in row.variants.items():
                if data is not None or not variant.real:
                    found.setdefault((name, variant.make), []).append((row.on(name), name))
    return list(found.values())


def show(seed: int, data: Path | None) -> tuple[list[Finding], str]:
    """Return scatter and CDE loss of the best row beside the best classical method and trainZ, and what it means."""
    lines = table(seed, data)
    sets = list(dict.fromkeys(line["set"] for line in lines))
    return [finding for each in sets for finding in _findings(each, lines)], _said(sets, lines)


def pages(seed: int, data: Path | None) -> dict[str, str]:
    """Return the page and the picture of the same lines, by file name."""
    from broker.models.survey.trust import photoz_page

    lines = table(seed, data)
    _, said = show(seed, data)
    command = f"tocsin bench survey pz-bench --seed {seed}"
    return {"pz-bench.md": photoz_page.page(lines, said, command), "pz-bench.svg": photoz_page.picture(lines)}


def _lines(group: list[tuple[Row, str]], seed: int, data: Path | None) -> list[Line]:
    row, name = group[0]
    variant = row.variants[name]
    if variant.real:
        whole = variant.make(variant.n, seed, data)
        part = bench.folds(row, whole, seed)[0]
        seen, unseen = whole.take(np.setdiff1d(np.arange(len(whole)), part)), whole.take(part)
    else:
        seen = variant.make(variant.n, cards.read(row, name).training.seed, None)
        unseen = bench.fresh(row, name, seed)
    unseen = _answered(row, unseen)
    title = name if variant.real or len(group) > 1 else f"{name} of {row.id}"
    methods = {r.id: partial(_network, r, name, seen, seed) for r, _ in group}
    return [
        _line(title, method, make, unseen)
        | {"model": method in registry.places(), "whole": len(seen) + len(unseen) if variant.real else 0}
        for method, make in (methods | _classical(row, seen, seed)).items()
    ]


def _answered(row: Row, examples: Examples) -> Examples:
    """Return the examples that have what the row requires: all methods are judged on these."""
    from broker.models.survey.fitted import read  # torch, which rows are stated without

    return examples.take(np.array([why == "" for why in read(row, examples.columns).reason]))


def _network(row: Row, variant: str, seen: Examples, seed: int) -> Callable[[Columns], Output]:
    """Return the weights that ship, or of a real set those of the bench's first fold, which have not seen it."""
    from broker.models.survey import serve, train  # torch, which rows are stated without

    if row.variants[variant].real:
        fitted = train.fit(row, seen, seed * bench.FOLDS)
    else:
        fitted = serve.load(f"{row.id}@{variant}").fitted
    return lambda columns: fitted.answer(columns).outputs[0]


def _classical(row: Row, seen: Examples, seed: int) -> dict[str, Make]:
    """Return the classical methods: those with posteriors, and the points of the row's own baselines."""
    found: dict[str, Make] = {
        "forest": partial(classics.forest, seen, seed),
        "knn": partial(classics.neighbours, seen, seed),
        "trainz": partial(classics.train_z, seen, seed),
    }
    points = {who: partial(_points, row, baseline, seen, seed) for who, baseline in row.baselines.items()}
    return points | found


def _points(row: Row, baseline: Baseline, seen: Examples, seed: int) -> Callable[[Columns], Output]:
    predict = baseline(seen, seed)
    return lambda columns: bench.as_answer(row, predict(columns)).outputs[0]


def _line(title: str, method: str, make: Make, unseen: Examples) -> Line:
    with one_thread():
        began = time.perf_counter()
        answer = make()
        trained = time.perf_counter()
        output = answer(unseen.columns)
        took = time.perf_counter() - trained
    z, extra = unseen.truth[:, 0], unseen.extra
    figures = JUDGES[JUDGE](Answer((output,), np.zeros(len(z)), [""] * len(z)), unseen.truth, extra)
    limit = float(np.median(extra.get("outlier", np.array(OUTLIER))))
    by = {"redshift": z, "magnitude": _magnitude(unseen.columns)}
    bins = {f"by_{what}": [asdict(b) for b in by_bin(output, z, x, _edges(x), limit)] for what, x in by.items()}
    return {
        "set": title,
        "method": method,
        "galaxies": len(z),
        "figures": {
            name: {"value": f.value, "unit": f.unit, "better": f.better, "interval": list(f.interval())}
            for name, f in figures.items()
        },
        **bins,
        "pit": _pit(output, z),
        "train_s": round(trained - began, 2),
        "galaxies_per_s": float(f"{len(z) / took:.3g}"),
    }


def _magnitude(columns: Columns) -> NDArray[Any]:
    """Return the magnitude to bin by; NaN where there is none."""
    named = [columns[name] for name in MAGNITUDES if name in columns]
    return np.asarray(named[0]) if named else np.full(len(next(iter(columns.values()))), np.nan)


def _edges(x: NDArray[Any]) -> list[float]:
    known = x[np.isfinite(x)]
    return [] if not len(known) else [*np.quantile(known, QUANTILES[:-1]).tolist(), float(known.max()) + 1e-6]


def _pit(output: Output, z: NDArray[Any]) -> list[float]:
    good = np.isfinite(output.value)
    if not np.isfinite(output.sigma[good]).all():
        return []
    ranks = posterior.pit(output, z)[good]
    return [round(float(share), 3) for share in PIT_BINS * np.histogram(ranks, PIT_BINS, (0, 1))[0] / len(ranks)]


def best(lines: list[Line], figure: str) -> Line:
    """Return the line with the least of a figure."""
    return min((line for line in lines if figure in line["figures"]), key=lambda line: line["figures"][figure]["value"])


def _findings(name: str, lines: list[Line]) -> list[Finding]:
    """Return the figures of one set: the best row's scatter and CDE loss against the best classical method's."""
    here = [line for line in lines if line["set"] == name]
    models = [line for line in here if line["model"]]
    others = [line for line in here if not line["model"] and line["method"] != "trainz"]
    trainz = next(line for line in here if line["method"] == "trainz")
    found = []
    for figure, rival in (("sigma_nmad", others), ("outliers", others), ("cde_loss", others), ("pit", [trainz])):
        model, other = best(models, figure), best(rival, figure)
        own, theirs = model["figures"][figure], other["figures"][figure]["value"]
        title = f"{name}: {figure} of {model['method']} beside {other['method']}"
        found.append(Finding(title, own["unit"], own["better"], own["value"], theirs, tuple(own["interval"])))
    return found


def _said(sets: list[str], lines: list[Line]) -> str:
    """Say who wins what, as measured."""
    won = [_better(name, lines) for name in sets]
    return (
        f"The best network has less scatter than every classical method on {sum(won)} of {len(sets)} sets. trainZ, "
        "which gives every galaxy the same posterior, has the flattest PIT of all methods on "
        f"{sum(best([x for x in lines if x['set'] == name], 'pit')['method'] == 'trainz' for name in sets)} of them, "
        "and the worst CDE loss of all on "
        f"{sum(_worst([x for x in lines if x['set'] == name]) == 'trainz' for name in sets)}. "
        "Of given sets this is the first of the five folds that the rows' own figures pool: methods that are close may "
        "stand in another order."
    )


def _better(name: str, lines: list[Line]) -> bool:
    return bool(best([line for line in lines if line["set"] == name], "sigma_nmad")["model"])


def _worst(here: list[Line]) -> str:
    told = [line for line in here if "cde_loss" in line["figures"]]
    return str(max(told, key=lambda line: line["figures"]["cde_loss"]["value"])["method"])
