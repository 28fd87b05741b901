"""Catalogues to products: blocks of rows, whose columns are found by the names of what the rows of models read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from broker.core.batch import FilePacket
from broker.core.errors import TocsinError
from broker.sidecar import tables, units
from broker.sidecar.answer import Model
from broker.sidecar.product import ID_LENGTH, MESSAGE_BYTES, Array, Input, Kind, Product
from broker.sidecar.step import RESULT_BYTES, bytes_of_record
from broker.sidecar.write import product_message

ID = "id"
SHOWN = 40
SENTINELS = [sign * number for number in (99.0, 999.0, 9999.0) for sign in (-1, 1)]
"""Numbers by which catalogues say that there is none."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How a catalogue becomes products.

    Attributes
    ----------
    renamed : dict of str to str
        Column of an input whose column has another name.
    record_id : str or None
        Column of the records' ids; None: `ID` where there is one, else the number of the row, from 0.
    missing : tuple of float
        Numbers that stand for nothing, such as -99.
    block : int
        Rows of a product.
    """

    renamed: dict[str, str] = field(default_factory=dict)
    record_id: str | None = None
    missing: tuple[float, ...] = ()
    block: int = 4096


@dataclass(frozen=True, slots=True)
class Matched:
    """A catalogue's columns for what is read.

    Attributes
    ----------
    path : Path
    form : str
    columns : list of (Input, str, float)
        Each with its column and what that is to be multiplied by.
    record_id : str or None
    assumed : list of str
        Columns whose file does not say their unit.
    absent : list of str
        Inputs that are not there.
    unclear : dict of str to list of str
        Columns, by name but for the case, that might each be one of these inputs, and are none.
    """

    path: Path
    form: tables.Form
    columns: list[tuple[Input, str, float]]
    record_id: str | None
    assumed: list[str]
    absent: list[str]
    unclear: dict[str, list[str]]


def inputs_of(path: Path, models: Sequence[Model]) -> dict[str, Input]:
    """Return what models read of a catalogue, by name.

    Raises
    ------
    TocsinError
        Two read one name in different units or shapes.
    Unread
        None of them reads catalogues.
    """
    found: dict[str, Input] = {}
    for model in models:
        for wanted in model.inputs if model.kind == Kind.CATALOG else ():
            other = found.setdefault(wanted.name, wanted)
            if (other.unit, other.shape) != (wanted.unit, wanted.shape):
                raise TocsinError(f"{wanted.name} is read in {other.unit!r} and in {wanted.unit!r}: run them apart")
    if not found:
        kinds = ", ".join(sorted({str(model.kind) for model in models}))
        told = f"{path} would be a catalogue, and what is read is of the kind {kinds}"
        raise tables.Unread(f"{told}: give {'images in FITS or ' * (Kind.CUTOUT in kinds)}products in Avro")
    return found


def match(path: Path, models: Sequence[Model], plan: Plan) -> Matched:
    """Find the columns of a catalogue that models read.

    Raises
    ------
    TocsinError
        The unit of a column is another one, or a block would be too large; the text says what to do.
    Unread
        A column that every row needs is not there, or one that is named, or it is no catalogue.
    """
    form = tables.form_of(path)
    there, wanted = tables.columns(path, form), inputs_of(path, models)
    _check_names(path, plan, there, wanted)
    columns, unclear = _columns(list(wanted), plan, list(there))
    known = [
        (wanted[name], columns[name], _factor(path, wanted[name], columns[name], there))
        for name in wanted
        if name in columns
    ]
    lacking = wanted.keys() - columns.keys()
    needs = [{i.name for i in model.inputs if i.required} for model in models if model.kind == Kind.CATALOG]
    if not known or all(need & lacking for need in needs):
        required = set.union(*needs) & lacking
        short = [name for name in wanted if name in (required or lacking)]
        told = f"{path} has no column {', '.join(short)}; name it with --column {short[0]}=COLUMN"
        raise tables.Unread(f"{told}. It has: {_shown(there)}")
    _check_size(known, plan)
    _check_answers(models, plan)
    assumed = [column for one, column, _ in known if one.unit and there[column] is None]
    record_id = plan.record_id or (ID if ID in there else None)
    return Matched(path, form, known, record_id, assumed, sorted(lacking), unclear)


def packets(
    found: Matched, plan: Plan, skip: Callable[[str, int], bool], tell: Callable[[str], object]
) -> Iterator[FilePacket]:
    """Yield a catalogue's blocks as product messages; (path, number of the block) is a packet's identity.

    Parameters
    ----------
    skip : callable
        Asked with (path, number); True: the block is done, and left out.
    tell : callable
        Told what is odd about the catalogue: that it has no rows, or, in the first block, numbers that may be none.
    """
    numbers = list(dict.fromkeys(column for _, column, _ in found.columns))
    chunks, name = tables.chunks(found.path, found.form, numbers, found.record_id), str(found.path)
    number = -1
    for number, rows in enumerate(_blocks(chunks, plan.block)):
        if not (number or plan.missing) and (odd := _sentinels(numbers, rows)):
            tell(f"{found.path.name}: {odd}")
        if not skip(name, number):
            yield FilePacket(name, number, product_message(_product(found, plan, number, rows)))
    if number < 0:
        tell(f"{found.path.name} has no rows")


def _sentinels(columns: Sequence[str], rows: tables.Chunk) -> str:
    """Return what to say of columns where a number stands that may stand for nothing; '' of none."""
    found = {name: [odd for odd in SENTINELS if (rows[name] == odd).any()] for name in columns}
    numbers = dict.fromkeys(odd for odds in found.values() for odd in odds)
    if not numbers:
        return ""
    named = ", ".join([name for name, odds in found.items() if odds][:SHOWN])
    said = [f"{odd:g}" for odd in numbers]
    return f"{' and '.join(said)} in {named} may stand for nothing: --missing {' --missing '.join(said)} says so"


def count(path: Path, plan: Plan) -> int:
    """Return how many blocks a catalogue has, by reading as little of it as will tell."""
    form = tables.form_of(path)
    rows = tables.count(path, form)
    if rows is None:
        first = next(iter(tables.columns(path, form)))
        rows = sum(map(_length, tables.chunks(path, form, (), first)))
    return -(-rows // plan.block)


def _check_names(path: Path, plan: Plan, there: dict[str, str | None], wanted: dict[str, Input]) -> None:
    for name, column in plan.renamed.items():
        if name not in wanted:
            raise TocsinError(f"--column {name}=...: what is read is called {', '.join(wanted)}")
        if column not in there:
            raise tables.Unread(f"{path} has no column {column}; it has: {_shown(there)}")
        if twice := next((other for other, its in plan.renamed.items() if its == column and other != name), None):
            raise TocsinError(f"--column: {column} is given for {name} and for {twice}: one column is one input")
    if plan.record_id and plan.record_id not in there:
        raise tables.Unread(f"{path} has no column {plan.record_id} for --id; it has: {_shown(there)}")


def _shown(columns: Iterable[str]) -> str:
    return ", ".join(name[:SHOWN] for name in islice(columns, SHOWN))


def _check_size(columns: list[tuple[Input, str, float]], plan: Plan) -> None:
    """Refuse blocks that might not fit into a message."""
    bytes_of_row = ID_LENGTH // 4 + sum(8 * int(np.prod(np.maximum(one.shape, 1))) for one, _, _ in columns)
    if plan.block * bytes_of_row > MESSAGE_BYTES:
        most = MESSAGE_BYTES // bytes_of_row
        raise TocsinError(f"--block {plan.block} is too much for {len(columns)} columns: at most {most}")


def _check_answers(models: Sequence[Model], plan: Plan) -> None:
    """Refuse blocks whose results might be too long."""
    most = RESULT_BYTES // (ID_LENGTH // 4 + bytes_of_record(models, Kind.CATALOG))
    if plan.block > most:
        raise TocsinError(f"--block {plan.block} is too much for what is answered: at most {most}")


def _columns(wanted: Sequence[str], plan: Plan, there: Sequence[str]) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Return the columns of inputs, no column twice, and the columns that may be several inputs, with these.

    What --column names comes first, then the inputs' own names; upper and lower case are one where that leaves a single
    column to a single input of all that are read: ``FLUX_Z`` is neither ``flux_z`` nor ``flux_Z`` where both are.
    """
    named = set(plan.renamed.values())
    found = plan.renamed | {name: name for name in wanted if name in there and name not in named | plan.renamed.keys()}
    inputs, columns = _by_lower_case(wanted), _by_lower_case([name for name in there if name not in found.values()])
    unclear: dict[str, list[str]] = {}
    for lower, alike in columns.items():
        left = [name for name in inputs.get(lower, []) if name not in found]
        if len(alike) == len(inputs.get(lower, [])) == len(left) == 1:
            found[left[0]] = alike[0]
        elif left:
            unclear[", ".join(alike)] = left
    return found, unclear


