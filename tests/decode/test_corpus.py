"""Inputs that once found something: small, all made by our own generators, with a line each in ``found.toml``."""

from __future__ import annotations

import tomllib
import tracemalloc
import warnings
from pathlib import Path

import pytest

from broker.decode import Decoder, containers
from tests.decode import samples
from tests.decode.fuzz.seeds import Schemas
from tests.decode.oracle import batch, container

FOLDER = Path(__file__).parent / "corpus"
FOUND = tomllib.loads((FOLDER / "found.toml").read_text())
CORPUS = sorted(path for path in FOLDER.iterdir() if path.suffix != ".toml")
GOOD = container(samples.ZTF, samples.ztf())


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.name)
def test_what_once_found_something(path: Path) -> None:
    value, decoder = path.read_bytes(), Decoder(Schemas())
    decoder(batch([GOOD]))
    tracemalloc.start()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        decoded, dead = decoder(batch([GOOD, value, GOOD]))
        pieces = list(containers.split(value))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    alive = sorted(row for part in decoded for row in part.alerts.rows.tolist())
    assert (alive, [letter.reason for letter in dead]) == (
        ([0, 1, 2], []) if FOUND[path.name]["end"] == "alert" else ([0, 2], [FOUND[path.name]["end"]])
    )
    assert len(pieces) == FOUND[path.name].get("pieces", 1)
    assert peak < 64e6


def test_every_file_has_its_line() -> None:
    assert sorted(FOUND) == [path.name for path in CORPUS]
    assert all(line["found"] for line in FOUND.values())
    assert sum(path.stat().st_size for path in CORPUS) < 200_000
