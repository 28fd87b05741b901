"""What only Kafka can do to us: expired offsets, topics that come late, servers that go away, names that clash."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import date
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, Producer, TopicPartition

from broker.cli import kafkaserver
from broker.core.batch import FilePacket, PacketBatch
from broker.core.errors import Stop, TocsinError, Wait
from broker.core.metrics import Recorded
from broker.core.topics import Topics
from broker.deliver.files import FileSource
from broker.deliver.kafka import KafkaSink, KafkaSource, claim_member, ends, sink
from broker.deliver.kafka import source as kafka_source
from broker.deliver.kafka.reader import read_messages, read_records
from broker.deliver.loop import Totals, run
from broker.deliver.raw import copy_to_directory, copy_to_kafka
from broker.deliver.recount import recount_kafka
from broker.deliver.registry import Registry
from broker.deliver.types import Bounds
from tests.conftest import RealKafka

from .fakes import FakeStep, packet, primary

pytestmark = pytest.mark.kafka


class Running:
    """A service in a thread of this process."""

    def __init__(self, kafka: RealKafka, topics: list[str], prefix: str, **options: Any) -> None:
        self.stop, self.metrics, self.step = threading.Event(), Recorded(), FakeStep(Topics(prefix))
        self.totals: Totals | None = None
        self.error: BaseException | None = None
        config = options.pop("config", kafka.config)
        self.step.pause_s = options.pop("pause_s", 0.0)
        bounds = options.pop("bounds", Bounds())
        outputs = KafkaSink(config, options.pop("transactional_id", f"x{prefix}"), Topics(prefix))
        source = KafkaSource(config, topics, f"g{prefix}", metrics=self.metrics, **options)
        self.thread = threading.Thread(target=self._run, args=(source, outputs, bounds))
        self.thread.start()

    def _run(self, source: KafkaSource, outputs: KafkaSink, bounds: Bounds) -> None:
        due = primary(self.step.topics)
        try:
            self.totals = run(
                source,
                self.step,
                outputs,
                metrics=self.metrics,
                bounds=bounds,
                primary=due,
                stop=self.stop,
                drain_s=3.0,
            )
        except TocsinError as error:
            self.error = error

    def until(self, reached: Callable[[], bool], timeout_s: float = 30) -> None:
        end = time.monotonic() + timeout_s
        while not reached():
            assert time.monotonic() < end, "it takes too long"
            assert self.thread.is_alive(), self.error
            time.sleep(0.02)

    def end(self) -> None:
        self.stop.set()
        self.thread.join(30)
        assert not self.thread.is_alive()


@contextmanager
def running(*args: Any, **options: Any) -> Iterator[Running]:
    service = Running(*args, **options)
    try:
        yield service
    finally:
        service.end()


def delete_before(kafka: RealKafka, topic: str, offset: int) -> None:
    admin = kafka.admin
    for future in admin.delete_records([TopicPartition(topic, 0, offset)]).values():
        future.result()


def test_offsets_that_expired_unread_are_a_named_gap(kafka: RealKafka, caplog: pytest.LogCaptureFixture) -> None:
    topic = kafka.topic()
    prefix = f"t{topic}"
    kafka.send(topic, [packet(n) for n in range(100)])
    with running(kafka, [topic], prefix) as service:
        service.until(lambda: len(service.step.seen) == 100)
    kafka.send(topic, [packet(n) for n in range(100, 150)])
    delete_before(kafka, topic, 130)
    with running(kafka, [topic], prefix) as service:
        service.until(lambda: len(service.step.seen) == 20)
        assert service.metrics.counters["alerts_expired_total", (("topic", topic),)] == 30
    assert service.step.seen == list(range(130, 150))
    found = recount_kafka(kafka.config, Topics(prefix), verify_source=True)
    assert found["gaps"] == [{"topic": topic, "partition": 0, "first": 100, "last": 129}]
    assert (found["received"], found["expired"], found["balanced"]) == (120, 30, True)
    assert any(f"offsets 100 to 129 of {topic}/0 expired unread" in message for message in caplog.messages)


def test_a_gap_is_committed_though_no_packet_follows(kafka: RealKafka) -> None:
    topic = kafka.topic()
    kafka.send(topic, [packet(n) for n in range(20)])
    with running(kafka, [topic], f"t{topic}") as service:
        service.until(lambda: len(service.step.seen) == 20)
    kafka.send(topic, [packet(n) for n in range(20, 30)])
    delete_before(kafka, topic, 30)
    expired = "alerts_expired_total", (("topic", topic),)
    with running(kafka, [topic], f"t{topic}") as service:
        service.until(lambda: service.metrics.counters[expired] == 10)
    found = recount_kafka(kafka.config, Topics(f"t{topic}"))
    assert (found["received"], found["expired"], found["balanced"]) == (20, 10, True)
    with running(kafka, [topic], f"t{topic}") as service:
        time.sleep(1.5)
    assert not service.metrics.counters[expired], "it is told once"


def test_a_topic_that_is_made_while_transactions_are_awaited(kafka: RealKafka, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service makes its topics when it starts: a ledger that looks at that moment had ended with a KeyError."""
    first, second, looked = kafka.topic(), f"{kafka.topic()}.later", ends._ends

    def looks(*arguments: Any) -> ends.Ends:
        found = looked(*arguments)
        if not made:
            kafka.make(second)
            made.append(second)
        return found

    made: list[str] = []
    monkeypatch.setattr(ends, "_ends", looks)
    ends.settle(kafka.config, [first, second])
    assert made


