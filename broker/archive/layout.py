"""Records of a fixed layout, written many at a time.

Which fields are null and how wide each number and text is fix every byte's place in an Avro record. So a record is
laid out once, and n of them are a byte matrix (n, size) whose columns are filled by numpy: a thousand times faster than
a record at a time, and `fastavro` reads them back (tests/archive).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from broker.archive.fields import Field, Value
from broker.core.batch import Floats
from broker.deliver.container import varint

Bytes = NDArray[np.uint8]
_FLOATS = {"float": "<f4", "double": "<f8"}
SCATTER = 0.1  # relative, of numbers that only have a typical value
# settings and dates of the survey, which are the same in every packet
STEADY = frozenset({"exptime", "exposureTime", "jdstartref", "jdendref", "magzpsci", "zpmed"})


@dataclass(frozen=True, slots=True)
class Layout:
    """The layout of one record.

    Attributes
    ----------
    row : (size,) uint8
        The record with every example and typical value in place.
    places : dict of str to (dtype, offset)
        Of each field that is not null: ``<f4``, ``<f8``, ``?``, ``S<width>`` (text) or ``V<width>`` (a number of that
        many bytes).
    scattered : tuple of (name, typical)
        Numbers that get some scatter where no column is given.
    """

    row: Bytes
    places: dict[str, tuple[str, int]]
    scattered: tuple[tuple[str, float], ...]

    def rows(self, n: int, columns: Mapping[str, Any], noise: Floats) -> Bytes:
        """Return n records, (n, size).

        Parameters
        ----------
        columns : mapping of str to (n,) array or scalar
            By field; texts as ``S`` arrays of exactly the layout's width.
        noise : (m,) float64
            Standard normal numbers, m > n, from which the scatter is taken.

        Raises
        ------
        ValueError
            A number or text does not have the width that the layout has for it, or the field is null in it.
        """
        out = np.empty((n, len(self.row)), np.uint8)
        out[:] = self.row
        names = list(self.places)
        formats = [self.places[name][0] for name in names]
        offsets = [self.places[name][1] for name in names]
        view = out.reshape(-1).view(
            np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": len(self.row)})
        )
        for shift, (name, typical) in enumerate(self.scattered):
            if name not in columns:
                start = (shift * 7919) % max(1, len(noise) - n)
                view[name] = typical * (1.0 + SCATTER * noise[start : start + n])
        for name, column in columns.items():
            if name not in self.places:
                raise ValueError(f"{name} is null in this layout")
            form = self.places[name][0]
            view[name] = _encoded(name, column, int(form[1:]), n) if form[0] in "VS" else column
        return out


def scatters(field: Field) -> bool:
    """Tell whether a field's typical value gets some scatter."""
    return isinstance(field.typical, float) and field.typical not in (0.0, -999.0) and field.name not in STEADY


def make(fields: tuple[Field, ...], example: Mapping[str, Value]) -> Layout:
    """Lay a record out.

    Parameters
    ----------
    example : mapping
        A value for each field whose typical value does not say what it looks like; None makes it null. Its width is the
        field's width.

    Raises
    ------
    ValueError
        A field that may not be null has no value.
    """
    out = bytearray()
    places: dict[str, tuple[str, int]] = {}
    scattered = []
    for field in fields:
        value = example.get(field.name, field.typical)
        if value is None and not field.nullable:
            raise ValueError(f"{field.name} needs an example")
        if field.nullable:
            out += b"\0" if value is None else b"\2"
        if value is None:
            continue
        form, encoded, skipped = _plain(field.kind.partition(":")[0], value)
        places[field.name] = (form, len(out) + skipped)
        out += encoded
        if form in ("<f4", "<f8") and scatters(field):
            scattered.append((field.name, float(field.typical or 0.0)))
    return Layout(np.frombuffer(bytes(out), np.uint8), places, tuple(scattered))


def _plain(kind: str, value: Any) -> tuple[str, bytes, int]:
    """Return (dtype, bytes, bytes before the value) of one value."""
    if kind in _FLOATS:
        return _FLOATS[kind], np.array(value, _FLOATS[kind]).tobytes(), 0
    if kind == "boolean":
        return "?", bytes([value]), 0
    if kind in ("int", "long"):
        encoded = varint(value)
        return f"V{len(encoded)}", encoded, 0
    if kind == "string":
        text = str(value).encode()
        length = varint(len(text))
        return f"S{len(text)}", length + text, len(length)
    raise ValueError(f"no fixed layout for {kind}")


def _encoded(name: str, column: Any, width: int, n: int) -> Any:
    """Return the column as ``V`` or ``S`` bytes of exactly ``width``."""
    column = np.asarray(column)
    if column.dtype.kind == "S":
        if column.dtype.itemsize != width:
            raise ValueError(f"{name}: texts of {column.dtype.itemsize} bytes where {width} are laid out")
        return column
    zigzag = (column.astype(np.int64) << 1) ^ (column.astype(np.int64) >> 63)
    low = 0 if width == 1 else 1 << 7 * (width - 1)
    unsigned = zigzag.view(np.uint64)
    if column.size and (unsigned.min() < low or (width < 10 and int(unsigned.max()) >> 7 * width)):
        raise ValueError(f"{name}: numbers that do not take {width} bytes")
    shifts = (np.arange(width) * 7).astype(np.uint64)
    parts = ((unsigned[..., None] >> shifts) & np.uint64(0x7F)).astype(np.uint8)
    parts[..., :-1] |= 0x80
    return np.ascontiguousarray(parts).view(f"V{width}")[..., 0]


def interleave(parts: list[tuple[Bytes, NDArray[np.int64]]], total: int) -> tuple[Bytes, NDArray[np.int64]]:
    """Put records of several layouts into one order.

    Parameters
    ----------
    parts : list of ((n_k, size_k) records, (n_k,) places in the order)
    total : int
        Records in all; the places are a permutation of ``range(total)``.

    Returns
    -------
    (m,) uint8
        The records end to end.
    (total + 1,) int64
        Where each starts.
    """
    sizes = np.zeros(total, np.int64)
    for rows, order in parts:
        sizes[order] = rows.shape[1]
    starts = np.concatenate(([0], np.cumsum(sizes)))
    out = np.empty(starts[-1], np.uint8)
    for rows, order in parts:
        for begin in range(0, len(rows), 4096):  # by parts: the index is eight times as large as the bytes
            to = starts[order[begin : begin + 4096], None] + np.arange(rows.shape[1])
            out[to] = rows[begin : begin + 4096]
    return out, starts
