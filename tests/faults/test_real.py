"""The real service on real packets: `tocsin run` on a real Kafka, killed while alerts flow, judged by the verifier."""

import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaException, TopicPartition

from broker.archive import read, simulate
from broker.core.topics import Topics
from broker.deliver.topics import create, specs
from tests.conftest import RealKafka

from .service import peak_mb, recoveries
from .verifier import read_records, verify_kafka

pytestmark = [pytest.mark.kafka, pytest.mark.slow]
SURVEYS = ("ztf", "lsst")
MEMORY_MB = 2000.0
BAD = [b"", b"nonsense", b"Obj\x01" + b"\xff" * 60, b"\0\0\0\0\7rest"]


class RealService:
    """`tocsin run` with its own group, prefix and cache."""

    def __init__(self, kafka: RealKafka, cache: Path) -> None:
        name = uuid.uuid4().hex[:8]
        self.kafka, self.prefix, self.topic = kafka, f"real-{name}", kafka.topic("real", 3)
        create(kafka.config, specs(Topics(self.prefix), SURVEYS, ["snia"], 1, raw=False))
        simulate.install_schema(cache / "schemas")
        self.environ = {
            **os.environ,
            "TOCSIN_KAFKA__BROKERS": kafka.bootstrap,
            "TOCSIN_KAFKA__CLIENT": '{"session.timeout.ms": 2000, "heartbeat.interval.ms": 400}',
            "TOCSIN_RUN__CACHE_DIR": str(cache),
            "TOCSIN_BATCH__MAX_ALERTS": "64",
            "TOCSIN_SERVE__PORT": "0",
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [str(Path(sys.executable).parent / "tocsin"), "run", "--topic", self.topic]
        self.process = subprocess.Popen([*command, "--group", self.prefix, "--prefix", self.prefix], env=self.environ)

    def stop(self, number: signal.Signals) -> int:
        assert self.process is not None
        peak = peak_mb(self.process.pid)
        assert 0 < peak < MEMORY_MB, f"the service took {peak:.0f} MB"
        self.process.send_signal(number)
        return self.process.wait(60)

    def close(self) -> None:
        """End the process that a failed test left behind."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def committed(self) -> int:
        consumer = Consumer({"bootstrap.servers": self.kafka.bootstrap, "group.id": self.prefix})
        try:
            found = consumer.committed([TopicPartition(self.topic, number) for number in range(3)], timeout=10)
        except KafkaException:  # the group's coordinator is still being made
            return 0
        finally:
            consumer.close()
        return sum(max(partition.offset, 0) for partition in found)

    def wait_for(self, packets: int, seconds: float = 120) -> None:
        deadline = time.monotonic() + seconds
        while self.committed() < packets:
            assert self.process is not None
            assert self.process.poll() is None, "the service has died"
            assert time.monotonic() < deadline, f"{self.committed()} of {packets} packets in {seconds} s"
            time.sleep(0.1)


@pytest.fixture
def service(kafka: RealKafka, tmp_path: Path) -> Iterator[RealService]:
    made = RealService(kafka, tmp_path)
    yield made
    made.close()


def test_real_packets_come_out_annotated(service: RealService) -> None:
    folder = os.environ.get("TOCSIN_TEST_DATA")
    if not folder:
        pytest.skip("TOCSIN_TEST_DATA is not set")
    values = [packet.value for packet in read.packets([Path(folder) / "alerts"])]
    service.kafka.send(service.topic, [*values, *BAD])
    service.start()
    service.wait_for(len(values) + len(BAD))
    assert service.stop(signal.SIGTERM) == 0
    report = verify_kafka(service.kafka.bootstrap, [service.topic], service.prefix, SURVEYS)
    assert report.inputs == 78
    assert report.sound, str(report)


def test_killed_while_a_few_thousand_alerts_flow(service: RealService) -> None:
    chance = random.Random(5)
    nights = (p.value for survey, n in (("ztf", 1600), ("lsst", 400)) for p in simulate.night(survey, n, 5))
    values = [*nights, *BAD * 5]
    chance.shuffle(values)
    service.kafka.send(service.topic, values)
    for share in (0.1, 0.4):
        service.start()
        service.wait_for(int(share * len(values)))
        time.sleep(chance.uniform(0, 0.3))
        service.stop(signal.SIGKILL)
        killed, done = time.monotonic(), service.committed()
    service.start()
    service.wait_for(done + 1)
    recoveries.append(("SIGKILL of tocsin run, with its start", time.monotonic() - killed))
    service.wait_for(len(values))
    assert service.stop(signal.SIGTERM) == 0
    report = verify_kafka(service.kafka.bootstrap, [service.topic], service.prefix, SURVEYS)
    assert report.inputs == len(values)
    assert report.sound, str(report)


def test_a_survey_sends_again_and_out_of_order(service: RealService) -> None:
    """The same alert at another offset is annotated again, equally, with the flag; no order is asked of a night."""
    night = [p.value for survey, n in (("ztf", 150), ("lsst", 50)) for p in simulate.night(survey, n, 6)]
    random.Random(6).shuffle(night)
    service.kafka.send(service.topic, night)
    service.start()
    service.wait_for(len(night))
    service.kafka.send(service.topic, night[::-1])
    service.wait_for(2 * len(night))
    assert service.stop(signal.SIGTERM) == 0
    report = verify_kafka(service.kafka.bootstrap, [service.topic], service.prefix, SURVEYS)
    assert report.inputs == 2 * len(night)
    assert report.sound, str(report)
    topics = [f"{service.prefix}.{survey}.all" for survey in SURVEYS]
    found: dict[tuple[str, int], dict[bool, Any]] = {}
    for annotation in read_records(service.kafka.bootstrap, topics, "annotation"):
        ends = found.setdefault((annotation["survey"], annotation["alertId"]), {})
        ends[annotation["context"]["repeated"]] = annotation["outcome"], annotation["objectId"]
    assert 2 * len(found) == report.ended["scored"] + report.ended["unscored"] > 1.9 * len(night)
    assert all(set(ends) == {False, True} and ends[False] == ends[True] for ends in found.values())
