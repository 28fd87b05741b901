"""The words of `tocsin sidecar`: which are rows and which are files, and what a run over files makes of them."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from broker.cli.main import tocsin
from broker.deliver.outputs import DirectoryOutputs


def run(*words: str) -> Result:
    return CliRunner().invoke(tocsin, ["sidecar", *words])


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty working directory with a small catalogue."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.csv").write_text("id,mag_g,mag_r,mag_i,mag_z\nA,19.4,18.6,18.2,18.0\n")
    return tmp_path


def rows_in(out: Path) -> list[list[str]]:
    """Return the rows that answered each product."""
    return [
        [f"{one['row']}@{one['variant']}" for one in result["answers"]]
        for result in DirectoryOutputs(out).annotations()
    ]


def test_a_row_is_a_row_whatever_files_are_called(here: Path) -> None:
    """A folder called like a row was taken for its input, and the row was not run; an --out so called ran once."""
    (here / "pz-bins").mkdir()
    words = ("pz-mdn", "pz-bins", "--input", "c.csv", "--out", "pz-mdn")
    for _ in range(2):
        found = run(*words)
        assert found.exit_code == 0, found.output
    assert rows_in(here / "pz-mdn") == [["pz-mdn@sim", "pz-bins@sim"]]


def test_a_file_that_is_called_like_a_row_is_given_by_its_path(here: Path) -> None:
    (here / "c.csv").rename(here / "pz-bins")
    found = run("pz-mdn", "./pz-bins", "--input", "pz-bins", "--out", "out")
    assert found.exit_code == 0, found.output
    assert rows_in(here / "out") == [["pz-mdn@sim"]]


def test_a_row_by_both_its_names_answers_once(here: Path) -> None:
    found = run("pz-mdn", "pz-mdn@sim", "pz-mdn@dc2", "--input", "c.csv", "--out", "out")
    assert found.exit_code == 0, found.output
    assert rows_in(here / "out") == [["pz-mdn@sim", "pz-mdn@dc2"]]


def test_words_that_are_neither_are_told(here: Path) -> None:
    found = run("pz-mdm", "--input", "c.csv", "--out", "out")
    assert found.exit_code == 1
    assert "no survey model is called 'pz-mdm'" in str(found.exception)
    assert run("c.csv", "--input", "c.csv", "--out", "out").exit_code == 2
