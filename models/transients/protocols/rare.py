"""Protocol G: fitted on the common supernovae of one half of PLAsTiCC, it must find rare transients among the rest."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from broker.core.batch import Floats, LightCurves
from broker.core.taxonomy import CLASSES, COMMON, RARE
from broker.models.transients import augment, data, examples, exposure, strange, train
from broker.models.transients.beginnings import first_detection
from broker.models.transients.data import Labelled
from broker.models.transients.evaluate import area_under_curve, recall_at
from broker.models.transients.examples import Examples
from broker.models.transients.exposure import Task, member
from broker.models.transients.protocols import members, plots
from broker.models.transients.protocols.unit import Column, Context, Protocol, Result, Unit
from broker.models.transients.train import Recipe
from broker.score import classify
from broker.score.anomaly import PARTS, encode, forest_inputs, judge_inputs
from broker.score.tensors import HOST, Tensors, without_host
from broker.score.window import GridRule

SEED = 1
"""Of the halves that are reported; everything was chosen on those of seed 0."""
EPOCHS = 6
"""Of MCIF's classifier."""
DAYS = (2, 5, 10, 20, 40)
BUDGET = 0.1
BASE_RATE = 0.015
"""Rare among common and rare alike, about as a magnitude-limited survey finds them (SLSN-I and TDE, ZTF's Bright
Transient Survey: 51 of 3,600); for the purity."""
FLAGGED = np.concatenate(([0.0, 0.001, 0.002, 0.005], np.linspace(0.01, 0.2, 20), np.linspace(0.25, 1.0, 16)))

Float32s = NDArray[np.float32]
Score = Callable[[Tensors], Floats]
"""Tensors to how strange each is (n,)."""


def units(row: str) -> tuple[Unit, ...]:
    """Return the two halves of a row."""
    return tuple(Unit("G", row, SEED, part) for part in (0, 1))


def run(unit: Unit, context: Context) -> Result:
    """Fit on one half's common objects and judge on the other's, and on all rare ones."""
    begun = time.monotonic()
    host = unit.row == "judge, host z"
    objects = data.load(members.source(context))
    if unit.row != ALL:
        objects = objects.take(np.flatnonzero(member(objects.label, COMMON | RARE)))
    folder = context.cache / "checkpoints" / f"G-seed{unit.seed}{'-host' if host else ''}"
    task = Task("lsst", unit.seed, 0, folder, context.show, host)
    mine, judged = split(objects, unit.seed, unit.part)
    score = ROWS[unit.row](mine, task, f"half{unit.part}")
    metrics, curves = _judged(score, judged, host)
    command = f'tocsin evaluate G --row "{unit.row}"'
    return {"metrics": metrics, "curves": curves, "command": command, "seconds": round(time.monotonic() - begun, 1)}


def split(objects: Labelled, seed: int, half: int) -> tuple[Labelled, Labelled]:
    """Return the objects of one half that are not rare, and the common ones of the other half with all rare ones."""
    mine, judged = strange.halves(objects.object_id, objects.label, seed, half)
    return objects.take(mine), objects.take(judged)


def views(curves: LightCurves) -> dict[str, LightCurves]:
    """Return what is scored: whole curves, the last alert's packet, and all points up to days after the first."""
    first = first_detection(curves)
    last = augment.as_packet(curves, augment.last_detection(curves), examples.HISTORY_D["lsst"])
    early = {f"day_{day}": augment.as_packet(curves, first + day, np.inf) for day in DAYS}
    return {"whole_curve": curves, "packet_of_last_alert": last, **early}


def figures(score: Floats, label: NDArray[np.int64]) -> dict[str, float]:
    """Return AUC, recall at the budget (also per rare class) and the purity at the base rate, of scores (n,)."""
    rare = member(label, RARE)
    threshold = np.quantile(score[~rare], 1.0 - BUDGET)
    recall = recall_at(score, rare, BUDGET)
    strict = recall_at(score, rare, 0.01)
    out = {"auc": area_under_curve(score, rare), "recall": recall, "recall_at_1_percent": strict}
    out |= {"purity": _purity(recall, BUDGET), "purity_at_1_percent": _purity(strict, 0.01)}
    for k in np.unique(label[rare]):
        out[f"recall_{CLASSES[k].slug}"] = float((score[label == k] > threshold).mean())
    return out


