"""Multi-record Avro containers: each record as a packet of its own."""

from __future__ import annotations

import io
from collections.abc import Iterator

import fastavro


def split(data: bytes) -> Iterator[bytes]:
    """Yield each record of an Avro container as a packet; a single-record container comes back untouched."""
    reader = fastavro.reader(io.BytesIO(data))
    records = list(reader)
    if len(records) == 1:
        yield data
        return
    for record in records:
        out = io.BytesIO()
        fastavro.writer(out, reader.writer_schema, [record])
        yield out.getvalue()
