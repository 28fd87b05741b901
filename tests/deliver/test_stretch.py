"""A topic read like a file: what senders and Kafka's retention do to it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from confluent_kafka import Producer

from broker.cli.ledger import _count_topics
from broker.core.errors import Stop, TocsinError
from broker.core.metrics import Recorded
from broker.core.topics import Topics
from broker.deliver.files import FileSink, FileSource
from broker.deliver.kafka.stretch import stretch
from broker.deliver.loop import run
from broker.deliver.outputs import KafkaOutputs
from broker.deliver.recount import recount_kafka
from tests.conftest import RealKafka

from .fakes import FakeStep, packet, primary
from .test_kafka import delete_before, running

pytestmark = pytest.mark.kafka


def test_a_time_stamp_beyond_all_dates_is_cut_and_all_can_be_read_back(kafka: RealKafka) -> None:
    topic, prefix = kafka.topic("in", 1, **{"message.timestamp.after.max.ms": str(2**63 - 1)}), f"t{time.time_ns()}"
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    for n, stamp in enumerate((10**17, 10**17, 1_700_000_000_000, 10**17, 10**17, 10**17, 10**17, 10**17)):
        producer.produce(topic, packet(n), timestamp=stamp)
    assert producer.flush(10) == 0
    with running(kafka, [topic], prefix) as service:
        service.until(lambda: len(service.step.seen) == 8)
    outputs = KafkaOutputs(kafka.config, Topics(prefix))
    (letter,) = outputs.dead_letters()
    assert letter["timestamp"].year == 9999
    assert recount_kafka(kafka.config, Topics(prefix))["balanced"]
    replayed = [p.timestamp_ms for p in stretch(kafka.config, topic).packets(lambda *_: False) if p is not None]
    assert max(replayed) == 253_402_300_799_999
    assert 1_700_000_000_000 in replayed


def test_packets_that_expire_while_a_stretch_is_read_are_named(kafka: RealKafka) -> None:
    topic = kafka.topic()
    kafka.send(topic, [packet(n) for n in range(50)])
    part = stretch(kafka.config, topic)
    delete_before(kafka, topic, 20)
    read: list[int] = []
    with pytest.raises(Stop, match=f"offsets 0 to 19 of {topic}/0 expired"):
        read.extend(found.record for found in part.packets(lambda *_: False) if found is not None)
    assert read == list(range(20, 50))


def test_a_replay_balances_when_its_source_has_expired_since(
    kafka: RealKafka, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    topic, topics = kafka.topic(), Topics("t")
    kafka.send(topic, [packet(n) for n in range(50)])
    outputs, due = FileSink(tmp_path, primary=primary(topics)), primary(topics)
    packets = (p for p in stretch(kafka.config, topic).packets(lambda *_: False) if p is not None)
    run(FileSource(packets), FakeStep(topics), outputs, metrics=Recorded(), primary=due)
    assert _count_topics(tmp_path, [topic], kafka.config) == 50
    assert capsys.readouterr().err == ""
    delete_before(kafka, topic, 20)
    assert _count_topics(tmp_path, [topic], kafka.config) == 50
    assert "20 packets are on their topics no more" in capsys.readouterr().err


def test_a_wrong_setting_is_told(tmp_path: Path) -> None:
    settings = {"bootstrap.servers": "localhost:1", "security.protocol": "ssl", "ssl.ca.location": str(tmp_path / "no")}
    with pytest.raises(TocsinError, match="does not take the settings"):
        stretch(settings, "in")