def _judged(score: Score, judged: Labelled, host: bool) -> tuple[dict[str, float], dict[str, Any]]:
    metrics: dict[str, float] = {}
    curves: dict[str, Any] = {"flagged": FLAGGED.round(4).tolist()}
    rare = member(judged.label, RARE)
    for name, view in views(judged.curves).items():
        made = examples.to_examples(view, "lsst", GridRule(), judged.host_z, judged.host_z_err)
        values = score(made if host else without_host(made))
        metrics |= {f"{key}.{name}": round(value, 5) for key, value in figures(values, judged.label).items()}
        twice = augment.detections(view) >= 2
        metrics[f"scored_in_service.{name}"] = round(float(twice.mean()), 5)
        metrics[f"auc_of_those.{name}"] = round(area_under_curve(values[twice], rare[twice]), 5)
        metrics[f"recall_of_those.{name}"] = round(recall_at(values[twice], rare[twice], BUDGET), 5)
        curves[f"found.{name}"] = [round(recall_at(values, rare, share), 4) for share in FLAGGED]
    return metrics, curves


def _purity(recall: float, flagged: float) -> float:
    return BASE_RATE * recall / (BASE_RATE * recall + (1.0 - BASE_RATE) * flagged)


def _judge(mine: Labelled, task: Task, name: str) -> Score:
    """Return the judge's ln odds, by whose rank the deployed score orders curves."""
    del name
    judge = exposure.train(exposure.make(mine, task), task)
    return lambda tensors: judge.score(judge_inputs(tensors))


def _together(mine: Labelled, task: Task, name: str) -> Score:
    fitted = strange.fit(mine, _known(mine, task), task, name, dict.fromkeys(PARTS, 1.0))
    return lambda tensors: fitted.score(tensors, task.scalars)["score"]


def latents(known: Examples, task: Task, name: str, scalars: bool = True) -> Score:
    """Return an isolation forest on the autoencoder's latents, alone (Villar et al. 2021) or with some scalars."""
    network = strange.autoencoder(known, task, name)

    def inputs(tensors: Tensors) -> Float32s:
        code, _ = encode(network, tensors, strange.CPU)
        return forest_inputs(code, tensors, task.scalars) if scalars else code

    return _isolation(inputs, known, task)


def reconstruction(known: Examples, task: Task, name: str) -> Score:
    """Return how badly an autoencoder explains a curve."""
    network = strange.autoencoder(known, task, name)
    return lambda tensors: encode(network, tensors, strange.CPU)[1]


def on_features(known: Examples, task: Task, name: str, read: Callable[[Tensors], Float32s]) -> Score:
    """Return an isolation forest on what ``read`` returns (n, F), the mean (0 if there is none) where it is unknown."""
    del name
    mean = np.nan_to_num(np.nanmean(read(known.tensors), axis=0))

    def inputs(tensors: Tensors) -> Float32s:
        features = read(tensors)
        return np.where(np.isnan(features), mean, features)

    return _isolation(inputs, known, task)


def _isolation(inputs: Callable[[Tensors], Float32s], known: Examples, task: Task) -> Score:
    forest = strange.forest_of(inputs(known.tensors), task.seed)
    return lambda tensors: forest.score(inputs(tensors))


def _of_examples(fit: Callable[[Examples, Task, str], Score]) -> Callable[[Labelled, Task, str], Score]:
    return lambda mine, task, name: fit(_known(mine, task), task, name)


def _per_class(mine: Labelled, task: Task, name: str) -> Score:
    """Return MCIF (Gupta et al. 2025): a forest per class on a classifier's penultimate layer; the lowest score counts.

    The classifier is the recurrent network, trained to tell the common classes apart without the host's redshift.
    """
    known = strange.usable(examples.make(task.survey, mine, task.seed, task.show), host=True)
    recipe = Recipe("gru", epochs=EPOCHS, hide_host=1.0, seed=task.seed)

    def report(epoch: int, loss: float) -> None:
        task.show(f"{name}-mcif, loss {loss:.3f}", epoch, EPOCHS)

    network = train.fit(known, recipe, task.folder / f"{name}-mcif.pt", report)
    seen: list[Float32s] = []
    network.heads.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].numpy()))

    def layer(tensors: Tensors) -> Float32s:
        seen.clear()
        missing = np.full((len(tensors), len(HOST)), np.nan, np.float32)
        missing[:, -1] = 0.0
        scalars = np.concatenate((tensors.scalars, missing), axis=1)
        classify.run(network, replace(tensors, scalars=scalars), strange.CPU)
        return np.concatenate(seen)

    hidden = layer(without_host(known.tensors))
    forests = [strange.forest_of(hidden[known.label == k], task.seed) for k in np.unique(known.label)]

    def least(tensors: Tensors) -> Floats:
        inputs = layer(tensors)
        return np.asarray(np.min([forest.score(inputs) for forest in forests], axis=0))

    return least


