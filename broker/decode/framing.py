r"""Framing: where the body of a packet lies, and what its schema is.

A packet is an Avro object container with one record (``Obj\x01``, header with the schema, one block), or a wire-format
message (a zero byte, a 4-byte big-endian schema id, the body). The headers of a whole batch are read in one jitted
loop, and the embedded schemas are looked up there: hashed, and then compared byte for byte with the known one, since
a sender can make hashes collide. The header itself is never a key: its sync marker differs in every file.
"""

from __future__ import annotations

import ctypes
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import cramjam
import numpy as np

from broker.core.batch import Ints
from broker.core.jit import jit
from broker.core.reasons import Dead
from broker.decode.limits import Limits, Reject
from broker.decode.memory import load_i64, load_u8, load_u32, load_u64, signed, varint, word

# What a packet is, or why it is nothing.
WIRE, CONTAINER = 0, 1
EMPTY, TOO_LARGE, BAD_MAGIC, SHORT_WIRE, BAD_HEADER, NO_SCHEMA, CUT, NOT_ONE, BAD_SYNC, TRAILING = range(-1, -11, -1)
PROBLEMS = {
    EMPTY: (Dead.EMPTY, "the packet has 0 bytes"),
    TOO_LARGE: (Dead.BOUND_EXCEEDED, "the packet is larger than the bound on packets"),
    BAD_MAGIC: (Dead.BAD_MAGIC, "the packet is neither an Avro container nor in the wire format"),
    SHORT_WIRE: (Dead.MALFORMED, "the packet ends within the five bytes of the wire format"),
    BAD_HEADER: (Dead.MALFORMED, "the container's header does not parse"),
    NO_SCHEMA: (Dead.MALFORMED, "the container's header has no avro.schema"),
    CUT: (Dead.MALFORMED, "the container ends before its block does"),
    NOT_ONE: (Dead.MALFORMED, "the container does not hold exactly one record; a replay splits such a file"),
    BAD_SYNC: (Dead.MALFORMED, "the container's block does not end with the sync marker"),
    TRAILING: (Dead.TRAILING_BYTES, "there are bytes behind the container's block"),
}
# Columns of a frame.
STATUS, SLOT, ID, BODY, BODY_END, SCHEMA, SCHEMA_SIZE, CODEC, CODEC_SIZE = range(9)
_FRAME = 9
UNKNOWN = -1
_MOST_KEYS = 64
_SCHEMA_KEY = int.from_bytes(b"avro.schema"[:8], "little")
_SCHEMA_TAIL = int.from_bytes(b"avro.schema"[3:], "little")
_CODEC_KEY = int.from_bytes(b"avro.codec"[:8], "little")
_CODEC_TAIL = int.from_bytes(b"avro.codec"[2:], "little")
_NULL = int.from_bytes(b"null", "little")
_MAGIC = 0x016A624F  # Obj\x01, little-endian
_PRIME = np.uint64(0x9E3779B97F4A7C15)


def _address_of() -> Callable[[bytes], int]:
    function = ctypes.pythonapi.PyBytes_AsString
    function.argtypes, function.restype = [ctypes.py_object], ctypes.c_void_p
    return cast(Callable[[bytes], int], function)


address_of = _address_of()


@jit()
def digest(p: int, size: int) -> int:
    """Return a 64-bit hash of the ``size`` bytes at an address: four lanes, so that multiplications overlap."""
    a, b, c, d = np.uint64(size), np.uint64(1), np.uint64(2), np.uint64(3)
    end = p + size
    while p + 32 <= end:
        a = (a ^ load_u64(p)) * _PRIME
        b = (b ^ load_u64(p + 8)) * _PRIME
        c = (c ^ load_u64(p + 16)) * _PRIME
        d = (d ^ load_u64(p + 24)) * _PRIME
        a, b = a ^ (a >> np.uint64(29)), b ^ (b >> np.uint64(29))
        c, d = c ^ (c >> np.uint64(29)), d ^ (d >> np.uint64(29))
        p += 32
    while p < end:
        a = (a ^ np.uint64(load_u8(p))) * _PRIME
        a ^= a >> np.uint64(29)
        p += 1
    return signed((((a * _PRIME ^ b) * _PRIME ^ c) * _PRIME ^ d) >> np.uint64(1))


