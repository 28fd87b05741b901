"""Our schemas in a schema registry with Confluent's API, where there is one."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from pathlib import Path

from broker.core.errors import Stop, Wait
from broker.core.registry import Refused, RegistryApi
from broker.core.schemas import HEADER, OwnSchema, by_fingerprint, frame_prefix

TIMEOUT_S = 10.0
log = logging.getLogger(__name__)


class Registry:
    """Registers a schema at the first message of a topic and frames messages with the id that it got.

    A registry's ids are for ever. So an id is kept on disk, and a member that starts while the registry is away goes
    on with those it has; only a schema that was never registered for a topic is waited for.

    Parameters
    ----------
    url : str
        Base of the API, for example ``http://localhost:8081``. A login before the host is used and never told.
    username, password : str or None
        Basic authentication.
    cache_dir : Path, optional
        Folder of the ids.
    """

    def __init__(
        self, url: str, username: str | None = None, password: str | None = None, cache_dir: Path | None = None
    ) -> None:
        self._api = RegistryApi(url, (username, password or "") if username else None, TIMEOUT_S)
        self._cache_dir = cache_dir
        self._prefixes: dict[tuple[str, bytes], bytes] = {}

    def frame(self, topic: str, value: bytes, headers: tuple[tuple[str, bytes], ...]) -> bytes:
        """Return ``value`` with the registry's id; a message without our schema header (a raw packet) as it is.

        Raises
        ------
        Wait
            The registry is away.
        Stop
            It refuses the schema.
        """
        fingerprint = dict(headers).get(HEADER)
        if fingerprint is None:
            return value
        prefix = self._prefixes.get((topic, fingerprint))
        if prefix is None:
            prefix = frame_prefix(self._id(f"{topic}-value", by_fingerprint()[fingerprint]))
            self._prefixes[topic, fingerprint] = prefix
        return prefix + value[5:]

    def _id(self, subject: str, schema: OwnSchema) -> int:
        place = hashlib.sha256(f"{self._api.url}\n{subject}\n{schema.fingerprint.hex()}".encode()).hexdigest()
        file = self._cache_dir / place if self._cache_dir is not None else None
        try:
            found = self._register(subject, schema)
        except Wait as wait:
            kept = _kept(file) if file is not None else None
            if kept is None:
                raise
            log.warning("going on with id %d of %s that it gave before: %s", kept, subject, wait)
            return kept
        if file is not None:
            _keep(file, found)
        return found

    def _register(self, subject: str, schema: OwnSchema) -> int:
        try:
            found = self._api.ask(f"/subjects/{subject}/versions", {"schema": schema.text}).get("id")
        except ValueError as error:
            raise Wait(f"the schema registry at {self._api.url} answers too much; trying again") from error
        except Refused as refused:
            what = f"{schema.name} {schema.version} for {subject}"
            raise Stop(f"the schema registry at {self._api.url} refuses {what}: {refused}") from refused
        if not isinstance(found, int) or not 0 <= found < 2**32:
            raise Wait(f"the schema registry at {self._api.url} answers without an id; trying again")
        return found


def _kept(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None


def _keep(file: Path, number: int) -> None:
    """Keep an id; a reader never sees half a file."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=file.parent, delete=False) as out:
            out.write(str(number))
        os.replace(out.name, file)
    except OSError as error:  # what is registered is registered
        log.warning("the id of a schema is not kept in %s: %s", file.parent, error)
