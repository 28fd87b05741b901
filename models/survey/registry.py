"""Which rows there are: files of this tree, and entry points of other packages; read when they are asked for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.resources import files
from pathlib import Path
from types import ModuleType

from broker.core.errors import TocsinError, unknown
from broker.models.survey.judge import JUDGES
from broker.models.survey.row import Capability, Row

GROUP = "tocsin.sidecars"
"""Entry points of out-of-tree rows: the row's id, and ``package.module:ROW``."""
OURS = "tocsin"
"""The package of this tree's rows."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a row is stated.

    Attributes
    ----------
    module, value : str
        What holds it.
    package : str
        As it is installed.
    rival : str
        Another place that states a row of the same id, so that neither counts; '' for none.
    """

    module: str
    value: str = "ROW"
    package: str = OURS
    rival: str = ""

    def __str__(self) -> str:
        """Return the file in this tree, or the value and its package."""
        if self.package == OURS:
            return f"{self.module.removeprefix('broker.').replace('.', '/')}.py"
        return f"{self.module}:{self.value} of the package {self.package}"

    def load(self) -> Row | Capability:
        """Import the module and return the row.

        Raises
        ------
        TocsinError
            The module cannot be imported, the value is no row, its judge is none, or it has no variant.
        """
        row = getattr(self.imported(), self.value, None)
        if not isinstance(row, Row | Capability):
            raise TocsinError(f"{self} is no row of the survey models but {type(row).__name__}")
        if isinstance(row, Row) and row.judge not in JUDGES:
            raise TocsinError(f"{self}: the judge {row.judge!r} is none of {', '.join(JUDGES)}")
        if isinstance(row, Row) and not row.variants:
            raise TocsinError(f"{self}: the row has no variant, nothing that it can be trained on")
        return row

    def imported(self) -> ModuleType:
        """Import the module.

        Raises
        ------
        TocsinError
            It cannot be.
        """
        try:
            return import_module(self.module)
        except Exception as error:  # whatever a row's file does, other rows go on
            raise TocsinError(f"{self} cannot be read: {type(error).__name__}: {error}") from error


def rows(package: str = "") -> dict[str, Row | Capability]:
    """Return the rows of a package, or of all, by their ids, sorted.

    Raises
    ------
    TocsinError
        As `row`, of any of them.
    """
    found = sorted(places().items())
    return {name: row(name) for name, place in found if package in ("", place.package)}


def row(name: str) -> Row | Capability:
    """Return the row of an id.

    Raises
    ------
    TocsinError
        There is none, or two, or what states it is broken or states another id.
    """
    place = places().get(name)
    if place is None:
        raise unknown("survey model", name, places(), "`tocsin sidecar list`")
    if place.rival:
        raise TocsinError(f"two survey models are called {name!r}: {place} and {place.rival}")
    found = place.load()
    if found.id != name:
        raise TocsinError(f"{place} is found as {name!r} but states the id {found.id!r}")
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


def judged(name: str) -> tuple[Row, str, str]:
    """Return the row, the variant whose weights answer, and the set that they are judged on: often the variant's own.

    Raises
    ------
    TocsinError
        As `find`.
    """
    row_id, _, wanted = name.partition("@")
    found = row(row_id)
    only = found.unseen.get(wanted) if isinstance(found, Row) else None
    own, variant = find(name if only is None else f"{row_id}@{only.of}")
    return own, variant, variant if only is None else wanted


def sets(found: Row, *, real: bool) -> list[str]:
    """Return the names of what a row is judged on, such as ``pz-mdn@dc2``; of real sets only where ``real``."""
    return [f"{found.id}@{name}" for name, each in found.sets.items() if real or not each.real]


def simulated(package: str = "") -> list[str]:
    """Return the names of the variants that a simulator makes, of a package's rows or of all."""
    found = (each for each in rows(package).values() if isinstance(each, Row))
    return [f"{row.id}@{name}" for row in found for name, variant in row.variants.items() if not variant.real]


def package_of(row_id: str) -> str:
    """Return the package that states a row; this tree's where there is no such row."""
    place = places().get(row_id)
    return OURS if place is None else place.package


def weights_of(row_id: str) -> Path:
    """Return the folder that a row's weights are installed in: this tree's, or beside an out-of-tree row's module.

    Raises
    ------
    TocsinError
        That module cannot be imported.
    """
    place = places().get(row_id)
    if place is None or place.package == OURS:
        return Path(str(files("broker") / "models" / "survey" / "weights"))
    return Path(str(place.imported().__file__)).parent / "weights"


def places() -> dict[str, Place]:
    """Return where each row is stated, by its id; nothing is imported but what lists them."""
    found = dict(_files())
    for point in entry_points(group=GROUP):
        _add(found, point.name, _of(point))
    return found


def _of(point: EntryPoint) -> Place:
    package = point.dist.name if point.dist else point.module
    return Place(point.module, point.attr or "ROW", package)


def _add(found: dict[str, Place], name: str, place: Place) -> None:
    first = found.setdefault(name, place)
    if first != place:
        found[name] = replace(first, rival=str(place))


@cache
def _files() -> dict[str, Place]:
    """Return the places of ``<family>/rows/<id with _>.py``."""
    found: dict[str, Place] = {}
    for path in sorted(Path(str(files("broker") / "models" / "survey")).glob("*/rows/[a-z]*.py")):
        family = path.parent.parent.name
        _add(found, path.stem.replace("_", "-"), Place(f"broker.models.survey.{family}.rows.{path.stem}"))
    return found
