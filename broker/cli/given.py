"""The files that `tocsin sidecar` is given: catalogues, images and products, each as packets."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
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
from broker.sidecar.product import Kind

if TYPE_CHECKING:
    from broker.deliver.files import Skip
    from broker.sidecar.answer import Model


@dataclass(frozen=True, slots=True)
class Inputs:
    """Files that are answered: catalogues, whose columns were found, images in FITS, and products.

    Images and products are packets as they are: a damaged one is a dead letter.
    """

    files: list[Path]
    catalogues: dict[Path, Matched]
    images: list[Path]
    models: Sequence[Model]
    plan: Plan

    @classmethod
    def of(cls, paths: Sequence[Path], models: Sequence[Model], plan: Plan) -> Inputs:
        """Look into every file; directories give their files.

        Raises
        ------
        TocsinError
            There is none; or as `broker.sidecar.catalogue.match`.
        """
        files = files_of(paths)
        if not files:
            raise TocsinError(f"no files in {', '.join(map(str, paths))}")
        kinds = {model.kind for model in models}
        images = [path for path in files if _is_image(path, kinds)]
        tabled = [path for path in files if path not in set(images) and tables.form_of(path) != "packets"]
        return cls(files, {path: catalogue.match(path, models, plan) for path in tabled}, images, models, plan)

    @property
    def total(self) -> int | None:
        """About how many packets will come; None: only reading tells."""
        rows = [tables.count(path, found.form) for path, found in self.catalogues.items()]
        if None in rows:
            return None
        blocks = sum(-(-(n or 0) // self.plan.block) for n in rows)
        return blocks + read.estimate([path for path in self.files if path not in self.catalogues])

    def told(self) -> Iterator[str]:
        """Yield what the user should know of catalogues and images."""
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

    def packets(self, skip: Skip) -> Iterator[FilePacket]:
        """Yield blocks, images and products in the order of the files."""
        for path in self.files:
            if path in self.catalogues:
                yield from catalogue.packets(self.catalogues[path], self.plan, skip)
            else:
                yield from read.packets([path], skip=skip)


def _is_image(path: Path, kinds: Collection[Kind]) -> bool:
    """Tell whether a file is an image in FITS: to rows that read catalogues, too, what is in it decides."""
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
    return Kind.CATALOG not in kinds or not _begins_with_table(path)


def _begins_with_table(path: Path) -> bool:
    """Tell whether a table comes before any image in a FITS file; not of a damaged one."""
    import warnings

    from astropy.io import fits

    try:
        with warnings.catch_warnings(action="ignore"), fits.open(path) as units:
            for unit in islice(units, fitsimages.UNITS):
                if fitsimages.is_image(unit):
                    return False
                if isinstance(unit, fits.BinTableHDU | fits.TableHDU):
                    return True
    except Exception:  # damaged headers make it fail in many ways: the image's reader tells how
        return False
    return False


def files_of(paths: Sequence[Path]) -> list[Path]:
    """Return files and those of directories, but what is hidden in these."""
    found = {path: read.files([path]) for path in paths}
    return list(dict.fromkeys(file for path, files in found.items() for file in files if not _is_hidden(file, path)))


def _is_hidden(file: Path, below: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(os.path.abspath(below)).parts)


def count(directory: Path, paths: Sequence[Path]) -> int:
    """Return how many packets ``paths`` are for the sidecar that made ``directory``.

    Raises
    ------
    TocsinError
        A catalogue is not the one that was answered.
    """
    noted, packets = note.read(directory) or note.Note([], Plan()), 0
    for path in files_of(paths):
        if noted.catalogues and (str(path) in noted.catalogues or _is_catalogue(path)):
            noted.check(path, directory)
            packets += catalogue.count(path, noted.plan)
        else:
            packets += read.count([path])
    return packets


def _is_catalogue(path: Path) -> bool:
    return not _is_image(path, set(Kind)) and tables.form_of(path) != "packets"
