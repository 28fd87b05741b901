"""The files that `tocsin sidecar` is given: catalogues, images and products, each as packets."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from broker.archive import read
from broker.cli import note
from broker.core.batch import FilePacket
from broker.core.errors import TocsinError
from broker.sidecar import catalogue, fitsimages, tables
from broker.sidecar.catalogue import Matched, Plan
from broker.sidecar.product import PRODUCT_BYTES, Kind
from broker.sidecar.tables import Unread

if TYPE_CHECKING:
    from broker.deliver.files import Skip
    from broker.sidecar.answer import Model


FEW = 8
"""Files that are left out, and named."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """Files that are answered: catalogues, whose columns were found, images in FITS, and products.

    Images and products are packets as they are: a damaged one is a dead letter. What no row reads is left out, where it
    was found in a folder.
    """

    files: list[Path]
    catalogues: dict[Path, Matched]
    images: list[Path]
    left_out: dict[Path, str]
    models: Sequence[Model]
    plan: Plan

    @classmethod
    def of(cls, paths: Sequence[Path], models: Sequence[Model], plan: Plan, out: Path) -> Inputs:
        """Look into every file; directories give their files.

        Raises
        ------
        TocsinError
            There is none; or a file that was named, and is not just one of a folder's, is nothing that a row reads; or
            as `broker.sidecar.catalogue.match`.
        """
        named, kinds = {_absolute(path) for path in paths}, {model.kind for model in models}
        if _absolute(out) in named and out.is_dir() and note.read(out) is None:
            raise TocsinError("--out is the folder of --input: take one in it, or another")
        catalogues: dict[Path, Matched] = {}
        images: list[Path] = []
        left_out: dict[Path, str] = {}
        files = files_of(paths, out)
        for path in files:
            try:
                if _is_image(path, kinds):
                    images.append(path)
                elif tables.form_of(path) != "packets":
                    catalogues[path] = catalogue.match(path, models, plan)
            except Unread as error:
                if path in named:
                    raise
                left_out[path] = str(error)
        if len(left_out) == len(files):
            raise TocsinError(_nothing(paths, list(left_out.values())))
        _check_options(plan, catalogues)
        return cls([path for path in files if path not in left_out], catalogues, images, left_out, models, plan)

    @property
    def total(self) -> int | None:
        """About how many packets will come; None: only reading tells."""
        rows = [tables.count(path, found.form) for path, found in self.catalogues.items()]
        if None in rows:
            return None
        blocks = sum(-(-(n or 0) // self.plan.block) for n in rows)
        return blocks + read.estimate([path for path in self.files if path not in self.catalogues])

    def told(self) -> Iterator[str]:
        """Yield what the user should know of files that are left out, of catalogues and of images."""
        yield from (f"left out: {why}" for why in islice(self.left_out.values(), FEW))
        if len(self.left_out) > FEW:
            yield f"left out: {len(self.left_out) - FEW:,} more files that no row reads"
        for path, found in self.catalogues.items():
            yield from self._of_catalogue(path.name, found)
        units = {one.unit for model in self.models if model.kind == Kind.CUTOUT for one in model.inputs}
        if self.images and (scaled := sorted(units - {""})):
            yield f"pixels in FITS without BUNIT are taken to be in {' or '.join(scaled)}"
        if self.images and "" in units:
            yield "pixels in FITS are read as pure numbers, whatever BUNIT says"

    def _of_catalogue(self, name: str, found: Matched) -> Iterator[str]:
        if found.assumed:
            units = ", ".join(f"{column} [{one.unit}]" for one, column, _ in found.columns if column in found.assumed)
            yield f"{name} says no units; taken to be: {units}"
        for columns, inputs in found.unclear.items():
            told = f"{name}: {columns} may be {' or '.join(inputs)}, and is not read"
            yield f"{told}; --column {inputs[0]}=COLUMN says what it is"
        needed = set()
        for model in (model for model in self.models if model.kind == Kind.CATALOG):
            if lacks := [one.name for one in model.inputs if one.required and one.name in found.absent]:
                yield f"{name} has no column for {', '.join(lacks)}, without which {model.provenance.row} says nothing"
                needed.update(lacks)
        if without := [one for one in found.absent if one not in needed]:
            yield f"{name} has no column for {', '.join(without)}: answered without"
        if not found.record_id:
            yield f"{name}: ids are the numbers of the rows; --id takes a column"

    def packets(self, tell: Callable[[str], object], skip: Skip) -> Iterator[FilePacket]:
        """Yield blocks, images and products in the order of the files; ``tell`` what is odd about catalogues."""
        for path in self.files:
            if path in self.catalogues:
                yield from catalogue.packets(self.catalogues[path], self.plan, skip, tell)
            else:
                yield from read.packets([path], skip=skip)


def _is_image(path: Path, kinds: Collection[Kind]) -> bool:
    """Tell whether a file is an image in FITS for rows that read such, or was meant to be one."""
    if Kind.CUTOUT not in kinds:
        return False
    named = fitsimages.is_named(path.name)
    try:
        if tables.form_of(path) != "fits":
            return named
    except TocsinError:
        if not named:
            raise
        return True
    first = next(_holds(path, tables.HEADERS), True)
    return first or (Kind.CATALOG not in kinds and any(_holds(path, PRODUCT_BYTES)))


def _holds(path: Path, size: int) -> Iterator[bool]:
    """Yield what a FITS file's first bytes have, True for an image and False for a table, up to where it is damaged."""
    import io
    import warnings

    from astropy.io import fits

    try:
        head = tables.unpacked(path, size)
        if fitsimages.is_endless(head):
            return
        with warnings.catch_warnings(action="ignore"), fits.open(io.BytesIO(head)) as units:
            for unit in islice(units, fitsimages.UNITS):
                if fitsimages.is_image(unit):
                    yield True
                elif isinstance(unit, fits.BinTableHDU | fits.TableHDU):
                    yield False
    except Exception:  # damaged headers make it fail in many ways: the image's reader tells how
        return