def _by_lower_case(names: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(name.lower(), []).append(name)
    return found


def _factor(path: Path, wanted: Input, column: str, there: dict[str, str | None]) -> float:
    """Return what a column is to be multiplied by to have the unit that is read."""
    unit = there[column]
    found = 1.0 if unit is None else units.factor(unit, wanted.unit)
    if found is None:
        raise TocsinError(f"{path}: {wanted.name} is in {unit!r}, and is read in {wanted.unit or 'pure numbers'!r}")
    return found


def _blocks(chunks: Iterator[tables.Chunk], size: int) -> Iterator[tables.Chunk]:
    """Yield blocks of exactly ``size`` rows, the last one of what is left, whatever the chunks' sizes are."""
    held: list[tables.Chunk] = []
    rows = 0
    for chunk in chunks:
        held.append(chunk)
        rows += _length(chunk)
        if rows >= size:
            whole = _joined(held)
            full = rows - rows % size
            for begin in range(0, full, size):
                yield {name: values[begin : begin + size] for name, values in whole.items()}
            held, rows = [{name: values[full:] for name, values in whole.items()}], rows - full
    if rows:
        yield _joined(held)


def _joined(chunks: list[tables.Chunk]) -> tables.Chunk:
    return (
        {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}
        if len(chunks) > 1
        else chunks[0]
    )


def _length(chunk: tables.Chunk) -> int:
    return len(next(iter(chunk.values())))


def _product(found: Matched, plan: Plan, number: int, rows: tables.Chunk) -> Product:
    first = number * plan.block
    ids = rows[tables.IDS].tolist() if found.record_id else [str(n) for n in range(first, first + _length(rows))]
    if len(longest := max(ids, key=len)) > ID_LENGTH:  # one would make a dead letter of the block
        told = f"the id {longest[:SHOWN]!r}... has more than {ID_LENGTH} characters"
        raise TocsinError(f"{found.path}: {told}: take another column with --id")
    arrays = {
        wanted.name: Array(wanted.unit, _values(rows[column], factor, plan.missing))
        for wanted, column, factor in found.columns
    }
    return Product(f"{found.path}#{number}"[-ID_LENGTH:], Kind.CATALOG, ids, arrays)


def _values(values: NDArray[Any], factor: float, missing: tuple[float, ...]) -> NDArray[Any]:
    with np.errstate(over="ignore"):  # what is beyond all numbers is not finite, and gets its reason
        if missing:
            values = np.where(np.isin(values, np.array(missing, values.dtype)), np.nan, values).astype(values.dtype)
        return values if factor == 1.0 else values * values.dtype.type(factor)
