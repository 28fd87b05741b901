"""What fastavro says that we must capture, in the form in which we compare it."""

from __future__ import annotations

import io
import json
import math
import struct
from typing import Any

import fastavro
import numpy as np

from broker.core.batch import PacketBatch
from broker.decode import framing
from broker.decode.decoder import Bodies, run
from broker.decode.fields import NULL, NULL_CODE, Column, Kind, Projection, Tables, code
from broker.decode.limits import Limits
from broker.decode.packets import body_of
from broker.decode.programs import Programs
from broker.decode.schemas import SchemaStore

Row = dict[str, Any]
Captured = tuple[Row, list[tuple[int, Row]]]
_PROGRAMS = Programs(Limits())


def expected(record: Row, projection: Projection) -> Captured:
    """The alert's columns, and its histories' points in the order of the packet, each with its tag."""
    alert = {c.path: _value(_at(record, c.path), c.kind) for c in projection.alert}
    by_path = {history.path: history for history in projection.histories}
    points = [
        (by_path[name].tag, {c.path: _value((item or {}).get(c.path), c.kind) for c in by_path[name].columns})
        for name, items in record.items()
        if name in by_path
        for item in items or []
    ]
    return alert, points


def captured(tables: Tables, i: int, projection: Projection) -> Captured:
    """What the machine wrote for packet ``i``, in the same form."""
    words, body = tables.alerts[i], tables.bodies[i]
    alert = {c.path: _word(words, projection.first_word[c.path], c, body) for c in projection.alert}
    by_tag = {history.tag: history for history in projection.histories}
    points = []
    for row in tables.points[tables.first[i] + 1 : tables.first[i + 1]]:
        tag = int(row[-1])
        points.append((tag, {c.path: _word(row, k, c, body) for k, c in enumerate(by_tag[tag].columns)}))
    return alert, points


def decode(packets: list[bytes], schemas: SchemaStore, limits: Limits | None = None) -> tuple[Projection, Tables, Any]:
    """Run the machine over packets with one schema: projection, tables, how each body ended."""
    limits = limits or Limits()
    parts = [body_of(packet, schemas, limits) for packet in packets]
    assert len({text for text, _ in parts}) == 1
    entry = (_PROGRAMS if limits == Limits() else Programs(limits)).get(parts[0][0])
    assert entry.program is not None, entry.reject
    bodies = [body for _, body in parts]
    starts = np.array([framing.address_of(body) for body in bodies])
    spans = np.stack((starts, starts, starts + [len(body) for body in bodies]), axis=1)
    tables, ends = run(entry.program, Bodies(np.arange(len(bodies)), bodies, spans), limits)
    return entry.program.projection, tables, ends


def batch(values: list[bytes]) -> PacketBatch:
    n = len(values)
    return PacketBatch(values, ["topic"] * n, np.zeros(n, np.int32), np.arange(n), np.full(n, -1), 0)


def container(schema: Any, record: Row, codec: str = "null") -> bytes:
    """An Avro object container with one record, as fastavro writes it."""
    out = io.BytesIO()
    fastavro.writer(out, schema, [record], codec=codec)
    return out.getvalue()


def wire(schema_id: int, schema: Any, record: Row) -> bytes:
    """A message in the wire format."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, schema, record)
    return b"\0" + schema_id.to_bytes(4, "big") + out.getvalue()


def fastavro_reads(packet: bytes, schemas: SchemaStore) -> Row:
    """The record, read by fastavro with its own framing where it has one."""
    if packet[:1] == b"\0":
        schema = fastavro.parse_schema(json.loads(schemas.get(int.from_bytes(packet[1:5], "big"))))
        record: Row = fastavro.schemaless_reader(io.BytesIO(packet[5:]), schema, None)
        return record
    return next(iter(fastavro.reader(io.BytesIO(packet))))


def _at(record: Any, path: str) -> Any:
    for name in path.split("."):
        record = record.get(name) if isinstance(record, dict) else None
    return record


def _value(value: Any, kind: Kind) -> Any:
    if value is None:
        return None
    if kind is Kind.FLOAT:
        return _bits(float(value))
    if kind is Kind.CODE:
        return code(value)
    if kind is Kind.SPAN:
        return value.encode() if isinstance(value, str) else value
    return None if kind is Kind.INT and value == NULL else int(value)  # the smallest int64 is how we hold null


def _word(words: Any, at: int, column: Column, body: bytes) -> Any:
    word = int(words[at])
    if column.kind is Kind.FLOAT:
        return _bits(struct.unpack("<d", struct.pack("<q", word))[0])
    if column.kind is Kind.SPAN:
        return None if word < 0 else body[word : word + int(words[at + 1])]
    return None if word == (NULL_CODE if column.kind is Kind.CODE else NULL) else word


def _bits(value: float) -> bytes | None:
    """A number bit by bit; NaN is how we hold null."""
    return None if math.isnan(value) else struct.pack("<d", value)
