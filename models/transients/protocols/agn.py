"""Changing-look active galaxies among ordinary ones: an anomaly score fitted on damped random walks alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from broker.models.transients import data, galaxies
from broker.models.transients.evaluate import area_under_curve, groups, recall_at
from broker.models.transients.examples import Examples
from broker.models.transients.exposure import Task
from broker.models.transients.galaxies import Galaxies
from broker.models.transients.protocols import members, plots, rare
from broker.models.transients.protocols.rare import BUDGET, FLAGGED, Score
from broker.models.transients.protocols.unit import Column, Context, Protocol, Result, Unit
from broker.score.anomaly import judge_inputs

SEED = 1
"""Of the halves that are reported."""


def units(row: str) -> tuple[Unit, ...]:
    """Return the two halves of a row."""
    return tuple(Unit("agn", row, SEED, part) for part in (0, 1))


def run(unit: Unit, context: Context) -> Result:
    """Fit on galaxies with the cadences of one half, judge on others with those of the other half."""
    begun = time.monotonic()
    objects = data.load(members.source(context))
    task = Task("lsst", unit.seed, 0, context.cache / "checkpoints" / f"agn-seed{unit.seed}", context.show)
    known, judged = galaxies.split(objects.take(np.flatnonzero(objects.label == galaxies.AGN)), task, unit.part)
    values = ROWS[unit.row](known, task, f"half{unit.part}")(judged.examples.tensors)
    metrics: dict[str, float] = {}
    curves: dict[str, list[float]] = {"flagged": FLAGGED.round(4).tolist()}
    for view, rows in groups(judged.examples).items():
        score, changing = values[rows], judged.changing[rows]
        metrics[f"auc.{view}"] = area_under_curve(score, changing)
        metrics[f"recall.{view}"] = recall_at(score, changing, BUDGET)
        metrics[f"recall_at_1_percent.{view}"] = recall_at(score, changing, 0.01)
        curves[f"found.{view}"] = [round(recall_at(score, changing, share), 4) for share in FLAGGED]
    return {
        "metrics": {name: round(value, 5) for name, value in metrics.items()},
        "curves": curves,
        "command": f'tocsin evaluate agn --row "{unit.row}"',
        "seconds": round(time.monotonic() - begun, 1),
    }


def _judge(known: Galaxies, task: Task, name: str) -> Score:
    """Return the ln odds of the judge: what ships."""
    del name
    judge = galaxies.judge(known, task)
    return lambda tensors: judge.score(judge_inputs(tensors))


def _of_ordinary(fit: Callable[[Examples, Task, str], Score]) -> Callable[[Galaxies, Task, str], Score]:
    return lambda known, task, name: fit(known.ordinary, task, name)


ROWS: dict[str, Callable[[Galaxies, Task, str], Score]] = {
    "judge": _judge,
    "VRAE + forest": _of_ordinary(rare.latents),
    "reconstruction": _of_ordinary(rare.reconstruction),
    "forest on features": _of_ordinary(partial(rare.on_features, read=judge_inputs)),
}
"""Row to what fits it."""


def draw(found: Mapping[Unit, Result], folder: Path) -> list[tuple[str, str]]:
    """Draw what each row finds against what it flags."""
    plots.ranking(folder / "ranking.svg", rare.ranking(found, tuple(ROWS), "whole_curve"), BUDGET)
    return [("ranking.svg", "Changing galaxies found against ordinary ones flagged, whole curves")]


PROTOCOL = Protocol(
    name="agn",
    title="Changing-look active galaxies among ordinary ones, simulated",
    about=(
        "Damped random walks (MacLeod et al. 2010) at the visits and with the errors of PLAsTiCC's active galaxies. "
        "Fitted with the cadences of one half; judged on as many that change their state as do not, with the cadences "
        "of the other half; then the halves change places. The judge has learned simulated changes of the same kind; "
        "the other rows have seen ordinary galaxies alone. Whole curves of three years, of which the window reads the "
        "last; and what a packet of 365 days holds, in which the change may not have begun. Nothing was tuned. All of "
        "it is simulated: how real changing-look galaxies fare it does not tell."
    ),
    columns=(
        Column("auc.whole_curve", "AUC, whole curve"),
        Column("recall.whole_curve", "recall at 10 %"),
        Column("recall_at_1_percent.whole_curve", "recall at 1 %"),
        Column("auc.packet_of_last_alert", "AUC, last alert's packet"),
        Column("recall.packet_of_last_alert", "recall at 10 %"),
        Column("auc.packet_of_any_alert", "AUC, any alert's packet"),
    ),
    rows=tuple(ROWS),
    units=units,
    run=run,
    plots=draw,
)
