"""One packet at a time, for people: the whole record as a dict, and its stamps. Not for the hot path."""

from __future__ import annotations

import io
import json
from functools import lru_cache
from typing import Any

import fastavro
import numpy as np

from broker.core.reasons import Dead
from broker.decode import framing, zipped
from broker.decode.compile import Program, compile_program
from broker.decode.decoder import WRONG, Bodies, run
from broker.decode.fields import Column, Kind, Projection, Tables
from broker.decode.limits import Limits, Reject
from broker.decode.schemas import Ids, SchemaStore
from broker.decode.tree import Node, Tree

NOTHING = Projection("any", (), (), 1)
# What fastavro raises at schemas and values that we walk over: odd names, logical types out of range.
_REFUSALS = (ArithmeticError, AttributeError, EOFError, LookupError, RecursionError, TypeError, ValueError)


def read(packet: bytes, schemas: SchemaStore, limits: Limits | None = None) -> dict[str, Any]:
    """Return the whole record in a packet, of any survey, as fastavro reads it.

    The machine walks the packet first, so fastavro never sees one that breaks a bound.

    Raises
    ------
    Reject
        The packet does not parse.
    broker.core.errors.Wait
        The schema registry is away.
    """
    limits = limits or Limits()
    text, body = body_of(packet, schemas, limits)
    walk(_any(text, limits), body, limits)
    try:
        schema = fastavro.parse_schema(json.loads(text))
        return fastavro.schemaless_reader(io.BytesIO(body), schema, None)  # type: ignore[no-any-return]
    except (*_REFUSALS, fastavro.schema.SchemaParseException) as error:
        raise Reject(Dead.MALFORMED, f"fastavro does not read the packet: {error!r}") from error


def stamps(packet: bytes, schemas: SchemaStore, limits: Limits | None = None) -> dict[str, bytes]:
    """Return the packet's stamps by field name, sliced and not decoded: Rubin's are FITS, ZTF's gzip'ed FITS.

    Raises
    ------
    Reject
        The packet does not parse.
    broker.core.errors.Wait
        The schema registry is away.
    """
    limits = limits or Limits()
    text, body = body_of(packet, schemas, limits)
    program = _stamps(text, limits)
    tables = walk(program, body, limits)
    spans = {path: tables.alerts[0, word : word + 2].tolist() for path, word in program.projection.first_word.items()}
    return {path.split(".")[0]: body[start : start + size] for path, (start, size) in spans.items() if start >= 0}


def body_of(packet: bytes, schemas: Ids, limits: Limits) -> tuple[bytes, bytes]:
    """Return a packet's writer schema and its body, decompressed.

    Raises
    ------
    Reject
        The framing does not parse, or nobody has the schema.
    broker.core.errors.Wait
        The schema registry is away.
    """
    packet = zipped.unpack(packet, limits)
    _, frames = framing.frame([packet], np.empty((0, 3), dtype=np.int64), limits)
    status, _, schema_id, start, end, schema, schema_size, codec, codec_size = frames[0].tolist()
    if status < 0:
        raise Reject(*framing.PROBLEMS[status])
    if status == framing.WIRE:
        return schemas.get(schema_id), packet[start:end]
    block = framing.decompress(packet[codec : codec + codec_size], packet[start:end], limits)
    return packet[schema : schema + schema_size], block


def walk(program: Program, body: bytes, limits: Limits) -> Tables:
    """Return what a program captures of one body.

    Raises
    ------
    Reject
        The body does not parse.
    """
    address = framing.address_of(body)
    spans = np.array([[address, address, address + len(body)]], dtype=np.int64)
    tables, ends = run(program, Bodies(np.zeros(1, dtype=np.int64), [body], spans), limits)
    if ends[0, 0]:
        reason, text = WRONG[int(ends[0, 0])]
        raise Reject(reason, f"{text} (at {program.names[int(ends[0, 1])]})")
    return tables


@lru_cache(maxsize=16)
def _any(text: bytes, limits: Limits) -> Program:
    return compile_program(Tree(text, limits), NOTHING, limits)


@lru_cache(maxsize=16)
def _stamps(text: bytes, limits: Limits) -> Program:
    tree = Tree(text, limits)
    return compile_program(tree, Projection("stamps", stamp_columns(tree), (), 1), limits)


def stamp_columns(tree: Tree) -> tuple[Column, ...]:
    """Return where the packets of a schema have their stamps; the first name of each path is the stamp's."""
    root = tree.resolve(tree.root)
    return tuple(
        Column(f"{label}{below}", Kind.SPAN)
        for label, child in zip(root.labels, root.children, strict=False)  # a union has no labels
        if label.startswith("cutout")
        for below in _bytes_below(tree, child)
    )


def _bytes_below(tree: Tree, node: Node) -> list[str]:
    """Return where a cutout's bytes are: in itself ('', Rubin), in a record's ``stampData`` (ZTF), or nowhere."""
    node = tree.resolve(node)
    branches = [tree.resolve(child) for child in node.children] if node.type == "union" else [node]
    for branch in branches:
        if branch.type == "bytes":
            return [""]
        if branch.type == "record" and "stampData" in branch.labels:
            return [".stampData"]
    return []
