"""One packet for people, its stamps, containers with many records, codecs, and what happens to odd ones."""

from __future__ import annotations

import gzip
import io
from typing import Any

import cramjam
import fastavro
import pytest

from broker.core.reasons import Dead
from broker.decode import Decoder, Limits, Reject, SchemaStore, containers, framing, read, stamps
from tests.decode import samples
from tests.decode.conftest import Real
from tests.decode.generate import Maker
from tests.decode.oracle import batch, container, fastavro_reads, wire
from tests.decode.test_bad_input import CASES, framed
from tests.decode.test_lsst import Small

STORE = SchemaStore(package=False)


def many(records: list[dict[str, Any]], codec: str = "null", interval: int = 16000) -> bytes:
    out = io.BytesIO()
    fastavro.writer(out, samples.ZTF, records, codec="null" if codec == "zstandard" else codec, sync_interval=interval)
    return zstandard(out.getvalue()) if codec == "zstandard" else out.getvalue()


def zstandard(plain: bytes) -> bytes:
    """The same container with its blocks compressed: fastavro needs another package for that."""
    header = framing.header(plain)
    assert header is not None
    out = [plain[: header.end].replace(b"\x08null", b"\x12zstandard")]
    for block in fastavro.block_reader(io.BytesIO(plain)):
        packed = bytes(cramjam.zstd.compress(block.bytes_.getvalue()))
        out += [Maker(1)._long(block.num_records), Maker(1)._long(len(packed)), packed, header.sync]
    return b"".join(out)


def alerts(n: int) -> list[dict[str, Any]]:
    return [samples.ztf(candid=1000 + i, prv_candidates=[samples.previous()] * i) for i in range(n)]


@pytest.mark.parametrize("codec", ["null", "deflate", "snappy", "zstandard"])
def test_codecs(codec: str) -> None:
    packet = many([samples.ztf(prv_candidates=[samples.previous()] * 40)], codec)
    plain = container(samples.ZTF, samples.ztf())
    (found,), dead = Decoder(STORE)(batch([plain, packet, plain]))
    assert dead == []
    assert found.curves.counts.tolist() == [1, 41, 1]
    assert found.alerts.object_id == ["ZTF20aaaaaaa"] * 3
    assert read(packet, STORE) == fastavro_reads(many([samples.ztf(prv_candidates=[samples.previous()] * 40)]), STORE)
    assert stamps(packet, STORE) == {"cutoutScience": b"\x1f\x8b science"}


def test_a_batch_that_swells_is_decoded_in_turns() -> None:
    packets = [many([record], ("deflate", "null", "snappy", "zstandard")[i % 4]) for i, record in enumerate(alerts(40))]
    whole, turns = (Decoder(STORE, limits)(batch(packets)) for limits in (None, Limits(held_bytes=3000)))
    assert turns[1] == whole[1] == []
    assert turns[0][0].alerts.alert_id.tolist() == list(range(1000, 1040))
    assert turns[0][0].curves.counts.tolist() == whole[0][0].curves.counts.tolist() == list(range(1, 41))
    assert turns[0][0].alerts.object_id == ["ZTF20aaaaaaa"] * 40


def test_gzip_is_unpacked_in_the_order_of_the_batch() -> None:
    plain = [container(samples.ZTF, record) for record in alerts(30)]
    rubin = wire(7, samples.LSST, samples.lsst(diaSource={"diaSourceId": 5}))
    values = [gzip.compress(value) if i % 3 else value for i, value in enumerate(plain)]
    values[7:7] = [b"", gzip.compress(rubin), rubin, b"\x1f\x8bno"]
    for limits in (None, Limits(held_bytes=3000)):
        (ztf, lsst), dead = Decoder(Small(), limits)(batch(values))
        assert ztf.alerts.rows.tolist() == [*range(7), *range(11, 34)]
        assert ztf.alerts.alert_id.tolist() == list(range(1000, 1030))
        assert ztf.curves.counts.tolist() == list(range(1, 31))
        assert lsst.alerts.rows.tolist() == [8, 9]
        assert lsst.alerts.dia_source_id.tolist() == [5, 5]
        assert [(letter.row, letter.reason) for letter in dead] == [(7, Dead.EMPTY), (10, Dead.MALFORMED)]
        assert "offset 10: the packet's gzip" in dead[1].text