@jit()
def _same(p: int, q: int, size: int) -> bool:
    """Return whether ``size`` bytes at two addresses are equal."""
    wrong = 0
    whole = size & ~7
    for i in range(0, whole, 8):
        wrong |= load_i64(p + i) ^ load_i64(q + i)
    for i in range(whole, size):
        wrong |= load_u8(p + i) ^ load_u8(q + i)
    return wrong == 0


@jit()
def _look_up(p: int, size: int, known: int, count: int) -> int:
    """Return the slot of the schema at ``p`` among ``count`` known ones (hash, address, bytes), or UNKNOWN."""
    value = digest(p, size)
    for slot in range(count):
        alike = word(known, 3 * slot) == value and word(known, 3 * slot + 2) == size
        if alike and _same(p, word(known, 3 * slot + 1), size):
            return slot
    return UNKNOWN


@jit()
def _bytes(p: int, end: int) -> tuple[int, int]:
    """Return the length of the byte string at ``p`` and the position of its first byte, below zero an error."""
    size, p = varint(p, end)
    return (0, -1) if p < 0 or size < 0 or size > end - p else (size, p)


@jit()
def _header(p: int, end: int, base: int, frame: Ints) -> int:
    """Note where schema and codec lie; return the position behind the header's map, below zero an error."""
    keys = 0
    while True:
        count, p = varint(p, end)
        if p < 0 or count == 0:
            return p
        if count < 0:
            count = -count
            p = varint(p, end)[1]
        keys += count
        if p < 0 or count < 0 or keys > _MOST_KEYS:
            return -1
        for _ in range(count):
            key_size, key = _bytes(p, end)
            size, value = _bytes(key + key_size, end) if key >= 0 else (0, -1)
            if value < 0:
                return -1
            p = value + size
            if key_size == 11 and load_i64(key) == _SCHEMA_KEY and load_i64(key + 3) == _SCHEMA_TAIL:
                frame[SCHEMA], frame[SCHEMA_SIZE] = value - base, size
            elif key_size == 10 and load_i64(key) == _CODEC_KEY and load_i64(key + 2) == _CODEC_TAIL:
                plain = size == 4 and load_u32(value) == _NULL
                frame[CODEC], frame[CODEC_SIZE] = value - base, 0 if plain else size


@jit()
def _container(base: int, end: int, known: int, count: int, frame: Ints) -> int:
    """Fill the frame of the container from ``base`` to ``end``; return its status."""
    sync = _header(base + 4, end, base, frame)
    if sync < 0 or end - sync < 16:
        return BAD_HEADER
    if frame[SCHEMA] == 0:
        return NO_SCHEMA
    records, p = varint(sync + 16, end)
    size, p = varint(p, end) if p >= 0 else (0, p)
    status = _block(records, size, p, sync, end)
    if status == CONTAINER:
        frame[BODY], frame[BODY_END] = p - base, p - base + size
        frame[SLOT] = _look_up(base + frame[SCHEMA], frame[SCHEMA_SIZE], known, count)
    return status


@jit()
def _block(records: int, size: int, p: int, sync: int, end: int) -> int:
    """Return the status of a container by its first block, ``size`` bytes from ``p`` on."""
    if p < 0:
        return CUT
    if records != 1:
        return NOT_ONE
    if size < 0 or size > end - p - 16:
        return CUT
    if not _same(p + size, sync, 16):
        return BAD_SYNC
    left = end - (p + size + 16)
    if left == 0:
        return CONTAINER
    return NOT_ONE if left >= 18 and _same(end - 16, sync, 16) else TRAILING


@jit()
def _frame(packets: Ints, known: Ints, most: int, frames: Ints) -> None:
    """Fill the frames (A, 9) of packets (A, 2): address and bytes."""
    table, count = signed(known.ctypes.data), known.shape[0]
    for i in range(packets.shape[0]):
        base, size = packets[i, 0], packets[i, 1]
        frame = frames[i]
        frame[:] = 0
        frame[SLOT] = UNKNOWN
        if size == 0:
            frame[STATUS] = EMPTY
        elif size > most:
            frame[STATUS] = TOO_LARGE
        elif load_u8(base) == 0:
            frame[STATUS] = WIRE if size >= 5 else SHORT_WIRE
            if size >= 5:
                for k in range(1, 5):
                    frame[ID] = frame[ID] << 8 | load_u8(base + k)
                frame[BODY], frame[BODY_END] = 5, size
        elif size < 4 or load_u32(base) != _MAGIC:
            frame[STATUS] = BAD_MAGIC
        else:
            frame[STATUS] = _container(base, base + size, table, count, frame)


