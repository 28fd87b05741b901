"""x-simtrain: every answer names what its weights were trained on, and what a simulation's prior is worth elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from broker.core import schemas
from broker.core.batch import FilePacket
from broker.core.metrics import Recorded
from broker.core.topics import Topics
from broker.deliver.files import batch_of
from broker.models.survey import bench, registry
from broker.models.survey.judge import JUDGES
from broker.models.survey.row import Examples, Finding, Row
from broker.sidecar.step import Sidecar
from broker.sidecar.write import product_message, said_in

if TYPE_CHECKING:
    from broker.models.survey.serve import Served

ELSEWHERE = "pz-mdn"
"""The row whose simulation is tried on skies that it was not made for."""
CODES = ("sim", "sim-jet")
"""Variants of rows with the same simulation by two codes: what the first taught is tried on the other."""


def show(seed: int, data: Path | None) -> tuple[list[Finding], str]:
    """Send a product through every row that has weights, and try a simulation's weights on given sets."""
    from broker.models.survey import serve

    named = [_names_its_data(serve.load(name), seed) for name in registry.simulated(registry.OURS)]
    share = 100.0 * float(np.mean(named))
    metric = "answers that name simulator, version and toy as their card does"
    findings = [Finding(metric, "%", "more", share, 0.0, (share, share))]
    findings += [_other_code(name, seed) for name in of_two_codes()]
    findings += _elsewhere(seed, data) if data is not None else []
    said = (
        f"{len(named)} weights through the sidecar's step. Weights of one code's simulation, tried on another code's, "
        "beside that code's own weights. Weights of a simulation, tried on given sets, beside a random forest that was "
        "trained on the same simulation."
    )
    return findings, said


def _names_its_data(served: Served, seed: int) -> bool:
    """Tell whether the answer to a product, read back from its message, says what the card says."""
    from broker.models.survey.fitted import as_product

    row, card = served.fitted.row, served.card
    product = as_product(row, bench.fresh(row, card.variant, seed, 4).columns)
    clock = iter(range(10))
    step = Sidecar([served], Topics("survey.check"), Recorded(), "0", lambda: next(clock))
    (record,) = step(batch_of([FilePacket("products", 0, product_message(product))], 0)).records
    (said,) = said_in(schemas.decode(record.value, list(record.headers), "result"))
    told = (said.provenance.data_id, said.provenance.data_version, said.provenance.toy)
    return told == (card.data.id, card.data.version, card.data.toy)


def of_two_codes() -> list[str]:
    """Return the rows that have both `CODES`."""
    rows = registry.rows(registry.OURS).items()
    return [name for name, row in rows if isinstance(row, Row) and row.variants.keys() >= set(CODES)]


def _other_code(name: str, seed: int) -> Finding:
    """Return the error of one code's weights on another code's examples, and that of the other's own."""
    from broker.models.survey import serve

    row, _ = registry.find(name)
    examples = bench.fresh(row, CODES[1], seed)
    answers = (serve.load(f"{name}@{variant}").fitted.answer(examples.columns) for variant in CODES)
    moved, own = (JUDGES[row.judge](answer, examples.truth, examples.extra)["rmse"] for answer in answers)
    return Finding(
        f"rmse of {name}@{CODES[0]} on {CODES[1]}", moved.unit, "less", moved.value, own.value, moved.interval()
    )


def _elsewhere(seed: int, data: Path) -> list[Finding]:
    """Return the scatter of simulated weights, and of a forest trained on the same simulation, on given sets."""
    from broker.models.survey import serve

    row, variant = registry.find(f"{ELSEWHERE}@sim")
    served = serve.load(f"{ELSEWHERE}@sim")
    seen = row.variants[variant].make(row.variants[variant].n, served.card.training.seed, None)
    forest = row.baselines["forest"](seen, seed)
    return [
        _scatter(row, name, served, forest, chosen.make(0, seed, data))
        for name, chosen in row.variants.items()
        if chosen.real
    ]


def _scatter(row: Row, name: str, served: Served, forest: bench.Predict, examples: Examples) -> Finding:
    every = {wanted.name: np.full(len(examples), np.nan) for wanted in row.inputs} | examples.columns
    answers = served.fitted.answer(every), bench.as_answer(row, forest(every))
    own, other = (JUDGES[row.judge](answer, examples.truth, examples.extra)["sigma_nmad"] for answer in answers)
    return Finding(f"sigma_nmad of {row.id}@sim on {name}", "", "less", own.value, other.value, own.interval())
