"""What a run over files says to the one who began it: of its inputs, of what is wrong with them, and of its records."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from broker.cli import note
from broker.core.errors import TocsinError
from broker.sidecar.catalogue import Plan
from tests.sidecar.test_files import BLOCK, answer, as_text, columns

N = 20_000


@pytest.mark.parametrize("where", ["/proc/nope", "/sys/nope", "/proc", "{}/galaxies.csv", "{}/galaxies.csv/out"])
def test_a_directory_that_cannot_be_made_or_written_is_one_sentence(where: str, tmp_path: Path) -> None:
    as_text(tmp_path / "galaxies.csv", columns())
    with pytest.raises(TocsinError, match=r"cannot (make|write) .*: [A-Z][a-z ]+$"):
        answer(Path(where.format(tmp_path)), tmp_path / "galaxies.csv")


def test_bytes_that_are_damaged_amid_a_parquet_file_are_one_sentence(tmp_path: Path) -> None:
    path, values = tmp_path / "galaxies.parquet", np.random.default_rng(1).normal(20, 1, (2, N))
    pq.write_table(pa.table({"mag_g": values[0], "mag_r": values[1]}), path, row_group_size=5000)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 60_000] = b"\xff" * 60_000
    path.write_bytes(bytes(content))
    with pytest.raises(TocsinError, match=r"cannot read .*galaxies\.parquet as Parquet: "):
        answer(tmp_path / "out", path)


DIFFERENT: list[tuple[dict[str, Any], str]] = [
    ({"missing": (-99.0, 1.5)}, "was made with no --missing; this is with --missing -99 --missing 1.5: take"),
    ({"block": 32, "record_id": "ra"}, "was made with no --id, --block 64; this is with --id ra, --block 32: take"),
    ({"renamed": {"mag_g": "mag_r"}}, "was made with no --column; this is with --column mag_g=mag_r: take"),
]


@pytest.mark.parametrize(("plan", "text"), DIFFERENT)
def test_options_that_differ_are_said_as_they_are_typed(plan: dict[str, Any], text: str, tmp_path: Path) -> None:
    path, out = tmp_path / "galaxies.csv", tmp_path / "out"
    as_text(path, columns())
    answer(out, path)
    with pytest.raises(TocsinError, match=re.escape(f"{out} {text} another --out")):
        answer(out, path, **plan)
    with pytest.raises(TocsinError, match="was made with colour; this is with other: take another --out"):
        note.write(out, ["other"], Plan(block=BLOCK), [])