def test_a_position_that_expires_while_we_read(kafka: RealKafka) -> None:
    """Retention overtakes a slow reader: what it had fetched counts as read, the rest is a gap."""
    topic = kafka.topic()
    kafka.send(topic, [packet(n, 20_000) for n in range(2000)])
    config = {
        **kafka.config,
        "fetch.message.max.bytes": 100_000,
        "queued.min.messages": 1,
        "queued.max.messages.kbytes": 100,
    }
    with running(kafka, [topic], f"t{topic}", config=config, pause_s=0.3, bounds=Bounds(max_alerts=5)) as service:
        service.until(lambda: len(service.step.seen) >= 10)
        delete_before(kafka, topic, 1990)
        service.step.pause_s = 0.0
        service.until(lambda: 1999 in service.step.seen)
    found = recount_kafka(kafka.config, Topics(f"t{topic}"), verify_source=True)
    assert found["balanced"]
    assert found["expired"] > 1000
    assert found["received"] + found["expired"] == 2000


def test_a_partition_seen_for_the_first_time_starts_at_its_beginning(kafka: RealKafka) -> None:
    topic = kafka.topic()
    kafka.send(topic, [packet(n) for n in range(50)])
    delete_before(kafka, topic, 20)
    with running(kafka, [topic], f"t{topic}") as service:
        service.until(lambda: len(service.step.seen) == 30)
    assert recount_kafka(kafka.config, Topics(f"t{topic}"))["gaps"] == [], "nobody owed us those"


def test_a_topic_that_was_made_anew_stops_us(kafka: RealKafka) -> None:
    topic = kafka.topic()
    kafka.send(topic, [packet(n) for n in range(5)])
    admin = kafka.admin
    ahead = ConsumerGroupTopicPartitions(f"gt{topic}", [TopicPartition(topic, 0, 99)])
    for future in admin.alter_consumer_group_offsets([ahead]).values():
        future.result()
    with running(kafka, [topic], f"t{topic}") as service:
        service.thread.join(20)
    assert isinstance(service.error, Stop)
    assert "was the topic made anew" in str(service.error)


def test_tonights_topic_is_awaited_and_midnight_passes(kafka: RealKafka, caplog: pytest.LogCaptureFixture) -> None:
    stem = kafka.topic("night")
    tonight = [date(2026, 11, 22)]
    pattern = f"{stem}_{{date}}_programid1"
    options = {"refresh_s": 0.3, "tonight": lambda: tonight[0]}
    with running(kafka, [pattern], f"t{stem}", **options) as service:
        time.sleep(1.5)
        assert service.thread.is_alive()
        kafka.make(f"{stem}_20261122_programid1")
        kafka.send(f"{stem}_20261122_programid1", [packet(n) for n in range(10)])
        service.until(lambda: len(service.step.seen) == 10)
        kafka.make(f"{stem}_20261123_programid1")
        kafka.send(f"{stem}_20261123_programid1", [packet(n) for n in range(10, 20)])
        time.sleep(1.0)
        assert len(service.step.seen) == 10, "tomorrow is not read today"
        tonight[0] = date(2026, 11, 23)
        service.until(lambda: len(service.step.seen) == 20)
        kafka.send(f"{stem}_20261122_programid1", [packet(20)])
        service.until(lambda: len(service.step.seen) == 21)
    waiting = [message for message in caplog.messages if "do not exist yet" in message]
    assert 1 <= len(waiting) <= 4, "said when it changes, not at every look"
    assert recount_kafka(kafka.config, Topics(f"t{stem}"))["received"] == 21


