"""Replays from and to a real Kafka, killed on the way: counted and compared by plain clients."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

from broker.archive import simulate
from broker.core.bands import SURVEYS
from tests.conftest import RealKafka
from tests.faults.verifier import verify_kafka

pytestmark = pytest.mark.kafka
TOCSIN = str(Path(sys.executable).parent / "tocsin")
KILLS = 12 if os.environ.get("TOCSIN_FAULTS") == "full" else 2


@pytest.fixture
def tocsin(kafka: RealKafka, tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    environment = {**os.environ, "TOCSIN_KAFKA__BROKERS": kafka.bootstrap}

    def start(*arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [TOCSIN, *arguments], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True,
        )  # fmt: skip

    return start


def finished(process: subprocess.Popen[str], code: int = 0) -> str:
    out, errors = process.communicate(timeout=180)
    assert process.returncode == code, errors
    return out


def values(kafka: RealKafka, topic: str) -> Counter[bytes]:
    """Return every committed message of a topic, read by a plain client."""
    consumer = Consumer(
        {**kafka.config, "group.id": "plain", "isolation.level": "read_committed", "enable.partition.eof": True}
    )
    partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
    consumer.assign([TopicPartition(topic, n, 0) for n in partitions])
    found: Counter[bytes] = Counter()
    ended: set[int] = set()
    while len(ended) < len(partitions):
        message = consumer.poll(10.0)
        assert message is not None
        if message.error() is None:
            found[message.value()] += 1
        else:
            assert message.error().code() == KafkaError._PARTITION_EOF
            ended.add(message.partition())
    consumer.close()
    return found


def killed_midway(start: Callable[[], subprocess.Popen[str]], reached: Callable[[], int], n: int) -> None:
    """Start again and again, killed each time when a little more has arrived.

    The copies run at 40 packets/s: counting takes a slow machine a second or more, and must end before the copy does.
    """
    for number in range(1, KILLS + 1):
        process = start()
        due = n * number // (2 * KILLS)
        deadline = time.monotonic() + 120
        while reached() < due:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.communicate()


def some_packets(n: int) -> list[bytes]:
    return [b"%d " % number + os.urandom(300) for number in range(n)]


def test_a_raw_copy_of_files_is_killed_and_goes_on(
    tocsin: Callable[..., subprocess.Popen[str]], kafka: RealKafka, tmp_path: Path
) -> None:
    packets = some_packets(400)
    (tmp_path / "night").mkdir()
    for number, packet in enumerate(packets):
        (tmp_path / "night" / f"{number:04d}.avro").write_bytes(packet)
    topic = kafka.topic("copy", 4)
    command = ("replay", "night", "--raw", "--to", f"kafka:{topic}")
    killed_midway(lambda: tocsin(*command, "--speed", "40"), lambda: values(kafka, topic).total(), len(packets))
    there = values(kafka, topic).total()
    assert 0 < there < len(packets)
    assert f"{len(packets) - there} packets sent" in finished(tocsin(*command))
    assert "0 packets sent" in finished(tocsin(*command))
    assert values(kafka, topic) == Counter(packets)


def test_a_raw_copy_of_a_topic_is_killed_and_goes_on(
    tocsin: Callable[..., subprocess.Popen[str]], kafka: RealKafka
) -> None:
    """The source was written in transactions, one of them rolled back; its limit counts over all runs."""
    packets = some_packets(400)
    source, topic = kafka.topic("source", 3), kafka.topic("copy", 2)
    transactional = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": source})
    transactional.init_transactions(30)
    for begin in range(0, 400, 50):
        transactional.begin_transaction()
        for number, packet in enumerate(packets[begin : begin + 50]):
            transactional.produce(source, packet, partition=number % 3)
        transactional.commit_transaction(30)
        transactional.begin_transaction()
        transactional.produce(source, b"rolled back", partition=0)
        transactional.flush(30)
        transactional.abort_transaction(30)
    command = ("replay", f"kafka:{source}", "--raw", "--to", f"kafka:{topic}")
    limited = (*command, "--limit", "300")
    killed_midway(lambda: tocsin(*limited, "--speed", "40"), lambda: values(kafka, topic).total(), 300)
    finished(tocsin(*limited))
    found = values(kafka, topic)
    assert found.total() == len(found) == 300
    assert found <= Counter(packets)
    finished(tocsin(*command))
    assert values(kafka, topic) == Counter(packets)
    finished(tocsin("replay", f"kafka:{topic}", "--raw", "--to", f"kafka:{topic}"), code=2)


@pytest.mark.slow
def test_a_topic_is_replayed_to_topics_and_to_files(
    tocsin: Callable[..., subprocess.Popen[str]], kafka: RealKafka, tmp_path: Path
) -> None:
    source, prefix = kafka.topic("night", 3), f"again-{time.time_ns()}"
    packets = [p.value for p in simulate.night("ztf", 240, 5)] + [b"nonsense", b""]
    kafka.send(source, packets)
    command = ("replay", f"kafka:{source}", "--to", "kafka", "--topics", prefix)
    ledger = ("ledger", "kafka", "--topics", prefix, "--verify-source", "--json")
    process = tocsin(*command, "--speed", "20")
    deadline = time.monotonic() + 120
    while f"{prefix}.ledger" not in kafka.admin.list_topics(timeout=10).topics or not values(kafka, f"{prefix}.ledger"):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = json.loads(finished(tocsin(*ledger)))
    assert 0 < before["received"] < len(packets)
    finished(tocsin(*command))
    after = json.loads(finished(tocsin(*ledger)))
    assert (after["received"], after["balanced"], after["source"]["unread"]) == (len(packets), True, 0)
    assert verify_kafka(kafka.bootstrap, [source], prefix, tuple(SURVEYS)).sound
    assert "balanced" in finished(tocsin("replay", f"kafka:{source}", "--to", "files", "--format", "parquet"))
    counted = json.loads(finished(tocsin("ledger", "files", "--verify-source", "--json")))
    assert counted["source"] == {"packets": len(packets), "not_in_ledger": 0, "unread": 0}
    assert (counted["scored"], counted["unscored"]) == (after["scored"], after["unscored"])