def _nothing(paths: Sequence[Path], why: list[str]) -> str:
    told = f"no files {'that a row reads ' if why else ''}in {', '.join(map(str, paths))}"
    return "; ".join([told, *why[:FEW]])


def _check_options(plan: Plan, catalogues: Collection[Path]) -> None:
    """Refuse what would do nothing."""
    given = {"--column": plan.renamed, "--id": plan.record_id, "--missing": plan.missing}
    if not catalogues and (names := [name for name, value in given.items() if value]):
        raise TocsinError(f"{' and '.join(names)}: this is of catalogues, and there is none")


def files_of(paths: Sequence[Path], out: Path) -> list[Path]:
    """Return files and those of directories, but what is hidden in these, or results of a sidecar: ``out``, or others.

    Raises
    ------
    TocsinError
        A file's name cannot be noted; or a path is not there.
    """
    found: dict[Path, None] = {}
    for path in map(_absolute, paths):
        files = list(read.files([path]))
        results = {_absolute(out), *(file.parent for file in files if file.name == note.NOTE)}
        apart = {folder for folder in results if path in (folder, *folder.parents)}
        found |= dict.fromkeys(f for f in files if not _is_hidden(f, path) and apart.isdisjoint(f.parents))
    for file in found:
        _check_name(file)
    return list(found)


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))


def _is_hidden(file: Path, below: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(below).parts)


def _check_name(file: Path) -> None:
    """Refuse a name that no line of a note, and no record, can hold."""
    try:
        str(file).encode()
    except UnicodeEncodeError as error:
        raise TocsinError(f"the name of {str(file)!a} is not UTF-8: rename it") from error
    if len(str(file).splitlines()) > 1:
        raise TocsinError(f"there is a line break in the name of {str(file)!a}: rename it")


def count(directory: Path, paths: Sequence[Path]) -> int:
    """Return how many packets ``paths`` are for the sidecar that made ``directory``.

    Raises
    ------
    TocsinError
        A catalogue or an image is not the one that was answered.
    """
    noted, packets = note.read(directory) or note.Note([], Plan()), 0
    left_out = set(noted.left_out) - note.answered_in(directory)
    for path in files_of(paths, directory):
        if str(path) in left_out:
            continue
        if noted.stamp(path):
            noted.check(path, directory)
        if noted.catalogues and (str(path) in noted.catalogues or _is_catalogue(path)):
            packets += catalogue.count(path, noted.plan)
        else:
            packets += read.count([path])
    return packets


def _is_catalogue(path: Path) -> bool:
    """Tell whether a file is a catalogue; what is read by nobody, and came after the last run, is none."""
    try:
        return not _is_image(path, set(Kind)) and tables.form_of(path) != "packets"
    except Unread:
        return False
