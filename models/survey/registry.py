"""Which rows there are: files of this tree, and entry points of other packages; read when they are asked for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.resources import files
from pathlib import Path

from broker.core.errors import TocsinError
from broker.models.survey.row import Capability, Row

GROUP = "tocsin.sidecars"
"""Entry points of out-of-tree rows: the row's id, and ``package.module:ROW``."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a row is stated: a module and its value's name."""

    module: str
    value: str = "ROW"

    def load(self) -> Row | Capability:
        """Import the module and return the row.

        Raises
        ------
        TocsinError
            The value is no row.
        """
        row = getattr(import_module(self.module), self.value, None)
        if not isinstance(row, Row | Capability):
            raise TocsinError(f"{self.module}:{self.value} is no row of the survey models but {type(row).__name__}")
        return row


def rows() -> dict[str, Row | Capability]:
    """Return all rows by their ids, sorted.

    Raises
    ------
    TocsinError
        Two rows have one id, or a file or entry point holds no row or one of another id.
    """
    return {name: row(name) for name in sorted(places())}


def row(name: str) -> Row | Capability:
    """Return the row of an id.

    Raises
    ------
    TocsinError
        There is none, or its file states another id.
    """
    place = places().get(name)
    if place is None:
        raise TocsinError(f"no survey model is called {name!r}; there are: {', '.join(sorted(places())) or 'none'}")
    found = place.load()
    if found.id != name:
        raise TocsinError(f"{place.module} is found as {name!r} but states the id {found.id!r}")
    return found


def has(name: str) -> bool:
    """Tell whether ``ROW`` or ``ROW@VARIANT`` names a row."""
    return name.partition("@")[0] in places()


def find(name: str) -> tuple[Row, str]:
    """Return the row and the variant of a name such as ``pz-mdn@dc2``; without ``@`` the row's first variant.

    Raises
    ------
    TocsinError
        There is no such row or variant, or the row is a service that has no weights.
    """
    row_id, _, variant = name.partition("@")
    found = row(row_id)
    if isinstance(found, Capability):
        raise TocsinError(f"{row_id} is a service to other rows: there is nothing to train or to serve")
    variant = variant or next(iter(found.variants))
    if variant not in found.variants:
        raise TocsinError(f"{row_id} has no variant {variant!r}; there are: {', '.join(found.variants)}")
    return found.on(variant), variant


def variants(found: Row, *, real: bool) -> list[str]:
    """Return the names of a row's variants, such as ``pz-mdn@dc2``; those of real sets only where ``real``."""
    return [f"{found.id}@{name}" for name, variant in found.variants.items() if real or not variant.real]


def simulated() -> list[str]:
    """Return the names of every row's variants that a simulator makes."""
    return [name for each in rows().values() if isinstance(each, Row) for name in variants(each, real=False)]


def weights_of(row_id: str) -> Path:
    """Return the folder that a row's weights are installed in: this tree's, or beside an out-of-tree row's module."""
    place = places().get(row_id)
    if place is None or place.module.startswith("broker."):
        return Path(str(files("broker") / "models" / "survey" / "weights"))
    path = import_module(place.module).__file__
    return Path(str(path)).parent / "weights"


def places() -> dict[str, Place]:
    """Return where each row is stated, by its id; nothing is imported but what lists them.

    Raises
    ------
    TocsinError
        Two places have one id; the text names both.
    """
    found = dict(_files())
    for point in entry_points(group=GROUP):
        place = _of(point)
        if found.setdefault(point.name, place) != place:
            raise TocsinError(f"two survey models are called {point.name!r}: {found[point.name]} and {place}")
    return found


def _of(point: EntryPoint) -> Place:
    return Place(point.module, point.attr or "ROW")


@cache
def _files() -> dict[str, Place]:
    """Return the places of ``<family>/rows/<id with _>.py``.

    Raises
    ------
    TocsinError
        Two families have a row of one name.
    """
    found: dict[str, Place] = {}
    for family in sorted(Path(str(files("broker") / "models" / "survey")).glob("*/rows")):
        for path in sorted(family.glob("[a-z]*.py")):
            place = Place(f"broker.models.survey.{family.parent.name}.rows.{path.stem}")
            name = path.stem.replace("_", "-")
            if name in found:
                raise TocsinError(f"two survey models are called {name!r}: {found[name].module} and {place.module}")
            found[name] = place
    return found
