"""Version 0.1.0 and this one share a group through a rolling upgrade and a rollback, over an hour of event time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from broker.archive import simulate
from broker.core.topics import Topics
from tests.conftest import RealKafka
from tests.deliver.fakes import packet
from tests.real.serving import no_models

from .old import Old, install
from .service import FULL, PATIENCE_S, ROOT, wait_until
from .verifier import verify_kafka

pytestmark = pytest.mark.kafka

HOUR_MS, BEGAN_MS = 3_600_000, 1_790_000_000_000
PARTS = 12  # two for each constellation of members
FOR_EVER = {"retention.ms": "-1"}  # by their time stamps the packets are old
NEW = str(Path(sys.executable).parent / "tocsin")
QUICK = {"session.timeout.ms": 3000, "heartbeat.interval.ms": 500}


@pytest.fixture(scope="module")
def old(kafka: RealKafka, tmp_path_factory: pytest.TempPathFactory) -> Old:
    return install(tmp_path_factory.mktemp("old"))


class Group:
    """Two members, each of either version, on one topic; ``start`` says how a version is started."""

    def __init__(self, kafka: RealKafka, start: Callable[[str, str], subprocess.Popen[Any]], name: str) -> None:
        self.kafka, self._start, self.name = kafka, start, name
        self.running: dict[str, subprocess.Popen[Any]] = {}

    def replace(self, member: str, version: str, how: signal.Signals = signal.SIGTERM) -> None:
        """Start a member in ``version``, under the name of the one that ends now."""
        before = self.running.pop(member, None)
        if before is not None:
            assert before.poll() is None, f"{member} has died"
            before.send_signal(how)
            ended(before, how)
        self.running[member] = self._start(member, version)

    def end(self) -> None:
        for process in self.running.values():
            process.send_signal(signal.SIGTERM)
        for process in self.running.values():
            ended(process, signal.SIGTERM)
        self.running = {}

    def abandon(self) -> None:
        for process in self.running.values():
            with suppress(ProcessLookupError):
                process.kill()
            process.wait()


def ended(process: subprocess.Popen[Any], how: signal.Signals) -> None:
    """Wait for a member's end: cleanly after SIGTERM, but for one that had not begun to listen to signals yet."""
    assert process.wait(PATIENCE_S) in ((0, -signal.SIGTERM) if how == signal.SIGTERM else (-how,))


def roll(group: Group, feed: Iterator[int], delivered: Callable[[], int]) -> int:
    """Upgrade the members one by one and roll them back, while an hour's packets come in; return how many came.

    Ends are clean and sudden in turn. Packets come before each change and after it; those after are for the members as
    they are then.
    """
    steps = [
        [("one", "old", signal.SIGTERM), ("two", "old", signal.SIGTERM)],
        [("one", "new", signal.SIGTERM)],
        [("two", "new", signal.SIGKILL)],
        [("two", "old", signal.SIGTERM)],
        [("one", "old", signal.SIGKILL)],
        [("two", "new", signal.SIGTERM)],
    ]
    sent = 0
    for step in steps:
        sent += next(feed)
        for member, version, how in step:
            group.replace(member, version, how)
        before = delivered()
        sent += next(feed)
        wait_until(partial(more_than, before, delivered), "a constellation to deliver", 2 * PATIENCE_S)
    assert next(feed, None) is None
    wait_until(lambda: delivered() == sent, "the end of the hour", 4 * PATIENCE_S)
    group.end()
    return sent


def more_than(before: int, delivered: Callable[[], int]) -> bool:
    return delivered() > before


