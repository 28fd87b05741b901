"""Injuries to what a record comes in: container, block, codec, sync marker, wire format, gzip."""

from __future__ import annotations

import gzip
import random
import zlib
from collections.abc import Callable
from functools import cache

import cramjam

from tests.decode.fuzz.bodies import NUMBERS, WORDS, odd_varint, varint
from tests.decode.fuzz.seeds import Seed

SYNC = bytes(range(16))
CODECS = (b"null", b"deflate", b"snappy", b"zstandard")
ODD_CODECS = (b"", b"bzip2", b"xz", b"lz4", b"NULL", b"deflate ", b"\xff\xfe", b"x" * 3000)
Mutation = Callable[[random.Random, Seed], bytes]


def container(
    schema: bytes, blocks: list[tuple[bytes, bytes]], codec: bytes = b"null", sync: bytes = SYNC, more: bytes = b""
) -> bytes:
    """A container of blocks, each a count as it is written and its bytes; ``more`` is more of the header's map."""
    entries = b"".join(varint(len(p)) + p for pair in ((b"avro.codec", codec), (b"avro.schema", schema)) for p in pair)
    body = b"".join(count + varint(len(block)) + block + sync for count, block in blocks)
    return b"Obj\x01" + varint(2) + entries + more + b"\0" + sync + body


def whole(schema: bytes, body: bytes, wire_id: int = -1) -> bytes:
    """A packet in its plain framing."""
    if wire_id >= 0:
        return b"\0" + wire_id.to_bytes(4, "big") + body
    return container(schema, [(varint(1), body)])


def packed(codec: bytes, body: bytes) -> bytes:
    """A block's bytes under a codec that we know; as they are under any other."""
    if codec == b"deflate":
        engine = zlib.compressobj(1, wbits=-15)
        return engine.compress(body) + engine.flush()
    if codec == b"snappy":
        return bytes(cramjam.snappy.compress_raw(body)) + zlib.crc32(body).to_bytes(4, "big")
    return bytes(cramjam.zstd.compress(body, 1)) if codec == b"zstandard" else body


def _hurt(pick: random.Random, data: bytes, most: int = 0) -> bytes:
    """A few flipped bits, or a cut, among the first ``most`` bytes."""
    out = bytearray(data)
    reach = min(most or len(out), len(out))
    if pick.random() < 0.2:
        return bytes(out[: pick.randrange(reach + 1)])
    for _ in range(pick.choice((1, 1, 3)) if reach else 0):
        out[pick.randrange(reach)] ^= 1 << pick.randrange(8)
    return bytes(out)


def header(pick: random.Random, seed: Seed) -> bytes:
    """The header's map: more entries, entries twice, other counts, negative counts, flipped bits."""
    kind = pick.randrange(5)
    if kind == 0:
        return _hurt(pick, whole(seed.schema, seed.body), 60)
    if kind == 1:
        word = pick.choice(WORDS)
        return container(seed.schema, [(varint(1), seed.body)], more=varint(1) + 2 * (varint(len(word)) + word))
    if kind == 2:
        size = pick.choice((1, 61, 62, 70))
        return container(seed.schema, [(varint(1), seed.body)], more=varint(size) + size * (b"\2k" + b"\2v"))
    number = odd_varint(pick) if kind == 3 else varint(pick.choice(NUMBERS))
    data = whole(seed.schema, seed.body)
    return data[:4] + number + data[5:]


def codec(pick: random.Random, seed: Seed) -> bytes:
    """Any codec, known or not."""
    name = pick.choice(CODECS) if pick.random() < 0.7 else pick.choice(ODD_CODECS)
    return container(seed.schema, [(varint(1), packed(name, seed.body))], name)


def compressed(pick: random.Random, seed: Seed) -> bytes:
    """A compressed block that is hurt, or that swells."""
    name = pick.choice(CODECS[1:])
    if pick.random() < 0.02:
        return container(seed.schema, [(varint(1), packed(name, bytes(pick.choice((10**6, 2 * 10**7)))))], name)
    return container(seed.schema, [(varint(1), _hurt(pick, packed(name, seed.body)))], name)


def counts(pick: random.Random, seed: Seed) -> bytes:
    """Another number of records, another size of the block."""
    number = odd_varint(pick) if pick.random() < 0.2 else varint(pick.choice(NUMBERS))
    good = whole(seed.schema, seed.body)
    start = len(good) - 16 - len(seed.body) - len(varint(len(seed.body)))
    if pick.random() < 0.5:
        return good[: start - 1] + number + good[start:]
    return good[:start] + number + seed.body + SYNC


def sync(pick: random.Random, seed: Seed) -> bytes:
    """A sync marker that is not the header's, is cut, or has something behind it."""
    good = whole(seed.schema, seed.body)
    kind = pick.randrange(4)
    if kind == 0:
        return good[:-16] + _hurt(pick, good[-16:])
    if kind == 1:
        return good + pick.choice(WORDS)
    return good[: -pick.randrange(1, 17)] if kind == 2 else good + SYNC


def many(pick: random.Random, seed: Seed) -> bytes:
    """Several records, in one block or in several, one of them damaged or none."""
    name = pick.choice(CODECS)
    blocks = []
    for _ in range(pick.randrange(2, 6)):
        n = pick.choice((1, 1, 2, 3))
        blocks.append((varint(n), packed(name, seed.body * n)))
    data = container(seed.schema, blocks, name)
    return data if pick.random() < 0.2 else _hurt(pick, data) if pick.random() < 0.5 else data[: -pick.randrange(1, 99)]


def wire(pick: random.Random, seed: Seed) -> bytes:
    """The wire format: other ids, other magic, cut."""
    known = (7, 700, 704, 900, 1000, 1101, 0, 9999, 2**32 - 1, pick.randrange(2**32))
    good = b"\0" + pick.choice(known).to_bytes(4, "big") + seed.body
    if pick.random() < 0.7:
        return good
    return good[: pick.randrange(7)] if pick.random() < 0.5 else bytes([pick.randrange(256)]) + good[1:]


def zipped(pick: random.Random, seed: Seed) -> bytes:
    """A packet within gzip: whole, hurt, twice, with something behind it, or swelling."""
    packet = whole(seed.schema, seed.body, seed.wire_id)
    kind = pick.random()
    if kind < 0.01:
        return _bomb()
    data = gzip.compress(packet, 1)
    if kind < 0.4:
        return data
    if kind < 0.5:
        return gzip.compress(data, 1) if pick.random() < 0.5 else data + gzip.compress(packet, 1)
    return _hurt(pick, data) if kind < 0.9 else data + pick.choice(WORDS)


@cache
def _bomb() -> bytes:
    return gzip.compress(bytes(4 * 10**7))


def junk(pick: random.Random, seed: Seed) -> bytes:
    """Bytes of no kind, or a magic and then such."""
    return pick.choice((b"", b"Obj\x01", b"\0", b"\0\0\0\0\7", b"\x1f\x8b", b"Obj\x02")) + pick.randbytes(
        pick.randrange(80)
    )


ALL: tuple[Mutation, ...] = (header, codec, compressed, counts, sync, many, wire, zipped, junk)
