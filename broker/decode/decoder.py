"""Packets in, columns out."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import Any

import fastavro
import numpy as np

from broker.core.batch import AlertBatch, LightCurves, PacketBatch
from broker.core.outcomes import DeadLetter
from broker.core.reasons import Dead
from broker.decode import lsst, ztf
from broker.decode._slow import fill
from broker.decode.fields import Tables
from broker.decode.limits import Limits, Reject
from broker.decode.schemas import SchemaStore

STAGE = "decode"
SURVEYS = {"ztf": (ztf.PROJECTION, ztf.convert), "lsst": (lsst.PROJECTION, lsst.convert)}


@dataclass(frozen=True, slots=True)
class Decoded:
    """The alerts of one survey in a batch; row i of ``curves`` is row i of ``alerts``."""

    alerts: AlertBatch
    curves: LightCurves


class Decoder:
    """Decode packets of any survey that we know."""

    def __init__(self, schemas: SchemaStore, limits: Limits | None = None) -> None:
        self._schemas = schemas
        self._limits = limits or Limits()

    def __call__(self, batch: PacketBatch) -> tuple[list[Decoded], list[DeadLetter]]:
        """Return the batch's alerts by survey, and its dead letters."""
        dead: list[DeadLetter] = []
        found: dict[str, list[Any]] = {}
        for row, value in enumerate(batch.values):
            try:
                record = read(value, self._schemas)
                survey = "ztf" if "candidate" in record else "lsst"
                if survey == "lsst" and "diaSource" not in record:
                    raise Reject(Dead.MISSING_FIELD, "no survey's")
                found.setdefault(survey, []).append((row, fill(record, SURVEYS[survey][0], row)))
            except Reject as e:
                dead.append(DeadLetter(row, STAGE, e.reason, str(e)))
            except (EOFError, IndexError, ValueError, StopIteration, KeyError) as e:
                dead.append(DeadLetter(row, STAGE, Dead.MALFORMED, repr(e)))
        out = []
        for survey, rows in found.items():
            tables = Tables(
                np.array([r for r, _ in rows]),
                np.array([f[0] for _, f in rows]),
                np.concatenate([np.array(f[1]) for _, f in rows]),
                np.concatenate([[0], np.cumsum([len(f[1]) for _, f in rows])]),
                [f[2] for _, f in rows],
            )
            alerts, curves, problems = SURVEYS[survey][1](tables)
            bad = {p.index for p in problems}
            dead += [DeadLetter(int(tables.rows[p.index]), STAGE, p.reason, p.text) for p in problems]
            keep = np.array([i for i in range(len(alerts)) if i not in bad], dtype=np.int64)
            out.append(Decoded(alerts.take(keep), curves.take(keep)))
        return out, dead


def read(packet: bytes, schemas: SchemaStore) -> dict[str, Any]:
    """Return the record in ``packet``, for people."""
    if not packet:
        raise Reject(Dead.EMPTY, "0 bytes")
    if packet[:4] == b"Obj\x01":
        return next(fastavro.reader(io.BytesIO(packet)))
    if packet[0] == 0:
        schema = fastavro.parse_schema(json.loads(schemas.get(int.from_bytes(packet[1:5], "big"))))
        return fastavro.schemaless_reader(io.BytesIO(packet[5:]), schema, None)
    raise Reject(Dead.BAD_MAGIC, "neither an Avro container nor the wire format")


def stamps(packet: bytes, schemas: SchemaStore) -> dict[str, bytes]:
    """Return the packet's cutouts by name; ZTF's are gzip'ed FITS, Rubin's plain FITS."""
    found = {}
    for name, value in read(packet, schemas).items():
        if name.startswith("cutout") and value is not None:
            found[name] = value["stampData"] if isinstance(value, dict) else value
    return found
