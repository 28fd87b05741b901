"""Packets that cannot be understood: each has its reason and its sentence, is quick, and hurts no neighbour."""

from __future__ import annotations

import gc
import gzip
import io
import json
import struct
import sys
import time
import tracemalloc
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cramjam
import fastavro
import numpy as np
import pytest

from broker.core.outcomes import DeadLetter
from broker.core.reasons import Dead
from broker.decode import Decoder, Limits, SchemaStore
from tests.decode import samples
from tests.decode.conftest import Real
from tests.decode.generate import Maker
from tests.decode.oracle import batch, container, wire

GOOD = container(samples.ZTF, samples.ztf(prv_candidates=[samples.previous()] * 3))
STORE = SchemaStore(package=False)


def long(value: int) -> bytes:
    return Maker(1)._long(value)


def framed(schema: Any, body: bytes, codec: bytes = b"null") -> bytes:
    """A container with a body of our making; ``schema`` may be bytes that are no schema."""
    text = schema if isinstance(schema, bytes) else json.dumps(schema).encode()
    pairs = [(b"avro.schema", text), (b"avro.codec", codec)]
    entries = b"".join(long(len(part)) + part for pair in pairs for part in pair)
    sync = bytes(range(16))
    return b"Obj\x01" + long(2) + entries + long(0) + sync + long(1) + long(len(body)) + body + sync


def ztf_with(**fields: Any) -> Any:
    """The small ZTF schema with other fields in front."""
    more = [{"name": name, "type": kind} for name, kind in fields.items()]
    return {**samples.ZTF_JSON, "fields": more + samples.ZTF_JSON["fields"]}


def encoded(record: Any = None) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, samples.ZTF, record or samples.ztf())
    return out.getvalue()


def letter(packet: bytes, limits: Limits | None = None, store: SchemaStore = STORE) -> DeadLetter:
    """The dead letter of a packet between two good ones, which live; within a second and 64 MB."""
    decoder = Decoder(store, limits)
    decoder(batch([GOOD]))
    tracemalloc.start()
    began = time.perf_counter()
    decoded, dead = decoder(batch([GOOD, packet, GOOD]))
    seconds = time.perf_counter() - began
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [part.alerts.rows.tolist() for part in decoded] == [[0, 2]]
    assert decoded[0].curves.counts.tolist() == [4, 4]
    assert len(dead) == 1
    assert dead[0].row == 1
    assert dead[0].stage == "decode"
    assert dead[0].text.startswith("topic partition 0 offset 1: ")
    assert seconds < 1.0
    assert peak < 64e6 + 4 * len(packet)
    return dead[0]


def linked(depth: int) -> Any:
    """Arrays within arrays."""
    schema: Any = "null"
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


def doubling(kind: Any) -> Any:
    """Forty records, each twice in the next: 2**39 values in no schema at all."""
    fields: list[Any] = [
        {"name": "a0", "type": {"type": "record", "name": "r0", "fields": [{"name": "x", "type": kind}]}}
    ]
    for i in range(1, 40):
        inner = [{"name": side, "type": f"r{i - 1}"} for side in ("left", "right")]
        fields.append({"name": f"a{i}", "type": {"type": "record", "name": f"r{i}", "fields": inner}})
    return {**samples.ZTF_JSON, "fields": fields + samples.ZTF_JSON["fields"]}


RECURSIVE = {"type": "record", "name": "node", "fields": [{"name": "next", "type": ["null", "node"]}]}
NULLS = {"type": "array", "items": "null"}
# A record that has no bytes, but whose width a compiler would have to add up 2**39 times.
WIDE = {"type": "fixed", "name": "wide", "size": 2**30}


def no_points(count: int) -> bytes:
    """A packet with a history of nulls: each byte of it would make a row of the tables."""
    schema = json.loads(json.dumps(samples.ZTF_JSON))
    history = next(f["type"][1] for f in schema["fields"] if f["name"] == "prv_candidates")
    history["items"] = ["null", history["items"]]
    return container(fastavro.parse_schema(schema), samples.ztf(prv_candidates=[None] * count))


