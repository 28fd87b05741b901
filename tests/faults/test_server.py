"""The Kafka server is killed, paused, and runs out of disk: the service goes on by itself, and nothing is amiss."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.cli import kafkaserver
from tests.conftest import RealKafka, real_kafka

from .service import FULL, Service, wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

TRANSACTION_S = 4.0


def pid_of(kafka: RealKafka) -> int:
    pid = kafkaserver.status(kafka.directory).pid
    assert pid is not None, "the server is not there"
    return pid


def gone(kafka: RealKafka, pid: int) -> bool:
    """Tell whether the process is no more; of a dying one the status may show nothing while it still is."""
    return kafkaserver.status(kafka.directory).pid is None and not Path(f"/proc/{pid}").exists()


def kill(kafka: RealKafka) -> None:
    pid = pid_of(kafka)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: gone(kafka, pid), "the server's death")


def test_killed_and_restarted_on_its_disk(service: Service) -> None:
    chance = random.Random(11)
    members = [service.start(name, pause_s=0.02, batch=20) for name in ("one", "two")]
    for _ in range(6 if FULL else 1):
        service.busy(*members)
        time.sleep(chance.uniform(0.0, 0.3))
        kill(service.kafka)
        time.sleep(chance.uniform(0.0, 6.0 if FULL else 1.0))
        service.kafka.up()
        service.recovered("SIGKILL of the Kafka server, from when it answers again", time.monotonic(), *members)
    service.finish(*members)
    service.judge()


@pytest.mark.parametrize("seconds", [2.5, TRANSACTION_S + 2.5] if FULL else [TRANSACTION_S + 2.5])
def test_paused_for_longer_than_a_timeout(kafka: RealKafka, tmp_path: Path, seconds: float) -> None:
    """SIGSTOP in the middle of transactions, for longer than the session lasts or than a transaction may."""
    service = Service(kafka, tmp_path, more={"transaction.timeout.ms": int(TRANSACTION_S * 1000)})
    try:
        members = [service.start(name, pause_s=0.02, batch=20) for name in ("one", "two")]
        for _ in range(5 if FULL else 1):
            service.busy(*members)
            pause(kafka, seconds)
            service.recovered(f"the Kafka server paused for {seconds} s", time.monotonic(), *members)
        service.finish(*members)
        service.judge()
    finally:
        service.close()


def pause(kafka: RealKafka, seconds: float) -> None:
    pid = pid_of(kafka)
    os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(seconds)
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 96 MB; skip where we may not."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=96m", "tocsin-fault", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"no rights to mount a small disk: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_its_disk_full(small_disk: Path, tmp_path: Path) -> None:
    """Kafka halts when it cannot write. With space and the server back, the service goes on by itself."""
    ballast = small_disk / "ballast"
    small = {"log.segment.bytes": "1048576", "log.index.size.max.bytes": "65536"}
    with real_kafka(small_disk / "kafka", small) as kafka:
        service = Service(kafka, tmp_path)
        try:
            _fill_and_free(kafka, service, ballast)
        finally:
            service.close()


def _fill_and_free(kafka: RealKafka, service: Service, ballast: Path) -> None:
    service.feed(2000)
    member = service.start(pause_s=0.05, batch=20)
    member.wait_for_batches(3)
    pid = pid_of(kafka)
    with ballast.open("wb") as file:
        fill(file.fileno())
    wait_until(lambda: gone(kafka, pid), "Kafka to halt on its full disk", 120)
    assert member.alive, "the service waits"
    ballast.unlink()
    kafka.up()
    service.recovered("disk of the Kafka server full, from when it answers again", time.monotonic(), member)
    service.finish(member)
    service.judge()


def fill(file: int) -> None:
    """Write until there is no space left, in ever smaller pieces."""
    size = 2**20
    while size:
        try:
            os.write(file, bytes(size))
        except OSError:
            size //= 2
