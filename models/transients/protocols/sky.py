"""Protocol sky: the ZTF models that ship, on simulated light curves that they have not seen, whole and as packets."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from broker.core.batch import Floats, Ints, LightCurves, Scores
from broker.core.taxonomy import CLASSES
from broker.models.transients import augment, data, evaluate, examples
from broker.models.transients.beginnings import first_detection
from broker.models.transients.data import Labelled
from broker.models.transients.evaluate import MIX, area_under_curve
from broker.models.transients.examples import HISTORY_D, to_examples
from broker.models.transients.protocols import members, plots
from broker.models.transients.protocols.unit import Column, Context, Protocol, Result, Unit
from broker.models.transients.sky import simulate
from broker.score.scorer import Scorer
from broker.score.tensors import hide_host

DAYS = (0, 2, 5, 10, 20, 40)
"""Days after the first detection at which an alert comes; its packet holds 30 days."""
WELL_SEEN = 20
"""Detections of a curve that a table of real ones would hold: classified transients and catalogued stars are bright."""
VIEWS = ("whole", *(f"packet.{day}" for day in DAYS))
ROWS = {
    "average": ["ztf-gru", "ztf-transformer"],
    "ztf-gru": ["ztf-gru"],
    "ztf-transformer": ["ztf-transformer"],
}
TRAINED_SEED, FOLDS, SHARE = 0, 5, 0.3
"""Seed and folds of the training that ships: the templates of fold 0 are what it has not seen."""
SUPERNOVAE = ("snia", "snibc", "snii", "slsn", "tde")
_COLUMN = simulate.COLUMN


@lru_cache(maxsize=1)  # every row of the table looks at the same objects
def unseen(seed: int, context: Context) -> Labelled:
    """Return objects simulated with another seed, their moved supernovae made of templates that were held out."""
    found = simulate.sources(data.load(members.source(context)), context.cache / "data")
    made = examples.cached("ztf", simulate.simulate(found, TRAINED_SEED), TRAINED_SEED, context.cache, context.show)
    held = np.unique(made.object_id[evaluate.folds_of(made, FOLDS, TRAINED_SEED) == 0])
    templates = found.templates.take(np.flatnonzero(np.isin(found.templates.objects.object_id, held)))
    return simulate.simulate(replace(found, templates=templates), 1000 + seed, SHARE)


def views(objects: Labelled) -> dict[str, tuple[Labelled, LightCurves]]:
    """Return the objects and their light curves, whole and as the alert some days after the first detection has them.

    An object is in a packet's view as long as it is detected in the 30 days that the packet holds.
    """
    out = {"whole": (objects, objects.curves)}
    first = first_detection(objects.curves)
    for day in DAYS:
        curves = augment.as_packet(objects.curves, first + day, HISTORY_D["ztf"])
        rows = np.flatnonzero(np.isfinite(augment.last_detection(curves)))
        out[f"packet.{day}"] = (objects.take(rows), curves.take(rows))
    return out


def well_seen(objects: Labelled) -> Labelled:
    """Return the objects with `WELL_SEEN` detections."""
    return objects.take(np.flatnonzero(augment.detections(objects.curves) >= WELL_SEEN))


def figures(scores: Scores, label: Ints) -> dict[str, float]:
    """Return recalls by top class, macro F1 of five kinds of supernovae, and the area under the anomaly score's curve.

    F1 is at the published mix: an object counts as its class does on the sky, of the five. ``macro_f1_even`` is of the
    probabilities for even classes, `tocsin score --prior even`, on the same mix of objects.
    """
    p = np.nan_to_num(scores.classifiers[-1].probabilities, nan=0.0).astype(np.float64)
    top = p.argmax(axis=1)
    hit = {slug: top[label == _COLUMN[slug]] == _COLUMN[slug] for slug in MIX}
    out = {f"recall.{slug}": float(found.mean()) for slug, found in hit.items() if len(found)}
    out["macro_f1"] = _macro_f1(p, label)
    out["macro_f1_even"] = _macro_f1(p / scores.classifiers[-1].prior, label)
    if scores.anomaly is not None:
        rare = np.isin(label, [_COLUMN["slsn"], _COLUMN["tde"]])
        scored = (rare | (label == _COLUMN["snia"])) & np.isfinite(scores.anomaly.score)
        # One detection is too few for a score: at the first one there is no figure.
        if 0 < rare[scored].sum() < scored.sum():
            out["anomaly_auc"] = area_under_curve(scores.anomaly.score[scored].astype(np.float64), rare[scored])
    return {name: round(value, 4) for name, value in out.items()}


def _macro_f1(p: Floats, label: Ints) -> float:
    five = np.array([_COLUMN[slug] for slug in SUPERNOVAE])
    rows = np.isin(label, five)
    true, found = label[rows], five[p[rows][:, five].argmax(axis=1)]
    weight = np.array([MIX[c.slug] for c in CLASSES])[true] / np.bincount(true, minlength=len(CLASSES))[true]
    each = []
    for k in five:
        hit = weight[(true == k) & (found == k)].sum()
        each.append(2.0 * hit / (weight[true == k].sum() + weight[found == k].sum()))
    return float(np.mean(each))


def units(row: str) -> tuple[Unit, ...]:
    """Return the one unit of a row: objects of seed 1."""
    return (Unit("sky", row, 1, 0),)


def run(unit: Unit, context: Context) -> Result:
    """Judge a row's models as they ship; nothing is trained."""
    begun = time.monotonic()
    scorer = Scorer.load("ztf", ROWS[unit.row], "ztf-anomaly", device="cpu")
    metrics: dict[str, float] = {}
    curves: dict[str, list[float]] = {}
    every = unseen(unit.seed, context)
    seen = {f"well_seen.{view}": each for view, each in views(well_seen(every)).items()}
    for view, (objects, told) in (views(every) | seen).items():
        known = to_examples(told, "ztf", scorer.rule, objects.host_z, objects.host_z_err)
        hidden = replace(known, scalars=hide_host(known.scalars, np.ones(len(known), np.bool_)))
        for inputs, tensors in (("no_host_z", hidden), ("host_z", known)):
            found = figures(scorer.answer(tensors, scorer.grid(told).n_detections), objects.label)
            metrics |= {f"{name}.{inputs}.{view}": value for name, value in found.items()}
    for name in ("recall.snia", "recall.rrlyrae", "macro_f1", "anomaly_auc"):
        curves[name] = [metrics.get(f"{name}.no_host_z.packet.{day}", 0.5) for day in DAYS]
    seconds = round(time.monotonic() - begun, 1)
    return {
        "metrics": metrics,
        "curves": curves,
        "command": f"tocsin evaluate sky --row {unit.row}",
        "seconds": seconds,
    }


