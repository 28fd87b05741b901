"""Columns of catalogue files, a stretch at a time: Parquet, FITS and text. n = rows of a stretch.

Nothing is read whole: a catalogue may be larger than the memory. (A FITS file that is packed as .gz is unpacked whole.)
"""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from broker.core.errors import TocsinError
from broker.sidecar import fitsimages

Form = Literal["parquet", "fits", "text", "packets"]
Chunk = dict[str, NDArray[Any]]
IDS = ""
"""Where a chunk has its ids, as no column of numbers is called: their own may be one of these, too."""
ROWS = 32_768
HEAD, HEADERS = 512, 2**20
"""First bytes of a file, which tell what it is; of a FITS file, in which its first image or table begins."""
_NOTHING = "neither FITS, Parquet, Avro nor a text table"
_GZIP, _TAR = b"\x1f\x8b", slice(257, 262)
_SHOWN = 40
_EMPTY = ["", "nan", "NaN", "NAN", "null", "NULL", "None", "NA", "N/A", "n/a", "-", "--", "INDEF"]


class Unread(TocsinError):
    """A file is nothing that is read, but not for damage: in a folder, others may go on without it."""


def form_of(path: Path) -> Form:
    """Return what a file is, by its first bytes: a catalogue, or products as packets, alone or in a tar archive.

    Raises
    ------
    TocsinError
        It cannot be read.
    Unread
        It is none of these.
    """
    head = unpacked(path, HEAD)
    if head[:4] == b"PAR1":
        return "parquet"
    if head[:9] == b"SIMPLE  =":
        return "fits"
    if head.startswith((b"Obj\x01", b"\0")) or head[_TAR] == b"ustar":
        return "packets"
    if b"\0" in head:
        raise Unread(f"{path} is {_NOTHING}")
    return "text"


def columns(path: Path, form: Form) -> dict[str, str | None]:
    """Return the columns' names and units; None where the file says nothing of a unit.

    Raises
    ------
    TocsinError
        The file is damaged.
    Unread
        It is no table.
    """
    if form == "parquet":
        return dict.fromkeys(_parquet(path).schema_arrow.names)
    if form == "fits":
        with _fits(path) as table:
            return {column.name: column.unit for column in table.columns}
    return dict.fromkeys(_header(path)[0])


def count(path: Path, form: Form) -> int | None:
    """Return how many rows there are, None where only reading would tell."""
    if form == "parquet":
        return int(_parquet(path).metadata.num_rows)
    if form != "fits":
        return None
    with _fits(path) as table:
        return len(table.data)


def chunks(path: Path, form: Form, numbers: Sequence[str], ids: str | None = None) -> Iterator[Chunk]:
    """Yield the columns ``numbers`` (float32 or float64, NaN for nothing) and ``ids`` (text), in the file's order.

    Raises
    ------
    TocsinError
        The file is damaged, or a column holds something else.
    """
    read = {"parquet": _parquet_chunks, "fits": _fits_chunks, "text": _text_chunks}[form]
    yield from read(path, numbers, ids)


def unpacked(path: Path, size: int) -> bytes:
    """Return the first bytes of a file, or of what is packed in it.

    Raises
    ------
    TocsinError
        They cannot be read.
    """
    with _opened(path, "rb", packed=_is_packed(path)) as file:
        head: bytes = file.read(size)
        return head


def _is_packed(path: Path) -> bool:
    with _opened(path, "rb") as file:
        return bool(file.read(len(_GZIP)) == _GZIP)


@contextmanager
def _opened(path: Path, mode: str, *, packed: bool = False, **how: Any) -> Iterator[Any]:
    """Open a file, or what is packed in it."""
    opener: Any = gzip.open if packed else open
    try:
        with opener(path, mode, **how) as file:
            yield file
    except UnicodeDecodeError as error:
        raise Unread(f"{path} is {_NOTHING} in UTF-8") from error
    except (OSError, EOFError, zlib.error, csv.Error) as error:
        raise TocsinError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error


# -- Parquet --------------------------------------------------------------------------------------------------------


