"""Arrays that lie elsewhere: read through fsspec, only from where the operator allows.

A product may come from a stranger. Without this rule it could have any file of this machine read, or any address of its
network called, and learn from the answer what is there.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from broker.core.errors import TocsinError, Wait
from broker.core.reasons import Dead
from broker.decode.limits import Reject

SHOWN = 256


class Fetch:
    """Reads what lies at an address.

    Parameters
    ----------
    allowed : sequence of str
        What addresses must begin with, such as ``file:///data/cutouts/`` or ``s3://bucket/stamps/``; none: nothing is
        allowed. A prefix ends where a folder ends.

    Raises
    ------
    TocsinError
        A prefix is no address, or its protocol needs a package that is not installed.
    """

    def __init__(self, allowed: Sequence[str] = ()) -> None:
        self._allowed = tuple(_folder(prefix) for prefix in allowed)
        for prefix in allowed:
            _check_protocol(prefix)

    def __call__(self, uri: str, size: int) -> bytes:
        """Return what lies at ``uri``; of more than ``size`` bytes the first ``size + 1``.

        Raises
        ------
        Reject
            It is not there, or we may not read it.
        Wait
            What should have it does not answer.
        """
        if not self._is_allowed(uri):
            raise _bad(uri, "is under none of the prefixes that [sidecar] uri_prefixes allows")
        import fsspec

        try:
            with fsspec.open(_resolved(uri), "rb") as file:
                data: bytes = file.read(size + 1)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError, ValueError) as error:
            raise _bad(uri, f"cannot be read: {error}") from error
        except Exception as error:  # each protocol has its own errors
            if 400 <= getattr(error, "status", 0) < 500:  # HTTP: the address is wrong, not the network
                raise _bad(uri, f"cannot be read: {error}") from error
            raise Wait(f"{uri[:SHOWN]} does not answer: {error!r}") from error
        return data

    def _is_allowed(self, uri: str) -> bool:
        """Tell whether an address lies under a prefix; what could lead out of it (.., links, chains) does not."""
        if "::" in uri or "\\" in uri or "%" in uri or ".." in uri.split("/") or not uri.isprintable():
            return False
        return any(_resolved(uri).startswith(prefix) for prefix in self._allowed)


def _folder(prefix: str) -> str:
    return _resolved(prefix).rstrip("/") + "/"


def _resolved(uri: str) -> str:
    """Return an address whose protocol is named and, of a file, whose links are followed."""
    protocol, _, path = uri.rpartition("://")
    return f"file://{os.path.realpath(path)}" if protocol in ("", "file", "local") else uri


def _check_protocol(prefix: str) -> None:
    import fsspec

    protocol = prefix.partition("://")[0] if "://" in prefix else "file"
    try:
        fsspec.get_filesystem_class(protocol)
    except (ValueError, ImportError) as error:
        raise TocsinError(f"[sidecar] uri_prefixes: {prefix} cannot be read: {error}") from error


def _bad(uri: str, why: str) -> Reject:
    return Reject(Dead.BAD_URI, f"{uri[:SHOWN]!r} {why}")
