"""What a directory of results says of how it was made: other catalogues, rows and options are refused."""

import json
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from broker.cli import note
from broker.cli.inputs import note_inputs
from broker.cli.ledger import count_inputs
from broker.core.errors import TocsinError
from broker.deliver.recount import recount_directory
from broker.sidecar.catalogue import Plan
from tests.sidecar.catalogues import BLOCK, answer, as_parquet, as_text, assert_right, colours, columns, good


def grown(path: Path) -> str:
    with path.open("a") as file:
        file.write("G1000,20.5,20.0,0,0\n")
    return "galaxies.csv is not the file that .*: it had [0-9,]+ bytes and has [0-9,]+; take another --out"


def changed(path: Path) -> str:
    path.write_text(path.read_text().replace("G0,20.0,", "G0,21.0,"))
    return "galaxies.csv is not the file that .*: its bytes are others; take another --out"


@pytest.mark.parametrize("change", [grown, changed])
def test_a_catalogue_that_is_another_one_is_refused_where_it_was_answered(
    change: Callable[[Path], str], tmp_path: Path
) -> None:
    path, out = tmp_path / "galaxies.csv", tmp_path / "out"
    as_text(path, columns())
    answer(out, path)
    text = change(path)
    for refused in (lambda: answer(out, path), lambda: count_inputs(str(out), (), {})):
        with pytest.raises(TocsinError, match=text):
            refused()
    assert answer(tmp_path / "new", path).scored == 16


def test_a_catalogue_that_was_touched_or_copied_is_the_same_one(tmp_path: Path) -> None:
    path, out = tmp_path / "galaxies.csv", tmp_path / "out"
    as_text(path, columns())
    answer(out, path)
    os.utime(path, (1, 1))
    assert answer(out, path).received == 0
    path.with_suffix(".new").write_bytes(path.read_bytes())
    path.with_suffix(".new").rename(path)
    assert answer(out, path).received == 0
    assert count_inputs(str(out), (), {}) == 16


def test_a_catalogue_of_which_nothing_is_answered_may_be_mended(tmp_path: Path) -> None:
    path, out = tmp_path / "galaxies.csv", tmp_path / "out"
    as_text(path, columns())
    text = path.read_text()
    path.write_text(text.replace("G700,20.0,", "G700,oops,"))
    with pytest.raises(TocsinError, match="oops"):
        answer(out, path)
    path.write_text(text)
    answer(out, path)
    assert_right(colours(out))


def test_products_that_come_to_a_folder_are_answered(tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for n in range(2):
        (folder / f"{n}.bin").write_bytes(good(10 * n))
        assert answer(out, folder).scored == 1
    assert recount_directory(out, source_packets=count_inputs(str(out), (), {}))["balanced"]


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[]", b'{"rows": [], "plan": {"blocks": 1}}'])
def test_a_damaged_note_is_said(content: bytes, tmp_path: Path) -> None:
    path, out = tmp_path / "galaxies.csv", tmp_path / "out"
    as_text(path, columns())
    answer(out, path)
    (out / "sidecar.json").write_bytes(content)
    for refused in (lambda: answer(out, path), lambda: count_inputs(str(out), (), {})):
        with pytest.raises(TocsinError, match=r"sidecar\.json is damaged .*: remove it, and run the command that made"):
            refused()
    (out / "sidecar.json").unlink()
    assert answer(out, path).received == 0
    (out / "inputs.txt").write_bytes(b"\xff\xff")
    with pytest.raises(TocsinError, match=r"inputs\.txt is damaged .*: remove it"):
        answer(out, path)


def test_notes_are_whole_or_not_there(tmp_path: Path) -> None:
    """A disk that takes no more leaves the old ones, as a kill does; a note that says the same is not written."""
    first, second, out = tmp_path / "a.csv", tmp_path / "b.csv", tmp_path / "out"
    as_text(first, columns())
    as_text(second, columns())
    answer(out, first)
    notes = [out / "sidecar.json", out / "inputs.txt"]
    before = [(path.read_bytes(), path.stat().st_mtime_ns) for path in notes]
    answer(out, first)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limit[1]))
    try:
        with pytest.raises(TocsinError, match=r"cannot write .*sidecar.json: File too large"):
            note.write(out, ["colour"], Plan(block=BLOCK), [first, second])
        with pytest.raises(TocsinError, match=r"cannot write .*inputs.txt: File too large"):
            note_inputs(out, ["another"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, handler)
    assert [(path.read_bytes(), path.stat().st_mtime_ns) for path in notes] == before
    assert answer(out, first, second).scored == 16


def test_another_plan_is_refused_where_results_are(tmp_path: Path) -> None:
    as_parquet(tmp_path / "galaxies.parquet", columns())
    answer(tmp_path / "out", tmp_path / "galaxies.parquet")
    with pytest.raises(TocsinError, match="take another --out"):
        answer(tmp_path / "out", tmp_path / "galaxies.parquet", block=32)
    assert json.loads((tmp_path / "out" / "sidecar.json").read_text())["plan"]["block"] == BLOCK
