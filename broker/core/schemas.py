"""Our own Avro schemas: found, fingerprinted, framed.

``schemas/<name>/<major>.<minor>/schema.avsc`` holds each version. Messages carry the Confluent wire format (magic 0,
4-byte big-endian id) and a header ``schema`` with the fingerprint, so that a client without a registry resolves
the writer schema from the installed package. Without a registry the id is ``major * 100 + minor``.
"""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import fastavro
from fastavro.schema import to_parsing_canonical_form

HEADER = "schema"
NAMES = ("annotation", "deadletter", "ledger", "product", "result")


@dataclass(frozen=True, slots=True)
class OwnSchema:
    """One version of one of our schemas.

    Attributes
    ----------
    name, version : str
    parsed : object
        fastavro's parsed schema.
    text : str
        The file as it is installed.
    fingerprint : bytes
        SHA-256 (32 bytes) of the parsing canonical form.
    """

    name: str
    version: str
    parsed: Any
    text: str
    fingerprint: bytes

    @property
    def default_id(self) -> int:
        """The wire id where there is no registry: ``major * 100 + minor``."""
        major, minor = self.version.split(".")
        return int(major) * 100 + int(minor)

    @property
    def headers(self) -> tuple[tuple[str, bytes], ...]:
        """What every message in this schema carries."""
        return ((HEADER, self.fingerprint),)

    def encode(self, record: dict[str, Any], schema_id: int | None = None) -> bytes:
        """Return ``record`` in the wire format."""
        out = io.BytesIO()
        out.write(frame_prefix(self.default_id if schema_id is None else schema_id))
        fastavro.schemaless_writer(out, self.parsed, record)
        return out.getvalue()


def frame_prefix(schema_id: int) -> bytes:
    """Return the five bytes that open a message in the wire format."""
    return b"\0" + schema_id.to_bytes(4, "big")


@cache
def versions(name: str) -> dict[str, OwnSchema]:
    """Return every installed version of the schema ``name``, by version."""
    root = files("broker") / "schemas" / name
    found = {d.name: _load(name, d.name, (d / "schema.avsc").read_text()) for d in root.iterdir() if d.is_dir()}
    return dict(sorted(found.items(), key=lambda item: tuple(map(int, item[0].split(".")))))


def latest(name: str) -> OwnSchema:
    """Return the newest installed version of the schema ``name``."""
    return list(versions(name).values())[-1]


def fitting(name: str, record: dict[str, Any]) -> OwnSchema:
    """Return the oldest version within the newest major version of ``name`` that says all of ``record``.

    So members and clients that are not upgraded yet, or were rolled back, read what a newer member writes as long as it
    says nothing new. Versions of one major differ by fields at the end of the outermost record.
    """
    newest = latest(name)
    defaults = {field["name"]: field.get("default") for field in newest.parsed["fields"]}
    new = {key for key, value in record.items() if value != defaults.get(key)}
    for schema in versions(name).values():
        known = {field["name"] for field in schema.parsed["fields"]}
        if schema.version.split(".")[0] == newest.version.split(".")[0] and new <= known:
            return schema
    return newest


@cache
def by_fingerprint() -> dict[bytes, OwnSchema]:
    """Return every installed schema by its fingerprint."""
    return {schema.fingerprint: schema for name in NAMES for schema in versions(name).values()}


def decode(value: bytes, headers: list[tuple[str, bytes]] | None, default: str) -> dict[str, Any]:
    """Return the record in a message of ours.

    The writer schema is found by the fingerprint in ``headers``; without one, by the wire id among the versions of
    ``default``, and at last its newest version.

    Raises
    ------
    ValueError
        The value is not in the wire format, or its fingerprint is of no installed schema.
    """
    if len(value) < 5 or value[0] != 0:
        raise ValueError("not in the wire format: expected magic byte 0 and a 4-byte schema id")
    fingerprint = dict(headers or []).get(HEADER)
    if fingerprint is None:
        schema = by_wire_id(int.from_bytes(value[1:5], "big"), default)
    elif fingerprint in by_fingerprint():
        schema = by_fingerprint()[fingerprint]
    else:
        raise ValueError(f"no installed schema has the fingerprint {fingerprint.hex()}: upgrade tocsin")
    record: dict[str, Any] = fastavro.schemaless_reader(io.BytesIO(value[5:]), schema.parsed, None)
    return record


def by_wire_id(schema_id: int, name: str) -> OwnSchema:
    """Return the version of ``name`` with this id where there is no registry; another id is taken for the newest's."""
    by_id = {schema.default_id: schema for schema in versions(name).values()}
    return by_id.get(schema_id, latest(name))


def fingerprint_of(schema: Any) -> bytes:
    """Return the SHA-256 (32 bytes) of the parsing canonical form of a schema in JSON's values."""
    return hashlib.sha256(to_parsing_canonical_form(schema).encode()).digest()


def _load(name: str, version: str, text: str) -> OwnSchema:
    schema = json.loads(text)
    return OwnSchema(name, version, fastavro.parse_schema(schema), text, fingerprint_of(schema))
