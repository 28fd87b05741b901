"""Multi-record Avro containers: each record as a packet of its own, made of the survey's own bytes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from broker.decode import framing
from broker.decode.compile import Program, compile_program
from broker.decode.decoder import Bodies, run
from broker.decode.framing import Header
from broker.decode.limits import Limits, Reject
from broker.decode.memory import varint
from broker.decode.packets import NOTHING
from broker.decode.tree import Tree

_BLOCK = 64  # packets that a decompressed block may be as large as


def split(data: bytes, limits: Limits | None = None) -> Iterator[bytes]:
    """Yield each record of an Avro container as a packet: a container with one record, codec null and the same schema.

    A container with one record, and anything that is no container, comes back untouched. Records are neither decoded
    nor written again: a walk finds where each ends. What does not parse comes as one packet, for the decoder to say
    what is wrong with it: the rest of a block, or all bytes to the sync marker behind which a block can be read again.

    Parameters
    ----------
    data : bytes
        A whole file.
    limits : Limits, optional
        Bounds of the walk.
    """
    limits = limits or Limits()
    header = framing.header(data)
    if header is None or not _several(data, header):
        yield data
        return
    program = _program(header, limits)
    at = header.end
    while at < len(data):
        found = _block(data, at, header.sync)
        if found is None:
            behind = _resumed(data, at, header.sync)
            yield data[: header.end] + data[at:behind]
            at = behind
            continue
        count, start, end = found
        yield from _records(data[start:end], count, header, program, limits)
        at = end + 16


def _several(data: bytes, header: Header) -> bool:
    """Return whether a container has more than one record that can be found: in its first block, or in a later one.

    One record and bytes behind it that are no block stay together: such a packet does not end where it should.
    """
    first = _block(data, header.end, header.sync)
    if first is not None and first[0] != 1:
        return True
    at = header.end if first is None else first[2] + 16
    return at < len(data) and (_block(data, at, header.sync) is not None or _resumed(data, at, header.sync) < len(data))


def _resumed(data: bytes, at: int, sync: bytes) -> int:
    """Return where a block can be read again behind the damage at ``at``: after a sync marker, or the end."""
    while (at := data.find(sync, at)) >= 0:
        at += len(sync)
        if _block(data, at, sync) is not None:
            return at
    return len(data)


def _program(header: Header, limits: Limits) -> Program | None:
    """Return a program that finds where records end; None for a schema that is none."""
    try:
        return compile_program(Tree(header.schema, limits), NOTHING, limits, many=True)
    except Reject:
        return None


def _block(data: bytes, at: int, sync: bytes) -> tuple[int, int, int] | None:
    """Return the records of the block at ``at``, and where its bytes begin and end; None where it is broken."""
    base = framing.address_of(data)
    count, p = varint(base + at, base + len(data))
    size, p = varint(p, base + len(data)) if p >= 0 else (0, p)
    start = p - base
    if p < 0 or count < 0 or size < 0 or data[start + size : start + size + 16] != sync:
        return None
    return count, start, start + size


def _records(block: bytes, count: int, header: Header, program: Program | None, limits: Limits) -> Iterator[bytes]:
    """Yield the ``count`` records of a block, and then what is left of it."""
    try:
        body = framing.decompress(header.codec, block, replace(limits, packet_bytes=_BLOCK * limits.packet_bytes))
    except Reject:
        yield _packet(header.schema, header.codec, header.sync, block)
        return
    start = 0
    while program is not None and count > 0:
        size = _size(body, start, program, limits)
        if size == 0:
            break
        yield _packet(header.schema, b"null", header.sync, body[start : start + size])
        start, count = start + size, count - 1
    if start < len(body) or count > 0:
        yield _packet(header.schema, b"null", header.sync, body[start:])


def _size(body: bytes, start: int, program: Program, limits: Limits) -> int:
    """Return the bytes of the record that begins at ``start``, 0 where it does not parse."""
    address = framing.address_of(body)
    spans = np.array([[address, address + start, address + len(body)]], dtype=np.int64)
    _, ends = run(program, Bodies(np.zeros(1, dtype=np.int64), [body], spans), limits)
    return 0 if ends[0, 0] else int(ends[0, 2])


def _packet(schema: bytes, codec: bytes, sync: bytes, block: bytes) -> bytes:
    """Return a container with one record."""
    entries = b"".join(
        _number(len(key)) + key + _number(len(value)) + value
        for key, value in ((b"avro.codec", codec or b"null"), (b"avro.schema", schema))
    )
    return b"Obj\x01" + _number(2) + entries + b"\0" + sync + _number(1) + _number(len(block)) + block + sync


def _number(value: int) -> bytes:
    """Return a number that is not negative as Avro writes it."""
    left, out = value << 1, bytearray()
    while left > 0x7F:
        out.append(left & 0x7F | 0x80)
        left >>= 7
    return bytes((*out, left))