CASES: dict[str, tuple[bytes, Dead]] = {
    "no bytes": (b"", Dead.EMPTY),
    "wrong magic": (b"PAR1" + GOOD, Dead.BAD_MAGIC),
    "one byte": (b"O", Dead.BAD_MAGIC),
    "cut wire frame": (b"\0\0\0", Dead.MALFORMED),
    "unknown id": (b"\0\0\0\x23\x28" + encoded(), Dead.UNKNOWN_SCHEMA),
    "cut magic": (GOOD[:4], Dead.MALFORMED),
    "cut header": (GOOD[:200], Dead.MALFORMED),
    "cut in the stamp": (GOOD[:-40], Dead.MALFORMED),
    "cut in the sync marker": (GOOD[:-3], Dead.MALFORMED),
    "bytes behind the container": (GOOD + b"!", Dead.TRAILING_BYTES),
    "bytes behind the body": (framed(samples.ZTF_JSON, encoded() + b"\0"), Dead.TRAILING_BYTES),
    "cut body": (framed(samples.ZTF_JSON, encoded()[:-1]), Dead.MALFORMED),
    "empty body": (framed(samples.ZTF_JSON, b""), Dead.MALFORMED),
    "wrong sync marker": (GOOD[:-16] + bytes(16), Dead.MALFORMED),
    "no schema in the header": (b"Obj\x01" + long(0) + bytes(40), Dead.MALFORMED),
    "schema is no JSON": (framed(b"{", encoded()), Dead.BAD_SCHEMA),
    "schema is JSON, no Avro": (framed({"type": "nothing"}, encoded()), Dead.BAD_SCHEMA),
    "schema of a number": (framed(b"7", encoded()), Dead.BAD_SCHEMA),
    "schema is not UTF-8": (framed(b'"\xff"', encoded()), Dead.BAD_SCHEMA),
    "unknown type name": (framed(ztf_with(x="nobody"), encoded()), Dead.BAD_SCHEMA),
    "two fields of one name": (framed(ztf_with(candid="long"), encoded()), Dead.BAD_SCHEMA),
    "a type that is defined twice": (framed(ztf_with(x=RECURSIVE, y=RECURSIVE), encoded()), Dead.BAD_SCHEMA),
    "schema of something else": (framed({"type": "record", "name": "r", "fields": []}, b""), Dead.MISSING_FIELD),
    "schema is no record": (framed(b'"int"', b"\2"), Dead.MISSING_FIELD),
    "10 MB of schema": (framed(b'{"type": "record", "doc": "' + b"x" * 10_000_000 + b'"}', b""), Dead.BOUND_EXCEEDED),
    "deep JSON": (framed(b"[" * 400_000, b""), Dead.BOUND_EXCEEDED),
    "deep schema": (framed(ztf_with(x=linked(200)), encoded()), Dead.BOUND_EXCEEDED),
    "schema of 30,000 fields": (
        framed(ztf_with(**{f"x{i}": ["null", "string", "int"] for i in range(20_000)}), encoded()),
        Dead.BOUND_EXCEEDED,
    ),
    "2**60 sources": (framed(ztf_with(x={"type": "array", "items": "double"}), long(2**60)), Dead.BOUND_EXCEEDED),
    "smallest count": (framed(ztf_with(x=NULLS), long(-(2**63)) + long(0)), Dead.BOUND_EXCEEDED),
    "million nulls": (framed(ztf_with(x=NULLS), long(1_000_000) + long(0) + encoded()), Dead.BOUND_EXCEEDED),
    "many blocks of nulls": (
        framed(ztf_with(x=NULLS), (long(40_000)) * 1000 + long(0) + encoded()),
        Dead.BOUND_EXCEEDED,
    ),
    "map of nothing": (
        framed(ztf_with(x={"type": "map", "values": "null"}), long(2**40) + encoded()),
        Dead.BOUND_EXCEEDED,
    ),
    "records that double": (framed(doubling("boolean"), encoded()), Dead.MALFORMED),
    "records of numbers that double": (framed(doubling("int"), encoded()), Dead.MALFORMED),
    "records of lists that double": (framed(doubling(NULLS), bytes(100_000)), Dead.BOUND_EXCEEDED),
    "a list as deep as the packet": (framed(ztf_with(x=RECURSIVE), b"\2" * 100_000), Dead.BOUND_EXCEEDED),
    "huge fixed": (framed(ztf_with(x=WIDE), encoded()), Dead.MALFORMED),
    "fixed of a negative size": (
        framed(ztf_with(x={"type": "fixed", "name": "w", "size": -8}), encoded()),
        Dead.BAD_SCHEMA,
    ),
    "negative string": (framed(ztf_with(x="string"), long(-5) + encoded()), Dead.MALFORMED),
    "huge string": (framed(ztf_with(x="bytes"), long(2**62) + encoded()), Dead.MALFORMED),
    "number without an end": (framed(ztf_with(x="long"), b"\xff" * 20 + encoded()), Dead.MALFORMED),
    "no such branch": (framed(ztf_with(x=["null", "int"]), long(2) + encoded()), Dead.MALFORMED),
    "negative branch": (framed(ztf_with(x=["null", "int"]), long(-1) + encoded()), Dead.MALFORMED),
    "no such symbol": (
        framed(ztf_with(x={"type": "enum", "name": "e", "symbols": ["A"]}), long(1) + encoded()),
        Dead.MALFORMED,
    ),
    "packet of 20 MB": (b"\0" * 20_000_000, Dead.BOUND_EXCEEDED),
    "unknown codec": (framed(samples.ZTF_JSON, encoded(), b"lzma2"), Dead.MALFORMED),
    "deflate of nonsense": (framed(samples.ZTF_JSON, b"nonsense", b"deflate"), Dead.MALFORMED),
    "snappy of nonsense": (framed(samples.ZTF_JSON, b"nonsense", b"snappy"), Dead.MALFORMED),
    "zstandard of nonsense": (framed(samples.ZTF_JSON, b"nonsense", b"zstandard"), Dead.MALFORMED),
    "deflate bomb": (
        framed(samples.ZTF_JSON, zlib.compress(bytes(2 * 10**8), 9)[2:-4], b"deflate"),
        Dead.BOUND_EXCEEDED,
    ),
    "zstandard bomb": (
        framed(samples.ZTF_JSON, bytes(cramjam.zstd.compress(bytes(2 * 10**8))), b"zstandard"),
        Dead.BOUND_EXCEEDED,
    ),
    "snappy bomb": (framed(samples.ZTF_JSON, b"\xff\xff\xff\xff\x0f" + bytes(4), b"snappy"), Dead.BOUND_EXCEEDED),
    "gzip of nonsense": (b"\x1f\x8bnonsense", Dead.MALFORMED),
    "gzip that is cut": (gzip.compress(GOOD)[:-9], Dead.MALFORMED),
    "gzip with a wrong checksum": (gzip.compress(GOOD)[:-8] + bytes(8), Dead.MALFORMED),
    "gzip within gzip": (gzip.compress(gzip.compress(GOOD)), Dead.BAD_MAGIC),
    "gzip of nothing": (gzip.compress(b""), Dead.EMPTY),
    "gzip of a cut packet": (gzip.compress(GOOD[:-1]), Dead.MALFORMED),
    "bytes behind the gzip": (gzip.compress(GOOD) + b"!", Dead.TRAILING_BYTES),
    "two packets in gzip": (gzip.compress(GOOD) + gzip.compress(GOOD), Dead.TRAILING_BYTES),
    "gzip bomb": (gzip.compress(bytes(2 * 10**8)), Dead.BOUND_EXCEEDED),
    "more points than bytes can hold": (no_points(20_000), Dead.BOUND_EXCEEDED),
    "right ascension is NaN": (container(samples.ZTF, samples.ztf(candidate={"ra": np.nan})), Dead.BAD_POSITION),
    "declination of 91": (container(samples.ZTF, samples.ztf(candidate={"dec": 91.0})), Dead.BAD_POSITION),
    "time is infinite": (container(samples.ZTF, samples.ztf(candidate={"jd": np.inf})), Dead.BAD_TIME),
    "time is NaN": (container(samples.ZTF, samples.ztf(candidate={"jd": np.nan})), Dead.BAD_TIME),
    "object id of 9 MB": (container(samples.ZTF, {**samples.ztf(), "objectId": "Z" * 9_000_000}), Dead.BOUND_EXCEEDED),
    "object id is not UTF-8": (GOOD.replace(b"ZTF20aaaaaaa", b"ZTF20\xff\xff\xffaaaa"), Dead.MALFORMED),
}


