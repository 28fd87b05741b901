"""Subscribers read committed annotations, from where they want, as dicts."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import fastavro
import pytest
from click.testing import CliRunner
from confluent_kafka import Producer

from broker.cli.dlq import dlq
from broker.cli.ledger import ledger
from broker.cli.subscribe import subscribe as command
from broker.cli.topics import topics as topics_command
from broker.client import subscribe
from broker.core.errors import TocsinError
from broker.core.metrics import Recorded
from broker.core.reasons import Outcome
from broker.core.schemas import latest
from broker.core.topics import Topics
from broker.deliver.files import FileSource
from broker.deliver.kafka import KafkaSink
from broker.deliver.loop import run
from tests.conftest import RealKafka
from tests.deliver.fakes import FakeStep, annotation, file_packets, packet, primary

pytestmark = pytest.mark.kafka


@pytest.fixture(scope="module")
def published(kafka: RealKafka) -> Topics:
    """Publish 40 packets: 25 scored, 5 unscored, 5 filtered, 5 dead."""
    topics = Topics(kafka.topic("t"))
    sink = KafkaSink(kafka.config, f"x{topics.prefix}", topics, resume=True, partitions=2)
    run(FileSource(file_packets(Path("/in"), 40)), FakeStep(topics), sink, metrics=Recorded(), primary=primary(topics))
    return topics


def produce(kafka: RealKafka, topic: str, number: int, *, commit: bool) -> None:
    """Publish one annotation in a transaction of a plain producer."""
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": f"{topic}{number}"})
    producer.init_transactions(10)
    producer.begin_transaction()
    schema = latest("annotation")
    producer.produce(
        topic, schema.encode(annotation(number, "in", 0, number, Outcome.SCORED, "")), headers=list(schema.headers)
    )
    producer.flush(10)
    if commit:
        producer.commit_transaction(10)
    else:
        producer.abort_transaction(10)


def test_five_lines_of_python(kafka: RealKafka, published: Topics) -> None:
    with subscribe(published.all("ztf"), brokers=kafka.bootstrap, from_="earliest", once=True) as alerts:
        found = [alert["alertId"] for alert in alerts]
    assert sorted(found) == [n for n in range(40) if n % 8 in (0, 1, 2, 3, 4, 6)]


def test_a_limit_ends_it_and_several_topics_are_one_stream(kafka: RealKafka, published: Topics) -> None:
    both = [published.all("ztf"), published.of_class("ztf", "ia")]
    with subscribe(both, brokers=kafka.bootstrap, from_="earliest", once=True) as alerts:
        assert len(list(alerts)) == 30 + 25
    with subscribe(both, brokers=kafka.bootstrap, from_="earliest", limit=7) as alerts:
        assert len(list(alerts)) == 7


def test_a_group_goes_on_where_it_ended(kafka: RealKafka, published: Topics) -> None:
    def read(limit: int | None) -> list[int]:
        options: dict[str, Any] = {"brokers": kafka.bootstrap, "group": f"g{published.prefix}", "from_": "earliest"}
        with subscribe(published.all("ztf"), limit=limit, once=True, **options) as alerts:
            return [alert["alertId"] for alert in alerts]

    first = read(12)
    rest = read(None)
    assert (len(first), len(rest)) == (12, 18)
    assert not set(first) & set(rest)
    assert read(None) == []


def test_the_one_in_hand_comes_again(kafka: RealKafka, published: Topics) -> None:
    options: dict[str, Any] = {"brokers": kafka.bootstrap, "group": f"h{published.prefix}", "from_": "earliest"}
    with subscribe(published.all("ztf"), **options) as alerts:
        stream = iter(alerts)
        handed = [next(stream)["alertId"] for _ in range(3)]
    with subscribe(published.all("ztf"), once=True, **options) as alerts:
        rest = [alert["alertId"] for alert in alerts]
    assert set(handed[:2]).isdisjoint(rest)
    assert handed[2] in rest


def test_aborted_transactions_are_not_seen_and_latest_means_from_now(kafka: RealKafka) -> None:
    topic = kafka.topic("all")
    produce(kafka, topic, 1, commit=True)
    produce(kafka, topic, 2, commit=False)
    with subscribe(topic, brokers=kafka.bootstrap, limit=1) as alerts:
        got: list[int] = []
        reader = threading.Thread(target=lambda: got.extend(alert["alertId"] for alert in alerts))
        reader.start()
        time.sleep(1.5)
        began = time.monotonic()
        produce(kafka, topic, 3, commit=True)
        reader.join(20)
        assert got == [3]
        assert time.monotonic() - began < 5
    with subscribe(topic, brokers=kafka.bootstrap, from_="earliest", once=True) as alerts:
        assert [alert["alertId"] for alert in alerts] == [1, 3]


def test_from_a_time(kafka: RealKafka) -> None:
    topic = kafka.topic("all")
    produce(kafka, topic, 1, commit=True)
    time.sleep(1.1)
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    produce(kafka, topic, 2, commit=True)
    with subscribe(topic, brokers=kafka.bootstrap, from_=now, once=True) as alerts:
        assert [alert["alertId"] for alert in alerts] == [2]


def test_what_is_wrong_is_said(kafka: RealKafka) -> None:
    with pytest.raises(TocsinError, match="expected latest, earliest or an ISO time, got 'yesterday'"):
        subscribe("t", from_="yesterday")
    with (
        subscribe("no-such-topic", brokers=kafka.bootstrap, once=True) as alerts,
        pytest.raises(TocsinError, match="there is no topic no-such-topic"),
    ):
        next(iter(alerts))
    raw = kafka.topic("raw")
    kafka.send(raw, [b"Obj\x01 not ours"])
    with (
        subscribe(raw, brokers=kafka.bootstrap, from_="earliest", once=True) as alerts,
        pytest.raises(TocsinError, match=f"{raw}/0/0 is not a record of ours"),
    ):
        next(iter(alerts))


def invoke(kafka: RealKafka, command_: Any, *args: str) -> tuple[int, str]:
    result = CliRunner().invoke(command_, [*args, "--brokers", kafka.bootstrap])
    return result.exit_code, result.output


def test_the_command_prints_json_lines_and_saves(kafka: RealKafka, published: Topics, tmp_path: Path) -> None:
    arguments = [published.all("ztf"), "--from", "earliest", "--once"]
    code, text = invoke(kafka, command, *arguments, "--json", "--save", str(tmp_path))
    lines = [json.loads(line) for line in text.splitlines()]
    assert (code, len(lines)) == (0, 30)
    saved = []
    for path in tmp_path.glob("*.avro"):
        with path.open("rb") as file:
            saved += [record["alertId"] for record in fastavro.reader(file) if isinstance(record, dict)]
    assert sorted(saved) == sorted(line["alertId"] for line in lines)
    code, text = invoke(kafka, command, *arguments, "--limit", "3")
    assert (code, len(text.splitlines())) == (0, 3)
    assert "object" in text
    code, text = invoke(kafka, command, published.ledger, "--from", "earliest", "--once")
    assert "40 received, 25 scored, 5 filtered, 5 dead" in text


def test_a_raw_packet_is_saved_untouched(kafka: RealKafka, tmp_path: Path) -> None:
    topic = kafka.topic("raw")
    kafka.send(topic, [b"Obj\x01 a survey's packet", b"\0\0\0\4\x4c and another"])
    code, _ = invoke(kafka, command, topic, "--from", "earliest", "--once", "--save", str(tmp_path))
    assert code == 0
    assert sorted(path.read_bytes() for path in tmp_path.iterdir()) == sorted(
        [b"Obj\x01 a survey's packet", b"\0\0\0\4\x4c and another"]
    )


def test_ledger_and_dlq_commands_on_kafka(kafka: RealKafka, published: Topics, tmp_path: Path) -> None:
    code, text = invoke(kafka, ledger, "kafka", "--topics", published.prefix, "--json")
    assert code == 0
    found = json.loads(text)
    assert (found["received"], found["scored"], found["balanced"]) == (40, 25, True)
    code, text = invoke(kafka, ledger, "kafka", "--topics", published.prefix)
    assert "dead-lettered: malformed" in text
    assert text.endswith("balanced\n")
    code, text = invoke(kafka, dlq, "list", "kafka", "--topics", published.prefix, "--json", "--limit", "2")
    first = json.loads(text.splitlines()[0])
    assert (first["number"], first["reason"], first["stage"], first["packetBytes"]) == (0, "malformed", "decode", 64)
    out = tmp_path / "packet"
    code, text = invoke(kafka, dlq, "show", "kafka", "0", "--topics", published.prefix, "--out", str(out))
    assert code == 0
    assert out.read_bytes() in {packet(n) for n in range(40) if n % 8 == 7}
    assert "is broken" in text


def test_topics_create_is_idempotent(kafka: RealKafka) -> None:
    prefix = kafka.topic("made")
    code, text = invoke(kafka, topics_command, "create", "--topics", prefix, "--survey", "ztf", "--json")
    made = json.loads(text)["made"]
    assert code == 0
    assert {f"{prefix}.ztf.all", f"{prefix}.dead-letters", f"{prefix}.ledger"} <= set(made)
    code, text = invoke(kafka, topics_command, "create", "--topics", prefix, "--survey", "ztf", "--json")
    assert json.loads(text)["made"] == []
