"""Tables out of files, a bounded number of rows at a time: CSV with the standard library, Parquet with pyarrow.

A column comes as numbers where the file has numbers, else as text, '' where there is nothing.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from broker.core.errors import TocsinError

Chunk = dict[str, NDArray[Any]]
ROWS, LINES = 65_536, 4_096
"""At a time, of Parquet and of text, where the lists of so many rows stay in the cache."""
LONGEST_TEXT = 256  # characters: an array of text is as wide as its longest entry
TEXT_SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
PARQUET_SUFFIXES = (".parquet", ".pq")


def is_table(path: Path) -> bool:
    """Return whether a file's name says that it is a table."""
    return path.name.lower().endswith((*TEXT_SUFFIXES, *PARQUET_SUFFIXES))


def header(path: Path) -> list[str]:
    """Return the names of the columns.

    Raises
    ------
    TocsinError
        The file cannot be read or has no header.
    """
    if _is_parquet(path):
        return list(_parquet(path).schema_arrow.names)
    with _text(path) as (_, names):
        return names


def count(path: Path) -> int | None:
    """Return how many rows there are, None where only reading would tell."""
    return int(_parquet(path).metadata.num_rows) if _is_parquet(path) else None


def chunks(path: Path, columns: Sequence[str]) -> Iterator[Chunk]:
    """Yield the ``columns`` of at most `ROWS` or `LINES` rows at a time, in the file's order.

    Raises
    ------
    TocsinError
        The file is damaged, a row has another number of fields than the header, a column is neither numbers nor text.
    """
    yield from _parquet_chunks(path, columns) if _is_parquet(path) else _text_chunks(path, columns)


def _is_parquet(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(4) == b"PAR1"
    except OSError as error:
        raise TocsinError(f"cannot read {path}: {error.strerror}") from error


@contextmanager
def _text(path: Path) -> Iterator[tuple[Any, list[str]]]:
    """Open a text table behind its header; comments (#) may stand before it."""
    opened: Any = gzip.open if path.name.lower().endswith(".gz") else open
    try:
        with opened(path, "rt", encoding="utf-8-sig", newline="") as file:
            line = _first_line(file)
            names = [name.strip() for name in next(csv.reader([line], **_form(line)), [])]
            if len(names) < 2:
                raise TocsinError(f"{path} has no header with names of columns")
            yield csv.reader(file, **_form(line)), names
    except UnicodeDecodeError as error:
        raise TocsinError(f"{path} is neither Parquet nor text in UTF-8") from error
    except csv.Error as error:
        raise TocsinError(f"{path} cannot be read as a table: {error}") from error
    except (OSError, EOFError) as error:
        raise TocsinError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error


def _first_line(file: TextIO) -> str:
    for line in file:
        if line.strip() and not line.startswith("#"):
            return line
    return ""


def _form(line: str) -> dict[str, Any]:
    """Return csv's settings: the separator that the header has most of."""
    separator = max(",\t;", key=line.count)
    return {"delimiter": separator if separator in line else " ", "skipinitialspace": True}


def _text_chunks(path: Path, columns: Sequence[str]) -> Iterator[Chunk]:
    with _text(path) as (reader, names):
        places = [names.index(column) for column in columns]
        done = 0
        while rows := list(islice(reader, LINES)):
            rows = [row for row in rows if row]
            if {len(row) for row in rows} - {len(names)}:
                wrong = next(i for i, row in enumerate(rows) if len(row) != len(names))
                raise TocsinError(f"row {done + wrong + 1} has {len(rows[wrong])} fields, the header {len(names)}")
            fields = list(zip(*rows, strict=True))
            yield {c: _array(fields[p], c, done) for c, p in zip(columns, places, strict=True)} if rows else {}
            done += len(rows)


def _array(values: Sequence[str], column: str, done: int) -> NDArray[Any]:
    if max(map(len, values), default=0) > LONGEST_TEXT:
        row = next(i for i, value in enumerate(values) if len(value) > LONGEST_TEXT)
        raise TocsinError(f"row {done + row + 1}: {column} is longer than {LONGEST_TEXT} characters")
    return np.array(values, dtype=np.str_)


def _parquet(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise TocsinError(f"cannot read {path} as Parquet: {error}") from error


def _parquet_chunks(path: Path, columns: Sequence[str]) -> Iterator[Chunk]:
    import pyarrow as pa

    done = 0
    try:
        for batch in _parquet(path).iter_batches(ROWS, columns=list(columns)):
            yield {name: _numpy(batch.column(name), name, done) for name in columns}
            done += batch.num_rows
    except pa.ArrowException as error:
        raise TocsinError(f"cannot read {path} as Parquet: {error}") from error


def _numpy(column: Any, name: str, done: int) -> NDArray[Any]:
    """Return an Arrow array as numbers (nothing: NaN) or as text (nothing: '')."""
    import pyarrow as pa

    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.dictionary_decode(), kind.value_type
    if pa.types.is_null(kind):
        return np.full(len(column), np.nan)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return _array(column.fill_null("").to_pylist(), name, done)
    if pa.types.is_boolean(kind):
        column = column.cast(pa.int8())
    elif pa.types.is_decimal(kind) or pa.types.is_float16(kind):
        column = column.cast(pa.float64())
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        raise TocsinError(f"the column {name} holds {kind}, neither numbers nor text")
    return np.asarray(column.to_numpy(zero_copy_only=False))
