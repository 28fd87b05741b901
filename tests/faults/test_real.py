"""The real service on real packets, killed while it works: the blind verifier finds every input exactly once."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.archive.read import packets
from broker.core.topics import Topics
from broker.deliver.recount import recount_kafka
from tests.conftest import RealKafka

from .test_kills import Service, kill
from .verifier import verify_kafka

COPIES, KILLS, SEED = 6, 3, 20261123


class RealService(Service):
    """`tocsin run` instead of the fake step."""

    def start(self, member: str = "one", kill_at: str | None = None, **more: object) -> subprocess.Popen[str]:
        toml = self.cache / "service.toml"
        toml.write_text(
            f"""
            [kafka]
            brokers = "{self.kafka.bootstrap}"
            client = {{ "session.timeout.ms" = 1500, "heartbeat.interval.ms" = 300 }}
            [source]
            topics = ["{self.topic}"]
            group = "{self.group}"
            [output]
            prefix = "{self.prefix}"
            [batch]
            max_alerts = 16
            max_wait_ms = 50
            [serve]
            port = 0
            [run]
            member = "{member}"
            """
        )
        command = [sys.executable, "-c", "from broker.cli.main import main; main()", "run", "--config", str(toml)]
        environ = {**os.environ, "TOCSIN_RUN__LOG_LEVEL": "WARNING"}
        self.members.append(subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True))
        return self.members[-1]


@pytest.fixture
def service(kafka: RealKafka, tmp_path: Path) -> Iterator[RealService]:
    service = RealService(kafka, tmp_path)
    yield service
    for member in service.members:
        if member.poll() is None:
            member.send_signal(signal.SIGKILL)
            member.wait()


@pytest.mark.kafka
@pytest.mark.slow
def test_real_packets_through_the_real_service_killed_three_times(service: RealService) -> None:
    data = os.environ.get("TOCSIN_TEST_DATA")
    if not data:
        pytest.skip("TOCSIN_TEST_DATA is not set: no real packets")
    values = [packet.value for packet in packets([Path(data) / "alerts"])] * COPIES
    service.kafka.send(service.topic, values)
    chance = random.Random(SEED)
    for _ in range(KILLS):
        before = service.lag()
        member = service.start()
        end = time.monotonic() + 120
        while service.lag() == before:
            assert time.monotonic() < end
            assert member.poll() is None
        time.sleep(chance.uniform(0.0, 0.2))
        kill(member)
    assert service.lag() > 0, "it was killed while it worked"
    service.finish(timeout_s=120)
    report = verify_kafka(service.kafka.bootstrap, [service.topic], service.prefix, ("ztf", "lsst"))
    assert report.inputs == len(values)
    assert report.sound, str(report)
    found = recount_kafka(service.kafka.config, Topics(service.prefix), verify_source=True)
    assert found["balanced"]
    assert found["scored"] > len(values) // 2
