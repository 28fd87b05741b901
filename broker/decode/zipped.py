"""Packets within gzip: files ``*.avro.gz``, and Kafka messages that a sender has packed."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import numpy as np

from broker.core.batch import Ints
from broker.core.reasons import Dead
from broker.decode.limits import Limits, Reject

MAGIC = b"\x1f\x8b"


def unpack(packet: bytes, limits: Limits) -> bytes:
    """Return the packet within gzip; any other comes back untouched, and so does what a packed one packs.

    Raises
    ------
    Reject
        It does not unpack, becomes too large, or has bytes behind its end.
    """
    if packet[:2] != MAGIC:
        return packet
    if len(packet) > limits.packet_bytes:
        raise Reject(Dead.BOUND_EXCEEDED, "the packet is larger than the bound on packets")
    engine = zlib.decompressobj(wbits=31)
    try:
        value = engine.decompress(packet, limits.packet_bytes + 1)
    except zlib.error as error:
        raise Reject(Dead.MALFORMED, f"the packet's gzip does not unpack: {error}") from error
    if len(value) > limits.packet_bytes:
        raise Reject(Dead.BOUND_EXCEEDED, f"the packet's gzip unpacks to more than {limits.packet_bytes} bytes")
    if not engine.eof:
        raise Reject(Dead.MALFORMED, "the packet's gzip is cut")
    if engine.unused_data:
        raise Reject(Dead.TRAILING_BYTES, "there are bytes behind the end of the packet's gzip")
    return value


def turns(values: list[bytes], rejects: dict[int, Reject], limits: Limits) -> Iterator[tuple[Ints, list[bytes]]]:
    """Yield rows (n,) of a batch with their packets: those without gzip first, then as many as may be held unpacked.

    Parameters
    ----------
    rejects : dict of int to Reject
        Filled: rows that do not unpack.
    """
    packed = np.array([value[:2] == MAGIC for value in values], dtype=np.bool_)
    plain = np.flatnonzero(~packed)
    if len(plain):
        yield plain, [values[row] for row in plain.tolist()]
    held: dict[int, bytes] = {}
    room = limits.held_bytes
    for row in np.flatnonzero(packed).tolist():
        try:
            held[row] = unpack(values[row], limits)
        except Reject as reject:
            rejects[row] = reject
            continue
        room -= len(held[row])
        if room < 0:
            yield np.array(list(held)), list(held.values())
            held, room = {}, limits.held_bytes
    if held:
        yield np.array(list(held)), list(held.values())
