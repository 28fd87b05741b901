"""Records written by the block are records that fastavro reads, value for value."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import fastavro
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from broker.archive import fields, layout
from broker.archive.fields import Field
from broker.archive.night import noise_pool
from broker.deliver.container import varint

NOISE = noise_pool()


def read(records: bytes, name: str, survey: str, n: int) -> list[dict[str, Any]]:
    stream = io.BytesIO(records)
    found = [fastavro.schemaless_reader(stream, fields.load(survey).parsed_record(name)) for _ in range(n)]
    assert stream.read() == b""
    return found


@given(st.integers(-(2**63), 2**63 - 1))
def test_numbers_are_avros(value: int) -> None:
    assert fastavro.schemaless_reader(io.BytesIO(varint(value)), "long") == value


RECORDS = [("lsst", "diaSource"), ("lsst", "diaForcedSource"), ("ztf", "prv_candidate"), ("ztf", "fp_hist")]


@pytest.mark.parametrize(("survey", "name"), RECORDS)
def test_columns_come_back(survey: str, name: str) -> None:
    """Every field of the record, with random values of the layout's widths, against fastavro."""
    rng = np.random.default_rng(1)
    records = fields.load(survey).records[name]
    kinds: dict[str, fields.Value] = {"long": 10**15, "int": 100, "string": "abcd", "boolean": True}
    example = {f.name: kinds.get(f.kind, 1.5) for f in records}
    n = 50
    draws: dict[str, Callable[[], NDArray[Any]]] = {
        "float": lambda: rng.standard_normal(n).astype(np.float32),
        "double": lambda: rng.standard_normal(n),
        "long": lambda: rng.integers(10**15, 10**16, n),
        "int": lambda: rng.integers(-8192, -64, n),
        "boolean": lambda: rng.random(n) < 0.5,
        "string": lambda: np.array([b"abcd", b"wxyz"])[rng.integers(0, 2, n)],
    }
    columns = {f.name: draws[f.kind]() for f in records}
    rows = layout.make(records, example).rows(n, columns, NOISE)
    found = read(rows.tobytes(), name, survey, n)
    for name_, column in columns.items():
        expected = [v.decode() if isinstance(v, bytes) else v for v in column.tolist()]
        assert [record[name_] for record in found] == expected


def test_null_fields_and_typical_values() -> None:
    records = fields.load("lsst").records["diaForcedSource"]
    example: dict[str, fields.Value] = {
        "diaForcedSourceId": 10**17, "diaObjectId": 10**17, "visit": 2026030500055, "midpointMjdTai": 61000.0,
        "timeProcessedMjdTai": 61000.0, "band": None, "psfFlux": None,
    }  # fmt: skip
    made = layout.make(records, example)
    (first, second) = read(made.rows(2, {}, NOISE).tobytes(), "diaForcedSource", "lsst", 2)
    assert first["band"] is first["psfFlux"] is None
    assert first["diaObjectId"] == 10**17
    assert first["psfFluxErr"] != second["psfFluxErr"]  # typical values scatter
    with pytest.raises(ValueError, match="psfFlux is null"):
        made.rows(2, {"psfFlux": np.zeros(2)}, NOISE)


@pytest.mark.parametrize(("kind", "value", "bad"), [("long", 300, 5), ("long", 300, 10**6), ("string", "abc", b"ab")])
def test_what_does_not_fit_is_refused(kind: str, value: Any, bad: Any) -> None:
    made = layout.make((Field("x", kind, False, "", "", None),), {"x": value})
    with pytest.raises(ValueError, match=r"x: (numbers|texts)"):
        made.rows(1, {"x": np.array([bad])}, NOISE)
    with pytest.raises(ValueError, match="x needs an example"):
        layout.make((Field("x", kind, False, "", "", None),), {})


def test_layouts_interleave() -> None:
    a, b = np.full((3, 2), 1, np.uint8), np.full((2, 5), 2, np.uint8)
    out, starts = layout.interleave([(a, np.array([0, 2, 4])), (b, np.array([1, 3]))], 5)
    assert out.tolist() == [1, 1, *[2] * 5, 1, 1, *[2] * 5, 1, 1]
    assert starts.tolist() == [0, 2, 7, 9, 14, 16]
