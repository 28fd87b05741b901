"""A row whose right answers are known: y = x + 2 b, with noise of 0.1."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from broker.models.survey.heads import Point
from broker.models.survey.row import Data, Examples, Paper, Row, Target, Training, Variant
from broker.models.survey.trunks import Mlp
from broker.sidecar.product import Array, Input, Kind, Product

NOISE = 0.1


def simulated(n: int, seed: int, data: Path | None) -> Examples:
    rng = np.random.default_rng(seed)
    x, b = rng.uniform(-1, 1, (2, n))
    truth = (x + 2 * b + rng.normal(0, NOISE, n))[:, None]
    return Examples({"x": x, "b": b}, truth, Data("line", "1.0", "x and b uniform"))


ROW = Row(
    id="line",
    summary="a line",
    papers=(Paper("Legendre 1805", "Nouvelles méthodes"),),
    finding="squares are least",
    kind=Kind.CATALOG,
    inputs=(Input("x", "mag"), Input("b", "mag", required=False)),
    trunk=Mlp(width=32, depth=2),
    head=Point(beta=0.0),
    targets=(Target("y", "mag", -4.0, 4.0),),
    variants={"sim": Variant(simulated, 600)},
    baselines={},
    judge="posterior",
    training=Training(epochs=20, batch=64, rate=1e-2, members=2),
)


def product(made: Examples) -> Product:
    """Return the examples' columns as a product."""
    return Product("p", Kind.CATALOG, ["r"] * len(made), {name: Array("mag", x) for name, x in made.columns.items()})