@pytest.mark.parametrize("name", CASES)
def test_bad_packet(name: str) -> None:
    packet, reason = CASES[name]
    found = letter(packet)
    assert found.reason == reason, found.text


@pytest.mark.parametrize("field", ["objectId", "candid", "candidate", "candidate.jd", "prv_candidates.magpsf"])
def test_a_schema_without_our_field(field: str) -> None:
    schema = json.loads(json.dumps(samples.ZTF_JSON))
    *outer, name = field.split(".")
    fields = schema["fields"]
    for path in outer:
        kind = next(f["type"] for f in fields if f["name"] == path)
        fields = (kind if isinstance(kind, dict) else kind[1]["items"])["fields"]
    fields[:] = [f for f in fields if f["name"] != name]
    found = letter(framed(schema, b""))
    assert found.reason == Dead.MISSING_FIELD
    assert name in found.text


def test_the_sentence_names_the_field() -> None:
    body = encoded()
    cut = body[: body.index(struct.pack("<f", 20.0)) + 2]
    assert "(at candidate.magpsf)" in letter(framed(samples.ZTF_JSON, cut)).text
    assert "(at schemavsn)" in letter(framed(samples.ZTF_JSON, long(50) + b"cut")).text
    skipped = ztf_with(one=["null", "float"], two=["null", "double"])
    assert "(at one)" in letter(framed(skipped, b"\2")).text