def test_a_packet_in_gzip_is_shown() -> None:
    packet = container(samples.ZTF, samples.ztf())
    assert read(gzip.compress(packet), STORE) == read(packet, STORE)
    assert stamps(gzip.compress(packet), STORE) == {"cutoutScience": b"\x1f\x8b science"}


def test_a_wrong_checksum_is_noticed() -> None:
    packet = bytearray(container(samples.ZTF, samples.ztf(), "snappy"))
    packet[-17] ^= 1
    _, dead = Decoder(STORE)(batch([bytes(packet)]))
    assert "checksum" in dead[0].text


@pytest.mark.parametrize("codec", ["null", "deflate", "snappy", "zstandard"])
@pytest.mark.parametrize("interval", [1, 500, 10**6])
def test_split_gives_every_record_once_and_in_order(codec: str, interval: int) -> None:
    packets = list(containers.split(many(alerts(9), codec, interval)))
    plain = list(fastavro.reader(io.BytesIO(many(alerts(9)))))
    assert [fastavro_reads(packet, STORE) for packet in packets] == plain
    (found,), dead = Decoder(STORE)(batch(packets))
    assert dead == []
    assert found.alerts.alert_id.tolist() == list(range(1000, 1009))


def test_split_leaves_the_rest_alone() -> None:
    untouched = [container(samples.ZTF, samples.ztf(), "snappy"), wire(7, samples.LSST, samples.lsst()), b"", b"what"]
    for data in untouched:
        assert list(containers.split(data)) == [data]
    empty = many([])
    assert list(containers.split(empty)) == [empty]


@pytest.mark.parametrize("interval", [1, 10**6])
def test_what_does_not_parse_in_a_container_is_one_dead_packet(interval: int) -> None:
    data = many(alerts(9), interval=interval)
    seen = set()
    for cut in range(300, len(data), 97):
        packets = list(containers.split(data[:cut]))
        decoded, dead = Decoder(STORE)(batch(packets))
        ids = decoded[0].alerts.alert_id.tolist() if decoded else []
        assert ids == list(range(1000, 1000 + len(ids)))
        assert len(dead) <= 1
        assert len(packets) == len(ids) + len(dead)
        seen.add(len(ids))
    assert max(seen) >= (8 if interval == 1 else 0)


def test_a_broken_record_leaves_the_next_block_whole() -> None:
    data = many(alerts(5), interval=1)
    broken = data.replace(b"ZTF20aaaaaaa", b"ZTF20aaaaaaa", 1)
    at = data.index(b"ZTF20aaaaaaa", data.index(b"ZTF20aaaaaaa") + 1) - 1
    broken = data[:at] + b"\x7f" + data[at + 1 :]  # a string with a negative length in the second record
    decoded, dead = Decoder(STORE)(batch(list(containers.split(broken))))
    assert decoded[0].alerts.alert_id.tolist() == [1000, 1002, 1003, 1004]
    assert [letter.row for letter in dead] == [1]


