"""Generated writer schemas: reordered, promoted, named types, added fields, odd blocks; fastavro is the oracle."""

from __future__ import annotations

import io
import json
from typing import Any

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.decode import SchemaStore, lsst, ztf
from broker.decode.fields import Projection
from tests.decode.generate import Maker
from tests.decode.oracle import captured, decode, expected


class Given(SchemaStore):
    """One schema, under every id."""

    def __init__(self, text: bytes) -> None:
        super().__init__()
        self._text = text

    def get(self, schema_id: int) -> bytes:
        return self._text


def packets(projection: Projection, seed: int, n: int) -> tuple[bytes, list[bytes], list[dict[str, Any]]]:
    """A schema, ``n`` packets of it, and what fastavro reads in them."""
    maker = Maker(seed)
    schema = maker.schema(projection)
    text = maker.text(schema)
    parsed = fastavro.parse_schema(json.loads(text))
    bodies = [maker.encode(schema, maker.value(schema)) for _ in range(n)]
    records = [fastavro.schemaless_reader(io.BytesIO(body), parsed, None) for body in bodies]
    return text, [b"\0\0\0\0\1" + body for body in bodies], records


@pytest.mark.parametrize("projection", [ztf.PROJECTION, lsst.PROJECTION], ids=["ztf", "lsst"])
@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_every_captured_value_is_fastavros(projection: Projection, seed: int) -> None:
    text, values, records = packets(projection, seed, 3)
    found, tables, ends = decode(values, Given(text))
    assert found is projection
    assert ends[:, 0].tolist() == [0, 0, 0]
    for i, record in enumerate(records):
        assert captured(tables, i, projection) == expected(record, projection)


@pytest.mark.parametrize("projection", [ztf.PROJECTION, lsst.PROJECTION], ids=["ztf", "lsst"])
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), cut=st.floats(0, 1, exclude_max=True), more=st.binary(min_size=1, max_size=9))
def test_a_body_must_end_at_its_last_byte(projection: Projection, seed: int, cut: float, more: bytes) -> None:
    text, (value,), _ = packets(projection, seed, 1)
    body = len(value) - 5
    if body > 0:
        _, _, ends = decode([value[: 5 + int(cut * body)]], Given(text))
        assert ends[0, 0] != 0
    _, _, ends = decode([value + more], Given(text))
    assert ends[0, 0] != 0
