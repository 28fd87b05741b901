"""Mutated packets: flipped bits, cuts, moved and doubled pieces. Where both accept, our values are fastavro's."""

from __future__ import annotations

import random
from typing import Any

import pytest

from broker.decode import Decoder, SchemaStore
from broker.decode.limits import Limits, Reject
from broker.decode.packets import body_of
from tests.decode import samples
from tests.decode.conftest import Real
from tests.decode.oracle import batch, captured, container, decode, expected, fastavro_reads, wire

PER_PACKET = 250
# What fastavro raises at bytes that are no packet.
REFUSALS = (EOFError, IndexError, ValueError, KeyError, TypeError, OverflowError, MemoryError)


def mutated(packet: bytes, first: int, pick: random.Random) -> bytes:
    """One to three small injuries behind byte ``first``, near the front more often than in the stamps."""
    out = bytearray(packet)
    for _ in range(pick.choice((1, 1, 1, 2, 3))):
        reach = len(out) - first if pick.random() < 0.3 else min(len(out) - first, 4000)
        at = first + pick.randrange(max(reach, 1))
        kind = pick.random()
        if kind < 0.7:
            out[at % len(out)] ^= 1 << pick.randrange(8)
        elif kind < 0.8:
            del out[at : at + pick.randrange(1, 9)]
        elif kind < 0.9:
            out[at:at] = pick.randbytes(pick.randrange(1, 9))
        else:
            out[at : at + 4] = pick.choice((b"\xff" * 4, b"\0" * 4, b"\x80" * 4))
    return bytes(out)


def body_start(packet: bytes, schemas: SchemaStore) -> int:
    return len(packet) - 16 - len(body_of(packet, schemas, Limits())[1]) if packet[:1] == b"O" else 5


def compare(packets: list[bytes], schemas: SchemaStore, seed: int, n: int) -> tuple[int, int]:
    """Mutate ``n`` times, decode as one batch among good packets; return how many both accept, and how many we do."""
    pick = random.Random(seed)
    values = []
    for _ in range(n):
        packet = pick.choice(packets)
        values += [packet, mutated(packet, body_start(packet, schemas), pick)]
    framed = [i for i, value in enumerate(values) if parses(value, schemas)]
    projection, tables, ends = decode([values[i] for i in framed], schemas)
    good = [i for i, end in zip(framed, ends[:, 0].tolist(), strict=True) if end == 0]
    decoded, dead = Decoder(schemas)(batch(values))
    alive = {row for part in decoded for row in part.alerts.rows.tolist()}
    assert sorted([*alive, *(letter.row for letter in dead)]) == list(range(2 * n))
    assert set(range(0, 2 * n, 2)) <= alive <= set(good)
    both = 0
    for k, i in enumerate(good):
        try:
            record = fastavro_reads(values[i], schemas)
        except REFUSALS:  # text that we do not read, and that is not UTF-8
            assert i % 2
            continue
        both += i % 2
        assert captured(tables, k, projection) == expected(record, projection)
    return both, len(good) - n


def parses(value: bytes, schemas: SchemaStore) -> bool:
    try:
        body_of(value, schemas, Limits())
    except Reject:
        return False
    return True


@pytest.mark.parametrize("name", ["ztf_401", "ztf_33", "ztf_30", "lsst_900", "lsst_1000"])
def test_mutated_real_packets(name: str, real: Real, schemas: SchemaStore) -> None:
    n = 60 if name == "lsst_1000" else PER_PACKET  # fastavro takes 20 ms for one of these
    both, ours = compare(getattr(real, name), schemas, seed=20261123, n=n)
    assert both > n // 10
    assert both > ours // 2


class Small(SchemaStore):
    """The small Rubin schema, under every id."""

    def get(self, schema_id: int) -> bytes:
        import json

        return json.dumps(samples.LSST_JSON).encode()


@pytest.mark.parametrize("survey", ["ztf", "lsst"])
def test_mutated_small_packets(survey: str) -> None:
    points: list[dict[str, Any]] = [{}, {"band": "r"}, {"band": None, "psfFlux": None}] * 3
    if survey == "ztf":
        record = samples.ztf(prv_candidates=[samples.previous()] * 7, fp_hists=[samples.forced()] * 5)
        packets = [container(samples.ZTF, record), container(samples.ZTF, samples.ztf())]
    else:
        record = samples.lsst(prvDiaSources=[samples.source(**change) for change in points], ssSource={"ssObjectId": 7})
        packets = [wire(1, samples.LSST, record), wire(1, samples.LSST, samples.lsst())]
    both, _ = compare(packets, Small(), seed=7, n=1500)
    assert both > 300
