"""Where the writer schema of a wire-format packet comes from: registry, disk cache, installed package.

A Confluent registry's ids are for ever, so an answer is kept in memory and on disk, in a folder of that registry:
another one's id 5 is another schema. Without a registry an id is ``major * 100 + minor`` of a Rubin schema, found in
the disk cache (``tocsin schema add``) or among the files of the optional package ``lsst-alert-packet``, which is read
as data and never imported.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import tempfile
import threading
import time
import urllib.parse
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, Protocol

from broker.core.errors import Wait
from broker.core.reasons import Dead
from broker.core.registry import Refused, RegistryApi
from broker.decode.limits import Limits, Reject
from broker.decode.tree import Tree

PACKAGE = "lsst-alert-packet"
_LOG = logging.getLogger(__name__)
_KEPT = 256
_FORGET_ABSENCE_S = 30.0
_MAX_REFERENCES = 32
_REFUSED = (400, 422)  # the registry understands us and will never have such an id or version


class Registry:
    """The survey's schema registry, reading only.

    Parameters
    ----------
    url : str
        A user name and password in it are taken before ``auth``, and never told.
    auth : (str, str), optional
        Basic-auth user name and password.
    timeout_s : float
        For a connection and for each read.
    """

    def __init__(self, url: str, auth: tuple[str, str] | None = None, timeout_s: float = 5.0) -> None:
        self._api = RegistryApi(url, auth, timeout_s)
        self.url = self._api.url

    @property
    def folder(self) -> str:
        """Name of the folder in the disk cache for this registry's ids: its host, and a hash of its address."""
        host = re.sub(r"[^\w.-]", "_", urllib.parse.urlsplit(self.url).netloc)
        return f"{host[:100]}-{hashlib.sha256(self.url.encode()).hexdigest()[:12]}"

    def schema(self, schema_id: int, limits: Limits) -> bytes | None:
        """Return the schema with ``schema_id`` as self-contained JSON, or None where the registry says it has none.

        Only its own word for that (``error_code`` 40403) counts: any other 404 is a wrong address, or something in
        between that is out of order, and must not dead-letter a night.

        Raises
        ------
        Wait
            The registry cannot be reached, answers with an error, or with something that is no schema's envelope.
        Reject
            The registry refuses the id (400, 422), its references make no schema, or a bound is broken.
        """
        answer = self._get(f"/schemas/ids/{schema_id}", limits)
        if answer is None:
            return None
        try:
            return self._whole(answer, limits, {})
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            text = f"the registry's references of schema id {schema_id} make no schema ({error!r})"
            raise Reject(Dead.BAD_SCHEMA, text) from error

    def _whole(self, answer: dict[str, Any], limits: Limits, named: dict[str, Any]) -> bytes:
        """Return the answer's schema with the schemas that it refers to put in."""
        text = answer.get("schema")
        if not isinstance(text, str):
            raise Wait(f"the schema registry at {self.url} answers without a schema; trying again")
        self._collect(answer, limits, named)
        return text.encode(errors="replace") if not named else inline(text, named)

    def _collect(self, answer: dict[str, Any], limits: Limits, named: dict[str, Any]) -> None:
        for reference in answer.get("references") or []:
            if len(named) >= _MAX_REFERENCES:
                raise Reject(Dead.BOUND_EXCEEDED, f"the registry's schema has more than {_MAX_REFERENCES} references")
            name, subject, version = reference["name"], reference["subject"], reference["version"]
            if name in named:
                continue
            found = self._get(f"/subjects/{urllib.parse.quote(subject, safe='')}/versions/{version}", limits)
            if found is None:
                raise Reject(Dead.UNKNOWN_SCHEMA, f"the registry does not have {subject} version {version}")
            named[name] = json.loads(found["schema"])
            self._collect(found, limits, named)

    def _get(self, path: str, limits: Limits) -> dict[str, Any] | None:
        try:
            return self._api.ask(path, most=2 * limits.schema_bytes)
        except ValueError as error:
            raise Reject(Dead.BOUND_EXCEEDED, str(error)) from error
        except Refused as refused:
            if refused.absent:
                return None
            if refused.code in _REFUSED:
                raise Reject(Dead.UNKNOWN_SCHEMA, f"the registry refuses {path} with {refused.code}") from refused
            raise Wait(f"the schema registry at {self.url} answers {refused.code}; trying again") from refused