def _parquet(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise TocsinError(f"cannot read {path} as Parquet: {error}") from error


def _parquet_chunks(path: Path, numbers: Sequence[str], ids: str | None) -> Iterator[Chunk]:
    import pyarrow as pa

    try:
        for batch in _parquet(path).iter_batches(ROWS, columns=_each(numbers, ids)):
            yield _of_arrow(path, batch, numbers, ids)
    except (pa.ArrowException, OSError) as error:
        raise TocsinError(f"cannot read {path} as Parquet: {error}") from error


def _each(numbers: Sequence[str], ids: str | None) -> list[str]:
    """Return the columns that are read, none twice."""
    return list(dict.fromkeys([*numbers, *([] if ids is None else [ids])]))


def _of_arrow(path: Path, batch: Any, numbers: Sequence[str], ids: str | None) -> Chunk:
    found: Chunk = {name: _floats(path, name, batch.column(name)) for name in numbers}
    if ids is not None:
        found[IDS] = np.array(["" if v is None else str(v) for v in batch.column(ids).to_pylist()], object)
    return found


def _floats(path: Path, name: str, column: Any) -> NDArray[Any]:
    """Return an Arrow column as floats; lists of one length as (n, length)."""
    import pyarrow as pa

    kind = column.type
    if pa.types.is_fixed_size_list(kind) and not column.null_count:
        return _floats(path, name, column.flatten()).reshape(len(column), kind.list_size)
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        raise TocsinError(f"{path}: the column {name} holds {kind}, not numbers")
    column = column if kind in (pa.float32(), pa.float64()) else column.cast(pa.float64(), safe=False)
    return np.asarray(column.to_numpy(zero_copy_only=False))


# -- FITS -----------------------------------------------------------------------------------------------------------


@contextmanager
def _fits(path: Path) -> Iterator[Any]:
    """Open the first table of a FITS file."""
    from astropy.io import fits

    if fitsimages.is_endless(unpacked(path, HEADERS)):
        raise TocsinError(f"cannot read {path} as FITS: a header has more columns or axes than 999")
    try:
        with fits.open(path, memmap=True) as units:
            table = next((unit for unit in units if isinstance(unit, fits.BinTableHDU | fits.TableHDU)), None)
            if table is None:
                raise Unread(f"{path} holds no table")
            yield table
    except (OSError, ValueError, TypeError, KeyError, IndexError, fits.VerifyError) as error:
        raise TocsinError(f"cannot read {path} as FITS: {error}") from error


def _fits_chunks(path: Path, numbers: Sequence[str], ids: str | None) -> Iterator[Chunk]:
    with _fits(path) as table:
        for begin in range(0, len(table.data), ROWS):
            part = table.data[begin : begin + ROWS]
            found: Chunk = {name: _of_fits(path, table.columns[name], part[name]) for name in numbers}
            if ids is not None:
                found[IDS] = np.array([str(v).strip() for v in part[ids].tolist()], object)
            yield found


def _of_fits(path: Path, column: Any, values: NDArray[Any]) -> NDArray[Any]:
    if values.dtype.kind not in "fiu":
        raise TocsinError(f"{path}: the column {column.name} holds {column.format}, not numbers")
    found = values.astype(np.float32 if values.dtype.str[1:] == "f4" else np.float64)
    if column.null is not None and values.dtype.kind != "f":
        found[values == column.null] = np.nan
    return found


# -- text -----------------------------------------------------------------------------------------------------------


def _header(path: Path) -> tuple[list[str], int, str]:
    """Return the names of a text table's columns, the lines down to its header, and the separator.

    Comments (#) may stand before the header.
    """
    with _opened(path, "rt", packed=_is_packed(path), encoding="utf-8-sig", newline="") as file:
        for number, line in enumerate(file, 1):
            if line.strip() and not line.startswith("#"):
                separator = max(",\t;|", key=line.count)
                names = [name.strip() for name in next(csv.reader([line], delimiter=separator))]
                if len(names) == 1 and len(names[0].split()) > 1:  # as ECSV and VOTable have them
                    raise Unread(f"{path} is {_NOTHING} whose columns commas, semicolons, tabs or | separate")
                if twice := next((name for name in names if names.count(name) > 1), None):
                    raise Unread(f"{path} has more than one column {twice!r}")
                return names, number, separator
    raise Unread(f"{path} is {_NOTHING}: no line names columns")


def _ends_after(path: Path, lines: int) -> bool:
    with _opened(path, "rt", packed=_is_packed(path), encoding="utf-8-sig", newline="") as file:
        return not any(line.strip() for line in islice(file, lines, None))


def _text_chunks(path: Path, numbers: Sequence[str], ids: str | None) -> Iterator[Chunk]:
    import pyarrow as pa
    from pyarrow import csv as arrow

    names, lines, separator = _header(path)
    if _ends_after(path, lines):
        return
    kinds = {**dict.fromkeys(numbers, pa.float64()), **({} if ids is None else {ids: pa.string()})}
    packed = "gzip" if _is_packed(path) else None  # whatever the file is called
    try:
        with arrow.open_csv(
            pa.input_stream(str(path), compression=packed),
            read_options=arrow.ReadOptions(column_names=names, skip_rows=lines),
            parse_options=arrow.ParseOptions(delimiter=separator),
            convert_options=arrow.ConvertOptions(
                column_types=kinds, include_columns=_each(numbers, ids), null_values=_EMPTY, strings_can_be_null=False
            ),
        ) as reader:
            for batch in reader:
                yield _of_text(path, batch, numbers, ids)
    except (pa.ArrowException, OSError) as error:
        told = _no_number(path, [name for name in names if name in numbers]) or str(error)
        raise TocsinError(f"cannot read {path} as a text table: {told}") from error


def _of_text(path: Path, batch: Any, numbers: Sequence[str], ids: str | None) -> Chunk:
    """Return a stretch of a text table; ids that are numbers, too, were read as they are written."""
    import pyarrow as pa
    import pyarrow.compute as pc

    found = _of_arrow(path, batch, [name for name in numbers if name != ids], ids)
    if ids is not None and ids in numbers:
        texts = batch.column(ids)
        known = pc.if_else(pc.is_in(texts, pa.array(_EMPTY)), None, texts)
        found[ids] = _floats(path, ids, known.cast(pa.float64()))
    return found


def _no_number(path: Path, wanted: Sequence[str]) -> str:
    """Return where the first value of a text table stands that is no number, or ''."""
    names, lines, separator = _header(path)
    with _opened(path, "rt", packed=_is_packed(path), encoding="utf-8-sig", newline="") as file:
        rows = csv.reader(islice(file, lines, None), delimiter=separator)
        for number, row in enumerate((row for row in rows if row), 1):
            if len(row) != len(names):
                return f"row {number} has {len(row)} values for {len(names)} columns"
            for name, text in zip(names, row, strict=True):
                if name in wanted and not _is_number(text):
                    return f"row {number} has {text[:_SHOWN]!r} as {name}"
    return ""


def _is_number(text: str) -> bool:
    try:
        float("nan" if text in _EMPTY else text)
    except ValueError:
        return False
    return "_" not in text  # which Python allows