@pytest.mark.parametrize("kind", ["string", {"type": "array", "items": "double"}, ["null", "bytes"]])
def test_a_field_of_another_type(kind: Any) -> None:
    schema = json.loads(json.dumps(samples.ZTF_JSON))
    candidate = next(f for f in schema["fields"] if f["name"] == "candidate")
    next(f for f in candidate["type"]["fields"] if f["name"] == "jd")["type"] = kind
    found = letter(framed(schema, b""))
    assert found.reason == Dead.MISSING_FIELD
    assert "candidate.jd" in found.text


def test_a_branch_of_another_type_kills_only_its_packet() -> None:
    schema = json.loads(json.dumps(samples.ZTF_JSON))
    candidate = next(f for f in schema["fields"] if f["name"] == "candidate")
    next(f for f in candidate["type"]["fields"] if f["name"] == "rb")["type"] = ["null", "float", "string"]
    parsed = fastavro.parse_schema(schema)
    good, bad = (container(parsed, samples.ztf(candidate={"rb": value})) for value in (0.5, "high"))
    decoded, dead = Decoder(STORE)(batch([good, bad]))
    assert decoded[0].alerts.rows.tolist() == [0]
    assert [found.reason for found in dead] == [Dead.MISSING_FIELD]


@pytest.mark.parametrize("name", ["x" * 100_000, "\ud800", "a\nb\x00", "\u202e"])
def test_names_that_a_sender_chooses_do_no_harm(name: str) -> None:
    schemas = [ztf_with(x=name), ztf_with(**{name: "string"}), {**samples.ZTF_JSON, "name": name}]
    for schema in schemas:
        text = letter(framed(schema, long(-7) + encoded())).text
        assert len(text.encode()) < 1000
        assert text.isprintable()