def _known(mine: Labelled, task: Task) -> Examples:
    return strange.usable(examples.make(task.survey, mine, task.seed, task.show), task.host)


ALL = "judge, all ordinary classes"
"""The row that learns that variables, flares and active galaxies are ordinary too, and that ships."""
ROWS: dict[str, Callable[[Labelled, Task, str], Score]] = {
    "judge": _judge,
    ALL: _judge,
    "VRAE + forest": _of_examples(partial(latents, scalars=False)),
    "VRAE + forest, with scalars": _of_examples(latents),
    "reconstruction": _of_examples(reconstruction),
    "forest on features": _of_examples(partial(on_features, read=lambda tensors: tensors.scalars)),
    "MCIF": _per_class,
    "judge, forest and reconstruction": _together,
    "judge, host z": _judge,
}
"""Row to what fits it: a half's objects, how, and the name of its checkpoints."""


def draw(found: Mapping[Unit, Result], folder: Path) -> list[tuple[str, str]]:
    """Draw what each row finds in whole curves and ten days after the first detection, and the deployed one early."""
    out = []
    for view, words in (("whole_curve", "in whole curves"), ("day_10", "ten days after the first detection")):
        plots.ranking(folder / f"ranking-{view}.svg", ranking(found, tuple(ROWS), view), BUDGET)
        out.append((f"ranking-{view}.svg", f"Rare objects found against common ones flagged, {words}"))
    early = {
        row: [np.mean([r["metrics"][f"auc.day_{day}"] for r in _results(found, row)]) for day in DAYS]
        for row in ROWS
        if _results(found, row)
    }
    plots.early_curves(folder / "early.svg", np.array(DAYS), early, "AUC of rare against common")
    return [*out, ("early.svg", "AUC with all points up to a number of days after the first detection")]


def _results(found: Mapping[Unit, Result], row: str) -> list[Result]:
    return [result for unit, result in found.items() if unit.row == row]


def ranking(found: Mapping[Unit, Result], rows: tuple[str, ...], view: str) -> dict[str, tuple[Floats, Floats]]:
    """Return of each row that has results the shares that it flags and what it finds by them, the mean of its parts."""
    each = {row: [result["curves"][f"found.{view}"] for result in _results(found, row)] for row in rows}
    return {row: (FLAGGED, np.mean(curves, axis=0)) for row, curves in each.items() if curves}


PROTOCOL = Protocol(
    name="G",
    title="Anomaly score: rare transients among common supernovae",
    about=(
        "Everything is fitted on the common classes (Ia, 91bg, Iax, II, Ib/c) of one half of PLAsTiCC's objects and "
        "scores the common ones of the other half and all SLSN-I, TDE and kilonovae; then the halves change places. No "
        "weight, scaler, threshold or forest has seen a rare object or its label; the host's redshift is read in the "
        "row that says so. The judge learns from common curves and warped common curves; how they are warped was "
        "looked at with the figures of the halves of seed 0; these are the halves of seed 1, with the same rare "
        f"objects. What ships is the row “{ALL}”: it has seen the variables, flares, lenses and active galaxies of its "
        "half too, as ordinary, so that they do not fill a night's anomalies. Every object is scored, with however few "
        "detections; the service scores from two on. "
        f"Purity: with rare objects {BASE_RATE:.1%} of common and rare ones, about what a magnitude-limited survey "
        "holds."
    ),
    columns=(
        Column("auc.whole_curve", "AUC, whole curve", "", "≥ 0.92"),
        Column("recall.whole_curve", "recall at 10 %", "0.75 at ~15 % (Gupta 2025, ZTF-like)", "≥ 0.75"),
        Column("auc.day_10", "AUC, +10 d"),
        Column("recall.day_10", "recall at 10 %, +10 d", "", "≥ 0.50"),
        Column("recall_at_1_percent.whole_curve", "recall at 1 %, whole"),
        Column("purity.whole_curve", "purity, 10 %, whole"),
        Column("purity_at_1_percent.whole_curve", "purity, 1 %, whole", "~0.95 (Villar 2021, other base rate)"),
    ),
    rows=tuple(ROWS),
    units=units,
    run=run,
    plots=draw,
)
