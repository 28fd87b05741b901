"""Arrays that lie elsewhere: read only from where the operator allows, in bounded time and tries.

A product may come from a stranger. Without this rule it could have any file of this machine read, or any address of its
network called, and learn from the answer what is there. Files and object stores are read through fsspec, HTTP by
Python's own client: fsspec's needs aiohttp and seven more packages, follows all redirections, asks twice for a file.
"""

from __future__ import annotations

import http.client
import os
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from broker.core.errors import TocsinError, Wait
from broker.core.reasons import Dead
from broker.decode.limits import Reject

SHOWN = 256
PIECE = 2**20
SECONDS, TIMEOUT_S = 60.0, 10.0
"""For a whole array, the largest being 64 MB; for a connection, and for each read of HTTP."""
TRIES = 20
"""Of an address whose store is in trouble; with the pauses of the delivery loop, somewhat more than a minute."""
_WEB = ("http", "https")
_LATER = (408, 425, 429)  # time-out, too early, too many requests: the store is busy
Pieces = Callable[[int], bytes]


class Fetch:
    """Reads what lies at an address.

    Parameters
    ----------
    allowed : sequence of str
        What addresses must begin with, such as ``file:///data/cutouts/`` or ``s3://bucket/stamps/``; none: nothing is
        allowed. A prefix ends where a folder ends.
    seconds : float
        That reading may take.
    tries : int
        Of an address whose store does not answer. One that was given up is tried once for each later product.

    Raises
    ------
    TocsinError
        A prefix is no address, or its protocol needs a package that is not installed.
    """

    def __init__(self, allowed: Sequence[str] = (), seconds: float = SECONDS, tries: int = TRIES) -> None:
        self._allowed = tuple(_folder(prefix) for prefix in allowed)
        self._seconds, self._tries = seconds, tries
        self._failed: Counter[str] = Counter()  # tries in a row, by address
        for prefix in allowed:
            _check_protocol(prefix)

    def __call__(self, uri: str, size: int) -> bytes:
        """Return what lies at ``uri``; of more than ``size`` bytes the first ``size + 1``.

        Raises
        ------
        Reject
            It is not there, or we may not read it, or all tries are over.
        Wait
            What should have it does not answer, or not in time: try again.
        """
        if not self._is_allowed(uri):
            raise _bad(uri, "is under none of the prefixes that [sidecar] uri_prefixes allows")
        deadline = time.monotonic() + self._seconds
        try:
            with self._web(uri) if _protocol(uri) in _WEB else _stored(uri) as pieces:
                found = _read(pieces, size + 1, deadline)
        except urllib.error.HTTPError as error:
            with error:
                if error.code >= 500 or error.code in _LATER:
                    raise self._later(uri, str(error)) from error
                raise _bad(uri, f"cannot be read: {error}") from error
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError, ValueError) as error:
            raise _bad(uri, f"cannot be read: {error}") from error
        except http.client.InvalidURL as error:
            raise _bad(uri, f"is no address: {error}") from error
        except Exception as error:  # each protocol has its own errors
            raise self._later(uri, repr(error)) from error
        self._failed.pop(uri, None)
        return found

    def _later(self, uri: str, why: str) -> Wait | Reject:
        """Return what a failed try comes to: another one, or, lest one address stop its partition for ever, the end."""
        if self._failed[uri] + 1 >= self._tries:
            return _bad(uri, f"does not answer, the last of {self._tries} tries with {why}")
        self._failed[uri] += 1
        return Wait(f"{uri[:SHOWN]} does not answer: {why}")

    def _is_allowed(self, uri: str) -> bool:
        """Tell whether an address lies under a prefix; what could lead out of it (.., links, chains) does not."""
        if "::" in uri or "\\" in uri or "%" in uri or ".." in uri.split("/") or not uri.isprintable():
            return False
        return any(_resolved(uri).startswith(prefix) for prefix in self._allowed)

    @contextmanager
    def _web(self, uri: str) -> Iterator[Pieces]:
        """Open what lies behind HTTP."""
        opener = urllib.request.build_opener(_Redirected(self._is_allowed))
        with opener.open(uri, timeout=min(TIMEOUT_S, self._seconds)) as response:
            yield lambda most: _piece(response, most)


class _Redirected(urllib.request.HTTPRedirectHandler):
    """Follows where one may read; any other redirection is an error with its code."""

    def __init__(self, is_allowed: Callable[[str], bool]) -> None:
        self._is_allowed = is_allowed

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        """Return the request for where a redirection leads; None: it is not followed."""
        allowed = _protocol(newurl) in _WEB and self._is_allowed(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl) if allowed else None


def _piece(response: http.client.HTTPResponse, most: int) -> bytes:
    """Return what has come, b"" at the end."""
    piece = response.read1(most)
    if not piece and response.length:
        raise ConnectionError(f"the connection was closed {response.length:,} bytes before the end")
    return piece


@contextmanager
def _stored(uri: str) -> Iterator[Pieces]:
    """Open a file, or what lies in an object store."""
    import fsspec

    with fsspec.open(_resolved(uri), "rb") as file:
        yield file.read


def _read(pieces: Pieces, most: int, deadline: float) -> bytes:
    """Return at most ``most`` bytes."""
    found: list[bytes] = []
    while most > 0 and (piece := pieces(min(most, PIECE))):
        if time.monotonic() > deadline:
            raise TimeoutError("it sends too slowly")
        found.append(piece)
        most -= len(piece)
    return b"".join(found)


def _folder(prefix: str) -> str:
    return _resolved(prefix).rstrip("/") + "/"


def _protocol(uri: str) -> str:
    return uri.partition("://")[0] if "://" in uri else "file"


def _resolved(uri: str) -> str:
    """Return an address whose protocol is named and, of a file, whose links are followed."""
    path = uri.partition("://")[2] if "://" in uri else uri
    return f"file://{os.path.realpath(path)}" if _protocol(uri) in ("file", "local") else uri


def _check_protocol(prefix: str) -> None:
    import fsspec

    if (protocol := _protocol(prefix)) in _WEB:
        return
    try:
        fsspec.get_filesystem_class(protocol)
    except (ValueError, ImportError) as error:
        raise TocsinError(f"[sidecar] uri_prefixes: {prefix} cannot be read: {error}") from error


def _bad(uri: str, why: str) -> Reject:
    return Reject(Dead.BAD_URI, f"{uri[:SHOWN]!r} {why}")
