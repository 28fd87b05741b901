"""SIGKILL at every numbered step and at random moments: the blind verifier finds every input exactly once."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from broker.deliver.types import FIRST_STEP, LAST_STEP
from tests.conftest import RealKafka
from tests.deliver.fakes import file_packets, packet

from .verifier import Report, verify_directory, verify_kafka

ROOT = Path(__file__).resolve().parents[2]
RANDOM_KILLS = 20
SEED = 20261123


class Service:
    """Members of one group on one topic, as processes."""

    def __init__(self, kafka: RealKafka, cache: Path, *, mode: str = "kafka", partitions: int = 4) -> None:
        name = uuid.uuid4().hex[:8]
        self.kafka, self.cache, self.mode = kafka, cache, mode
        self.topic, self.group, self.prefix = kafka.topic("in", partitions), f"g{name}", f"t{name}"
        self.sent = 0
        self.members: list[subprocess.Popen[str]] = []

    def feed(self, count: int) -> None:
        self.kafka.send(self.topic, [packet(n) for n in range(self.sent, self.sent + count)])
        self.sent += count

    @contextmanager
    def feeding(self) -> Iterator[None]:
        """Go on feeding, a few hundred packets a second, while the block runs."""
        done = threading.Event()

        def feed() -> None:
            while not done.wait(0.2):
                self.feed(60)

        feeder = threading.Thread(target=feed)
        feeder.start()
        try:
            yield
        finally:
            done.set()
            feeder.join()

    def start(self, member: str = "one", kill_at: str | None = None, **more: Any) -> subprocess.Popen[str]:
        config = {**self.kafka.config, "session.timeout.ms": 1500, "heartbeat.interval.ms": 300}
        options = {"mode": self.mode, "config": config, "group": self.group, "topic": self.topic, "prefix": self.prefix}
        self.members.append(start({**options, "cache": str(self.cache), "member": member, **more}, kill_at))
        return self.members[-1]

    def finish(self, *others: subprocess.Popen[str], timeout_s: float = 60) -> None:
        """Let a member (or those given) work until all is delivered, then stop it cleanly."""
        members = list(others) or [self.start()]
        end = time.monotonic() + timeout_s
        while self.lag() and time.monotonic() < end:
            assert all(member.poll() is None for member in members), "a member has died"
            time.sleep(0.1)
        for member in members:
            leave(member)

    def lag(self) -> int:
        """Return how many packets the group has not committed yet, by a plain client."""
        from confluent_kafka import Consumer, TopicPartition

        settings = {"bootstrap.servers": self.kafka.bootstrap, "group.id": self.group}
        # Without read_uncommitted it would wait for the open transaction of a member that was just killed.
        consumer = Consumer({**settings, "isolation.level": "read_uncommitted"})
        partitions = consumer.list_topics(self.topic, timeout=10).topics[self.topic].partitions
        committed = consumer.committed([TopicPartition(self.topic, number) for number in partitions], timeout=10)
        ends = [consumer.get_watermark_offsets(partition, timeout=10)[1] for partition in committed]
        consumer.close()
        return sum(end - max(partition.offset, 0) for partition, end in zip(committed, ends, strict=True))

    def verify(self) -> Report:
        return verify_kafka(self.kafka.bootstrap, [self.topic], self.prefix)


def start(options: dict[str, Any], kill_at: str | None = None) -> subprocess.Popen[str]:
    environ = {**os.environ, **({"TOCSIN_KILL_AT": kill_at} if kill_at else {})}
    return subprocess.Popen(
        [sys.executable, "-m", "tests.faults.member", json.dumps(options)],
        cwd=ROOT, env=environ, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def wait_for_batches(member: subprocess.Popen[str], count: int = 1) -> None:
    assert member.stdout is not None
    patience = threading.Timer(90.0, member.kill)  # a member that finds no work must fail the test, not hang it
    patience.start()
    for _ in range(count):
        assert member.stdout.readline() == "batch\n"
    patience.cancel()


def kill(member: subprocess.Popen[str]) -> None:
    member.kill()
    died(member)


def died(member: subprocess.Popen[str], code: int = -signal.SIGKILL) -> None:
    assert member.wait(30) == code
    assert member.stdout is not None
    member.stdout.close()


def leave(member: subprocess.Popen[str]) -> None:
    member.send_signal(signal.SIGTERM)
    died(member, 0)


@pytest.fixture
def service(kafka: RealKafka, tmp_path: Path) -> Iterator[Service]:
    service = Service(kafka, tmp_path)
    yield service
    for member in service.members:  # those that a failed test left behind
        if member.poll() is None:
            kill(member)


@pytest.mark.kafka
@pytest.mark.slow
def test_killed_at_every_step_and_at_random_moments(service: Service) -> None:
    """One service, one history: a kill at each step, then twenty at random, while a few thousand packets flow."""
    chance = random.Random(SEED)
    for step in range(FIRST_STEP, LAST_STEP + 1):
        service.feed(100)
        died(service.start(kill_at=f"{step}:{chance.randint(1, 2)}"))
    for _ in range(RANDOM_KILLS):
        service.feed(120)
        member = service.start(pause_s=0.002, batch=20)
        wait_for_batches(member)
        time.sleep(chance.uniform(0.0, 0.15))
        kill(member)
    service.finish()
    report = service.verify()
    assert report.inputs == service.sent
    assert report.sound, str(report)


@pytest.mark.kafka
@pytest.mark.slow
def test_two_members_join_and_leave(service: Service) -> None:
    service.feed(500)
    with service.feeding():  # there is work for each member, however long it takes to join
        first = service.start("one", pause_s=0.02, batch=20)
        wait_for_batches(first, 3)
        second = service.start("two", pause_s=0.02, batch=20)
        wait_for_batches(second, 3)
        leave(first)
        wait_for_batches(second, 5)
        third = service.start("one", pause_s=0.02, batch=20)
        wait_for_batches(third, 2)
        kill(second)
        wait_for_batches(third, 2)
    service.finish(third)
    report = service.verify()
    assert report.inputs == service.sent
    assert report.sound, str(report)


@pytest.mark.kafka
@pytest.mark.parametrize("mode", ["no transactions", "offsets first"])
def test_the_verifier_catches_a_delivery_that_is_wrong(kafka: RealKafka, tmp_path: Path, mode: str) -> None:
    service = Service(kafka, tmp_path, mode=mode)
    service.feed(200)
    died(service.start(kill_at="6:2"))
    service.finish()
    report = service.verify()
    wrong, right = (report.doubled, report.lost) if mode == "no transactions" else (report.lost, report.doubled)
    assert wrong
    assert not right
    assert not report.sound


def test_files_killed_ten_times_give_the_same_result(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    count = 2000
    options = {"mode": "files", "count": count, "prefix": "t", "batch": 40}
    for number in range(10):
        step = FIRST_STEP + number if number < LAST_STEP else chance.randint(3, 8)
        died(start({**options, "directory": str(tmp_path / "killed")}, f"{step}:{chance.randint(1, 5)}"))
    for name in ("killed", "whole"):
        member = start({**options, "directory": str(tmp_path / name)})
        member.communicate(timeout=60)
        assert member.returncode == 0
    inputs = [(p.path, 0, p.record) for p in file_packets(Path("/in"), count)]
    reports = [verify_directory(tmp_path / name, inputs) for name in ("killed", "whole")]
    assert all(report.sound for report in reports), str(reports)
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def contents(directory: Path) -> dict[str, bytes]:
    """Return what a replay leaves but for its manifest's time stamps and the dead letters' ingest times."""
    return {path.name: path.read_bytes() for path in sorted((directory / "annotations").iterdir())}
