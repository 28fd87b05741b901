"""Rows of the survey models in a few lines of numpy, to run the sidecar without weights and without torch."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from broker.core.batch import PacketBatch
from broker.core.metrics import Recorded
from broker.core.topics import Topics
from broker.sidecar.answer import Answer, Embedded, Floats, Output, Provenance
from broker.sidecar.product import Array, Input, Kind, Product, collect
from broker.sidecar.step import Sidecar
from broker.sidecar.write import product_message

INPUTS = (Input("mag_g", "mag"), Input("mag_r", "mag"), Input("mag_i", "mag", required=False))


@dataclass
class Colour:
    """Says the colour g - r: as a mixture ``colour``, and as classes ``blue`` and ``red``."""

    row: str = "colour"
    variant: str = "sim"
    trunk: str = "difference"
    kind: Kind = Kind.CATALOG
    inputs: tuple[Input, ...] = INPUTS
    fails_at: str = ""
    forward: list[int] = field(default_factory=list)
    """Records of each forward pass, but for those that ask what an answer looks like."""

    @property
    def provenance(self) -> Provenance:
        return Provenance(self.row, self.variant, "1", "ab" * 32, "colours", "1.0", toy=True)

    def embed(self, products: list[Product]) -> Embedded:
        if self.fails_at and any(self.fails_at in product.records for product in products):
            raise ZeroDivisionError("a bug of the row")
        table = collect(products, self.inputs)
        self.forward += [len(table)] if products else []
        features = (table.columns["mag_g"] - table.columns["mag_r"]).reshape(len(table), 1).astype(np.float32)
        return Embedded([features], np.full(len(table), 0.5), table.reason)

    def answer(self, embedded: Embedded) -> Answer:
        colour, reason = embedded.features[0][:, 0].copy(), embedded.reason
        unknown = np.array([bool(why) for why in reason], bool)
        colour[unknown] = np.nan
        domain = np.where(unknown, np.nan, embedded.domain)
        return Answer((_mixture(colour), _classes(colour)), domain, reason)


def _mixture(colour: Floats) -> Output:
    ones = np.ones((len(colour), 2), np.float32)
    ones[np.isnan(colour)] = np.nan
    parts = {"weights": 0.5 * ones, "means": colour[:, None] + [[-0.25, 0.25]], "sigmas": 0.125 * ones}
    return Output("colour", "mag", "mixture", colour, np.hypot(0.25, 0.125) * ones[:, 0], parts)


def _classes(colour: Floats) -> Output:
    red = 1 / (1 + np.exp(-4 * (colour - 0.5)))
    known = np.where(np.isnan(colour), np.nan, (red > 0.5).astype(np.float32))
    parts = {"probabilities": np.stack([1 - red, red], axis=1)}
    return Output("kind", "", "classes", known, np.full(len(colour), np.nan), parts, ("blue", "red"))


def galaxies(first: int, records: int) -> Product:
    """Return a product whose galaxy n has g - r = (n mod 100) / 100, exactly to float32."""
    n = np.arange(first, first + records)
    arrays = {"mag_g": Array("mag", (20 + (n % 100) / 100)), "mag_r": Array("mag", np.full(records, 20.0))}
    return Product(f"galaxies/{first}", Kind.CATALOG, [f"galaxy {i}" for i in n], arrays)


def product(number: int) -> bytes:
    """Return a product of one to five records; every eighth is damaged, every eighth is one that no row reads."""
    made = galaxies(10 * number, 1 + number % 5)
    if number % 8 == 7:
        return product_message(made)[:-5]
    return product_message(replace(made, kind=Kind.BOX3D) if number % 8 == 3 else made)


def packets(*products: Product) -> PacketBatch:
    return raw([product_message(product) for product in products])


def raw(values: list[bytes]) -> PacketBatch:
    n = len(values)
    return PacketBatch(
        values, ["survey.catalog"] * n, np.zeros(n, np.int32), np.arange(n), np.full(n, -1, np.int64), 1_600_000_000_000
    )


def sidecar(*models: Colour, metrics: Recorded | None = None) -> Sidecar:
    return Sidecar(models or (Colour(),), Topics("t"), metrics or Recorded(), "test", lambda: 1_600_000_000_100)
