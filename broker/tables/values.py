"""Columns of a table to numbers, flags and codes; an error names the row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from broker.core.batch import Floats, Ints
from broker.core.errors import TocsinError

Bools = NDArray[np.bool_]
MISSING = ("", "nan", "null", "none", "na", "n/a", "--")
FLAGS = {**dict.fromkeys(("1", "true", "t", "yes", "y"), 1), **dict.fromkeys(("0", "false", "f", "no", "n"), 0)}
SIGNS = {**dict.fromkeys(("1", "+1", "t", "true"), 1), **dict.fromkeys(("0", "-1", "f", "false"), -1)}
"""ZTF's ``isdiffpos``, as packets and brokers write it."""
_UNKNOWN = -99


def numbers(values: NDArray[Any], column: str, done: int) -> Floats:
    """Return a column (n,) as float64, NaN where there is nothing; ``done`` rows came before.

    Raises
    ------
    TocsinError
        There is text that is no number.
    """
    if values.dtype.kind != "U":
        return values.astype(np.float64)
    try:
        return values.astype(np.float64)
    except ValueError:
        words, place = np.unique(values, return_inverse=True)
        known = [_number(word) for word in words.tolist()]
    bad = np.array([number is None for number in known])[place]
    if bad.any():
        row = int(np.argmax(bad))
        raise TocsinError(f"row {done + row + 1}: {column} is {str(values[row])!r}, which is no number")
    return np.array(known, np.float64)[place]


def codes(values: NDArray[Any], table: Mapping[str, int]) -> Ints:
    """Return the codes (n,) of a column of names, looked up as they are, then in lower case; -99 for an unknown one."""
    words, place = np.unique(values, return_inverse=True)
    found = [table.get(word, table.get(word.lower(), _UNKNOWN)) for word in map(_word, words.tolist())]
    return np.array(found, np.int64)[place] if found else np.zeros(0, np.int64)


def unknown(found: Ints) -> Bools:
    """Return where `codes` found nothing."""
    return np.asarray(found == _UNKNOWN)


def runs(values: NDArray[Any]) -> tuple[Ints, Ints]:
    """Return where each run of equal neighbours of a column (n,) begins, and its length."""
    change = np.flatnonzero(values[1:] != values[:-1]) + 1
    begin = np.concatenate(([0], change)).astype(np.int64) if len(values) else np.zeros(0, np.int64)
    return begin, np.diff(np.append(begin, len(values)))


def _number(word: str) -> float | None:
    if word.strip().lower() in MISSING:
        return np.nan
    try:
        return float(word)
    except ValueError:
        return None


def _word(value: object) -> str:
    """Return a name as text; 2.0 is 2."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()
