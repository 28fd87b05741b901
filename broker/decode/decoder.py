"""Packets in, columns out: the join of framing, schemas, programs and surveys."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from broker.core.batch import AlertBatch, Ints, LightCurves, PacketBatch
from broker.core.outcomes import DeadLetter
from broker.core.reasons import Dead
from broker.decode import framing, instructions, lsst, machine, zipped, ztf
from broker.decode.compile import Program
from broker.decode.fields import Problem, Tables
from broker.decode.limits import Limits, Reject, plain
from broker.decode.programs import Entry, Programs
from broker.decode.schemas import SchemaStore
from broker.decode.templates import HISTORY_WORDS

STAGE = "decode"
_CONVERT: dict[str, Callable[[Tables], tuple[AlertBatch, LightCurves, list[Problem]]]] = {
    "ztf": ztf.convert,
    "lsst": lsst.convert,
}
WRONG = {
    instructions.CUT: (Dead.MALFORMED, "the body ends before the record does"),
    instructions.LONG_VARINT: (Dead.MALFORMED, "a number is longer than ten bytes"),
    instructions.BAD_BRANCH: (Dead.MALFORMED, "the schema's union has no such branch"),
    instructions.BAD_LENGTH: (Dead.MALFORMED, "a string has a negative length"),
    instructions.BAD_SYMBOL: (Dead.MALFORMED, "the schema's enum has no such symbol"),
    instructions.TRAILING: (Dead.TRAILING_BYTES, "there are bytes behind the end of the record"),
    instructions.TOO_MANY_ITEMS: (Dead.BOUND_EXCEEDED, "more items than the bound on arrays"),
    instructions.TOO_DEEP: (Dead.BOUND_EXCEEDED, "records are nested too deeply"),
    instructions.TOO_LONG: (Dead.BOUND_EXCEEDED, "the body takes more steps than its bytes can need"),
    instructions.BAD_TYPE: (Dead.MISSING_FIELD, "the value is of a type that we do not read"),
}


@dataclass(frozen=True, slots=True)
class Decoded:
    """The alerts of one survey in a batch; row i of ``curves`` is row i of ``alerts``.

    The curves are raw: neither sorted nor merged, the alerting detection first.
    """

    alerts: AlertBatch
    curves: LightCurves


@dataclass(frozen=True, slots=True)
class Bodies:
    """Where the bodies of A packets are that one program decodes.

    Attributes
    ----------
    rows : (A,) int64
        Rows of the packets in their batch.
    owners : list of bytes, (A,)
        What holds each body: the packet, or its decompressed block.
    spans : (A, 3) int64
        Address of the owner, of the body, and of the byte behind it.
    """

    rows: Ints
    owners: list[bytes]
    spans: Ints


class Decoder:
    """Decode packets of every survey that we know.

    Parameters
    ----------
    schemas : SchemaStore
        Where wire ids are resolved.
    limits : Limits, optional
    """

    def __init__(self, schemas: SchemaStore, limits: Limits | None = None) -> None:
        self._schemas = schemas
        self._limits = limits or Limits()
        self._programs = Programs(self._limits)

    def __call__(self, batch: PacketBatch) -> tuple[list[Decoded], list[DeadLetter]]:
        """Return the batch's alerts, an entry per survey that is present, and its dead letters.

        Every packet is a row of exactly one of them; rows are in the order of the batch.

        Raises
        ------
        broker.core.errors.Wait
            The schema registry is away.
        """
        if not any(value[:2] == zipped.MAGIC for value in batch.values):
            return self._decode_all(batch)
        rejects: dict[int, Reject] = {}
        parts: dict[str, list[Decoded]] = {}
        letters = []
        for rows, values in zipped.turns(batch.values, rejects, self._limits):
            decoded, dead = self._decode_all(_taken(batch, rows, values))
            for part in decoded:
                moved = replace(part.alerts, rows=rows[part.alerts.rows])
                parts.setdefault(moved.survey, []).append(Decoded(moved, part.curves))
            letters += [replace(letter, row=int(rows[letter.row])) for letter in dead]
        broken = _Dead(batch)
        for row, reject in rejects.items():
            broken.add(row, *_because(reject))
        letters = sorted([*letters, *broken.letters()], key=lambda letter: letter.row)
        return [_joined(found) for found in parts.values()], letters

    def _decode_all(self, batch: PacketBatch) -> tuple[list[Decoded], list[DeadLetter]]:
        """Return what `__call__` does, of packets that are not within gzip."""
        known = self._programs.known
        packets, frames = framing.frame(batch.values, known.table, self._limits)
        dead = _Dead(batch)
        for row in np.flatnonzero(frames[:, framing.STATUS] < 0).tolist():
            dead.add(row, *framing.PROBLEMS[int(frames[row, framing.STATUS])])
        decoded: dict[str, list[Decoded]] = {}
        for entry, rows in self._group(batch.values, frames, known.entries, dead):
            if entry.program is None:
                dead.all(rows, *(entry.reject or (Dead.INTERNAL, "")))
                continue
            parts = decoded.setdefault(entry.program.projection.survey, [])
            for bodies in self._bodies(batch.values, packets, frames, rows, dead):
                parts.append(self._decode(entry.program, bodies, dead))
        return [_joined(parts) for parts in decoded.values() if parts], dead.letters()

    def _group(self, values: list[bytes], frames: Ints, known: list[Entry], dead: _Dead) -> list[tuple[Entry, Ints]]:
        """Return the rows of every schema in the batch; each wire id is resolved once."""
        groups: dict[bytes, tuple[Entry, list[Ints]]] = {}

        def put(entry: Entry, rows: Ints) -> None:
            groups.setdefault(entry.text, (entry, []))[1].append(rows)

        status, slots = frames[:, framing.STATUS], frames[:, framing.SLOT]
        for slot in np.unique(slots[slots >= 0]).tolist():
            put(self._programs.get(known[slot].text), np.flatnonzero(slots == slot))
        for row in np.flatnonzero((status == framing.CONTAINER) & (slots < 0)).tolist():
            start, size = frames[row, [framing.SCHEMA, framing.SCHEMA_SIZE]].tolist()
            put(self._programs.get(values[row][start : start + size]), np.array([row]))
        wire = np.flatnonzero(status == framing.WIRE)
        ids = frames[wire, framing.ID]
        for schema_id in np.unique(ids).tolist():
            rows = wire[ids == schema_id]
            try:
                put(self._programs.get(self._schemas.get(schema_id)), rows)
            except Reject as reject:
                dead.all(rows, *_because(reject))
        return [(entry, np.sort(np.concatenate(rows))) for entry, rows in groups.values()]

    def _bodies(self, values: list[bytes], packets: Ints, frames: Ints, rows: Ints, dead: _Dead) -> Iterator[Bodies]:
        """Yield where the bodies of ``rows`` are; compressed ones apart, as many as may be held at once."""
        base = packets[rows, 0]
        spans = np.stack((base, base + frames[rows, framing.BODY], base + frames[rows, framing.BODY_END]), axis=1)
        plain = frames[rows, framing.CODEC_SIZE] == 0
        if plain.any():
            yield Bodies(rows[plain], [values[row] for row in rows[plain].tolist()], spans[plain])
        held: list[tuple[int, bytes]] = []
        room = self._limits.held_bytes
        for row in rows[~plain].tolist():
            packet = values[row]
            start, size, body, end = frames[row, [framing.CODEC, framing.CODEC_SIZE, framing.BODY, framing.BODY_END]]
            try:
                block = framing.decompress(packet[start : start + size], packet[body:end], self._limits)
            except Reject as reject:
                dead.add(row, *_because(reject))
                continue
            held.append((row, block))
            room -= len(block)
            if room < 0:
                yield _whole(held)
                held, room = [], self._limits.held_bytes
        if held:
            yield _whole(held)

    def _decode(self, program: Program, bodies: Bodies, dead: _Dead) -> Decoded:
        """Run a program, and make columns of what it captured."""
        tables, ends = run(program, bodies, self._limits)
        for i in np.flatnonzero(ends[:, 0]).tolist():
            reason, text = WRONG[int(ends[i, 0])]
            dead.add(int(bodies.rows[i]), reason, text, program.names[int(ends[i, 1])])
        alerts, curves, problems = _CONVERT[program.projection.survey](tables)
        if not problems:
            return Decoded(alerts, curves)
        keep = np.ones(len(alerts), dtype=np.bool_)
        for problem in problems:
            if keep[problem.index]:
                dead.add(int(tables.rows[problem.index]), problem.reason, problem.text)
            keep[problem.index] = False
        index = np.flatnonzero(keep)
        return Decoded(alerts.take(index), curves.take(index))


def run(program: Program, bodies: Bodies, limits: Limits) -> tuple[Tables, Ints]:
    """Run a program over bodies; return what it captured of the good ones, and how each body ended (A, 3)."""
    count, projection = len(bodies.rows), program.projection
    total = int((bodies.spans[:, 2] - bodies.spans[:, 1]).sum())
    alerts = np.empty((count, len(projection.alert_null)), dtype=np.int64)
    points = np.empty((total // 256 + 16 * count, projection.point_words), dtype=np.int64)
    first, ends = np.zeros(count + 1, dtype=np.int64), np.zeros((count, 3), dtype=np.int64)
    seen = np.zeros(len(projection.point_null) * HISTORY_WORDS, dtype=np.int64)
    most = np.array([limits.array_items, limits.packet_items], dtype=np.int64)
    done, rows = machine.run(program.code, most, seen, bodies.spans, alerts, points, first, ends, 0)
    while done < count:
        larger = np.empty((max(2 * len(points), 2 * rows), projection.point_words), dtype=np.int64)
        larger[: first[done]] = points[: first[done]]
        points = larger
        done, rows = machine.run(program.code, most, seen, bodies.spans, alerts, points, first, ends, done)
    good = ends[:, 0] == 0
    if good.all():
        return Tables(bodies.rows, alerts, points[: first[-1]], first, bodies.owners), ends
    owners = [owner for owner, kept in zip(bodies.owners, good.tolist(), strict=True) if kept]
    starts = np.concatenate((first[:-1][good], first[-1:]))
    return Tables(bodies.rows[good], alerts[good], points[: first[-1]], starts, owners), ends


def _taken(batch: PacketBatch, rows: Ints, values: list[bytes]) -> PacketBatch:
    """Return the packets in ``rows`` (n,), with other bytes."""
    topics = [batch.topics[row] for row in rows.tolist()]
    places = batch.partitions[rows], batch.offsets[rows], batch.timestamps_ms[rows]
    return PacketBatch(values, topics, *places, batch.ingest_ms)


def _whole(held: list[tuple[int, bytes]]) -> Bodies:
    """Return bodies that are all of the bytes that hold them."""
    starts = np.array([framing.address_of(body) for _, body in held], dtype=np.int64)
    sizes = np.array([len(body) for _, body in held], dtype=np.int64)
    spans = np.stack((starts, starts, starts + sizes), axis=1)
    return Bodies(np.array([row for row, _ in held]), [body for _, body in held], spans)


class _Dead:
    """The dead letters of a batch; the first reason that is found stands."""

    def __init__(self, batch: PacketBatch) -> None:
        self._batch = batch
        self._letters: dict[int, DeadLetter] = {}

    def add(self, row: int, reason: Dead, text: str, field: str = "") -> None:
        """Note why the packet in ``row`` is dead, and the field where it was found."""
        batch = self._batch
        where = f"{batch.topics[row]} partition {batch.partitions[row]} offset {batch.offsets[row]}"
        sentence = f"{where}: {text}" + (f" (at {field})" if field else "")
        self._letters.setdefault(row, DeadLetter(row, STAGE, reason, plain(sentence)))

    def all(self, rows: Ints, reason: Dead, text: str) -> None:
        """Note why the packets in ``rows`` (n,) are dead."""
        for row in rows.tolist():
            self.add(row, reason, text)

    def letters(self) -> list[DeadLetter]:
        """Return the dead letters by row."""
        return [self._letters[row] for row in sorted(self._letters)]


def _because(reject: Reject) -> tuple[Dead, str]:
    return reject.reason, str(reject)


def _joined(parts: list[Decoded]) -> Decoded:
    """Return the alerts of one survey that different programs decoded, in the order of the batch."""
    if len(parts) == 1:
        return parts[0]
    columns: dict[str, Any] = {}
    for column in (f.name for f in fields(AlertBatch) if f.name != "survey"):
        pieces = [getattr(part.alerts, column) for part in parts]
        is_list = isinstance(pieces[0], list)
        columns[column] = [value for piece in pieces for value in piece] if is_list else np.concatenate(pieces)
    alerts = AlertBatch(survey=parts[0].alerts.survey, **columns)
    counts = np.concatenate([part.curves.counts for part in parts])
    points = ("mjd", "flux_njy", "flux_err_njy", "band", "kind")
    curves = LightCurves(
        np.concatenate(([0], np.cumsum(counts))),
        *(np.concatenate([getattr(part.curves, name) for part in parts]) for name in points),
    )
    order = np.argsort(alerts.rows, kind="stable")
    return Decoded(alerts.take(order), curves.take(order))
