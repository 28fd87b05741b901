"""The smallest thing that is trained and judged, and the small JSON that it leaves: runs resume from a clean clone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from broker.core.errors import TocsinError

Result = dict[str, Any]
"""What a unit leaves: ``metrics`` (name to number) and ``curves`` (name to short lists, for the plots)."""
Show = Callable[[str, int, int], None]
"""Told what is done, how much of it and of how much."""


@dataclass(frozen=True, slots=True)
class Unit:
    """One training with its judgement.

    Attributes
    ----------
    protocol : str
        Letter of the protocol, or its name.
    row : str
        The system that is judged; a row of the protocol's table.
    seed, part : int
        Seed of the split; which fold, half or repetition of it.
    """

    protocol: str
    row: str
    seed: int
    part: int

    def path(self, root: Path) -> Path:
        """Return where the result lies under ``root``."""
        return root / self.protocol / self.row / f"seed{self.seed}-{self.part}.json"


@dataclass(frozen=True, slots=True)
class Context:
    """What a unit may use.

    Attributes
    ----------
    data : Path or None
        Folder with one folder of Parquet tables per set (``plasticc``, ``spcc``); None: what can be downloaded is
        downloaded into ``cache``.
    cache : Path
        Examples, checkpoints and predictions: nothing that cannot be made again.
    show : callable
        See `Show`.
    """

    data: Path | None
    cache: Path
    show: Show


@dataclass(frozen=True, slots=True)
class Column:
    """A figure of a protocol's table.

    Attributes
    ----------
    metric : str
        Key of a result's ``metrics``.
    title : str
    published, goal : str
        As text, with the source; '' where there is none.
    """

    metric: str
    title: str
    published: str = ""
    goal: str = ""


@dataclass(frozen=True, slots=True)
class Protocol:
    """What is trained on what, and how it is judged.

    Attributes
    ----------
    name, title, about : str
        ``about`` is the paragraph of the page that says what was done, what was never seen, and which seed chose.
    columns : tuple of Column
    rows : tuple of str
        Systems, in the order of the table.
    units : callable
        Row to its units with the seed that reports.
    run : callable
        Trains and judges one unit.
    plots : callable
        From all results of the protocol to figures in a folder; returns (file name, caption) pairs.
    """

    name: str
    title: str
    about: str
    columns: tuple[Column, ...]
    rows: tuple[str, ...]
    units: Callable[[str], tuple[Unit, ...]]
    run: Callable[[Unit, Context], Result]
    plots: Callable[[Mapping[Unit, Result], Path], list[tuple[str, str]]]


def run_missing(protocol: Protocol, rows: tuple[str, ...], root: Path, context: Context) -> Iterator[Unit]:
    """Run every unit of ``rows`` that has no result under ``root`` yet; yield each that was run."""
    for row in rows:
        for unit in missing(protocol, row, root):
            write(unit, protocol.run(unit, context), root)
            yield unit


def results(protocol: Protocol, root: Path) -> dict[Unit, Result]:
    """Return all results of a protocol that there are under ``root``."""
    units = (unit for row in protocol.rows for unit in protocol.units(row))
    return {unit: read(unit, root) for unit in units if unit.path(root).exists()}


def missing(protocol: Protocol, row: str, root: Path) -> list[Unit]:
    """Return the units of a row that have no result under ``root``."""
    return [unit for unit in protocol.units(row) if not unit.path(root).exists()]


def write(unit: Unit, result: Result, root: Path) -> None:
    """Write a result in one move.

    Raises
    ------
    ValueError
        It holds a number that is not finite: a figure that could not be made is no figure.
    """
    path = unit.path(root)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(result, allow_nan=False, separators=(",", ":")) + "\n")
    part.replace(path)


def read(unit: Unit, root: Path) -> Result:
    """Return a result.

    Raises
    ------
    TocsinError
        It is not what `write` wrote.
    """
    try:
        found = json.loads(unit.path(root).read_text())
        return {"metrics": dict(found["metrics"]), "curves": dict(found["curves"]), **found}
    except (ValueError, KeyError, TypeError) as error:
        raise TocsinError(f"{unit.path(root)} is no result of a protocol: {error}") from error
