"""Packets of the simulator, changed."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import fastavro

Packet = dict[str, Any]


def edited(value: bytes, change: Callable[[Packet], None]) -> bytes:
    """Return a packet, changed, in a container with the same schema."""
    reader = fastavro.reader(io.BytesIO(value))
    (record,) = reader
    assert isinstance(record, dict)
    change(record)
    out = io.BytesIO()
    fastavro.writer(out, reader.writer_schema, [record])
    return out.getvalue()
