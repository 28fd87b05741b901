"""The note in a directory of a sidecar's results: which rows made them, how catalogues were cut, what these were.

A block of a catalogue is known by its number. In a catalogue that grew or changed, the same number is other rows, so it
is refused, as an image is that is another one; a file that was only copied or touched is the same one.
"""

from __future__ import annotations

import dataclasses
import json
import zlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from broker.cli.inputs import make, write_note
from broker.core.errors import TocsinError
from broker.sidecar.catalogue import Plan

NOTE = "sidecar.json"
PIECE = 2**20


class Stamp(NamedTuple):
    """What a file is known by: its size in bytes, its time in Unix ns, and the CRC-32 of all of it."""

    size: int
    mtime_ns: int
    crc: int


@dataclass(frozen=True, slots=True)
class Note:
    """What is noted of a directory: the rows, the plan, stamps of catalogues and images by path, what was left out."""

    rows: list[str]
    plan: Plan
    catalogues: dict[str, Stamp] = field(default_factory=dict)
    images: dict[str, Stamp] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()

    def stamp(self, path: Path) -> Stamp | None:
        """Return what a file was known by; None where it was not."""
        return self.catalogues.get(str(path)) or self.images.get(str(path))

    def check(self, path: Path, directory: Path) -> Stamp:
        """Return the stamp of a file that is what was noted, or of which nothing was.

        Raises
        ------
        TocsinError
            It is another one.
        """
        old, now = self.stamp(path), path.stat()
        if old and (old.size, old.mtime_ns) == (now.st_size, now.st_mtime_ns):
            return old
        new = _stamp(path)
        if old and (old.size, old.crc) != (new.size, new.crc):
            how = f"it had {old.size:,} bytes and has {new.size:,}" if old.size != new.size else "its bytes are others"
            told = f"{path} is not the file that {directory} was made of: {how}"
            raise TocsinError(f"{told}; take another --out for what it is now")
        return new


def read(directory: Path) -> Note | None:
    """Return what a directory's note says; None where it is no sidecar's.

    Raises
    ------
    TocsinError
        It is damaged.
    """
    path = directory / NOTE
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text())
        plan = Plan(**{**found["plan"], "missing": tuple(found["plan"]["missing"])})
        catalogues, images = (
            {name: Stamp(*stamp) for name, stamp in found.get(what, {}).items()} for what in ("catalogues", "images")
        )
        return Note(list(found["rows"]), plan, catalogues, images, tuple(found.get("left_out", [])))
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        told = f"{path} is damaged ({error!r})"
        raise TocsinError(f"{told}: remove it, and run the command that made {directory} again") from error


def write(
    directory: Path,
    names: Sequence[str],
    plan: Plan,
    catalogues: Iterable[Path],
    images: Iterable[Path] = (),
    left_out: Collection[Path] = (),
) -> None:
    """Write down which rows answer what and how; refuse a directory where that is otherwise.

    Raises
    ------
    TocsinError
    """
    old, mine = read(directory) or Note(list(names), plan), Note(list(names), plan)
    _check_same(directory, _options(old), _options(mine))
    answered = answered_in(directory)
    for paths, stamps in ((catalogues, mine.catalogues), (images, mine.images)):
        for path in paths:
            known = old if str(path) in answered else mine  # one of which nothing is answered yet may be mended
            stamps[str(path)] = known.check(path, directory)
    for path in left_out:
        if str(path) in answered:  # it was read once
            old.check(path, directory)
    whole = dataclasses.replace(
        mine,
        catalogues={**old.catalogues, **mine.catalogues},
        images={**old.images, **mine.images},
        left_out=tuple(sorted({*old.left_out, *map(str, left_out)} - mine.catalogues.keys() - mine.images.keys())),
    )
    make(directory)
    write_note(directory / NOTE, json.dumps(dataclasses.asdict(whole)) + "\n")


def _options(note: Note) -> dict[str, list[str]]:
    """Return what of a note was said on the command line, by option."""
    plan = note.plan
    return {
        "": note.rows,
        "--column": [f"{name}={column}" for name, column in sorted(plan.renamed.items())],
        "--id": [plan.record_id] if plan.record_id else [],
        "--missing": [repr(number).removesuffix(".0") for number in sorted(plan.missing)],
        "--block": [str(plan.block)],
    }


def _check_same(directory: Path, there: dict[str, list[str]], here: dict[str, list[str]]) -> None:
    """Refuse other options than those that made a directory; the text has what differs alone."""
    differ = [option for option in there if there[option] != here[option]]
    if differ:
        old, new = (", ".join(_said(option, found[option]) for option in differ) for found in (there, here))
        raise TocsinError(f"{directory} was made with {old}; this is with {new}: take another --out")


def _said(option: str, values: list[str]) -> str:
    return " ".join(f"{option} {value}".strip() for value in values) or f"no {option}"


def answered_in(directory: Path) -> set[str]:
    """Return the files of which a directory has results."""
    from broker.deliver.files import read_manifest

    return {source["topic"] for line, _ in read_manifest(directory) for source in line["ledger"]["sources"]}


def _stamp(path: Path) -> Stamp:
    found, crc = path.stat(), 0
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            crc = zlib.crc32(piece, crc)
    return Stamp(found.st_size, found.st_mtime_ns, crc)
