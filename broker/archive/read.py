"""Packets out of archives: files, directories and tarballs, one after the other.

What counts as one packet:

- a regular file that is no archive: its bytes, untouched, whatever they are (a file of 0 bytes is a packet of 0
  bytes; `broker.decode` says what is wrong with it);
- a record of a multi-record Avro container: a container of its own with that record
  (`broker.decode.containers.split`); what cannot be taken apart, the rest of a block or all bytes to the next good
  one, is one packet, so that the damage ends as a dead letter with its bytes and not as a stop;
- a regular member of a tar archive (``ztf_public_YYYYMMDD.tar.gz``), untouched. A damaged or cut archive gives the
  members before the damage and then raises `TocsinError`: how many packets are behind it cannot be known.

A directory gives all its regular files, sorted by name, deeper folders in their place. Links to files are followed,
links to directories inside a directory are not (they can go round). A file that is named twice is read once.
"""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from broker.archive import tarball
from broker.core.batch import FILE_PACKET_BYTES, FilePacket
from broker.core.errors import TocsinError
from broker.decode import containers

PACKET_LIMIT = FILE_PACKET_BYTES
_MAGIC = b"Obj\x01"
_SYNC = 16
_ONE = 2  # the number 1 as Avro writes it: a block with one record is a packet when the header stands before it
_GROUP = 4_000_000  # bytes of blocks taken apart at a time: the schema is compiled once for them
_ZTF_GZ_BYTES = 47_000  # of a packet in the public tar.gz, where the schema of every packet packs well
_ZTF_BYTES = 76_500

Skip = Callable[[str, int], bool]


def packets(paths: Sequence[Path], *, skip: Skip | None = None, limit: int = PACKET_LIMIT) -> Iterator[FilePacket]:
    """Yield every packet of ``paths`` in a fixed order.

    Parameters
    ----------
    skip : callable
        Asked with (path, record); True: the packet is done and left out (and, in a tar archive, not even copied).
    limit : int
        Of a larger packet only ``limit + 1`` bytes are read, so that the decoder's own bound refuses it.

    Raises
    ------
    TocsinError
        A path is not there, cannot be read or is no regular file; or a tar archive is damaged (see above).
    """
    for path in files(paths):
        name = str(path)
        wanted = _wanted(name, skip)
        if _is_tar(path):
            members = tarball.members(path, limit, wanted)
            yield from (FilePacket(name, number, value, member=member) for number, member, value in members)
        else:
            yield from (FilePacket(name, record, value) for record, value in _packets_of(path, limit, wanted))


def files(paths: Sequence[Path]) -> Iterator[Path]:
    """Yield the regular files of ``paths`` as absolute paths, each once, directories sorted and all the way down.

    Raises
    ------
    TocsinError
        A path is not there, or is neither a regular file nor a directory.
    """
    seen: set[Path] | None = set() if len(paths) > 1 else None
    for path in paths:
        for file in _walk(Path(os.path.abspath(path)), named=True):
            if seen is None:
                yield file
            elif file not in seen:
                seen.add(file)
                yield file


def count(paths: Sequence[Path]) -> int:
    """Return how many packets ``paths`` hold, by another way than `packets` where there is one.

    Tar archives are counted by the standard library's reader, plain files by the directory; multi-record containers are
    taken apart again. `broker.cli` uses it for ``ledger --verify-source``.

    Raises
    ------
    TocsinError
        As `packets`.
    """
    return sum(_count_tar(path) if _is_tar(path) else _count_file(path) for path in files(paths))


def estimate(paths: Sequence[Path]) -> int:
    """Return about how many packets ``paths`` hold, for a progress bar, from the sizes of the files alone."""
    return sum(_estimate(path) for path in files(paths))


def _packets_of(path: Path, limit: int, wanted: Callable[[int], bool]) -> Iterator[tuple[int, bytes]]:
    try:
        with path.open("rb") as file:
            for record, value in enumerate(_split(file, limit)):
                if wanted(record):
                    yield record, value
    except OSError as error:
        raise TocsinError(f"cannot read {path}: {error.strerror}") from error


