"""SIGKILL at every numbered step and at random moments: the blind verifier finds every input exactly once."""

from __future__ import annotations

import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from broker.deliver.types import FIRST_STEP, LAST_STEP
from tests.conftest import RealKafka
from tests.deliver.fakes import file_packets

from .service import FULL, Member, Service
from .verifier import verify_directory, verify_kafka

KILLS, LANES = (220, 4) if FULL else (20, 2)
SEED = 20261123


@pytest.mark.kafka
@pytest.mark.slow
def test_killed_at_every_step(service: Service) -> None:
    chance = random.Random(SEED)
    for step in range(FIRST_STEP, LAST_STEP + 1):
        service.feed(100)
        service.start(kill_at=f"{step}:{chance.randint(1, 2)}").ends(-signal.SIGKILL)
    service.finish()
    service.judge()


@pytest.mark.kafka
@pytest.mark.slow
def test_killed_at_random_moments(kafka: RealKafka, tmp_path: Path) -> None:
    """Several groups at once, each one history: while batches flow, and also while a member starts and joins."""
    services = [Service(kafka, tmp_path) for _ in range(LANES)]
    try:
        with ThreadPoolExecutor(LANES) as lanes:
            list(lanes.map(_kill_at_random, services, range(SEED, SEED + LANES)))
    finally:
        for service in services:
            service.close()


def _kill_at_random(service: Service, seed: int) -> None:
    chance = random.Random(seed)
    killed = 0.0
    for _ in range(KILLS // LANES):
        service.feed(120)
        member = service.start(pause_s=0.002, batch=20)
        if chance.random() < 0.2:
            time.sleep(chance.uniform(0.0, 2.0))
        else:
            member.wait_for_batches()
            if killed:
                service.recovered("SIGKILL of a member, its group's only one", killed)
            time.sleep(chance.uniform(0.0, 0.15))
        killed = time.monotonic()
        member.kill()
    service.finish()
    service.judge()


@pytest.mark.kafka
@pytest.mark.parametrize("mode", ["no transactions", "offsets first"])
def test_the_verifier_catches_a_delivery_that_is_wrong(kafka: RealKafka, tmp_path: Path, mode: str) -> None:
    service = Service(kafka, tmp_path, mode=mode)
    service.feed(200)
    service.start(kill_at="6:2").ends(-signal.SIGKILL)
    service.finish()
    report = verify_kafka(kafka.bootstrap, [service.topic], service.prefix)
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
        again = {"directory": str(tmp_path / "killed"), "kill_at": f"{step}:{chance.randint(1, 5)}"}
        Member({**options, **again}).ends(-signal.SIGKILL)
    for name in ("killed", "whole"):
        Member({**options, "directory": str(tmp_path / name)}).ends(0)
    inputs = [(p.path, 0, p.record) for p in file_packets(Path("/in"), count)]
    reports = [verify_directory(tmp_path / name, inputs) for name in ("killed", "whole")]
    assert all(report.sound for report in reports), str(reports)
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def contents(directory: Path) -> dict[str, bytes]:
    """Return what a replay leaves but for its manifest's time stamps and the dead letters' ingest times."""
    return {path.name: path.read_bytes() for path in sorted((directory / "annotations").iterdir())}
