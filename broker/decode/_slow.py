"""The first decoder: fastavro into the same tables."""

from __future__ import annotations

import io
from typing import Any

import fastavro
import numpy as np

from broker.decode.fields import NULL, Kind, Projection, code


def fill(record: dict[str, Any], projection: Projection, row: int) -> tuple[list[int], list[list[int]], bytes]:
    """Return the alert's words, its points' words (the free row first), and the bytes that spans point into."""
    alert = projection.alert_null.copy()
    body = bytearray()
    for column in projection.alert:
        _put(alert, projection.first_word[column.path], column.kind, _at(record, column.path), body)
    points = [projection.point_null[0].copy()]
    for history in projection.histories:
        for item in record.get(history.path) or []:
            words = projection.point_null[history.tag].copy()
            for i, column in enumerate(history.columns):
                _put(words, i, column.kind, (item or {}).get(column.path), body)
            points.append(words)
    return alert, points, bytes(body)


def _at(record: Any, path: str) -> Any:
    for name in path.split("."):
        record = record.get(name) if isinstance(record, dict) else None
    return record


def _put(words: Any, at: int, kind: Kind, value: Any, body: bytearray) -> None:
    if value is None:
        return
    if kind is Kind.FLOAT:
        words[at] = np.float64(value).view(np.int64)
    elif kind in (Kind.INT, Kind.BOOL):
        words[at] = int(value)
    elif kind is Kind.CODE:
        words[at] = code(value)
    else:
        raw = value.encode()
        words[at], words[at + 1] = len(body), len(raw)
        body += raw