def frame(values: list[bytes], known: Ints, limits: Limits) -> tuple[Ints, Ints]:
    """Read the headers of A packets.

    Parameters
    ----------
    values : list of bytes, (A,)
    known : (K, 3) int64
        Hash, address and bytes of the schemas that we know.
    limits : Limits

    Returns
    -------
    packets : (A, 2) int64
        Address and bytes.
    frames : (A, 9) int64
        Status, slot of the schema among the known ones, wire id; where body, schema and codec lie in the packet.
    """
    packets = np.array([(address_of(value), len(value)) for value in values], dtype=np.int64).reshape(-1, 2)
    frames = np.empty((len(values), _FRAME), dtype=np.int64)
    _frame(packets, known, limits.packet_bytes, frames)
    return packets, frames


@dataclass(frozen=True, slots=True)
class Header:
    """A container's header: schema, codec, sync marker, and where its first block begins."""

    schema: bytes
    codec: bytes
    sync: bytes
    end: int


def header(data: bytes) -> Header | None:
    """Return the header of a container with any number of blocks; None where there is none that parses."""
    if data[:4] != b"Obj\x01":
        return None
    base, frame = address_of(data), np.zeros(_FRAME, dtype=np.int64)
    end = _header(base + 4, base + len(data), base, frame) - base
    if end < 0 or len(data) - end < 16 or frame[SCHEMA] == 0:
        return None
    schema, codec = (data[frame[at] : frame[at] + frame[at + 1]] for at in (SCHEMA, CODEC))
    return Header(schema, codec, data[end : end + 16], end + 16)


def decompress(codec: bytes, block: bytes, limits: Limits) -> bytes:
    """Return a container's block, of at most ``limits.packet_bytes`` bytes.

    Raises
    ------
    Reject
        The codec is not one that we read, the block does not decompress, or it becomes too large.
    """
    known = {b"deflate": _deflate, b"snappy": _snappy, b"zstandard": _zstandard}
    if codec in (b"null", b""):
        return block
    if codec not in known:
        name = codec[:32].decode(errors="replace")
        raise Reject(Dead.MALFORMED, f"the container's codec {name!r} is none of null, deflate, snappy, zstandard")
    try:
        return known[codec](block, limits.packet_bytes)
    except (ValueError, zlib.error, cramjam.DecompressionError) as error:
        raise Reject(Dead.MALFORMED, f"the container's {codec.decode()} block does not decompress: {error}") from error


def _too_large(most: int) -> Reject:
    return Reject(Dead.BOUND_EXCEEDED, f"the container's block decompresses to more than {most} bytes")


def _deflate(block: bytes, most: int) -> bytes:
    engine = zlib.decompressobj(-15)
    body = engine.decompress(block, most + 1)
    if len(body) > most:
        raise _too_large(most)
    # fastavro leaves three bytes of zlib's checksum behind the stream.
    if not engine.eof or len(engine.unused_data) > 4:
        raise ValueError("it does not end where it should")
    return body


def _snappy(block: bytes, most: int) -> bytes:
    if len(block) < 4:
        raise ValueError("it has no checksum")
    if cramjam.snappy.decompress_raw_len(block[:-4]) > most:
        raise _too_large(most)
    body = bytes(cramjam.snappy.decompress_raw(block[:-4]))
    if zlib.crc32(body) != int.from_bytes(block[-4:], "big"):
        raise ValueError("its checksum is wrong")
    return body


def _zstandard(block: bytes, most: int) -> bytes:
    """Decompress into a buffer of our size, since a frame may lie about its own; a small one first."""
    for size in (min(8 * len(block) + 65536, most), most):
        buffer = bytearray(size)
        try:
            return bytes(buffer[: cramjam.zstd.decompress_into(block, buffer)])
        except cramjam.DecompressionError as error:
            if "whole buffer" not in str(error):
                raise
    raise _too_large(most)
