"""Injuries to the bytes of a record: at random places, or where a seed's marks say that something lies."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

from tests.decode.fuzz.seeds import Mark, Seed

Mutation = Callable[[random.Random, Seed], bytes]
NUMBERS: tuple[int, ...] = (
    0,
    1,
    -1,
    2,
    -2,
    63,
    64,
    127,
    255,
    -64,
    10**4,
    24_999,
    25_001,
    50_001,
    2**31 - 1,
    -(2**31),
    2**31,
    2**32,
)
NUMBERS = (*NUMBERS, 2**40, 2**60, 2**62, 2**63 - 1, -(2**63), -(2**62))
FLOATS: tuple[float, ...] = (
    float("nan"),
    float("inf"),
    -float("inf"),
    0.0,
    -0.0,
    5e-324,
    -5e-324,
    1e-310,
    1.2e-38,
    1e-45,
    3.4e38,
    -99999.0,
)
FLOATS = (*FLOATS, -999.0, 1e300, -1e300, 1.7976931348623157e308, 2458849.5, 61105.25, -1.0, 20.0, 360.0, -90.0)
WORDS: tuple[bytes, ...] = (
    b"candid",
    b"candidate",
    b"jd",
    b"prv_candidates",
    b"diaSource",
    b"psfFlux",
    b"avro.schema",
    b"avro.codec",
)
WORDS = (*WORDS, b"Obj\x01", b"\x1f\x8b\x08\x00", b"null", b"\xff\xff", b"\xed\xa0\x80", b"\xc0\x80", b"ZTF18abcdefg")


def varint(value: int) -> bytes:
    """A number as Avro writes it."""
    left, out = ((value << 1) ^ (value >> 63)) & (2**64 - 1), bytearray()
    while left > 0x7F:
        out.append(left & 0x7F | 0x80)
        left >>= 7
    return bytes((*out, left))


def odd_varint(pick: random.Random) -> bytes:
    """A number that a writer should not write: without an end, too long, or in more bytes than it needs."""
    kind = pick.randrange(4)
    if kind == 0:
        return b"\xff" * pick.randrange(9, 13)
    if kind == 1:
        return b"\xff" * 9 + bytes([pick.randrange(128)])
    short = bytearray(varint(pick.choice(NUMBERS[:10])))
    short[-1] |= 0x80
    return bytes(short) + b"\x80" * pick.randrange(1 if kind == 2 else 7) + b"\0"


def value_of(body: bytes, mark: Mark) -> int:
    """The number at a mark."""
    raw = 0
    for i in range(mark.size):
        raw |= (body[mark.at + i] & 0x7F) << (7 * i)
    return (raw >> 1) ^ -(raw & 1)


def _marked(pick: random.Random, seed: Seed, *what: str) -> Mark | None:
    """A mark of one of these kinds: a few looks at random places, so that it takes no time."""
    for _ in range(12):
        mark = seed.marks[int(pick.random() * len(seed.marks))]
        if mark.what in what:
            return mark
    found = [mark for mark in seed.marks if mark.what in what]
    return pick.choice(found) if found else None


def _put(body: bytes, at: int, size: int, new: bytes) -> bytes:
    return body[:at] + new + body[at + size :]


def flip(pick: random.Random, seed: Seed) -> bytes:
    """One to eight bits."""
    out = bytearray(seed.body)
    for _ in range(pick.choice((1, 1, 1, 2, 3, 8))):
        out[int(pick.random() * len(out))] ^= 1 << pick.randrange(8)
    return bytes(out)


def cut(pick: random.Random, seed: Seed) -> bytes:
    """Cut short, or with some bytes gone from the middle."""
    at = pick.randrange(len(seed.body) + 1)
    return seed.body[:at] if pick.random() < 0.5 else _put(seed.body, at, pick.randrange(1, 40), b"")


def insert(pick: random.Random, seed: Seed) -> bytes:
    """Bytes or words of the formats put in, in the middle or behind the end."""
    new = pick.choice(WORDS) if pick.random() < 0.5 else pick.randbytes(pick.randrange(1, 12))
    at = len(seed.body) if pick.random() < 0.1 else pick.randrange(len(seed.body) + 1)
    return _put(seed.body, at, 0, new)


def splice(pick: random.Random, seed: Seed) -> bytes:
    """A piece of the record put over another piece of it."""
    size = pick.randrange(1, max(2, min(400, len(seed.body))))
    source, target = pick.randrange(len(seed.body)), pick.randrange(len(seed.body))
    return _put(seed.body, target, size if pick.random() < 0.7 else 0, seed.body[source : source + size])


def number(pick: random.Random, seed: Seed) -> bytes:
    """Another number in the place of one: a value, a branch or a symbol."""
    mark = _marked(pick, seed, "number", "branch")
    if mark is None:
        return flip(pick, seed)
    new = odd_varint(pick) if pick.random() < 0.2 else varint(pick.choice(NUMBERS))
    return _put(seed.body, mark.at, mark.size, new)


def length(pick: random.Random, seed: Seed) -> bytes:
    """Another length or count in the place of one."""
    mark = _marked(pick, seed, "length", "count")
    if mark is None:
        return cut(pick, seed)
    near = value_of(seed.body, mark) + pick.choice((-2, -1, 1, 2))
    new = odd_varint(pick) if pick.random() < 0.15 else varint(near if pick.random() < 0.4 else pick.choice(NUMBERS))
    return _put(seed.body, mark.at, mark.size, new)


def real(pick: random.Random, seed: Seed) -> bytes:
    """Odd numbers in the places of floats: the packet stays whole."""
    out = bytearray(seed.body)
    for _ in range(pick.choice((1, 2, 5, 40))):
        mark = _marked(pick, seed, "float", "double")
        if mark is None:
            return bytes(out)
        value = pick.choice(FLOATS) if pick.random() < 0.7 else struct.unpack("<d", pick.randbytes(8))[0]
        if mark.what == "double":
            struct.pack_into("<d", out, mark.at, value)
        elif abs(value) < 3.4e38 or value in (float("inf"), -float("inf")):
            struct.pack_into("<f", out, mark.at, value)
        else:
            out[mark.at : mark.at + 4] = pick.randbytes(4)
    return bytes(out)


def text(pick: random.Random, seed: Seed) -> bytes:
    """Another text in the place of one, with the right length: long, huge, empty, not UTF-8."""
    mark = _marked(pick, seed, "length")
    if mark is None:
        return insert(pick, seed)
    old = value_of(seed.body, mark)
    size = pick.choice((0, 1, 7, 8, 255, 256, 257, 70_000)) if pick.random() < 0.99 else 3_000_000
    new = bytes(size) if pick.random() < 0.3 else pick.randbytes(8) * (size // 8) + pick.choice(WORDS)[: size % 8]
    return _put(seed.body, mark.at, mark.size + old, varint(len(new)) + new)


def block(pick: random.Random, seed: Seed) -> bytes:
    """The first block of an array written in another way: negative count with a size that may lie, split in two."""
    mark = _marked(pick, seed, "count")
    count = value_of(seed.body, mark) if mark is not None else 0
    if mark is None or count <= 0:
        return length(pick, seed)
    kind = pick.random()
    if kind < 0.7:
        size = pick.choice(NUMBERS) if kind < 0.5 else pick.randrange(4000)
        return _put(seed.body, mark.at, mark.size, varint(-count) + varint(size))
    items = [m for m in seed.marks if m.what == "item" and m.at >= mark.at + mark.size]
    middle = pick.randrange(1, count + 1)
    if middle >= min(count, len(items)):
        return _put(seed.body, mark.at, mark.size, varint(count))
    return _put(_put(seed.body, items[middle].at, 0, varint(count - middle)), mark.at, mark.size, varint(middle))


def repeat(pick: random.Random, seed: Seed) -> bytes:
    """An item many times, with the right count: long histories."""
    at = next((i for i in range(len(seed.marks)) if seed.marks[i].what == "item"), -1)
    mark = _marked(pick, seed, "item") if at >= 0 else None
    if mark is None:
        return real(pick, seed)
    counts = [m for m in seed.marks if m.what == "count" and m.at < mark.at and value_of(seed.body, m) > 0]
    times = pick.choice((1, 7, 30, 300)) if pick.random() < 0.99 else pick.choice((5_000, 26_000))
    item = seed.body[mark.at : mark.at + mark.size] * times
    if not counts or len(item) > 2_000_000:
        return splice(pick, seed)
    new = varint(value_of(seed.body, counts[-1]) + times)
    return _put(_put(seed.body, mark.at, 0, item), counts[-1].at, counts[-1].size, new)


def several(pick: random.Random, seed: Seed) -> bytes:
    """Two injuries of any kind, the second one blind."""
    first = pick.choice(ONE)(pick, seed)
    return flip(pick, Seed(seed.name, seed.schema, first or b"\0", seed.wire_id, seed.marks))


def untouched(pick: random.Random, seed: Seed) -> bytes:
    """The record as it is: for the injuries of frames and schemas."""
    return seed.body


ONE: tuple[Mutation, ...] = (flip, cut, insert, splice, number, length, real, text, block, repeat)
ALL: tuple[Mutation, ...] = (*ONE, several)
