"""Protocol F: the networks of protocol D on their held-out curves, cut at some days after the first detection."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from broker.core.taxonomy import CLASSES
from broker.models.transients import beginnings, examples
from broker.models.transients.data import Labelled
from broker.models.transients.examples import Examples
from broker.models.transients.protocols import members, plasticc, plots
from broker.models.transients.protocols.unit import Column, Context, Protocol, Result, Unit

DAYS = (0, 2, 5, 10, 20, 40)
FIGURES = ("macro_auc", "flat_log_loss", "accuracy")
GOALS = {2: ("≥ 0.93", "0.95 (RAPID, own simulation)"), 40: ("≥ 0.975", "0.98 (RAPID)")}


def cut(objects: Labelled, days: tuple[int, ...] = DAYS) -> Examples:
    """Return each object as its alert shows it some days after the first detection: D examples of each object.

    The examples of one cut stand together; ``version`` is the cut's place in ``days``. A packet holds 365 days.
    """
    first = beginnings.first_detection(objects.curves)
    seen = np.flatnonzero(np.isfinite(first))
    rows, version = np.tile(seen, len(days)), np.repeat(np.arange(len(days)), len(seen))
    return beginnings.packets(objects.take(rows), first[rows] + np.array(days)[version], version)


def units(row: str) -> tuple[Unit, ...]:
    """Return the five folds of a row."""
    return tuple(replace(unit, protocol="F") for unit in plasticc.units(row))


def run(unit: Unit, context: Context) -> Result:
    """Judge a fold's networks of protocol D on cut curves; they are trained where the cache has them not."""
    begun = time.monotonic()
    parts = members.split(unit.seed, context)
    held = _kept(parts, unit.part, context)
    metrics: dict[str, float] = {}
    curves: dict[str, list[float]] = {}
    for inputs, host in plasticc.INPUTS.items():
        p = members.heads(unit.row, parts, unit.part, held, host, context).mean(axis=1)
        at = [plasticc.figures(p[held.version == k], held.label[held.version == k]) for k in range(len(DAYS))]
        for day, found in zip(DAYS, at, strict=True):
            metrics |= {f"{name}.{inputs}.{day}": round(found[name], 5) for name in FIGURES}
        areas = [f"auc_{c.slug}" for c in CLASSES]
        curves |= {f"{name}.{inputs}": [round(found[name], 4) for found in at] for name in areas if name in at[0]}
    command = f"tocsin evaluate F --row {unit.row}"
    return {"metrics": metrics, "curves": curves, "command": command, "seconds": round(time.monotonic() - begun, 1)}


def _kept(parts: members.Split, part: int, context: Context) -> Examples:
    """Return a fold's objects, cut, out of the cache: every row is judged on the same."""
    days = "-".join(map(str, DAYS))
    name = f"cut-{days}-{parts.seed}-fold{part}-{len(parts.objects)}-{beginnings.digest(cut)}.npz"
    return examples.kept(context.cache / "examples" / name, lambda: cut(parts.held_objects(part)))


def draw(found: Mapping[Unit, Result], folder: Path) -> list[tuple[str, str]]:
    """Draw the areas per class of what ships, or of the first row there is, and the macro areas of all rows."""
    rows = list(dict.fromkeys(unit.row for unit in found))
    row = members.SHIPS if members.SHIPS in rows else rows[0]
    out = []
    for inputs, word in (("host_z", "with the host's redshift"), ("no_host_z", "without")):
        of_row = [result for unit, result in found.items() if unit.row == row]
        lines = {c.short: np.mean([r["curves"][f"auc_{c.slug}.{inputs}"] for r in of_row], axis=0) for c in CLASSES}
        plots.early_curves(folder / f"classes-{inputs}.svg", DAYS, lines, "one-vs-rest AUC")
        out.append((f"classes-{inputs}.svg", f"{row}, {word}: area under the ROC curve per class, mean of the folds"))
    macro = {
        f"{name}, {inputs.replace('_', ' ')}": [_mean(found, name, f"macro_auc.{inputs}.{day}") for day in DAYS]
        for name in rows
        for inputs in plasticc.INPUTS
    }
    plots.early_curves(folder / "macro.svg", DAYS, macro, "macro one-vs-rest AUC")
    return [("macro.svg", "Macro one-vs-rest AUC of every row, mean of the folds"), *out]


def _mean(found: Mapping[Unit, Result], row: str, metric: str) -> float:
    return float(np.mean([result["metrics"][metric] for unit, result in found.items() if unit.row == row]))


PROTOCOL = Protocol(
    name="F",
    title="PLAsTiCC training set, 5-fold, cut 0 to 40 days after the first detection",
    about=(
        "Protocol D's networks, not trained again, on the curves of the fold that they "
        "have not seen, cut at 0, 2, 5, 10, 20 and 40 days after the first detection: what an alert then holds, forced "
        "photometry of the 365 days before included. Figures are means over the 14 classes of the one-vs-rest area "
        "under the ROC curve. Same folds, seed 1. What was tried for the first days, on fold 0 of seed 0 at +2 d, with "
        "and without host z, from 0.909 and 0.836 of gru: average with transformer 0.912, 0.837; with gbm grown on "
        "every version, too, 0.918, 0.845; four beginnings of each object in training (gru-early) 0.917, 0.860; "
        "that averaged with gbm 0.923, 0.861. What is left is mostly the kinds of supernovae among each other."
    ),
    columns=tuple(
        Column(f"macro_auc.{inputs}.{day}", f"+{day} d, {word}", *reversed(GOALS.get(day, ("", ""))))
        for inputs, word in (("host_z", "host z"), ("no_host_z", "no host z"))
        for day in DAYS
    ),
    rows=tuple(row for row in plasticc.ROWS if "gbm" not in row),
    units=units,
    run=run,
    plots=draw,
)
