"""Dead letters retried: killed in the middle, and after a storm of poison; the blind verifier judges the pairs."""

from __future__ import annotations

import random
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.archive import simulate
from broker.deliver.types import FIRST_STEP, LAST_STEP
from tests.conftest import RealKafka

from .service import FULL, Service, wait_until
from .test_real import SURVEYS, RealService
from .verifier import verify_kafka

pytestmark = [pytest.mark.kafka, pytest.mark.slow]
KILLED = -signal.SIGKILL
LIMIT = 150
STEPS = range(FIRST_STEP, LAST_STEP + 1) if FULL else (2, 5, 7, 8)


def test_a_retry_that_is_killed_is_run_again(service: Service) -> None:
    """Killed at each step, while the service goes on: what is dead in the end has one end, and that is its last."""
    chance = random.Random(7)
    live = service.start()
    for number, step in enumerate(STEPS):
        service.feed(120)  # 15 of them are dead
        wait_until(lambda: not service.lag(), "the service to read all")
        kill_at = f"{step}:{chance.randint(1, 3)}"
        service.start("retry", mode="retry", mended=number % 2, batch=4, kill_at=kill_at).ends(KILLED)
    service.finish(live)
    service.start("retry", mode="retry", mended=True).ends(0)
    report = service.judge()
    assert report.ended["dead_lettered"] == 0, str(report.ended)
    assert report.ended["scored"] == service.sent * 6 // 8


class Storm(RealService):
    """A service whose deploy forgot a schema: every packet is poison to it."""

    def __init__(self, kafka: RealKafka, cache: Path) -> None:
        super().__init__(kafka, cache)
        self.environ["TOCSIN_DLQ__MAX_RUN"] = str(LIMIT)
        self.schemas, self.forgotten = cache / "schemas", cache / "forgotten"
        self.schemas.rename(self.forgotten)

    def mend(self) -> None:
        """Deploy it again, with the schema."""
        if self.schemas.exists():
            shutil.rmtree(self.schemas)
        self.forgotten.rename(self.schemas)

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).parent / "tocsin"), *arguments]
        return subprocess.run(command, env=self.environ, capture_output=True, text=True, timeout=240, check=False)


@pytest.fixture
def storm(kafka: RealKafka, tmp_path: Path) -> Iterator[Storm]:
    made = Storm(kafka, tmp_path)
    yield made
    made.close()


def test_a_storm_of_poison_stops_the_service_and_a_mended_one_delivers_all(storm: Storm) -> None:
    service, bootstrap = storm, storm.kafka.bootstrap
    night = [p.value for p in simulate.night("lsst", 3 * LIMIT, 3)]
    service.kafka.send(service.topic, night)
    names = ("--group", service.prefix, "--prefix", service.prefix)

    stopped = service.command("run", "--topic", service.topic, *names)
    assert stopped.returncode == 1
    errors = [line for line in stopped.stderr.splitlines() if line.startswith("tocsin: ")]
    assert len(errors) == 1, stopped.stderr
    assert re.search(rf"dead letters in a row \(limit {LIMIT}\), mostly unknown_schema: ", errors[0])
    dead = service.committed()
    assert dead < LIMIT, "the batch that breaks the limit stays unread"

    service.mend()
    service.start()
    service.wait_for(len(night), 300)
    assert service.stop(signal.SIGTERM) == 0
    report = verify_kafka(bootstrap, [service.topic], service.prefix, SURVEYS)
    assert report.sound, str(report)
    assert (report.inputs, report.ended["dead_lettered"]) == (len(night), dead)

    retried = service.command("dlq", "retry", "kafka", "--topics", service.prefix, "--reason", "unknown_schema")
    assert retried.returncode == 0, retried.stderr
    assert f"{dead} dead letters retried" in retried.stdout
    report = verify_kafka(bootstrap, [service.topic], service.prefix, SURVEYS)
    assert report.sound, str(report)
    assert (report.inputs, report.ended["dead_lettered"]) == (len(night), 0)
    assert service.command("ledger", "kafka", "--topics", service.prefix, "--verify-source").returncode == 0
