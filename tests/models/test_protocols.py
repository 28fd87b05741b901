from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from broker.cli.evaluate import evaluate
from broker.core.errors import TocsinError
from broker.models.transients import protocols
from broker.models.transients.protocols import page, table
from broker.models.transients.protocols.unit import (
    Column,
    Context,
    Protocol,
    Result,
    Unit,
    missing,
    read,
    results,
    run_missing,
    write,
)

ROOT = Path(protocols.__file__).parents[2] / "results"


def quiet(*_: object) -> None:
    return


def two_rows(asked: list[Unit]) -> Protocol:
    """Return a protocol of two rows with two parts each, whose units write down that they were run."""

    def run(unit: Unit, _: Context) -> Result:
        asked.append(unit)
        return {"metrics": {"loss": 0.3 + 0.1 * unit.part + (unit.row == "b")}, "curves": {}, "seconds": 60.0}

    def units(row: str) -> tuple[Unit, ...]:
        return tuple(Unit("Z", row, 1, part) for part in (0, 1))

    def draw(_: object, folder: Path) -> list[tuple[str, str]]:
        (folder / "one.svg").write_text("<svg/>")
        return [("one.svg", "A picture")]

    columns = (Column("loss", "loss", "0.5 (somebody)", "≤ 0.42"), Column("absent", "absent"))
    return Protocol("Z", "a title", "What was done.", columns, ("a", "b"), units, run, draw)


def test_a_run_goes_on_with_what_is_missing(tmp_path: Path) -> None:
    asked: list[Unit] = []
    protocol, context = two_rows(asked), Context(None, tmp_path, quiet)
    done = list(run_missing(protocol, ("a",), tmp_path, context))
    assert [unit.row for unit in done] == ["a", "a"]
    (tmp_path / "Z" / "a" / "seed1-1.json").unlink()
    assert missing(protocol, "a", tmp_path) == [Unit("Z", "a", 1, 1)]
    again = list(run_missing(protocol, protocol.rows, tmp_path, context))
    assert [(unit.row, unit.part) for unit in again] == [("a", 1), ("b", 0), ("b", 1)]
    assert results(protocol, tmp_path)[Unit("Z", "b", 1, 0)]["metrics"]["loss"] == 1.3


def test_a_figure_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    unit = Unit("Z", "a", 1, 0)
    with pytest.raises(ValueError, match="JSON"):
        write(unit, {"metrics": {"loss": float("nan")}, "curves": {}}, tmp_path)
    assert not unit.path(tmp_path).exists()
    unit.path(tmp_path).write_text('{"metrics": 3}')
    with pytest.raises(TocsinError, match="no result"):
        read(unit, tmp_path)


@pytest.mark.parametrize(
    ("goal", "value", "expected"),
    [
        ("≤ 0.42", 0.42, True),
        ("≤ 0.42", 0.421, False),
        ("≥ 97.5 %", 0.976, True),
        ("≥ 97.5 %", 0.97, False),
        ("", 1.0, None),
        ("low", 1.0, None),
    ],
)
def test_goals(goal: str, value: float, expected: bool | None) -> None:
    assert table.met(goal, value) is expected


def test_the_page_holds_the_table_and_the_plots(tmp_path: Path) -> None:
    protocol = two_rows([])
    list(run_missing(protocol, protocol.rows, tmp_path, Context(None, tmp_path, quiet)))
    text = page.write(protocol, tmp_path).read_text()
    assert "| a | 0.350 ± 0.071, met | – |" in text
    assert "| b | 1.350 ± 0.071, not met | – |" in text
    assert "0.5 (somebody)" in text
    assert "4 minutes" in text
    assert (tmp_path / "Z" / "one.svg").exists()
    assert "(Z/one.svg)" in text
    assert page.is_current(protocol, tmp_path)
    unit = Unit("Z", "a", 1, 0)
    write(unit, {"metrics": {"loss": 0.9}, "curves": {}}, tmp_path)
    assert not page.is_current(protocol, tmp_path)


def test_the_command_lists_runs_and_checks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Unit] = []
    monkeypatch.setattr(protocols, "PROTOCOLS", {"Z": "nowhere:PROTOCOL"})
    monkeypatch.setattr(protocols, "load", lambda _: two_rows(asked))

    def call(*arguments: str) -> Any:
        return CliRunner().invoke(evaluate, [*arguments, "--results", str(tmp_path)])

    assert "0 of   4 units  a title" in call().output
    assert call("Z", "--check").exit_code == 1
    assert "0.350 ± 0.071, met" in call("Z", "--row", "a").output
    listed = call("Z", "--list").output
    assert "done    a seed 1 part 1" in listed
    assert "missing b seed 1 part 0" in listed
    assert call("Z", "--check").exit_code == 1
    assert call("Z").exit_code == 0
    assert call("Z", "--check").exit_code == 0
    assert len(asked) == 4
    assert call("Z", "--row", "c").exit_code == 2


def test_an_unknown_protocol_is_told_so() -> None:
    with pytest.raises(TocsinError, match="no protocol is called 'Q'"):
        protocols.load("Q")


@pytest.mark.parametrize("name", list(protocols.PROTOCOLS))
def test_what_is_committed_is_a_protocols(name: str) -> None:
    """Every committed result belongs to a unit and is finite; the page of a protocol holds the table of its results."""
    protocol = protocols.load(name)
    assert protocol.name == name
    units = {unit.path(ROOT) for row in protocol.rows for unit in protocol.units(row)}
    assert set((ROOT / name).rglob("*.json")) <= units
    for path in (path for path in units if path.exists()):
        found = json.loads(path.read_text())
        assert np.isfinite(list(found["metrics"].values())).all()
        assert found["command"].startswith(f"tocsin evaluate {name}")
        assert path.stat().st_size < 30_000
    if page.path(protocol, ROOT).exists():
        assert page.is_current(protocol, ROOT), f"run `tocsin evaluate {name}`: its page is not of these results"