def test_threads_share_a_decoder() -> None:
    packets = [framed(ztf_with(**{f"x{i}": "null"}), encoded(samples.ztf(candid=i))) for i in range(90)]
    decoder = Decoder(STORE)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda k: decoder(batch(packets[k % 45 : k % 45 + 45])), range(60)))
    for k, (decoded, dead) in enumerate(found):
        assert dead == []
        assert decoded[0].alerts.alert_id.tolist() == list(range(k % 45, k % 45 + 45))


def test_a_schema_that_is_refused_keeps_no_packet_in_memory() -> None:
    decoder = Decoder(STORE)
    refused = [framed(ztf_with(**{f"x{i}": "nobody"}), encoded()) for i in range(3)]
    values = [*refused, framed(b"{", encoded()), gzip.compress(GOOD), GOOD]
    before = [sys.getrefcount(value) for value in values]
    for _ in range(3):
        assert len(decoder(batch(values))[1]) == 4
    gc.collect()
    assert [sys.getrefcount(value) for value in values] == before


def test_bounds_are_settings() -> None:
    many = container(samples.ZTF, samples.ztf(prv_candidates=[samples.previous()] * 50))
    assert letter(many, Limits(array_items=49)).reason == Dead.BOUND_EXCEEDED
    assert letter(GOOD + b"x", Limits(packet_bytes=len(GOOD))).reason == Dead.BOUND_EXCEEDED


def test_records_without_bytes_that_double_are_nothing() -> None:
    (decoded,), dead = Decoder(STORE)(batch([framed(doubling("null"), encoded())]))
    assert dead == []
    assert len(decoded.alerts) == 1


def test_a_thousand_points_may_be_empty() -> None:
    (decoded,), dead = Decoder(STORE)(batch([no_points(900)]))
    assert dead == []
    assert decoded.alerts.not_public.tolist() == [900]


def test_a_batch_of_points_without_bytes_takes_no_memory() -> None:
    values = [no_points(24_000)] * 200
    decoder = Decoder(STORE)
    decoder(batch(values[:1]))
    tracemalloc.start()
    decoded, dead = decoder(batch(values))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert decoded == [] or len(decoded[0].alerts) == 0
    assert len(dead) == 200
    assert peak < 64 * (1000 * 200 + sum(map(len, values)) // 16) + 10e6


def test_ten_thousand_points() -> None:
    packet = container(samples.ZTF, samples.ztf(prv_candidates=[samples.previous()] * 10_000))
    (decoded,), dead = Decoder(STORE)(batch([packet]))
    assert dead == []
    assert decoded.curves.counts.tolist() == [10_001]


def test_every_prefix_of_a_packet_is_dead() -> None:
    packets = [GOOD[:n] for n in range(len(GOOD))]
    decoded, dead = Decoder(STORE)(batch(packets))
    assert decoded == []
    assert [found.row for found in dead] == list(range(len(GOOD)))


def test_more_schemas_than_programs_are_kept() -> None:
    packets = [framed(ztf_with(**{f"x{i}": "null"}), encoded()) for i in range(200)]
    decoder = Decoder(STORE)
    for _ in range(2):
        (decoded,), dead = decoder(batch([*packets, GOOD]))
        assert dead == []
        assert decoded.alerts.rows.tolist() == list(range(201))
    assert len(decoder._programs.known.entries) <= 64


def test_cut_and_swollen_real_packets(real: Real) -> None:
    for packet in (real.ztf_401[0], real.lsst_1000[0], real.lsst_900[0]):
        n = len(packet)
        bad = [packet[:size] for size in (n - 1, n - 1000, n // 2, n // 4)] + [packet + b"\0", packet + packet]
        decoded, dead = Decoder(SchemaStore())(batch([packet, *bad, packet]))
        assert decoded[0].alerts.rows.tolist() == [0, len(bad) + 1]
        assert {found.reason for found in dead} <= {Dead.MALFORMED, Dead.TRAILING_BYTES}


def test_wire_packet_with_the_wrong_schema_is_dead_or_fastavros(rubin: dict[int, Any]) -> None:
    packet = wire(700, samples.LSST, samples.lsst())
    _, dead = Decoder(SchemaStore())(batch([packet]))
    assert [found.reason for found in dead] == [Dead.MALFORMED]
