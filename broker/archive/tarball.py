"""Tar archives as a stream, without unpacking and in bounded memory.

The standard ``tarfile`` keeps every member it has seen and takes a damaged header in the middle of an archive for its
end; a night's archive has a million members, and a lost half night must not look like a short one. So the 512-byte
headers are walked here (parsed by ``tarfile``), and an archive is whole only at its end-of-archive mark or, where it is
compressed, at the end of a member and a good checksum.
"""

from __future__ import annotations

import gzip
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from broker.core.errors import TocsinError

BLOCK = 512
_EXTENDED_MAX = 1 << 20  # a pax or long-name header larger than this is no name
_DIGITS = 18  # of a size in bytes
_CHUNK = 1 << 20
_METADATA = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


def looks_like_tar(path: Path, head: bytes) -> bool:
    """Tell whether a file is a tar archive, compressed or not: by its name or by its first bytes.

    Parameters
    ----------
    head : bytes
        The first bytes of the file, at least 512 where it has them.
    """
    name = path.name.lower()
    if name.endswith((".tar", ".tar.gz", ".tgz")):
        return True
    if head[:2] == b"\x1f\x8b":
        try:
            head = zlib.decompressobj(wbits=31).decompress(head, BLOCK)
        except zlib.error:
            return False
    return head[257:262] == b"ustar"


def members(path: Path, limit: int, wanted: Callable[[int], bool]) -> Iterator[tuple[int, str, bytes]]:
    """Yield (number, name, bytes) of each regular file in the archive, in its order.

    Parameters
    ----------
    limit : int
        At most ``limit + 1`` bytes of a member are kept, so that its reader sees that it is too large.
    wanted : callable
        Asked with a member's number; one that it declines is passed over unread.

    Raises
    ------
    TocsinError
        The archive is damaged or cut: after the members that came before the damage.
    """
    with opened(path) as stream:
        number = 0
        while (found := _next_file(stream)) is not None:
            name, size = found
            asked = wanted(number)
            kept = min(size, limit + 1) if asked else 0
            value = _exactly(stream, kept)
            _pass_over(stream, _padded(size) - kept)
            if asked:
                yield number, name, value
            number += 1
        while stream.read(_CHUNK):  # to the end: a bad checksum of the compressed stream shows only there
            pass


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open the archive and turn each way in which it can be damaged into one sentence."""
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            if not packed:
                yield raw
                return
            with gzip.GzipFile(fileobj=raw) as stream:
                yield cast(BinaryIO, stream)
    except (EOFError, zlib.error, gzip.BadGzipFile, tarfile.TarError) as error:
        raise TocsinError(f"the archive {path} is damaged or cut: {error}") from error
    except OSError as error:
        raise TocsinError(f"cannot read the archive {path}: {error.strerror or error}") from error


def _next_file(stream: BinaryIO) -> tuple[str, int] | None:
    """Return name and size of the next regular file, whose bytes follow in ``stream``; None at the archive's end."""
    extended: dict[str, str] = {}
    while True:
        header = stream.read(BLOCK)
        if not header and isinstance(stream, gzip.GzipFile):
            return None  # some archives of alerts have no end mark, but a good checksum says that they are whole
        header += _exactly(stream, BLOCK - len(header))
        if not any(header):
            return None
        info = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
        if info.type in _METADATA:
            if info.size > _EXTENDED_MAX:
                raise tarfile.ReadError(f"an extended header of {info.size} bytes")
            extra = _exactly(stream, info.size)
            _pass_over(stream, _padded(info.size) - info.size)
            extended |= _extended(info.type, extra)
            continue
        said = extended.get("size", "")
        if info.size < 0 or info.issparse() or len(said) > _DIGITS:
            raise tarfile.ReadError("a sparse file, or a size that is none")
        size = int(said) if said.isdecimal() else info.size
        if info.isreg():
            return _text(extended.get("path", info.name)), size
        extended = {}
        # a link's size is that of its target, without bytes here; directories and devices have none
        if info.type not in (tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE):
            _pass_over(stream, _padded(size))


def _extended(kind: bytes, extra: bytes) -> dict[str, str]:
    """Return what an extended header says of the next member: of it ``path`` and ``size`` are read."""
    if kind == tarfile.GNUTYPE_LONGNAME:
        return {"path": extra.rstrip(b"\0").decode(errors="replace")}
    if kind != tarfile.XHDTYPE:
        return {}
    pairs = [record.partition(b" ")[2].decode(errors="replace").partition("=") for record in extra.split(b"\n")]
    return {key: value for key, _, value in pairs}


def _text(name: str) -> str:
    """Return a name that UTF-8 can write."""
    return name.encode(errors="replace").decode()


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _exactly(stream: BinaryIO, size: int) -> bytes:
    parts = []
    while size > 0:
        part = stream.read(size)
        if not part:
            raise EOFError("it ends inside a member or without its end mark")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _pass_over(stream: BinaryIO, size: int) -> None:
    while size > 0:
        part = stream.read(min(size, _CHUNK))
        if not part:
            raise EOFError("it ends inside a member or without its end mark")
        size -= len(part)
