"""Avro object containers made from bodies that are already encoded: nothing is encoded twice."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

MAGIC = b"Obj\x01"


def container(schema_text: str, bodies: Sequence[bytes], name: str) -> bytes:
    """Return one Avro container (codec null, one block) of ``bodies``, Avro records in the schema ``schema_text``.

    Parameters
    ----------
    name : str
        Seeds the sync marker, so that the same content gives the same file.
    """
    sync = hashlib.sha256(name.encode()).digest()[:16]
    block = b"".join(bodies)
    meta = _entry("avro.schema", schema_text.encode()) + _entry("avro.codec", b"null")
    header = MAGIC + varint(2) + meta + b"\0" + sync
    return header + varint(len(bodies)) + varint(len(block)) + block + sync


def varint(number: int) -> bytes:
    """Return a long in Avro's zig-zag variable-length coding."""
    number = (number << 1) ^ (number >> 63)
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _entry(key: str, value: bytes) -> bytes:
    return varint(len(key)) + key.encode() + varint(len(value)) + value
