"""What serves a row holds no more in memory than it must, whatever products come together."""

from collections.abc import Sequence

import numpy as np
import pytest

from broker.models.survey import fitted, serve
from broker.sidecar.answer import Embedded
from broker.sidecar.product import Array, Input, Kind, Product, Table, collect

NAME = "radio-fr@sim"


def images(name: str, records: int, height: int, width: int) -> Product:
    light = np.random.default_rng(height).integers(0, 255, (records, 1, height, width), np.uint8)
    return Product(name, Kind.CUTOUT, [f"{name} {k}" for k in range(records)], {"image": Array("", light)})


def embedded(products: list[Product], monkeypatch: pytest.MonkeyPatch) -> tuple[Embedded, list[int]]:
    """Return what the trunk makes of products, and the bytes of each table that it read."""
    tables: list[int] = []

    def counted(products: Sequence[Product], inputs: Sequence[Input], at_least: int = 0) -> Table:
        table = collect(products, inputs, at_least)
        tables.append(sum(column.nbytes for column in table.columns.values()))
        return table

    with monkeypatch.context() as patched:
        patched.setattr(serve, "collect", counted)
        return serve.load(NAME).embed(products), tables


def assert_same(whole: Embedded, parts: list[Embedded]) -> None:
    assert whole.reason == [why for part in parts for why in part.reason]
    np.testing.assert_allclose(whole.domain, np.concatenate([part.domain for part in parts]), atol=1e-3)
    for k, features in enumerate(whole.features):
        expected = np.concatenate([part.features[k] for part in parts])
        np.testing.assert_allclose(features, expected, rtol=1e-3, atol=1e-4)


def test_a_large_image_beside_many_small_ones_makes_none_of_them_large(monkeypatch: pytest.MonkeyPatch) -> None:
    products = [
        images("small", 80, 9, 8),
        images("tall", 1, 512, 8),
        images("wide", 1, 8, 512),
        images("it", 2, 64, 64),
    ]
    products.append(Product("none", Kind.CUTOUT, ["a", "b"], {}))
    whole, tables = embedded(products, monkeypatch)
    assert max(tables) <= 8 * serve.AT_ONCE < 82 * 8 * 512**2
    assert_same(whole, [embedded([product], monkeypatch)[0] for product in products])


def test_alike_products_are_one_table(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(embedded([images(str(k), 2, 30, 30) for k in range(9)], monkeypatch)[1]) == 1


def test_records_are_prepared_a_bounded_number_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    served, products = serve.load(NAME), [images("few", 10, 20, 20)]
    whole, seen = served.embed(products), []
    through = fitted.through

    def counted(network: object, prepared: np.ndarray) -> np.ndarray:
        seen.append(len(prepared))
        return through(network, prepared)  # type: ignore[arg-type]

    monkeypatch.setattr(fitted, "CHUNK", 4)
    monkeypatch.setattr(fitted, "through", counted)
    assert_same(served.embed(products), [whole])
    assert max(seen) == 4
