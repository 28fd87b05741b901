"""A sidecar is delivered as the stream is: SIGKILL at every numbered step and at random moments, judged blindly."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from broker.deliver.files import read_manifest
from broker.deliver.types import FIRST_STEP, LAST_STEP
from tests.conftest import RealKafka
from tests.deliver.fakes import file_packets
from tests.sidecar.rows import product

from .service import FULL, Member, Service
from .verifier import read_records, verify_directory, verify_kafka

KILLS = 40 if FULL else 2
SEED = 20261123


@pytest.mark.kafka
@pytest.mark.slow
def test_a_sidecar_killed_at_every_step_and_at_random_moments(kafka: RealKafka, tmp_path: Path) -> None:
    chance, service = random.Random(SEED), Service(kafka, tmp_path, sidecar=True)
    try:
        for step in range(FIRST_STEP, LAST_STEP + 1):
            service.feed(100)
            service.start(kill_at=f"{step}:{chance.randint(1, 2)}").ends(-signal.SIGKILL)
        for _ in range(KILLS):
            service.feed(400)
            member = service.start(batch=20)
            member.wait_for_batches()
            time.sleep(chance.uniform(0.0, 0.15))
            member.kill()
        service.finish()
        report = service.judge()
        due = {3: "unscored", 7: "dead_lettered"}
        assert report.ended == Counter(due.get(n % 8, "scored") for n in range(service.sent))
        _colours_are_right(service)
    finally:
        service.close()


def _colours_are_right(service: Service) -> None:
    """Every record of every product that was scored has both rows' answers, once."""
    seen = []
    for result in read_records(service.kafka.bootstrap, [f"{service.prefix}.results"], "result"):
        if result["outcome"] == "scored":
            assert [answer["row"] for answer in result["answers"]] == ["one", "other"]
            seen += result["records"]
    numbers = [n for n in range(service.sent) if n % 8 not in (3, 7)]
    assert sorted(seen) == sorted(f"galaxy {10 * n + i}" for n in numbers for i in range(1 + n % 5))


def test_files_of_a_sidecar_killed_ten_times_give_the_same_result(tmp_path: Path) -> None:
    chance, count = random.Random(SEED), 1000
    options = {"mode": "files", "step": "sidecar", "count": count, "prefix": "t", "batch": 20}
    for number in range(10):
        step = FIRST_STEP + number if number < LAST_STEP else chance.randint(3, 8)
        again = {"directory": str(tmp_path / "killed"), "kill_at": f"{step}:{chance.randint(1, 5)}"}
        Member({**options, **again}).ends(-signal.SIGKILL)
    for name in ("killed", "whole"):
        Member({**options, "directory": str(tmp_path / name)}).ends(0)
    inputs = [(p.path, 0, p.record) for p in file_packets(Path("/in"), count, make=product)]
    reports = [verify_directory(tmp_path / name, inputs) for name in ("killed", "whole")]
    assert all(report.sound for report in reports), str(reports)
    assert reports[0].ended == reports[1].ended == {"scored": 750, "unscored": 125, "dead_lettered": 125}
    sizes = [line["ledger"]["received"] for line, _ in read_manifest(tmp_path / "whole")]
    assert len(sizes) > 2 * count / 20, "a batch is committed in parts"
    assert max(sizes) > 1


@pytest.mark.kafka
def test_the_verifier_catches_a_sidecar_without_transactions(kafka: RealKafka, tmp_path: Path) -> None:
    service = Service(kafka, tmp_path, mode="no transactions", sidecar=True)
    service.feed(200)
    service.start(kill_at="6:2").ends(-signal.SIGKILL)
    service.finish()
    report = verify_kafka(kafka.bootstrap, [service.topic], service.prefix, sidecar=True)
    assert report.doubled
    assert not report.sound