@pytest.mark.parametrize("codec", ["null", "deflate", "snappy", "zstandard"])
@pytest.mark.parametrize("where", ["count", "size", "sync", "gone", "junk"])
@pytest.mark.parametrize("damaged", [0, 3, 8])
def test_a_damaged_block_takes_no_other_with_it(codec: str, where: str, damaged: int) -> None:
    data = many(alerts(9), codec, interval=1)
    sync = data[-16:]
    ends = [at for at in range(len(data) - 15) if data[at : at + 16] == sync]
    start, end = ends[damaged] + 16, ends[damaged + 1]  # the block of record `damaged`, without its marker
    block = {
        "count": b"\xff" * 11 + data[start + 1 : end] + sync,
        "size": data[start : start + 1] + b"\x01" + data[start + 2 : end] + sync,
        "sync": data[start:end] + bytes(16),
        "gone": data[start : (start + end) // 2],
        "junk": b"junk" * 40,
    }[where]
    value = data[:start] + block + data[end + 16 :]
    packets = list(containers.split(value))
    decoded, dead = Decoder(STORE)(batch(packets))
    lost = {1000 + damaged, 1001 + damaged} if where in ("sync", "gone", "junk") else {1000 + damaged}
    assert set(decoded[0].alerts.alert_id.tolist()) >= set(range(1000, 1009)) - lost
    assert len(dead) == 1
    assert len(packets) == len(decoded[0].alerts) + 1


def test_a_container_of_records_without_bytes_ends() -> None:
    nothing = {"type": "record", "name": "nothing", "fields": []}
    out = io.BytesIO()
    fastavro.writer(out, nothing, [{}] * 5)
    assert len(list(containers.split(out.getvalue()))) == 1


def test_split_of_the_real_file(real: Real) -> None:
    packets = list(containers.split(real.lsst_file))
    theirs = list(fastavro.reader(io.BytesIO(real.lsst_file)))
    assert repr([fastavro_reads(packet, STORE) for packet in packets]) == repr(theirs)  # there are NaN in it
    assert all(framing.header(packet) is not None for packet in packets)


def test_read_is_fastavros(real: Real, schemas: SchemaStore) -> None:
    for packet in (real.ztf_401[0], real.ztf_33[0], real.ztf_30[0], real.lsst_900[0], real.lsst_1000[0]):
        assert repr(read(packet, schemas)) == repr(fastavro_reads(packet, schemas))


def test_real_stamps(real: Real, schemas: SchemaStore) -> None:
    record = fastavro_reads(real.ztf_401[0], schemas)
    names = ("cutoutScience", "cutoutTemplate", "cutoutDifference")
    assert stamps(real.ztf_401[0], schemas) == {name: record[name]["stampData"] for name in names}
    assert all(stamp[:2] == b"\x1f\x8b" for stamp in stamps(real.ztf_401[0], schemas).values())
    record = fastavro_reads(real.lsst_900[0], schemas)
    assert stamps(real.lsst_900[0], schemas) == {name: record[name] for name in names}
    assert all(stamp.startswith(b"SIMPLE") for stamp in stamps(real.lsst_900[0], schemas).values())


def test_stamps_of_a_packet_without() -> None:
    assert stamps(wire(1, samples.LSST, samples.lsst(cutoutScience=None)), Small()) == {}


ONLY_COLUMNS = ("object id of 9 MB", "more points than bytes can hold")


@pytest.mark.parametrize(
    "name",
    [n for n, case in CASES.items() if case[1] not in (Dead.BAD_POSITION, Dead.BAD_TIME) and n not in ONLY_COLUMNS],
)
def test_read_refuses_what_the_decoder_refuses(name: str) -> None:
    packet, reason = CASES[name]
    if reason == Dead.MISSING_FIELD:  # any record is readable
        return
    with pytest.raises(Reject) as caught:
        read(packet, STORE)
    assert caught.value.reason == reason


def test_read_shows_packets_of_nobodys() -> None:
    schema = {"type": "record", "name": "r", "fields": [{"name": "x", "type": "int"}]}
    assert read(framed(schema, b"\x04"), STORE) == {"x": 2}


@pytest.mark.parametrize("schema", [b'["null", "int"]', b'"int"', b'{"type": "enum", "name": "e", "symbols": ["A"]}'])
def test_a_schema_that_is_no_record_is_refused_for_people_too(schema: bytes) -> None:
    for reader in (read, stamps):
        with pytest.raises(Reject, match="not a record"):
            reader(framed(schema, b"\0"), STORE)


def test_a_date_that_there_is_not_is_refused_for_people_too() -> None:
    schema = {"type": "record", "name": "r", "fields": [{"name": "x", "type": {"type": "int", "logicalType": "date"}}]}
    with pytest.raises(Reject, match="OverflowError"):
        read(framed(schema, Maker(1)._long(2**31 - 1)), STORE)
