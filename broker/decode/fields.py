"""What we read of a packet: the fields, and the tables that they are captured into.

A `Projection` lists, for one survey, the columns of the alert and those of each history list. Captured values land
in two tables of 64-bit words: one row per alert, and one row per point of its histories. The last word of a point
is the tag of the list that it came from; row 0 of every alert's points is left free for the alerting detection.

Words hold, by `Kind`: the bits of a float64 (null is NaN); an int64 (null is `NULL`, so the smallest number is null);
0 or 1; a short string as a `code`; or a string as two words, its offset in the body and its length (null is -1, -1).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

import numpy as np

from broker.core.batch import Floats, Ints
from broker.core.reasons import Dead

NULL = -(2**63)
NULL_CODE = -1
LONG_CODE = 8 << 56
_NAN_BITS = struct.unpack("<q", struct.pack("<d", float("nan")))[0]


class Kind(IntEnum):
    """How a captured value is held."""

    FLOAT = 0
    INT = 1
    BOOL = 2
    CODE = 3
    SPAN = 4


_NULL_WORDS = {
    Kind.FLOAT: (_NAN_BITS,),
    Kind.INT: (NULL,),
    Kind.BOOL: (NULL,),
    Kind.CODE: (NULL_CODE,),
    Kind.SPAN: (-1, -1),
}


@dataclass(frozen=True, slots=True)
class Column:
    """A field that we read.

    Attributes
    ----------
    path : str
        Names from the record down, joined by dots.
    kind : Kind
    required : bool
        A schema without it is not one of this survey's.
    """

    path: str
    kind: Kind
    required: bool = False


@dataclass(frozen=True, slots=True)
class History:
    """A list of records that we read: its path, its tag, and its columns in order (at most width - 1 words)."""

    path: str
    tag: int
    columns: tuple[Column, ...]


@dataclass(frozen=True)
class Projection:
    """All that we read of one survey's packets."""

    survey: str
    alert: tuple[Column, ...]
    histories: tuple[History, ...]
    point_words: int

    @cached_property
    def first_word(self) -> dict[str, int]:
        """First word of each alert column, by path."""
        return dict(zip((c.path for c in self.alert), _starts(self.alert), strict=True))

    @cached_property
    def alert_null(self) -> Ints:
        """An alert row in which nothing was captured, (words,)."""
        return np.array([word for c in self.alert for word in _NULL_WORDS[c.kind]], dtype=np.int64)

    @cached_property
    def point_null(self) -> Ints:
        """A point row in which nothing was captured, by tag: (tags, words)."""
        tags = max((h.tag for h in self.histories), default=0) + 1
        rows = np.full((tags, self.point_words), _NAN_BITS, dtype=np.int64)
        for history in self.histories:
            words = [word for c in history.columns for word in _NULL_WORDS[c.kind]]
            rows[history.tag, : len(words)] = words
            rows[history.tag, -1] = history.tag
        rows[0, -1] = 0
        return rows


TEXT_BYTES = 256
"""Longest name or id of an object (real ones: up to 20): it becomes a key and part of every annotation."""

TextFault = tuple[int, Dead, str]
"""Row, reason, and what is wrong with its text, as a clause."""


@dataclass(frozen=True, slots=True)
class Tables:
    """Captured words of A packets of one survey.

    Attributes
    ----------
    rows : (A,) int64
        Row of each packet in its batch.
    alerts : (A, words) int64
    points : (D, words) int64
        Row ``first[i]`` is free, the others of ``first[i]:first[i + 1]`` are the histories of packet i.
    first : (A + 1,) int64
    bodies : list of bytes, (A,)
        What the offsets of spans point into.
    """

    rows: Ints
    alerts: Ints
    points: Ints
    first: Ints
    bodies: list[bytes]

    def floats(self, word: int) -> Floats:
        """Alert column of floats, (A,); NaN is null."""
        return self.alerts.view(np.float64)[:, word]

    def ints(self, word: int, null: int) -> Ints:
        """Alert column of integers, (A,), with ``null`` for what is missing."""
        column = self.alerts[:, word]
        return np.where(column == NULL, null, column)

    def strings(self, word: int) -> tuple[list[str], list[TextFault]]:
        """Alert column of strings, (A,), '' for what is missing or too long; and what is wrong with which rows."""
        found, faults = [], []
        spans = zip(self.bodies, self.alerts[:, word].tolist(), self.alerts[:, word + 1].tolist(), strict=True)
        for row, (body, start, size) in enumerate(spans):
            if size > TEXT_BYTES:
                faults.append((row, Dead.BOUND_EXCEEDED, f"has {size} bytes, more than {TEXT_BYTES}"))
            raw = body[start : start + size] if start >= 0 and size <= TEXT_BYTES else b""
            if not raw.isascii() and not _is_utf8(raw):
                faults.append((row, Dead.MALFORMED, "is not UTF-8"))
            found.append(raw.decode(errors="replace"))
        return found, faults


@dataclass(frozen=True, slots=True)
class Problem:
    """Why the packet at ``index`` of a table cannot become an alert."""

    index: int
    reason: Dead
    text: str


def code(text: str | None) -> int:
    """Return a string of at most 7 bytes as one word: its bytes, little-endian, below its length."""
    if text is None:
        return NULL_CODE
    raw = text.encode()
    return LONG_CODE if len(raw) > 7 else int.from_bytes(raw, "little") | len(raw) << 56


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


def _starts(columns: tuple[Column, ...]) -> list[int]:
    sizes = [len(_NULL_WORDS[c.kind]) for c in columns]
    return [sum(sizes[:i]) for i in range(len(sizes))]
