"""Partnership data never reaches a public topic: not as a packet, not as a point that changes any number."""

from __future__ import annotations

import io
import random
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import pytest

from broker.archive import simulate
from broker.cli import assemble, candidates
from broker.client import subscribe
from broker.core.batch import PacketBatch
from broker.core.metrics import Recorded
from broker.core.reasons import Outcome
from broker.core.schemas import decode
from broker.core.topics import Topics
from broker.deliver.kafka.reader import read_messages
from tests.conftest import RealKafka
from tests.faults.verifier import verify_kafka
from tests.packets import Packet, edited

from .serving import Serving, settings

HISTORIES = ("prv_candidates", "fp_hists")
# what a partnership point would do to any summary, fit or score that it got into
LOUD = {"prv_candidates": {"magpsf": 12.5, "sigmapsf": 0.001}, "fp_hists": {"forcediffimflux": 9e6}}


def as_partnership(programid: int) -> Callable[[Packet], None]:
    """Return a change that makes a packet public (1), the partnership's (2) or Caltech's (3)."""
    return lambda record: record["candidate"].__setitem__("programid", programid)


def public_only(record: Packet) -> None:
    """Leave the public part of a packet, and call it public."""
    record["candidate"]["programid"] = 1
    for name in HISTORIES:
        record[name] = [row for row in record[name] or [] if row["programid"] == 1] or None


def with_partnership_points(seed: int) -> Callable[[Packet], None]:
    """Return a change that puts loud points of partnership programs among a packet's history."""

    def change(record: Packet) -> None:
        chance = random.Random(seed)
        for name in HISTORIES:
            rows = list(record[name] or [])
            for row in [row for row in rows if chance.random() < 0.5]:
                hidden = {**row, **LOUD[name], "programid": chance.choice((2, 3)), "jd": row["jd"] + 0.3}
                rows.insert(chance.randrange(len(rows) + 1), hidden)
            record[name] = rows or None

    return change


def hidden(value: bytes) -> int:
    """Count the points in a packet that are not public."""
    (record,) = fastavro.reader(io.BytesIO(value))
    assert isinstance(record, dict)
    return sum(row["programid"] != 1 for name in HISTORIES for row in record[name] or [])


def night(count: int) -> tuple[list[bytes], list[bytes]]:
    """Return public packets, and the same with partnership points among their histories."""
    clean = [packet.value for packet in simulate.night("ztf", count, 11)]
    clean = [edited(value, public_only) for value in clean]  # the simulated night has its own partnership data
    return clean, [edited(value, with_partnership_points(seed)) for seed, value in enumerate(clean)]


def batch(values: list[bytes]) -> PacketBatch:
    size = len(values)
    partitions, offsets = np.zeros(size, np.int32), np.arange(size, dtype=np.int64)
    return PacketBatch(values, ["in"] * size, partitions, offsets, np.full(size, -1, np.int64), 0)


def without_count(annotation: dict[str, Any]) -> dict[str, Any]:
    """Return an annotation without what may differ: when it was made, and how many points were left out."""
    points = {**annotation["points"], "notPublic": None}
    return {**annotation, "points": points, "brokerIngestTimestamp": None, "brokerPublishTimestamp": None}


def test_partnership_points_change_nothing_but_their_count(tmp_path: Path) -> None:
    """Every network on, and one in the shadow: all that is published is what it is without those points."""
    from broker.core.config import load

    chosen = {"run.cache_dir": tmp_path, "output.class_threshold": 0.1, "score.shadow": ["ztf-gru"]}
    loaded = load(None, chosen)
    step = assemble.pipeline(loaded, Recorded(), shadows=candidates.shadows(loaded))
    clean, mixed = night(60)
    counts = [hidden(value) for value in mixed]
    assert sum(counts) > 500
    found = [step(batch(values)) for values in (clean, mixed)]
    assert found[0].code.tolist() == found[1].code.tolist()
    assert np.count_nonzero(found[0].code == Outcome.SCORED) > 30
    assert len({record.topic for record in found[0].records}) >= 4
    assert Topics().shadow("ztf-gru", "ztf") in {record.topic for record in found[0].records}
    for one, other in zip(found[0].records, found[1].records, strict=True):
        assert (one.row, one.topic, one.key) == (other.row, other.topic, other.key)
        expected, annotation = (decode(r.value, list(r.headers), "annotation") for r in (one, other))
        assert without_count(annotation) == without_count(expected)
        assert (expected["points"]["notPublic"], annotation["points"]["notPublic"]) == (0, counts[one.row])


