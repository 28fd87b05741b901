"""The rows of a protocol: mean and standard deviation of each figure, beside what was published and the goal."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from broker.models.transients.protocols.unit import Column, Protocol, Result, Unit

_GOAL = re.compile(r"([≤≥])\s*([0-9.]+)\s*(%?)")


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of a row.

    Attributes
    ----------
    mean, sd : float
        Over the units that have a result; ``sd`` is 0 for one unit.
    n : int
        How many those are.
    met : bool or None
        Whether the mean meets the column's goal; None where there is none.
    """

    mean: float
    sd: float
    n: int
    met: bool | None


def figure(column: Column, results: list[Result]) -> Figure | None:
    """Return a column's figure of one row's results; None where no result has it."""
    values = [float(r["metrics"][column.metric]) for r in results if column.metric in r["metrics"]]
    if not values:
        return None
    mean = float(np.mean(values))
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return Figure(mean, sd, len(values), met(column.goal, mean))


def met(goal: str, value: float) -> bool | None:
    """Return whether a value meets a goal such as ``≤ 0.42`` or ``≥ 97.5 %``; None where the text holds no goal."""
    found = _GOAL.search(goal)
    if found is None:
        return None
    bound = float(found[2]) / (100.0 if found[3] else 1.0)
    return value <= bound if found[1] == "≤" else value >= bound


def of_row(protocol: Protocol, row: str, found: Mapping[Unit, Result]) -> list[Result]:
    """Return the results of a row, in the order of its units."""
    return [found[unit] for unit in protocol.units(row) if unit in found]


def markdown(protocol: Protocol, found: Mapping[Unit, Result]) -> str:
    """Return the table as Markdown: what was published and the goals first, then a line per row."""
    titles = ["row", *(column.title for column in protocol.columns)]
    lines = [titles, ["---"] * len(titles)]
    lines.append(["*published*", *(column.published or "–" for column in protocol.columns)])
    lines.append(["*goal*", *(column.goal or "–" for column in protocol.columns)])
    for row in protocol.rows:
        units, results = protocol.units(row), of_row(protocol, row, found)
        part = "" if len(results) == len(units) else f" ({len(results)} of {len(units)} parts)"
        lines.append([row + part, *(_cell(column, figure(column, results)) for column in protocol.columns)])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(column: Column, made: Figure | None) -> str:
    if made is None:
        return "–"
    percent = "%" in column.goal or "%" in column.published
    scale, digits = (100.0, 1) if percent else (1.0, 3 if abs(made.mean) < 1000.0 else 0)
    text = f"{made.mean * scale:.{digits}f}"
    text += f" ± {made.sd * scale:.{digits}f}" if made.n > 1 else ""
    text += " %" if percent else ""
    return text if made.met is None else f"{text}, {'met' if made.met else 'not met'}"
