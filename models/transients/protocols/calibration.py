"""Calibration of protocol D's out-of-fold predictions, by a calibrator fitted on other folds than it is judged on."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from broker.core.batch import Floats, Ints
from broker.core.taxonomy import CLASSES
from broker.models.transients import calibrate, evaluate
from broker.models.transients.protocols import members, plasticc, plots
from broker.models.transients.protocols.unit import Column, Context, Protocol, Result, Unit

ROWS = ("gru", "transformer", "average", "average-early")
MIXES = {"set": "the set's mix", "published": "as published"}


def units(row: str) -> tuple[Unit, ...]:
    """Return the one unit of a row: bins of equal mass need all folds together."""
    return (Unit("calibration", row, plasticc.SEED, 0),)


def run(unit: Unit, context: Context) -> Result:
    """Calibrate each fold of each member by the other folds, and judge all folds together."""
    begun = time.monotonic()
    parts = members.split(unit.seed, context)
    names = members.BLENDS.get(unit.row, (unit.row,))
    both = [_calibrated(name, parts, context) for name in names]
    label = np.concatenate([parts.held(k).label for k in range(members.FOLDS)])
    metrics: dict[str, float] = {}
    curves: dict[str, list[float]] = {}
    for k, inputs in enumerate(plasticc.INPUTS):
        each = np.concatenate([members_[k] for members_ in both], axis=1)
        found, bins = judged(each, label)
        metrics |= {f"{name}.{inputs}": round(value, 5) for name, value in found.items()}
        curves |= {f"{name}.{inputs}": values for name, values in bins.items()}
    command = f"tocsin evaluate calibration --row {unit.row}"
    return {"metrics": metrics, "curves": curves, "command": command, "seconds": round(time.monotonic() - begun, 1)}


def judged(each: Floats, label: Ints) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Return the errors, and the bins' confidence and accuracy, of heads' probabilities (n, H, K) for even classes."""
    metrics = {"flat_log_loss": float(np.nanmean(evaluate.loss_by_class(each.mean(axis=1), label)))}
    curves = {}
    for name, prior in {"set": calibrate.mix_of(label, len(CLASSES)), "published": evaluate.PRIOR}.items():
        found = calibrate.at_mix(each, label, prior)
        metrics[f"error_{name}"] = found.error
        curves[f"confidence_{name}"] = [round(float(v), 4) for v in found.confidence]
        curves[f"accuracy_{name}"] = [round(float(v), 4) for v in found.accuracy]
    return metrics, curves


def draw(found: Mapping[Unit, Result], folder: Path) -> list[tuple[str, str]]:
    """Draw the reliability of each row, at both mixes."""
    out = []
    for unit, result in found.items():
        lines = {
            f"{word}, {inputs.replace('_', ' ')}": (
                result["curves"][f"confidence_{mix}.{inputs}"],
                result["curves"][f"accuracy_{mix}.{inputs}"],
            )
            for mix, word in MIXES.items()
            for inputs in plasticc.INPUTS
        }
        plots.reliability(folder / f"reliability-{unit.row}.svg", lines)
        caption = f"{unit.row}: share that is right against the probability of the likeliest class, 15 bins"
        out.append((f"reliability-{unit.row}.svg", caption))
    return out


def _calibrated(name: str, parts: members.Split, context: Context) -> tuple[Floats, Floats]:
    """Return a member's probabilities (N, H, K) with and without host: one calibrator for both, as on a card."""
    held = [parts.held(k) for k in range(members.FOLDS)]
    logits = [
        members.logits(name, parts, k, one, host, context)
        for host in plasticc.INPUTS.values()
        for k, one in enumerate(held)
    ]
    label = np.tile(np.concatenate([one.label for one in held]), 2)
    fold = np.tile(np.repeat(np.arange(members.FOLDS), [len(one) for one in held]), 2)
    each = calibrate.cross_fitted(np.concatenate(logits), label, fold, evaluate.PRIOR)
    return each[: len(each) // 2], each[len(each) // 2 :]


PROTOCOL = Protocol(
    name="calibration",
    title="Calibration of protocol D's out-of-fold predictions",
    about=(
        "Top-label expected calibration error in 15 bins of equal mass, all five folds of protocol D together. A "
        "temperature and a bias per class, one calibrator for predictions with and without the host's redshift, are "
        "fitted on four folds' predictions, at the natural mix, and judged on the fifth's; the average is of "
        "calibrated members. At the "
        "set's mix: probabilities for classes as common as in the set. As published: corrected to the natural mix of "
        "the cards, each object weighted to it. The form of the calibrator was chosen on seed 0; these are the folds "
        "of seed 1."
    ),
    columns=(
        Column("error_set.host_z", "error, set's mix, host z", "", "≤ 0.02"),
        Column("error_set.no_host_z", "set's mix, no host z", "", "≤ 0.02"),
        Column("error_published.host_z", "as published, host z", "", "≤ 0.02"),
        Column("error_published.no_host_z", "as published, no host z", "", "≤ 0.02"),
        Column("flat_log_loss.host_z", "flat log loss, host z", "", "≤ 0.42"),
        Column("flat_log_loss.no_host_z", "no host z", "", "≤ 0.70"),
    ),
    rows=ROWS,
    units=units,
    run=run,
    plots=draw,
)
