"""A packet to one record in the schema ``product``, framed in any way that the stream reads: see `broker.decode`.

The writer schema may be another version of ours, or a stranger's own: the record is resolved to ours by Avro's rules.
"""

from __future__ import annotations

import io
import json
from functools import lru_cache
from typing import Any

import fastavro
from fastavro.read import SchemaResolutionError

from broker.core import schemas
from broker.core.reasons import Dead
from broker.decode import packets
from broker.decode.compile import Program, compile_program
from broker.decode.limits import Limits, Reject
from broker.decode.schemas import Ids
from broker.decode.tree import Tree
from broker.sidecar.product import MESSAGE_BYTES, RECORDS

LIMITS = Limits(MESSAGE_BYTES, RECORDS, RECORDS + 10_000, schema_bytes=65_536)
PARTS = 300
"""Types within a writer schema, each counted wherever it stands: with the items, a bound on fastavro's work."""
EMPTY = 10
"""Those within arrays and maps that take no bytes of their own: else few bytes, or none, would be much work."""
_UNUSED = {"default", "doc", "logicalType"}
"""What reading needs not; a logical type would make another thing of a value than our schema says."""


class Installed:
    """Our own schemas by wire id, where there is no registry."""

    def get(self, schema_id: int) -> bytes:
        """Return the version of the schema ``product`` with this id; the newest one for any other."""
        return schemas.by_wire_id(schema_id, "product").text.encode()


def record(packet: bytes, ids: Ids) -> dict[str, Any]:
    """Return the record in a packet, as the newest version of our schema has it.

    Parameters
    ----------
    ids : Ids
        Writer schemas of packets in the wire format.

    Raises
    ------
    Reject
        There is none, or its schema lacks a field.
    broker.core.errors.Wait
        The schema registry is away.
    """
    text, body = packets.body_of(packet, ids, LIMITS)
    program, writer, reader = _writer(text)
    packets.walk(program, body, LIMITS)  # fastavro never sees what breaks a bound
    try:
        found: dict[str, Any] = fastavro.schemaless_reader(io.BytesIO(body), writer, reader)
    except SchemaResolutionError as error:
        raise Reject(Dead.MISSING_FIELD, f"the writer schema is not resolved to product: {str(error)[:200]}") from error
    except Exception as error:  # foreign types and values make it fail in many ways
        raise Reject(Dead.MALFORMED, f"the body is no record of its schema: {error!r}") from error
    return found


@lru_cache(maxsize=64)
def _writer(text: bytes) -> tuple[Program, Any, Any]:
    """Return what walks and what reads a writer schema, and the schema to resolve to, None where they are one."""
    tree = Tree(text, LIMITS)
    _check_parts(tree)
    program = compile_program(tree, packets.NOTHING, LIMITS)
    try:
        writer = fastavro.parse_schema(_plain(json.loads(text)))
        known = schemas.fingerprint_of(writer) == schemas.latest("product").fingerprint
    except Exception as error:
        raise Reject(Dead.BAD_SCHEMA, f"the writer schema is no Avro schema: {error!r}") from error
    return program, writer, None if known else schemas.latest("product").parsed


def _check_parts(tree: Tree) -> None:
    """Refuse a schema that says much in few bytes: one that contains itself, or the same records again and again."""
    count, empty, left = 0, 0, [(tree.root, False)]
    while left:
        node, repeated = left.pop()
        node, count = tree.resolve(node), count + 1
        empty += repeated and (node.type in ("record", "null") or (node.type == "fixed" and not node.size))
        if count > PARTS:
            raise Reject(Dead.BOUND_EXCEEDED, f"the writer schema has more than {PARTS} parts, or contains itself")
        if empty > EMPTY:
            told = f"the writer schema has more than {EMPTY} parts without bytes"
            raise Reject(Dead.BOUND_EXCEEDED, f"{told} in its arrays and maps")
        repeated = repeated or node.type in ("array", "map")
        # a null in a union has the byte that says so
        left += [(c, repeated) for c in node.children if not (node.type == "union" and c.type == "null")]


def _plain(schema: Any) -> Any:
    """Return a schema without what reading needs not."""
    if isinstance(schema, dict):
        return {key: _plain(value) for key, value in schema.items() if key not in _UNUSED}
    return [_plain(branch) for branch in schema] if isinstance(schema, list) else schema