def test_kafka_is_awaited_at_the_start_and_while_it_is_away(kafka: RealKafka) -> None:
    before, late = kafka.topic(), kafka.topic()
    kafka.send(before, [packet(n) for n in range(40)])
    kafka.send(late, [packet(n) for n in range(40)])
    port, config = int(kafka.bootstrap.split(":")[1]), kafka.config
    with running(kafka, [before], f"t{before}") as service:
        service.until(lambda: len(service.step.seen) == 40)
        kafkaserver.down(kafka.directory)
        with running(kafka, [late], f"t{late}", config=config) as other:
            other.until(lambda: other.metrics.counters["waits_total", (("what", "start"),)] > 0)
            kafkaserver.up(kafka.directory, kafka.libs, port=port)
            kafka.send(before, [packet(n) for n in range(40, 80)])
            other.until(lambda: len(other.step.seen) == 40, 60)
        service.until(lambda: len(service.step.seen) >= 80, 60)
    for topic, count in ((before, 80), (late, 40)):
        found = recount_kafka(config, Topics(f"t{topic}"), verify_source=True)
        assert (found["received"], found["balanced"]) == (count, True)


def test_without_kafka_a_request_to_stop_ends_the_wait(kafka: RealKafka, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sink, "CALL_S", 1.0)
    config = {"bootstrap.servers": f"127.0.0.1:{kafkaserver.free_port()}"}
    service = Running(kafka, ["in"], "t-nowhere", config=config)
    service.until(lambda: service.metrics.counters["waits_total", (("what", "start"),)] > 0)
    began = time.monotonic()
    service.end()
    assert time.monotonic() - began < 15
    assert service.totals is not None
    assert service.totals.received == 0


def test_a_dead_letter_of_twenty_megabytes(kafka: RealKafka) -> None:
    topic = kafka.topic("in", 1, **{"max.message.bytes": "33554432"})
    large = b"d" + os.urandom(20_000_000)
    kafka.send(topic, [packet(0), large, packet(1)])
    with running(kafka, [topic], f"t{topic}") as service:
        service.until(lambda: len(service.step.seen) == 3)
    found = recount_kafka(kafka.config, Topics(f"t{topic}"))
    assert (found["received"], found["dead_lettered"], found["balanced"]) == (3, {"malformed": 1}, True)


