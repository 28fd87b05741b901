"""Light curves out of a table: one pass over the file, one sort where an object's rows are not together.

The table is held in memory, 30 bytes a point; reading it takes up to 100 bytes a point for a moment: 1 GB for 100,000
objects of 100 points in shuffled rows (measured).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from broker.core.batch import Floats, Ints, LightCurves
from broker.core.errors import TocsinError
from broker.tables import read
from broker.tables.names import Layout
from broker.tables.points import Rules
from broker.tables.values import MISSING, numbers, runs

Id = str | int
Progress = Callable[[int], None]
_COLUMNS = ("mjd", "flux_njy", "flux_err_njy", "band", "kind")
_LARGEST = 2**63
_EXACT = 2.0**53  # whole numbers below it are exact in float64


@dataclass(frozen=True, slots=True)
class Table:
    """The objects of a table, in the order in which they are first met.

    Attributes
    ----------
    ids : list of str or of int, (A,)
        As they were given; text of whole numbers is whole numbers.
    curves : LightCurves
        Raw: any order, duplicates allowed; A objects.
    rows : int
        Of the file.
    """

    ids: list[Id]
    curves: LightCurves
    rows: int


def load(path: Path, rules: Rules, progress: Progress) -> Table:
    """Return the light curves of a file.

    Parameters
    ----------
    progress : callable
        Told the number of rows that were read since the last call.

    Raises
    ------
    TocsinError
        The file or a row of it cannot be used, see `broker.tables.read` and `Rules.points`; or there are no rows.
    """
    seen: dict[Id, int] = {}
    parts: dict[str, list[NDArray[Any]]] = {name: [] for name in ("owner", *_COLUMNS)}
    done = 0
    for chunk in read.chunks(path, list(dict.fromkeys(rules.layout.columns.values()))):
        if not chunk:
            continue
        owner = _owners(chunk[rules.layout.columns["obj"]], seen, done)
        points = rules.points(chunk, done)
        parts["owner"].append(owner[points.row].astype(np.int32))
        for name in _COLUMNS:
            parts[name].append(getattr(points, name))
        done += len(owner)
        progress(len(owner))
    if not done:
        raise TocsinError(f"{path} has no rows")
    return Table(_ids(list(seen)), _grouped(parts, len(seen)), done)


def hosts(path: Path, layout: Layout, ids: list[Id]) -> tuple[Floats, Floats]:
    """Return redshift and error (A,) of the hosts of ``ids``, NaN where not given; a negative one is not given.

    Raises
    ------
    TocsinError
        The table names an object that has no light curve, or one twice; or it cannot be read.
    """
    place = {str(name): i for i, name in enumerate(ids)}
    z, err, met = np.full(len(ids), np.nan), np.full(len(ids), np.nan), np.zeros(len(ids), np.bool_)
    done = 0
    try:
        for chunk in read.chunks(path, list(layout.columns.values())):
            if not chunk:
                continue
            where = _places(chunk[layout.columns["obj"]], place, met, done)
            z[where] = numbers(chunk[layout.columns["z_host"]], "z_host", done)
            if "z_host_err" in layout:
                err[where] = numbers(chunk[layout.columns["z_host_err"]], "z_host_err", done)
            done += len(where)
    except TocsinError as error:
        raise TocsinError(f"the table of objects {path}: {error}") from error
    known = np.isfinite(z) & (z >= 0)
    return np.where(known, z, np.nan), np.where(known & np.isfinite(err) & (err >= 0), err, np.nan)


def _places(values: NDArray[Any], place: dict[str, int], met: NDArray[np.bool_], done: int) -> Ints:
    """Return the place (n,) of each object of a column of ids, and mark it in ``met``."""
    found = []
    for row, name in enumerate(_names(values, done)):
        at = place.get(str(name))
        if at is None or met[at]:
            what = "has no light curve" if at is None else "is there twice"
            raise TocsinError(f"row {done + row + 1}: the object {name} {what}")
        met[at] = True
        found.append(at)
    return np.array(found, np.int64)


def _owners(values: NDArray[Any], seen: dict[Id, int], done: int) -> Ints:
    """Return the number of each row's object (n,), adding new ones to ``seen``."""
    begin, length = runs(values)
    found = [seen.setdefault(name, len(seen)) for name in _names(values[begin], done, begin)]
    return np.repeat(np.array(found, np.int64), length)


def _names(values: NDArray[Any], done: int, rows: Ints | None = None) -> list[Id]:
    """Return ids as text or as whole numbers.

    Raises
    ------
    TocsinError
        One is missing, or is a number that is not whole.
    """
    if values.dtype.kind == "U":
        names: list[Id] = [name.strip() for name in values.tolist()]
        bad = [isinstance(name, str) and name.lower() in MISSING for name in names]
    elif values.dtype.kind == "f":
        whole = np.isfinite(values) & (np.floor(values) == values) & (abs(values) < _EXACT)
        names, bad = [int(name) for name in np.where(whole, values, 0).tolist()], (~whole).tolist()
    else:
        names, bad = values.tolist(), [False] * len(values)
    if True in bad:
        row = bad.index(True)
        at = done + (row if rows is None else int(rows[row])) + 1
        raise TocsinError(f"row {at}: {str(values[row])!r} is no id of an object: text, or a whole number")
    return names


def _ids(names: list[Id]) -> list[Id]:
    """Return text that is whole numbers, without exception and written as we would, as whole numbers of 64 bits.

    Whole numbers that do not fit become text.
    """
    texts = [name for name in names if isinstance(name, str)]
    if not texts:
        return list(names) if all(abs(int(name)) < _LARGEST for name in names) else [str(name) for name in names]
    plain = all(text.removeprefix("-").isascii() and text.removeprefix("-").isdigit() for text in texts)
    if plain and all(str(int(text)) == text and abs(int(text)) < _LARGEST for text in texts):
        return [int(name) for name in names]
    return names


def _grouped(parts: dict[str, list[NDArray[Any]]], objects: int) -> LightCurves:
    """Return the points in the order of their objects; ``parts`` are given back one by one, to hold little twice."""
    owner = np.concatenate(parts.pop("owner"))
    offsets = np.concatenate(([0], np.cumsum(np.bincount(owner, minlength=objects)))).astype(np.int64)
    together = bool(np.all(owner[1:] >= owner[:-1]))
    order = None if together else np.argsort(owner, kind="stable")
    del owner
    columns = []
    for name in _COLUMNS:
        column = np.concatenate(parts.pop(name))
        columns.append(column if order is None else column[order])
    return LightCurves(offsets, *columns)
