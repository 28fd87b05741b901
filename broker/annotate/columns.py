"""Columns to Avro bytes, a whole batch at a time.

A `Column` holds the encoding of one field for A rows, back to back. Columns are made from values (`longs`, `texts`)
and joined row by row, so that no Python object per row is needed. The encoding is that of the Avro specification.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from broker.core.batch import Ints
from broker.core.jit import jit

Bytes = NDArray[np.uint8]
LONGEST_VARINT = 10


@dataclass(frozen=True, slots=True)
class Column:
    """The encoding of one field.

    Attributes
    ----------
    data : (N,) uint8
        Rows back to back.
    lengths : (A,) int64
        Bytes of each row.
    """

    data: Bytes
    lengths: Ints

    def rows(self) -> list[bytes]:
        """Return the bytes of each row."""
        ends = np.cumsum(self.lengths).tolist()
        whole = self.data.tobytes()
        return [whole[start:end] for start, end in zip([0, *ends], ends, strict=False)]

    def where(self, present: NDArray[np.bool_]) -> Column:
        """Return the column with no bytes in the rows where ``present`` (A,) is false."""
        return Column(self.data[np.repeat(present, self.lengths)], np.where(present, self.lengths, 0))


def constant(value: bytes, rows: int) -> Column:
    """Return ``value`` in every row."""
    return Column(np.tile(np.frombuffer(value, np.uint8), rows), np.full(rows, len(value)))


def longs(values: ArrayLike) -> Column:
    """Return zig-zag varints of integers (A,): Avro's int and long."""
    integers = np.ascontiguousarray(values, np.int64)
    out = np.empty(LONGEST_VARINT * len(integers), np.uint8)
    lengths = np.empty(len(integers), np.int64)
    end = _varints(integers, out, lengths)
    return Column(out[:end], lengths)


def doubles(values: ArrayLike) -> Column:
    """Return doubles (A,)."""
    return _fixed(np.asarray(values, "<f8"))


def floats(values: ArrayLike) -> Column:
    """Return floats (A,)."""
    return _fixed(np.asarray(values, "<f4"))


def booleans(values: ArrayLike) -> Column:
    """Return booleans (A,)."""
    return _fixed(np.asarray(values, np.uint8))


def texts(values: Sequence[str]) -> Column:
    """Return strings (A,)."""
    encoded = [value.encode() for value in values]
    raw = Column(np.frombuffer(b"".join(encoded), np.uint8), np.array([len(e) for e in encoded], np.int64))
    return joined(longs(raw.lengths), raw)


def text(value: str) -> bytes:
    """Return one string."""
    return texts([value]).data.tobytes()


def nullable(column: Column, present: NDArray[np.bool_]) -> Column:
    """Return a union ["null", X] of a column, null where ``present`` (A,) is false."""
    return joined(booleans(np.where(present, 2, 0)), column.where(present))


def joined(*columns: Column) -> Column:
    """Return the columns' bytes row by row, one after the other: a record of fields."""
    lengths = np.stack([column.lengths for column in columns])
    data = np.concatenate([column.data for column in columns])
    starts = np.concatenate(([0], np.cumsum(lengths.sum(axis=1))))[:-1]
    out = np.empty(len(data), np.uint8)
    _interleave(data, starts, lengths, out)
    return Column(out, lengths.sum(axis=0))


def _fixed(values: NDArray[np.generic]) -> Column:
    contiguous = np.ascontiguousarray(values)
    return Column(contiguous.view(np.uint8).reshape(-1), np.full(len(contiguous), contiguous.itemsize))


@jit()
def _varints(values: Ints, out: Bytes, lengths: Ints) -> int:
    end = 0
    for i in range(len(values)):
        left = np.uint64((values[i] << 1) ^ (values[i] >> 63))
        begin = end
        while left >= 128:
            out[end] = np.uint8(left & np.uint64(127)) | np.uint8(128)
            left >>= np.uint64(7)
            end += 1
        out[end] = np.uint8(left)
        end += 1
        lengths[i] = end - begin
    return end


@jit()
def _interleave(data: Bytes, starts: Ints, lengths: NDArray[np.int64], out: Bytes) -> None:
    at = starts.copy()
    end = 0
    for row in range(lengths.shape[1]):
        for column in range(lengths.shape[0]):
            n = lengths[column, row]
            begin = at[column]
            for i in range(n):
                out[end + i] = data[begin + i]
            at[column] += n
            end += n