def test_the_change_would_be_seen(tmp_path: Path) -> None:
    """The points are loud: called public, they change the annotations."""

    def public(record: Packet) -> None:
        for name in HISTORIES:
            for row in record[name] or []:
                row["programid"] = 1

    step = assemble.pipeline(settings(run__cache_dir=tmp_path), Recorded())
    clean, mixed = night(20)
    found = [step(batch(values)) for values in (clean, [edited(value, public) for value in mixed])]
    pairs = [
        [decode(r.value, list(r.headers), "annotation") for r in outcomes.records if r.topic.endswith(".all")]
        for outcomes in found
    ]
    differ = [without_count(a)["summary"] != without_count(b)["summary"] for a, b in zip(*pairs, strict=True)]
    assert np.mean(differ) > 0.8


@pytest.mark.kafka
def test_no_public_topic_carries_any(kafka: RealKafka, tmp_path: Path) -> None:
    """The real service with raw copies on: each topic under its prefix is read to its end."""
    prefix = f"p{uuid.uuid4().hex[:8]}"
    topics, topic = Topics(prefix), kafka.topic("ztf", 2)
    _, mixed = night(40)
    secret = [edited(value, as_partnership(2 + n % 2)) for n, value in enumerate(mixed[:15])]
    broken = [value[:-7] for value in secret[:3]]  # partnership data that cannot be understood
    kafka.send(topic, [value for group in zip(mixed, [*secret, *broken, *[b""] * 22], strict=True) for value in group])
    chosen = settings(
        kafka__brokers=kafka.bootstrap,
        source__topics=[topic],
        source__group=prefix,
        output__prefix=prefix,
        output__raw=True,
        output__class_threshold=0.0,
        output__anomaly_percentile=0.0,
        score__classifiers={"ztf": ["ztf-gru"], "lsst": []},
        score__anomaly={"ztf": "ztf-anomaly", "lsst": ""},
        score__shadow=["ztf-transformer"],
        dlq__max_ratio=1.0,
        run__cache_dir=tmp_path,
    )
    run(chosen, 80)
    sent = {(m.topic(), m.partition(), m.offset()): m.value() or b"" for m in read_messages(kafka.config, [topic])}
    written = [name for name in kafka.admin.list_topics(timeout=10).topics if name.startswith(f"{prefix}.")]
    public = [name for name in written if not topics.is_operators(name)]
    assert {topics.all("ztf"), topics.anomaly("ztf"), topics.shadow("ztf-transformer", "ztf")} < set(public)
    assert sum(".class." in name for name in public) >= 3
    for name in public:
        with subscribe(name, brokers=kafka.bootstrap, from_="earliest", once=True) as annotations:
            for annotation in annotations:
                place = annotation["source"]
                value = sent[place["topic"], place["partition"], place["offset"]]
                assert value in mixed, f"{name} tells of a packet that is not public"
                assert annotation["points"]["notPublic"] == hidden(value)
    assert verify_kafka(kafka.bootstrap, [topic], prefix).sound
    the_operators_own(kafka, topics, mixed, secret, broken)


def run(chosen: Any, packets: int) -> None:
    serving = Serving(chosen)
    serving.thread.start()
    try:
        serving.until(lambda: serving.received >= packets, 120)
    finally:
        serving.stop.set()
        serving.thread.join(60)


def the_operators_own(
    kafka: RealKafka, topics: Topics, mixed: list[bytes], secret: list[bytes], broken: list[bytes]
) -> None:
    """Raw copies are public packets, whole, history and all; dead letters whatever came; the ledger has places only."""
    raw = [message.value() for message in read_messages(kafka.config, [topics.raw("ztf")])]
    assert raw
    assert set(raw) <= set(mixed)
    assert not set(raw) & set(secret)
    with subscribe(topics.dead_letters, brokers=kafka.bootstrap, from_="earliest", once=True) as letters:
        assert {letter["packet"] for letter in letters} == {*broken, b""}
    with subscribe(topics.ledger, brokers=kafka.bootstrap, from_="earliest", once=True) as ledgers:
        reasons = [entry["reason"] for ledger in ledgers for entry in ledger["filtered"]]
    assert reasons.count("programid") == len(secret)