class _FakeRegistry(BaseHTTPRequestHandler):
    """Confluent's API, as far as we use it: it answers 503 first, then gives ids from 4711 on."""

    subjects: ClassVar[list[str]] = []
    refusals: ClassVar[list[int]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status = self.refusals.pop() if self.refusals else 200
        self.send_response(status)
        self.end_headers()
        if status == 200:
            assert json.loads(json.loads(body)["schema"])["type"] == "record"
            self.subjects.append(self.path)
            self.wfile.write(json.dumps({"id": 4710 + len(self.subjects)}).encode())

    def log_message(self, *args: object) -> None: ...


def test_schemas_are_registered_and_a_registry_that_is_away_is_awaited(kafka: RealKafka) -> None:
    _FakeRegistry.subjects, _FakeRegistry.refusals = [], [503]
    with HTTPServer(("127.0.0.1", 0), _FakeRegistry) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        topic = kafka.topic()
        topics, metrics = Topics(f"t{topic}"), Recorded()
        registry = Registry(f"http://127.0.0.1:{server.server_port}")
        outputs = KafkaSink(kafka.config, f"x{topic}", topics, registry=registry, resume=True)
        packets = [FilePacket("/in", n, packet(n)) for n in range(20)]
        run(FileSource(packets), FakeStep(topics), outputs, metrics=metrics, primary=primary(topics))
        server.shutdown()
        thread.join()
    assert metrics.counters["waits_total", (("what", "commit"),)] == 1
    subjects = [path.split("/")[2] for path in _FakeRegistry.subjects]
    written = [topics.all("ztf"), topics.of_class("ztf", "ia"), topics.dead_letters, topics.ledger]
    assert sorted(subjects) == sorted(f"{name}-value" for name in written)
    for message in read_messages(kafka.config, written):
        expected = 4711 + subjects.index(f"{message.topic()}-value")
        assert int.from_bytes((message.value() or b"")[1:5], "big") == expected
    assert recount_kafka(kafka.config, topics)["balanced"], "our clients find the schema by the header"


def test_a_registry_that_refuses_a_schema_stops_us(kafka: RealKafka) -> None:
    _FakeRegistry.subjects, _FakeRegistry.refusals = [], [409]
    with HTTPServer(("127.0.0.1", 0), _FakeRegistry) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        topics = Topics(kafka.topic("t"))
        registry = Registry(f"http://127.0.0.1:{server.server_port}", "me", "secret")
        outputs = KafkaSink(kafka.config, f"x{topics.prefix}", topics, registry=registry, resume=True)
        due = primary(topics)
        with pytest.raises(Stop, match=r"refuses annotation 1\.0 for") as error:
            run(
                FileSource([FilePacket("/in", 0, packet(0))]),
                FakeStep(topics),
                outputs,
                metrics=Recorded(),
                primary=due,
            )
        server.shutdown()
        thread.join()
    assert "secret" not in str(error.value)


def test_a_replay_to_kafka_goes_on_where_it_ended(kafka: RealKafka) -> None:
    topics = Topics(kafka.topic("replay"))
    packets = [FilePacket(f"/in/{n // 7}", n % 7, packet(n)) for n in range(100)]

    def replay(step: FakeStep, stop: threading.Event | None = None) -> Totals:
        outputs = KafkaSink(kafka.config, f"replay-{topics.prefix}", topics, resume=True)
        bounds = Bounds(max_alerts=15)
        due = primary(topics)
        return run(FileSource(packets), step, outputs, metrics=Recorded(), bounds=bounds, primary=due, stop=stop)

    stop = threading.Event()
    step = FakeStep(topics)
    step.before = lambda batch: stop.set() if step.calls == 3 else None
    assert replay(step, stop).received == 45
    assert replay(FakeStep(topics)).received == 55
    assert replay(FakeStep(topics)).received == 0
    found = recount_kafka(kafka.config, topics)
    assert (found["received"], found["balanced"]) == (100, True)


def test_raw_copies_are_identical(kafka: RealKafka, tmp_path: Path) -> None:
    packets = [FilePacket("/in/a.avro", n, os.urandom(1000 + n)) for n in range(30)]
    topic = kafka.topic("raw")
    assert copy_to_kafka(packets, kafka.config, topic) == 30
    assert [message.value() for message in read_messages(kafka.config, [topic])] == [p.value for p in packets]
    assert copy_to_directory(packets, tmp_path) == 30
    assert copy_to_directory(packets, tmp_path) == 0
    assert sorted(path.read_bytes() for path in tmp_path.iterdir()) == sorted(p.value for p in packets)
    with pytest.raises(TocsinError, match="holds something else"):
        copy_to_directory([FilePacket("/in/a.avro", 3, b"other")], tmp_path)


@pytest.mark.parametrize("transactional", [False, True])
def test_lag_is_told_and_is_zero_at_the_end(
    kafka: RealKafka, monkeypatch: pytest.MonkeyPatch, transactional: bool
) -> None:
    """Behind the last packet of a transaction lies a control record, which nobody reads."""
    monkeypatch.setattr(kafka_source, "LAG_EVERY_S", 0.05)
    topic = kafka.topic("in", 3)
    kafka.send(topic, [packet(n) for n in range(30)])
    if transactional:
        producer = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": f"to-{topic}"})
        producer.init_transactions(10)
        producer.begin_transaction()
        for n in range(30):
            producer.produce(topic, packet(n), partition=n % 3)
        producer.commit_transaction(10)
    metrics, seen, lags = Recorded(), 0, [-1.0]
    source = KafkaSource(kafka.config, [topic], f"g{topic}", metrics=metrics)
    source.open({})
    end = time.monotonic() + 20
    while seen < 30 * (1 + transactional) or lags != [0.0] * 3:
        assert time.monotonic() < end, (seen, lags)
        intake = source.read(Bounds(max_alerts=7))
        seen += len(intake.batch) if intake is not None else 0
        lags = [value for (name, _), value in metrics.gauges.items() if name == "consumer_lag"]
    source.close()


def test_a_replay_sees_its_records_behind_a_transaction_that_is_still_open(kafka: RealKafka) -> None:
    topics = Topics(kafka.topic("replay"))
    packets = [FilePacket("/in/a", n, packet(n)) for n in range(20)]

    def replay(step: FakeStep) -> int:
        outputs = KafkaSink(kafka.config, f"replay-{topics.prefix}", topics, resume=True)
        return run(FileSource(packets), step, outputs, metrics=Recorded(), primary=primary(topics)).received

    kafka.make(topics.ledger)
    other = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": f"other-{topics.prefix}"})
    other.init_transactions(10)

    def begin(_batch: PacketBatch) -> None:
        other.begin_transaction()
        other.produce(topics.ledger, b"never seen")
        assert other.flush(10) == 0

    first = FakeStep(topics)
    first.before = begin
    assert replay(first) == 20
    timer = threading.Timer(2.0, other.abort_transaction, (10,))
    timer.start()
    assert replay(FakeStep(topics)) == 0
    timer.join()


def test_a_standby_is_ready_and_a_revoked_partition_has_no_lag(kafka: RealKafka) -> None:
    topic = kafka.topic()
    kafka.send(topic, [packet(n) for n in range(2000)])
    metrics = [Recorded(), Recorded()]
    sources = [KafkaSource(kafka.config, [topic], f"g{topic}", metrics=told) for told in metrics]
    assert not any(source.assigned for source in sources)
    lag = "consumer_lag", (("partition", "0"), ("topic", topic))
    end = time.monotonic() + 30
    for source in sources:
        source.open({})
    while not (all(source.assigned for source in sources) and any(told.gauges.get(lag) for told in metrics)):
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.02)
        for source in sources:
            source.read(Bounds(max_alerts=1))
    owners = [number for number, told in enumerate(metrics) if told.gauges.get(lag)]
    for source in sources:
        source.close()
    assert owners, "somebody told a lag"
    assert [metrics[number].gauges[lag] for number in owners] == [0] * len(owners)
    assert not any(source.assigned for source in sources)