def _split(file: BinaryIO, limit: int) -> Iterator[bytes]:
    """Yield the packets of one file: itself, or the records of a multi-record container, block by block."""
    head = file.read(limit + 1)
    if len(head) <= limit:
        yield from containers.split(head)
        return
    start = _header_length(head)
    if start is None:
        yield head
        return
    header = head[:start]
    del head  # a large container is read again, a block at a time
    file.seek(start)
    pending: list[bytes] = []
    while block := _block(file, header[-_SYNC:], limit) or _broken(file, header[-_SYNC:], limit):
        alone = block[0] == _ONE or not block.endswith(header[-_SYNC:])
        if not alone:
            pending.append(block)
        if pending and (alone or sum(map(len, pending)) > _GROUP):
            yield from containers.split(header + b"".join(pending))
            pending = []
        if alone:
            yield header + block
    if pending:
        yield from containers.split(header + b"".join(pending))


def _broken(file: BinaryIO, sync: bytes, limit: int) -> bytes:
    """Return what is between a damaged block and the end of the next sync marker; of a longer gap its first bytes."""
    kept, tail = b"", b""
    while piece := file.read(_GROUP):
        at = (tail + piece).find(sync)
        if at >= 0:
            end = at + _SYNC - len(tail)
            file.seek(end - len(piece), os.SEEK_CUR)
            return (kept + piece[:end])[: limit + 1]
        kept, tail = kept + piece[: max(0, limit + 1 - len(kept))], piece[1 - _SYNC :]
    return kept


def _block(file: BinaryIO, sync: bytes, limit: int) -> bytes:
    """Return the block that starts here, its sync marker included; b'' (and no step forward) where there is none."""
    place = file.tell()
    opening = file.read(20)  # two numbers of at most ten bytes each
    try:
        records, at = _varint(opening, 0)
        size, at = _varint(opening, at)
    except IndexError:
        records, size, at = -1, -1, 0
    file.seek(place)
    if records < 0 or size < 0 or size > limit:
        return b""
    block = file.read(at + size + _SYNC)
    if len(block) == at + size + _SYNC and block.endswith(sync):
        return block
    file.seek(place)
    return b""


def _header_length(data: bytes) -> int | None:
    """Return the length of a container's header, its sync marker included; None if ``data`` does not start with one."""
    if data[:4] != _MAGIC:
        return None
    try:
        at = 4
        while (items := _varint(data, at)) and items[0]:
            pairs, at = items
            if pairs < 0:
                pairs, at = -pairs, _varint(data, at)[1]
            for _ in range(2 * pairs):
                size, at = _varint(data, at)
                if size < 0 or at + size > len(data):
                    return None
                at += size
        end = items[1] + _SYNC
    except IndexError:
        return None
    return end if end <= len(data) else None


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Return the zig-zag number at ``at`` and the place behind it; IndexError where the data end or it is too long."""
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), at
    raise IndexError("a number of more than ten bytes")


def _walk(path: Path, *, named: bool) -> Iterator[Path]:
    try:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode):
            yield path
        elif stat.S_ISDIR(mode) and (named or not path.is_symlink()):
            for name in sorted(os.listdir(path)):
                yield from _walk(path / name, named=False)
        elif named:
            raise TocsinError(f"{path} is neither a file nor a directory")
    except FileNotFoundError as error:
        if named:
            raise TocsinError(f"there is no {path}") from error  # inside a directory: a link that leads nowhere
    except OSError as error:
        raise TocsinError(f"cannot read {path}: {error.strerror}") from error


def _wanted(name: str, skip: Skip | None) -> Callable[[int], bool]:
    return (lambda record: True) if skip is None else (lambda record: not skip(name, record))


def _is_tar(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return tarball.looks_like_tar(path, file.read(4096))
    except OSError as error:
        raise TocsinError(f"cannot read {path}: {error.strerror}") from error


def _count_tar(path: Path) -> int:
    found = 0
    with tarball.opened(path) as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
        while (member := archive.next()) is not None:
            found += member.isreg()
            vars(archive)["members"].clear()  # it would remember a million of them
    return found


def _count_file(path: Path) -> int:
    try:
        with path.open("rb") as file:
            if file.read(4) != _MAGIC:
                return 1
            file.seek(0)
            return sum(1 for _ in _split(file, PACKET_LIMIT))
    except OSError as error:
        raise TocsinError(f"cannot read {path}: {error.strerror}") from error


def _estimate(path: Path) -> int:
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(1 << 16)
    if tarball.looks_like_tar(path, head):
        return size // (_ZTF_GZ_BYTES if head[:2] == b"\x1f\x8b" else _ZTF_BYTES)
    start = _header_length(head)
    if start is None:
        return 1
    try:
        records, at = _varint(head, start)
        length, _ = _varint(head, at)
    except IndexError:
        return 1
    return max(1, records * (size - start) // max(1, length + _SYNC)) if records > 0 else 1