def fed(kafka: RealKafka, topic: str, packets: list[tuple[int, bytes]]) -> Iterator[int]:
    """Send the packets (time in ms, value) in `PARTS` parts, each packet with its time stamp."""
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "linger.ms": 5})
    size = -(-len(packets) // PARTS)
    for part in (packets[begin : begin + size] for begin in range(0, len(packets), size)):
        for time_ms, value in part:
            producer.produce(topic, value, timestamp=time_ms)
            producer.poll(0)
        assert producer.flush(30) == 0
        yield len(part)


def both_read_all(kafka: RealKafka, old: Old, topics: Topics, folder: Path, received: int, dead: int) -> None:
    """The ledger, the dead letters and the subscriber of either version give the same."""
    environ = {**os.environ, "TOCSIN_RUN__CACHE_DIR": str(folder)}

    def lines(program: str, *arguments: str) -> list[Any]:
        command = [program, *arguments, "--brokers", kafka.bootstrap, "--json"]
        done = subprocess.run(command, env=environ, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return [json.loads(line) for line in done.stdout.splitlines()]

    where = ["kafka", "--topics", topics.prefix]
    for program in (old.tocsin, NEW):
        (ledger,) = lines(program, "ledger", *where, "--verify-source")
        assert (ledger["received"], ledger["balanced"]) == (received, True), program
        assert len(lines(program, "dlq", "list", *where)) == dead
    for topic in (topics.all("ztf"), topics.dead_letters, topics.ledger):
        ours, theirs = (
            lines(program, "subscribe", topic, "--from", "earliest", "--once") for program in (NEW, old.tocsin)
        )
        assert ours
        assert sorted(map(json.dumps, theirs)) == sorted(map(json.dumps, ours))


def test_members_of_both_versions_share_a_group(kafka: RealKafka, old: Old, tmp_path: Path) -> None:
    """The delivery of both versions, with a step that costs nothing."""
    topic = kafka.topic("upgrade", 4, **FOR_EVER)
    topics, log = Topics(f"t{topic}"), (tmp_path / "log").open("a")
    options = {
        "mode": "kafka", "config": {**kafka.config, **QUICK}, "group": topic, "topic": topic, "topics": [topic],
        "prefix": topics.prefix, "cache": str(tmp_path), "batch": 20, "pause_s": 0.01,
    }  # fmt: skip

    def start(member: str, version: str) -> subprocess.Popen[Any]:
        python, cwd = (old.python, old.tests) if version == "old" else (sys.executable, ROOT)
        command = [python, "-m", "tests.faults.member", json.dumps({**options, "member": member})]
        return subprocess.Popen(command, cwd=cwd, stdout=log, stderr=log)

    count = 6000 if FULL else 2400
    packets = [(BEGAN_MS + number * HOUR_MS // count, packet(number)) for number in range(count)]
    group = Group(kafka, start, topic)
    try:
        sent = roll(group, fed(kafka, topic, packets), lambda: committed(kafka, topic, topic, 4))
        report = verify_kafka(kafka.bootstrap, [topic], topics.prefix)
        assert report.inputs == sent == count
        assert report.sound, f"{report}\n{(tmp_path / 'log').read_text()[-2000:]}"
        both_read_all(kafka, old, topics, tmp_path, count, count // 8)
        rolled_back_after_a_retry(kafka, old, topics, tmp_path)
        group.replace("one", "old")
        kafka.send(topic, [packet(count + number) for number in range(80)])
        wait_until(lambda: committed(kafka, topic, topic, 4) == count + 80, "the old version to go on")
        group.end()
    finally:
        group.abandon()
        log.close()
    assert verify_kafka(kafka.bootstrap, [topic], topics.prefix).sound


def rolled_back_after_a_retry(kafka: RealKafka, old: Old, topics: Topics, folder: Path) -> None:
    """`dlq retry` says what 0.1.0 has no word for: its ledger asks to be upgraded; all else of it goes on."""
    environ = {**os.environ, **no_models(), "TOCSIN_RUN__CACHE_DIR": str(folder)}
    where = ["kafka", "--topics", topics.prefix, "--brokers", kafka.bootstrap]

    def call(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [program, *arguments], env=environ, cwd=folder, capture_output=True, text=True, check=False
        )

    done = call(NEW, "dlq", "retry", *where, "--limit", "5")
    assert "5 dead letters retried: 5 dead again" in done.stdout, done.stderr
    assert call(NEW, "ledger", *where, "--verify-source").returncode == 0
    asked = call(old.tocsin, "ledger", *where)
    assert (asked.returncode, "upgrade tocsin" in asked.stderr) == (1, True), asked.stderr
    assert call(old.tocsin, "dlq", "list", *where).returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(not FULL, reason="TOCSIN_FAULTS=full runs it (make faults): each version compiles its own stages")
def test_services_of_both_versions_share_a_group(kafka: RealKafka, old: Old, tmp_path: Path) -> None:
    """`tocsin run` of both versions, every stage on, on an hour of a simulated night."""
    topic = kafka.topic("upgrade-real", 4, **FOR_EVER)
    topics = Topics(f"t{topic}")
    environ = {
        **os.environ,
        "TOCSIN_KAFKA__BROKERS": kafka.bootstrap,
        "TOCSIN_KAFKA__CLIENT": json.dumps(QUICK),
        "TOCSIN_RUN__CACHE_DIR": str(tmp_path),
        "TOCSIN_BATCH__MAX_ALERTS": "64",
        "TOCSIN_SERVE__PORT": "0",
    }

    def start(member: str, version: str) -> subprocess.Popen[Any]:
        command = [old.tocsin if version == "old" else NEW, "run", "--topic", topic, "--group", topic]
        return subprocess.Popen(
            [*command, "--prefix", topics.prefix], env={**environ, "TOCSIN_RUN__MEMBER": member}, cwd=tmp_path
        )

    for program in (old.tocsin, NEW):
        subprocess.run([program, "warm"], env=environ, cwd=tmp_path, check=True)
    night = list(simulate.night("ztf", 90 * 20, 5, per_visit=20))  # 90 visits, 40 s apart
    assert night[-1].timestamp_ms - night[0].timestamp_ms > HOUR_MS - 60_000
    group = Group(kafka, start, topic)
    try:
        packets = [(p.timestamp_ms, b"poison" if n % 200 == 0 else p.value) for n, p in enumerate(night)]
        sent = roll(group, fed(kafka, topic, packets), lambda: committed(kafka, topic, topic, 4))
    finally:
        group.abandon()
    report = verify_kafka(kafka.bootstrap, [topic], topics.prefix)
    assert report.inputs == sent == len(night)
    assert report.sound, str(report)
    both_read_all(kafka, old, topics, tmp_path, len(night), len(night) // 200)


def committed(kafka: RealKafka, group: str, topic: str, partitions: int) -> int:
    """Return how many packets the group has committed, by a plain client."""
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": group, "log_level": 0})
    try:
        found = consumer.committed([TopicPartition(topic, number) for number in range(partitions)], timeout=10)
    except KafkaException:  # the group's coordinator is still being made, or a member's transaction is open
        return 0
    finally:
        consumer.close()
    return sum(max(partition.offset, 0) for partition in found)
