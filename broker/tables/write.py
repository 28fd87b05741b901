"""Results to a table, batch by batch; the file gets its name when it is whole."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from broker.core.errors import TocsinError

Columns = Mapping[str, NDArray[Any] | list[Any]]
Write = Callable[[Columns], None]
SUFFIXES = (".parquet", ".csv")


def check(path: Path) -> None:
    """Refuse a name that no table can be written to.

    Raises
    ------
    TocsinError
        It ends otherwise than with one of `SUFFIXES`, or its folder is not there.
    """
    if path.suffix not in SUFFIXES:
        raise TocsinError(f"--out {path}: the name must end with {' or '.join(SUFFIXES)}")
    if not path.parent.is_dir():
        raise TocsinError(f"--out {path}: there is no folder {path.parent}")


@contextmanager
def writing(path: Path) -> Iterator[Write]:
    """Yield a function that adds rows to ``path``, Parquet or CSV by its name; NaN is nothing (null, empty).

    Raises
    ------
    TocsinError
        See `check`; or the file cannot be written.
    """
    check(path)
    part = path.with_name(f".{path.name}.part")
    try:
        with (_parquet if path.suffix == ".parquet" else _csv)(part) as write:
            yield write
        part.replace(path)
    except OSError as error:
        raise TocsinError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _csv(path: Path) -> Iterator[Write]:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")

        def write(columns: Columns) -> None:
            if file.tell() == 0:
                writer.writerow(columns)
            writer.writerows(zip(*(_texts(column) for column in columns.values()), strict=True))

        yield write


def _texts(column: NDArray[Any] | list[Any]) -> list[Any]:
    """Return a column as csv writes it: nine digits hold a float32."""
    if isinstance(column, np.ndarray) and column.dtype.kind == "f":
        return ["" if math.isnan(value) else f"{value:.9g}" for value in column.tolist()]
    return list(column)


@contextmanager
def _parquet(path: Path) -> Iterator[Write]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    writer = None
    try:

        def write(columns: Columns) -> None:
            nonlocal writer
            table = pa.table({name: pa.array(column, from_pandas=True) for name, column in columns.items()})
            if writer is None:
                writer = pq.ParquetWriter(path, table.schema, compression="zstd")
            writer.write_table(table)

        yield write
    finally:
        if writer is not None:
            writer.close()
