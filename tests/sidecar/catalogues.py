"""A catalogue in every form that is read, and what runs it through the delivery loop."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from astropy.table import Table

from broker.cli import products
from broker.core.config import Settings
from broker.deliver.loop import Totals
from broker.deliver.outputs import DirectoryOutputs
from broker.sidecar import write
from broker.sidecar.catalogue import Plan
from broker.sidecar.write import product_message
from tests.sidecar.rows import Colour, galaxies

N = 1000
BLOCK = 64


def columns() -> dict[str, Any]:
    """Return a catalogue of N galaxies: g - r of galaxy n is (n mod 100) / 100; every tenth has no r."""
    n = np.arange(N)
    mag_r = np.where(n % 10 == 9, np.nan, 20.0)
    return {"id": [f"G{i}" for i in n], "mag_g": 20 + (n % 100) / 100, "mag_r": mag_r, "ra": n / 10.0, "flag": n % 3}


def as_parquet(path: Path, table: dict[str, Any]) -> None:
    pq.write_table(pa.table(table), path, row_group_size=300)


def as_text(path: Path, table: dict[str, Any], separator: str = ",") -> None:
    rows = [separator.join(str(v) for v in row) for row in zip(*table.values(), strict=True)]
    path.write_text("# a comment\n" + "\n".join([separator.join(table), *rows]) + "\n")


def as_packed(path: Path, table: dict[str, Any]) -> None:
    as_text(path, table, "\t")
    path.write_bytes(gzip.compress(path.read_bytes()))


def as_fits(path: Path, table: dict[str, Any]) -> None:
    made = Table(table)
    made["mag_g"].unit = made["mag_r"].unit = "mag"
    made["mag_g"] = made["mag_g"].astype(">f4")
    made.write(path, format="fits")


FORMS: dict[str, Callable[[Path, dict[str, Any]], None]] = {
    "parquet": as_parquet, "csv": as_text, "tsv.gz": as_packed, "tsv": as_packed, "fits": as_fits,
}  # fmt: skip


def answer(directory: Path, *paths: Path, model: Colour | None = None, form: str = "avro", **plan: Any) -> Totals:
    made = Plan(**{"block": BLOCK, **plan})
    return products.to_directory(["colour"], [model or Colour()], paths, directory, Settings(), made, form)


def colours(directory: Path) -> dict[str, float]:
    """Return each record's colour."""
    found: dict[str, float] = {}
    for result in DirectoryOutputs(directory).annotations():
        for said in write.said_in(result):
            new = dict(zip(result["records"], said.answer.outputs[0].value.tolist(), strict=True))
            assert not new.keys() & found.keys()
            found |= new
    return found


def assert_right(found: dict[str, float]) -> None:
    assert list(found) == columns()["id"]
    values = np.array(list(found.values()))
    n = np.arange(N)
    assert (np.isnan(values) == (n % 10 == 9)).all()
    assert np.nanmax(np.abs(values - (n % 100) / 100)) < 1e-5


def good(first: int, records: int = 2) -> bytes:
    return product_message(galaxies(first, records))
