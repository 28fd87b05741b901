"""What several rooms' tests share: the real Kafka."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from broker.cli import kafkaserver
from broker.core.config import load
from broker.core.errors import TocsinError


@dataclass(frozen=True)
class RealKafka:
    """A running server, and what tests do to it."""

    directory: Path
    libs: Path
    more: dict[str, str] = field(default_factory=dict)

    def up(self) -> None:
        """Start the server again, where it was."""
        kafkaserver.up(self.directory, self.libs, port=int(self.bootstrap.split(":")[1]), more=self.more)

    @property
    def bootstrap(self) -> str:
        return kafkaserver.status(self.directory).bootstrap

    @property
    def config(self) -> dict[str, Any]:
        return {"bootstrap.servers": self.bootstrap, "session.timeout.ms": 3000, "heartbeat.interval.ms": 500}

    @property
    def admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.bootstrap})

    def topic(self, stem: str = "in", partitions: int = 1, **config: str) -> str:
        """Make a topic with a fresh name."""
        name = f"{stem}-{uuid.uuid4().hex[:8]}"
        self.make(name, partitions, **config)
        return name

    def make(self, name: str, partitions: int = 1, **config: str) -> None:
        admin = self.admin  # must outlive its futures
        for future in admin.create_topics([NewTopic(name, partitions, config=config)]).values():
            future.result()

    def send(self, topic: str, values: list[bytes], partition: int | None = None) -> None:
        producer = Producer({"bootstrap.servers": self.bootstrap, "linger.ms": 5, "message.max.bytes": 64_000_000})
        where = {} if partition is None else {"partition": partition}
        for value in values:
            producer.produce(topic, value, **where)
            producer.poll(0)
        assert producer.flush(30) == 0


@contextmanager
def real_kafka(directory: Path, more: dict[str, str] | None = None) -> Iterator[RealKafka]:
    """Start a real Apache Kafka; skip where Java 17 or Maven is missing (TOCSIN_REQUIRE_KAFKA=1: fail)."""
    try:
        libs = kafkaserver.jars(load().run.cache_dir / "kafka")
        kafkaserver.up(directory, libs, port=kafkaserver.free_port(), more=more)
    except TocsinError as error:
        if os.environ.get("TOCSIN_REQUIRE_KAFKA") == "1":
            raise
        pytest.skip(f"no real Kafka: {error}")
    yield RealKafka(directory, libs, more or {})
    kafkaserver.down(directory)


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealKafka]:
    with real_kafka(tmp_path_factory.mktemp("kafka")) as running:
        yield running