def draw(found: Mapping[Unit, Result], folder: Path) -> list[tuple[str, str]]:
    """Draw the figures of every row against the days since the first detection."""
    out = []
    for name, title in (("recall.snia", "recall of SN Ia"), ("anomaly_auc", "AUC of SLSN-I and TDE against SN Ia")):
        lines = {unit.row: result["curves"][name] for unit, result in found.items()}
        file = f"{name.replace('.', '-')}.svg"
        plots.early_curves(folder / file, DAYS, lines, title)
        out.append((file, f"As packets show them, without host redshift: {title}"))
    return out


PROTOCOL = Protocol(
    "sky",
    "ZTF models on simulated ZTF light curves",
    "The classifiers and the anomaly score that ship, on light curves simulated with a seed that no training and no"
    " choice has seen, but one: that the anomaly score's judge learns from supernovae alone was chosen on them."
    " Supernovae of PLAsTiCC among them come from templates that the training held out. The"
    " simulation is the one that the models are trained on: how far it is from the real sky, these figures do not say."
    " Whole curves, and packets of 30 days of the alert some days after the first detection. Recall is by the top class"
    " of the probabilities at the published mix. Well seen is what has 20 detections in all, as classified transients"
    " and catalogued stars have; the others are as faint as the stream has them.",
    (
        Column("recall.snia.no_host_z.whole", "SN Ia recall, whole", "", "≥ 85 %"),
        Column("recall.snia.no_host_z.packet.10", "SN Ia recall, packet at +10 d", "", "≥ 85 %"),
        Column("recall.rrlyrae.no_host_z.whole", "RR Lyrae recall, whole", "", "≥ 90 %"),
        Column("recall.rrlyrae.no_host_z.packet.20", "RR Lyrae recall, packet at +20 d", "", "≥ 90 %"),
        Column("macro_f1.no_host_z.whole", "macro F1, 5 classes, whole", "0.61 (Superphot+, real, other classes)", ""),
        Column("macro_f1_even.no_host_z.whole", "the same, --prior even", "", ""),
        Column("recall.snia.no_host_z.well_seen.whole", "well seen: SN Ia recall, whole", "", "≥ 85 %"),
        Column("recall.snia.no_host_z.well_seen.packet.10", "SN Ia, packet at +10 d", "", "≥ 85 %"),
        Column("recall.rrlyrae.no_host_z.well_seen.whole", "RR Lyrae, whole", "", "≥ 90 %"),
        Column("recall.rrlyrae.no_host_z.well_seen.packet.20", "RR Lyrae, packet at +20 d", "", "≥ 90 %"),
        Column("macro_f1.no_host_z.well_seen.whole", "macro F1, whole", "0.61 (Superphot+, real, other classes)", ""),
        Column("anomaly_auc.no_host_z.whole", "SLSN-I + TDE against SN Ia, AUC, whole", "", "≥ 0.85"),
        Column("anomaly_auc.no_host_z.packet.20", "the same, packet at +20 d", "", "≥ 0.85"),
    ),
    tuple(ROWS),
    units,
    run,
    draw,
)
