"""Changing-look active galaxies among ordinary ones: an anomaly score fitted on damped random walks alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from broker.core.batch import Floats, Kind
from broker.core.taxonomy import CLASSES
from broker.models.transients import data, drw, examples, strange
from broker.models.transients.data import Labelled
from broker.models.transients.evaluate import area_under_curve, recall_at
from broker.models.transients.examples import Examples
from broker.models.transients.exposure import Task
from broker.models.transients.protocols import plots
from broker.models.transients.protocols.rare import BUDGET, FLAGGED
from broker.models.transients.protocols.unit import Column, Context, Protocol, Result, Unit
from broker.score.anomaly import encode, forest_inputs, judge_inputs
from broker.score.tensors import Tensors, without_host
from broker.score.window import GridRule

SEED = 1
COPIES = 30
"""Galaxies per cadence in training; a fifth of it in judging."""
LONGEST_D = 1200.0
"""A change takes months, so that the window holds all three years."""
AGN = next(k for k, c in enumerate(CLASSES) if c.slug == "agn")
RULE = GridRule(longest_d=LONGEST_D)

Score = Callable[[Tensors], Floats]


def units(row: str) -> tuple[Unit, ...]:
    """Return the two halves of a row."""
    return tuple(Unit("agn", row, SEED, part) for part in (0, 1))


def run(unit: Unit, context: Context) -> Result:
    """Fit on ordinary galaxies with the cadences of one half, judge on ordinary and changing ones with the others."""
    begun = time.monotonic()
    source = data.fetch(context.cache / "data") if context.data is None else context.data / "plasticc"
    objects = data.load(source)
    objects = objects.take(np.flatnonzero(objects.label == AGN))
    mine = strange.in_half(objects.object_id, unit.seed, unit.part)
    rng = np.random.default_rng((unit.seed, unit.part, 17))
    known, _ = simulated(objects.take(np.flatnonzero(mine)), COPIES, 0.0, rng)
    task = Task("lsst", unit.seed, 0, context.cache / "checkpoints" / f"agn-seed{unit.seed}", context.show)
    score = ROWS[unit.row](known, task, f"half{unit.part}")
    judged, changing = simulated(objects.take(np.flatnonzero(~mine)), COPIES // 5, 0.5, rng)
    values = score(judged.tensors)
    metrics = {
        "auc": area_under_curve(values, changing),
        "recall": recall_at(values, changing, BUDGET),
        "recall_at_1_percent": recall_at(values, changing, 0.01),
    }
    found = [round(recall_at(values, changing, share), 4) for share in FLAGGED]
    return {
        "metrics": {name: round(value, 5) for name, value in metrics.items()},
        "curves": {"flagged": FLAGGED.round(4).tolist(), "found": found},
        "command": f'tocsin evaluate agn --row "{unit.row}"',
        "seconds": round(time.monotonic() - begun, 1),
    }


def simulated(
    cadences: Labelled, copies: int, share: float, rng: np.random.Generator
) -> tuple[Examples, NDArray[np.bool_]]:
    """Return galaxies with two detections or more, of which a share changes its state, and which they are."""
    rows = np.tile(np.arange(len(cadences)), copies)
    changing = rng.random(len(rows)) < share
    curves = drw.observe(cadences.curves.take(rows), "lsst", changing, rng)
    alert = np.repeat(np.arange(len(curves)), curves.counts)
    detections = np.bincount(alert[curves.kind == Kind.DETECTION], minlength=len(curves))
    there = np.flatnonzero(detections >= 2)
    made = examples.to_examples(curves.take(there), "lsst", RULE, None, None)
    good = np.flatnonzero(made.finite)
    kept = there[good]
    label, version = np.full(len(kept), AGN, np.int64), np.zeros(len(kept), np.int64)
    tensors = without_host(made.take(good))
    return Examples(tensors, label, cadences.object_id[rows[kept]], version, detections[kept]), changing[kept]


def _reconstruction(known: Examples, task: Task, name: str) -> Score:
    network = strange.autoencoder(known, task, name)
    return lambda tensors: encode(network, tensors, strange.CPU)[1]


def _latents(known: Examples, task: Task, name: str) -> Score:
    """Return the published form: an isolation forest on the autoencoder's latents, here with some scalars."""
    network = strange.autoencoder(known, task, name)

    def inputs(tensors: Tensors) -> NDArray[np.float32]:
        return forest_inputs(encode(network, tensors, strange.CPU)[0], tensors, task.scalars)

    forest = strange.forest_of(inputs(known.tensors), task.seed)
    return lambda tensors: forest.score(inputs(tensors))


def _features(known: Examples, task: Task, name: str) -> Score:
    del name
    mean = np.nan_to_num(np.nanmean(judge_inputs(known.tensors), axis=0))

    def inputs(tensors: Tensors) -> NDArray[np.float32]:
        found = judge_inputs(tensors)
        return np.where(np.isnan(found), mean, found).astype(np.float32)

    forest = strange.forest_of(inputs(known.tensors), task.seed)
    return lambda tensors: forest.score(inputs(tensors))


ROWS: dict[str, Callable[[Examples, Task, str], Score]] = {
    "VRAE + forest": _latents,
    "reconstruction": _reconstruction,
    "forest on features": _features,
}
"""Row to what fits it."""


def draw(found: Mapping[Unit, Result], folder: Path) -> list[tuple[str, str]]:
    """Draw what each row finds against what it flags."""
    lines = {}
    for row in ROWS:
        mine = [result["curves"]["found"] for unit, result in found.items() if unit.row == row]
        if mine:
            lines[row] = (FLAGGED, np.mean(mine, axis=0))
    plots.ranking(folder / "ranking.svg", lines, BUDGET)
    return [("ranking.svg", "Changing galaxies found against ordinary ones flagged")]


PROTOCOL = Protocol(
    name="agn",
    title="Changing-look active galaxies among ordinary ones, simulated",
    about=(
        "Damped random walks (MacLeod et al. 2010) at the visits and with the errors of PLAsTiCC's active galaxies. "
        "Fitted on ordinary ones with the cadences of one half; judged on as many that change their state as do not, "
        "with the cadences of the other half; then the halves change places. Nothing was tuned. All of it is "
        "simulated: how real changing-look galaxies fare it does not tell."
    ),
    columns=(
        Column("auc", "AUC"),
        Column("recall", "recall at 10 %"),
        Column("recall_at_1_percent", "recall at 1 %"),
    ),
    rows=tuple(ROWS),
    units=units,
    run=run,
    plots=draw,
)