class DiskCache:
    """Schemas on disk, one file ``<id>.avsc`` each, self-contained."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, schema_id: int) -> bytes | None:
        """Return a schema, or None."""
        try:
            return (self.folder / f"{schema_id}.avsc").read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def put(self, schema_id: int, schema: bytes) -> Path:
        """Keep a schema; a reader never sees half a file."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{schema_id}.avsc"
        with tempfile.NamedTemporaryFile(dir=self.folder, delete=False) as file:
            file.write(schema)
        os.replace(file.name, path)
        return path

    def ids(self) -> list[int]:
        """Return the ids at hand, in order."""
        return sorted(int(path.stem) for path in self.folder.glob("*.avsc") if path.stem.isdigit())


class Ids(Protocol):
    """Writer schemas by wire id: `SchemaStore`, or our own installed ones."""

    def get(self, schema_id: int) -> bytes:
        """Return a schema as JSON, see `SchemaStore.get`."""


class SchemaStore:
    """Writer schemas by wire id.

    Parameters
    ----------
    registry : Registry, optional
    cache_dir : Path, optional
        Folder of the disk cache: schemas that were added by hand, and a folder for each registry.
    package : bool
        Whether the files of lsst-alert-packet may be used; only where there is no registry.
    limits : Limits
    clock : callable
        Seconds, monotonic.
    """

    def __init__(
        self,
        registry: Registry | None = None,
        cache_dir: Path | None = None,
        *,
        package: bool = True,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._registry = registry
        self._disk = None
        if cache_dir is not None:
            self._disk = DiskCache(cache_dir / registry.folder if registry is not None else cache_dir)
        self._package = package
        self._limits = limits or Limits()
        self._clock = clock
        self._found: OrderedDict[int, bytes] = OrderedDict()
        self._absent: OrderedDict[int, tuple[float, Dead, str]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, schema_id: int) -> bytes:
        """Return the schema with wire id ``schema_id`` as self-contained JSON.

        Raises
        ------
        Reject
            Nobody has it (`Dead.UNKNOWN_SCHEMA`), it is no Avro schema, or it breaks a bound. A registry is asked
            again after half a minute: packets that came before a schema was registered are for ``tocsin dlq``.
        Wait
            The registry is away, and the disk cache does not have it.
        """
        with self._lock:
            if schema_id in self._found:
                self._found.move_to_end(schema_id)
                return self._found[schema_id]
            self._raise_if_absent(schema_id)
            try:
                schema = self._find(schema_id)
            except Reject as reject:
                self._absent[schema_id] = (self._clock() + _FORGET_ABSENCE_S, reject.reason, str(reject))
                _trim(self._absent)
                raise
            self._found[schema_id] = schema
            _trim(self._found)
            return schema

    def _raise_if_absent(self, schema_id: int) -> None:
        until, reason, text = self._absent.get(schema_id, (0.0, Dead.UNKNOWN_SCHEMA, ""))
        if text and self._clock() < until:
            raise Reject(reason, text)
        self._absent.pop(schema_id, None)

    def _find(self, schema_id: int) -> bytes:
        if self._registry is not None:
            return self._ask(self._registry, schema_id)
        schema = self._disk.get(schema_id) if self._disk is not None else None
        if schema is None and self._package:
            schema = installed(schema_id)
        if schema is None:
            text = f"no schema with id {schema_id}: no registry is configured, and it is neither in the disk cache"
            raise Reject(Dead.UNKNOWN_SCHEMA, f"{text} (tocsin schema add) nor in the package {PACKAGE}")
        return schema

    def _ask(self, registry: Registry, schema_id: int) -> bytes:
        try:
            schema = registry.schema(schema_id, self._limits)
        except Wait:
            kept = self._disk.get(schema_id) if self._disk is not None else None
            if kept is None:
                raise
            return kept
        if schema is None:
            raise Reject(Dead.UNKNOWN_SCHEMA, f"the schema registry at {registry.url} does not have id {schema_id}")
        Tree(schema, self._limits)  # what is no Avro schema is not kept
        if self._disk is not None:
            self._keep(self._disk, schema_id, schema)
        return schema

    def _keep(self, disk: DiskCache, schema_id: int, schema: bytes) -> None:
        try:
            disk.put(schema_id, schema)
        except OSError as error:  # the packets can be decoded all the same
            _LOG.warning("schema %d is not kept in %s: %s", schema_id, disk.folder, error)


def installed(schema_id: int) -> bytes | None:
    """Return the schema ``major * 100 + minor`` from the files of lsst-alert-packet, or None."""
    major, minor = divmod(schema_id, 100)
    files = _installed().get((major, minor))
    if files is None:
        return None
    main = next((path for path in files if path.name.endswith("alert.avsc")), None)
    named = [json.loads(path.read_text()) for path in files if path is not main]
    return None if main is None else inline(main.read_text(), {full_name(schema): schema for schema in named})


def installed_ids() -> list[int]:
    """Return the ids that lsst-alert-packet has schemas for; none where it is not installed."""
    return sorted(major * 100 + minor for major, minor in _installed())


@lru_cache(maxsize=1)
def _installed() -> dict[tuple[int, int], tuple[Path, ...]]:
    try:
        package = distribution(PACKAGE)
    except PackageNotFoundError:
        return {}
    found: dict[tuple[int, int], list[Path]] = {}
    for file in package.files or []:
        if file.suffix == ".avsc" and [part.isdigit() for part in file.parts[-3:-1]] == [True, True]:
            version = int(file.parts[-3]), int(file.parts[-2])
            found.setdefault(version, []).append(Path(str(package.locate_file(file))))
    return {version: tuple(files) for version, files in found.items()}


def full_name(schema: dict[str, Any]) -> str:
    """Return a named schema's name with its namespace."""
    name, namespace = str(schema["name"]), schema.get("namespace")
    return name if "." in name or not namespace else f"{namespace}.{name}"


def inline(text: str, named: dict[str, Any]) -> bytes:
    """Return the schema ``text`` with every reference to ``named`` replaced by the definition, at its first use."""
    pending = dict(named)
    return json.dumps(_inline(json.loads(text), pending, None)).encode()


def _inline(schema: Any, pending: dict[str, Any], namespace: str | None) -> Any:
    if isinstance(schema, str):
        name = schema if "." in schema or not namespace else f"{namespace}.{schema}"
        if name not in pending:
            name = schema
        return _inline(pending.pop(name), pending, None) if name in pending else schema
    if isinstance(schema, list):
        return [_inline(branch, pending, namespace) for branch in schema]
    if not isinstance(schema, dict):
        return schema
    if "name" in schema:
        inside = full_name({"namespace": namespace, **schema}).rpartition(".")[0] or None
        pending.pop(full_name({"namespace": namespace, **schema}), None)
    else:
        inside = namespace
    keys = {"type", "items", "values"} & schema.keys()
    changed = {key: _inline(schema[key], pending, inside) for key in sorted(keys)}
    if isinstance(schema.get("fields"), list):
        changed["fields"] = [{**f, "type": _inline(f["type"], pending, inside)} for f in schema["fields"]]
    return {**schema, **changed}


def _trim(cache: OrderedDict[int, Any]) -> None:
    while len(cache) > _KEPT:
        cache.popitem(last=False)
