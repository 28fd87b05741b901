"""Real packets, and the schemas of the installed Rubin package."""

from __future__ import annotations

import io
import json
import os
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fastavro
import pytest

from broker.decode import SchemaStore
from broker.decode.schemas import installed, installed_ids
from tests.decode.oracle import wire


@dataclass(frozen=True)
class Real:
    """The real packets by set; a set has one framing."""

    ztf_401: list[bytes]
    ztf_33: list[bytes]
    ztf_30: list[bytes]
    lsst_900: list[bytes]
    lsst_file: bytes
    lsst_1000: list[bytes]


@pytest.fixture(scope="session")
def schemas() -> SchemaStore:
    return SchemaStore()


@pytest.fixture(scope="session")
def real(rubin: dict[int, Any]) -> Real:
    """Every real packet; skips where there are none."""
    if "TOCSIN_TEST_DATA" not in os.environ:
        pytest.skip("TOCSIN_TEST_DATA is not set: no real packets")
    folder = Path(os.environ["TOCSIN_TEST_DATA"]) / "alerts"
    with tarfile.open(folder / "ztf" / "ztf_public_20180819_mod1000.tar.gz") as tar:
        old = [file.read() for m in tar if m.isfile() and (file := tar.extractfile(m)) is not None]
    several = (folder / "lsst" / "fink_lsst_v10_7alerts.avro").read_bytes()
    return Real(
        ztf_401=[path.read_bytes() for path in sorted((folder / "ztf" / "20231012").iterdir())],
        ztf_33=[path.read_bytes() for path in sorted((folder / "ztf" / "20200202").iterdir())],
        ztf_30=old,
        lsst_900=[(folder / "lsst" / "wire_id900_7912941781254298.avro").read_bytes()],
        lsst_file=several,
        lsst_1000=[wire(1000, rubin[1000], _plain(record)) for record in fastavro.reader(io.BytesIO(several))],
    )


@pytest.fixture(scope="session")
def rubin() -> dict[int, Any]:
    """Rubin's schemas from 7.0 on, parsed by fastavro, by id; skips where the package is missing."""
    found = {number: installed(number) for number in installed_ids() if number >= 700}
    if not found:
        pytest.skip("lsst-alert-packet is not installed: no Rubin schemas")
    return {number: fastavro.parse_schema(json.loads(text)) for number, text in found.items() if text is not None}


def _plain(record: dict[str, Any]) -> dict[str, Any]:
    """The record without another broker's habit: a record whose fields are all null is null."""
    return {
        name: None if isinstance(value, dict) and all(v is None for v in value.values()) else value
        for name, value in record.items()
    }
