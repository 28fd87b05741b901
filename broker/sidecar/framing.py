"""A packet to one record in the schema ``product``, and what is wrong where that is none."""

from __future__ import annotations

import io
import json
import zlib
from functools import cache, lru_cache
from typing import Any

import fastavro

from broker.core import schemas
from broker.core.reasons import Dead
from broker.core.schemas import OwnSchema

MESSAGE_BYTES = 8 * 2**20
"""Of a packet, decompressed; as large as a message of our topics."""
ARRAYS, COUNTED = 256, "arrays"
LARGE = 65_536
_CONTAINER = b"Obj\x01"
_SYNC = 16
_META = fastavro.parse_schema({"type": "map", "values": "bytes"})
_UNREADABLE = (ValueError, EOFError, IndexError, OverflowError, TypeError)  # what fastavro raises on foreign bytes


class Reject(Exception):
    """A packet that is no product; ``reason`` is a `Dead` code, the message one clause."""

    def __init__(self, reason: Dead, text: str) -> None:
        super().__init__(text)
        self.reason = reason


def record(packet: bytes) -> dict[str, Any]:
    """Return the record in a packet: the wire format, or an Avro container with one record.

    The writer schema is an installed one: nothing is read by the rules of a schema that came with the packet.

    Raises
    ------
    Reject
    """
    if not packet:
        raise Reject(Dead.EMPTY, "the packet has 0 bytes")
    if len(packet) > MESSAGE_BYTES:
        raise _too_large()
    if packet[:1] == b"\0":
        if len(packet) < 5:
            raise Reject(Dead.MALFORMED, "the packet ends within the five bytes of the wire format")
        schema = schemas.by_wire_id(int.from_bytes(packet[1:5], "big"), "product")
        return _decode(schema, packet[5:])
    if packet[:4] == _CONTAINER:
        return _decode(*_unpack(packet))
    raise Reject(Dead.BAD_MAGIC, "the packet is neither an Avro container nor in the wire format")


def _decode(schema: OwnSchema, body: bytes) -> dict[str, Any]:
    stream = io.BytesIO(body)
    try:
        found = _read(schema, stream) if len(body) < LARGE else _read_counting(schema, stream)
    except _UNREADABLE as error:
        raise Reject(
            Dead.MALFORMED, f"the body is no record of the schema product {schema.version}: {error}"
        ) from error
    if behind := len(body) - stream.tell():
        raise Reject(Dead.TRAILING_BYTES, f"there are {behind} bytes behind the record")
    return found


def _read(schema: OwnSchema, stream: io.BytesIO) -> dict[str, Any]:
    found: dict[str, Any] = fastavro.schemaless_reader(stream, schema.parsed, None)
    return found


def _read_counting(schema: OwnSchema, stream: io.BytesIO) -> dict[str, Any]:
    """Return the same field by field: a million arrays of nothing, in 8 MB, would take 350 MB and seven seconds."""
    fields = _fields(schema.version)
    return {
        name: _items(stream, parsed) if name == COUNTED else fastavro.schemaless_reader(stream, parsed, None)
        for name, parsed in fields.items()
    }


def _items(stream: io.BytesIO, item: Any) -> list[Any]:
    found: list[Any] = []
    while count := fastavro.schemaless_reader(stream, "long", None):
        if count < 0:
            fastavro.schemaless_reader(stream, "long", None)  # bytes of the block
        if len(found) + abs(count) > ARRAYS:
            raise Reject(Dead.BOUND_EXCEEDED, f"the product has more than {ARRAYS} arrays")
        found += [fastavro.schemaless_reader(stream, item, None) for _ in range(abs(count))]
    return found


@cache
def _fields(version: str) -> dict[str, Any]:
    """Return the fields of a version of the schema, ready to read; of the one that is counted, its items."""
    text = schemas.versions("product")[version].text
    types = {field["name"]: field["type"] for field in json.loads(text)["fields"]}
    types[COUNTED] = types[COUNTED]["items"]
    return {name: fastavro.parse_schema(one) for name, one in types.items()}


def _unpack(packet: bytes) -> tuple[OwnSchema, bytes]:
    """Return a container's schema and the body of its one record."""
    stream = io.BytesIO(packet)
    stream.seek(len(_CONTAINER))
    try:
        meta: dict[str, bytes] = fastavro.schemaless_reader(stream, _META, None)
        sync = stream.read(_SYNC)
        count, size = (fastavro.schemaless_reader(stream, "long", None) for _ in range(2))
    except _UNREADABLE as error:
        raise Reject(Dead.MALFORMED, f"the container's header does not parse: {error}") from error
    start = stream.tell()
    if count != 1 or size < 0 or packet[start + size :] != sync:
        raise Reject(Dead.MALFORMED, "the container does not hold exactly one record and its sync marker")
    return _installed(meta.get("avro.schema", b"")), _inflate(packet[start : start + size], meta.get("avro.codec"))


def _inflate(block: bytes, codec: bytes | None) -> bytes:
    if codec in (None, b"null"):
        return block
    if codec != b"deflate":
        raise Reject(Dead.MALFORMED, f"the container's codec {codec!r} is neither null nor deflate")
    try:
        body = zlib.decompressobj(-15).decompress(block, MESSAGE_BYTES + 1)
    except zlib.error as error:
        raise Reject(Dead.MALFORMED, f"the container's block does not decompress: {error}") from error
    if len(body) > MESSAGE_BYTES:
        raise _too_large()
    return body


@lru_cache(maxsize=64)
def _installed(text: bytes) -> OwnSchema:
    """Return the installed version that a container's schema is."""
    try:
        fingerprint = schemas.fingerprint_of(json.loads(text))
    except Exception as error:  # a schema that is none makes fastavro fail in many ways
        raise Reject(Dead.BAD_SCHEMA, f"the container's schema does not parse: {error!r}") from error
    found = schemas.by_fingerprint().get(fingerprint)
    if found is None or found.name != "product":
        raise Reject(Dead.UNKNOWN_SCHEMA, "the container's schema is no installed version of the schema product")
    return found


def _too_large() -> Reject:
    return Reject(
        Dead.BOUND_EXCEEDED, f"the packet has more than {MESSAGE_BYTES:,} bytes: arrays over 900 kB go by uri"
    )