def test_a_member_is_not_ready_while_kafka_is_away(kafka: RealKafka) -> None:
    topic = kafka.topic()
    source = KafkaSource(kafka.config, [topic], f"g{topic}", refresh_s=0.2)
    source.open({})

    def until(ready: bool) -> None:
        end = time.monotonic() + 60
        while source.assigned != ready:
            assert time.monotonic() < end, "it takes too long"
            with suppress(Wait):
                source.read(Bounds())

    until(True)
    port = int(kafka.bootstrap.split(":")[1])
    kafkaserver.down(kafka.directory)
    try:
        until(False)
    finally:
        kafkaserver.up(kafka.directory, kafka.libs, port=port)
    until(True)
    source.close()


def test_a_foreign_message_is_named(kafka: RealKafka) -> None:
    topic = kafka.topic()
    kafka.send(topic, [b"\0\0\0\0\x01"])
    with pytest.raises(TocsinError, match=f"{topic}/0/0 is not a record of ours"):
        list(read_records(kafka.config, [topic], "annotation"))


def test_a_member_keeps_its_name_and_two_take_two_slots(tmp_path: Path) -> None:
    one, two = claim_member("g", tmp_path), claim_member("g", tmp_path)
    assert (one.name[-2:], two.name[-2:]) == ("-0", "-1")
    one.close()
    one = claim_member("g", tmp_path)
    assert one.name[-2:] == "-0"
    named = claim_member("g", tmp_path, "alpha")
    assert named.transactional_id == "tocsin-g-alpha"
    with pytest.raises(TocsinError, match="alpha of group g is taken"):
        claim_member("g", tmp_path, "alpha")
    for member in (one, two, named):
        member.close()


def test_a_client_library_that_hangs_is_given_up(kafka: RealKafka, monkeypatch: pytest.MonkeyPatch) -> None:
    """librdkafka#5456: sending offsets can block for ever. The batch is rolled back and delivered by a new producer."""
    hung: list[object] = []
    release = threading.Event()

    class Hanging(Producer):  # type: ignore[misc]
        def send_offsets_to_transaction(self, *args: Any) -> None:
            if not hung:
                super().send_offsets_to_transaction(*args)  # Kafka has them: a rewind waits until they are rolled back
                hung.append(self)
                release.wait(60)
                return
            super().send_offsets_to_transaction(*args)

    monkeypatch.setattr(sink, "Producer", Hanging)
    monkeypatch.setattr(sink, "HUNG_S", 1.5)
    topic = kafka.topic()
    kafka.send(topic, [packet(n) for n in range(20)])
    with running(kafka, [topic], f"t{topic}") as service:
        service.until(lambda: len(service.step.seen) == 20, timeout_s=15)
        assert service.metrics.counters["transactions_aborted_total", ()] == 1
    release.set()
    found = recount_kafka(kafka.config, Topics(f"t{topic}"))
    assert (found["received"], found["balanced"], len(hung)) == (20, True, 1)
