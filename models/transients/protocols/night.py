"""Protocol night: who would be on the anomaly topic of a simulated night, class by class, by the scores that ship."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from broker import gp
from broker.archive import simulate
from broker.archive.night import History
from broker.core.bands import SURVEYS
from broker.core.batch import FilePacket, Floats, Ints, LightCurves
from broker.core.config import Output
from broker.core.taxonomy import CLASSES, RARE
from broker.decode import Decoder, SchemaStore
from broker.deliver.files import batch_of
from broker.lightcurve import merge
from broker.models.transients.protocols.unit import Column, Context, Protocol, Result, Unit
from broker.score.scorer import Scorer

SEED = 1
"""Of the nights that are reported; the judge's inputs and its ordinary classes were chosen on those of seed 0."""
OBJECTS, CHUNK = 6000, 512
MIX = simulate.Mix(artefact=0.0, solar_system=0.0, test=0.0, partnership=0.0)
"""Only what reaches a score: artefacts and the solar system are sorted out before."""
CUT: float = Output.model_fields["anomaly_percentile"].default
"""Rank above which the anomaly topic gets a copy, unless configured otherwise."""
ROWS: dict[str, tuple[str, History]] = {
    "Rubin, deep field": ("lsst", "real"),
    "Rubin, wide survey": ("lsst", "short"),
    "ZTF": ("ztf", "real"),
}
"""Row to the survey and to how long its packets' histories are."""


def units(row: str) -> tuple[Unit, ...]:
    """Return the one night of a row."""
    return (Unit("night", row, SEED, 0),)


def run(unit: Unit, context: Context) -> Result:
    """Score a simulated night with the anomaly score that ships; nothing is trained."""
    begun = time.monotonic()
    survey, history = ROWS[unit.row]
    scorer = Scorer.load(survey, [], f"{survey}-anomaly", device="cpu")
    score, label = scores(scorer, history, OBJECTS, unit.seed, context.cache)
    return {
        "metrics": {name: round(value, 5) for name, value in figures(score, label, CUT).items()},
        "curves": {},
        "command": f'tocsin evaluate night --row "{unit.row}"',
        "seconds": round(time.monotonic() - begun, 1),
    }


def scores(scorer: Scorer, history: History, objects: int, seed: int, cache: Path) -> tuple[Floats, Ints]:
    """Return the anomaly scores (n,) of a night's alerts, NaN where there is none, and their true class ids (n,)."""
    simulate.install_schema(cache / "schemas")
    decoder = Decoder(SchemaStore(None, cache / "schemas"))
    parts = []
    for packets in _batches(list(simulate.night(scorer.survey, objects, seed, history=history, mix=MIX))):
        curves, label = _curves(packets, scorer.survey, decoder)
        grid = scorer.grid(curves)
        found = scorer(grid, gp.interpolate(grid.curves, SURVEYS[scorer.survey].wavelengths_aa, grid.times)).anomaly
        assert found is not None  # for mypy
        parts.append((found.score.astype(np.float64), label))
    return np.concatenate([score for score, _ in parts]), np.concatenate([label for _, label in parts])


def figures(score: Floats, class_id: Ints, cut: float) -> dict[str, float]:
    """Return the share of scored alerts (n,) above the cut: of every class, of the rare ones and of all others."""
    scored = np.isfinite(score)
    above, class_id = score[scored] > cut, class_id[scored]
    rare = np.isin(class_id, list(RARE))
    out = {"above.rare": float(above[rare].mean()), "above.others": float(above[~rare].mean())}
    out |= {"purity": float(rare[above].mean()) if above.any() else 0.0, "rare": float(rare.mean())}
    there = [c for c in CLASSES if (class_id == c.id).any()]
    out |= {f"above.{c.slug}": float(above[class_id == c.id].mean()) for c in there}
    return out | {f"scored.{c.slug}": float((class_id == c.id).sum()) for c in there}


def _batches(packets: list[simulate.SimulatedPacket]) -> Iterator[list[simulate.SimulatedPacket]]:
    for start in range(0, len(packets), CHUNK):
        yield packets[start : start + CHUNK]


def _curves(packets: list[simulate.SimulatedPacket], survey: str, decoder: Decoder) -> tuple[LightCurves, Ints]:
    """Return the light curves that packets hold, as the service reads them, and their true class ids."""
    batch = batch_of([FilePacket("night", i, packet.value) for i, packet in enumerate(packets)], 0)
    (decoded,), _ = decoder(batch)
    curves, _ = merge(decoded.curves, len(SURVEYS[survey].bands))
    there = np.flatnonzero(curves.counts)
    label = np.array([packets[row].truth.class_id for row in decoded.alerts.rows])
    return curves.take(there), label[there]


def draw(found: Mapping[Unit, Result], folder: Path) -> list[tuple[str, str]]:
    """Draw nothing: the table says it."""
    del found, folder
    return []


PROTOCOL = Protocol(
    name="night",
    title="Who is on the anomaly topic of a simulated night",
    about=(
        f"The anomaly scores that ship, on {OBJECTS:,} objects that alert once each, in the mix of the simulated sky; "
        f"the share of each class's scored alerts with a rank above {CUT}, where the anomaly topic's copies begin. "
        "Deep-field packets hold up to 391 detections and 780 forced measurements over weeks, as the real ones at "
        "hand; those of the wide survey are thinner. Artefacts and the solar system are left out: they are sorted out "
        "before, by the survey's own scores. The simulated sky is not the one that the scores were trained on: its "
        "explosions are black bodies that cool. Nothing was trained on it; what the judge reads and which classes "
        "it calls ordinary were chosen with nights of seed 0 in view, these are of seed 1."
    ),
    columns=(
        Column("above.others", "all but the rare", "", "≤ 0.05"),
        Column("above.rare", "rare (SLSN-I, TDE, KN)"),
        Column("purity", "rare among those above"),
        Column("rare", "rare among all"),
        *(Column(f"above.{c.slug}", c.short) for c in CLASSES if c.slug != "mdwarf"),
    ),
    rows=tuple(ROWS),
    units=units,
    run=run,
    plots=draw,
)
