"""What is cheap to know of a row before it is trained: whether what it states can be, and its examples are like it."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from broker.core.errors import TocsinError
from broker.models.survey.row import Examples, Row
from broker.sidecar.product import has_shape

ID = r"[a-z][a-z0-9]*(-[a-z0-9]+)*"


def check(row: Row) -> None:
    """Refuse a row that states what cannot be.

    Raises
    ------
    TocsinError
        It names every fault.
    """
    if found := list(_faults(row)):
        raise TocsinError(f"{row.id}: {'; '.join(found)}")


def _faults(row: Row) -> Iterator[str]:
    names = [wanted.name for wanted in row.inputs]
    optional = sum(not wanted.required for wanted in row.inputs)
    if not re.fullmatch(ID, row.id):
        yield f"its id {row.id!r} is not made of small letters and digits with a hyphen between words"
    if twice := {name for name in names if names.count(name) > 1}:
        yield f"it reads {', '.join(sorted(twice))} twice"
    if row.at_least > optional:
        yield f"at_least is {row.at_least}, of {optional} inputs that are not required"
    if optional == len(names) and not row.at_least:
        yield "it answers without any input: make one required, or at_least 1"
    if bool(row.targets) == bool(row.classes):
        yield "it states targets and classes" if row.targets else "it states neither targets nor classes"
    for name, unit in [(one.name, one.unit) for one in row.inputs] + [(one.name, one.unit) for one in row.targets]:
        if not _is_unit(unit):
            yield f"{name} has the unit {unit!r}, which astropy does not know"
    if both := row.unseen.keys() & row.variants.keys():
        yield f"{', '.join(sorted(both))} is a variant, and only judges"
    for name, only in row.unseen.items():
        if only.of not in row.variants:
            yield f"{name} judges the weights of {only.of!r}, which is no variant"
    yield from (f"{one.name} has low {one.low:g}, high {one.high:g}" for one in row.targets if not one.low < one.high)


def _is_unit(text: str) -> bool:
    from astropy import units  # heavy

    try:
        units.Unit(re.sub(r"^log10\((.*)\)$", r"\1", text))
    except (ValueError, TypeError):
        return False
    return True


def check_examples(row: Row, examples: Examples) -> None:
    """Refuse examples that are not as the row states; real sets may lack columns of what the row does not require.

    Raises
    ------
    TocsinError
        A column is absent or has another shape than the input, the truth has another shape, lies beyond the targets'
        limits, or is none of the classes. A truth that is NaN is sound: training leaves its example out.
    """
    told = f"{row.id}: examples of {examples.data.id}"
    wanted = [one.name for one in row.inputs if one.required or not examples.data.real]
    if absent := [name for name in wanted if name not in examples.columns]:
        raise TocsinError(f"{told} have no column for {', '.join(absent)}")
    lengths = {name: len(column) for name, column in examples.columns.items()}
    if other := [f"{name} has {n}" for name, n in lengths.items() if n != len(examples)]:
        raise TocsinError(f"{told} have {len(examples)} truths, but of records {', '.join(other)}")
    shapes = {one.name: (one.shape, examples.columns[one.name].shape[1:]) for one in row.inputs if one.name in lengths}
    if other := [f"{name} of {found}, not {of}" for name, (of, found) in shapes.items() if not has_shape(found, of)]:
        raise TocsinError(f"{told} have records of another shape: {', '.join(other)}")
    shape, axes = ((), "(n,)") if row.classes else ((len(row.targets),), "(n, targets)")
    if examples.truth.shape[1:] != shape:
        whole = (len(examples), *shape)
        raise TocsinError(f"{told} have truths of shape {examples.truth.shape}; they are {axes}, here {whole}")
    if beyond := list(_beyond(row, examples)):
        raise TocsinError(f"{told}: {'; '.join(beyond)}")


def _beyond(row: Row, examples: Examples) -> Iterator[str]:
    """Yield of each target, or of the classes, whose truths are not all within its limits what they are."""
    limits = [(one.name, one.low, one.high) for one in row.targets] or [("class", 0, len(row.classes) - 1)]
    for (name, low, high), truth in zip(limits, examples.truth.reshape(len(examples), -1).T, strict=True):
        if row.classes and np.any(broken := truth != np.round(truth)):
            yield f"{truth[broken][0]:g} is no number of a class"
        if n := int(np.sum((truth < low) | (truth > high))):
            span = f"from {np.nanmin(truth):g} to {np.nanmax(truth):g}"
            yield f"truths of {name} go {span}, {n} of {len(truth)} beyond its {low:g} to {high:g}"
