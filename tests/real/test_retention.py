"""A night of the past that is put on Kafka with its own time stamps is not old rubbish to be deleted."""

from __future__ import annotations

import time
import uuid

import pytest
from click.testing import CliRunner
from confluent_kafka.admin import ConfigResource, ResourceType

from broker.cli.main import tocsin
from broker.deliver.kafka.reader import read_messages
from tests.conftest import RealKafka

pytestmark = pytest.mark.kafka


def test_a_past_night_is_kept(kafka: RealKafka) -> None:
    topic = f"past-{uuid.uuid4().hex[:8]}"
    arguments = ["simulate", "--survey", "ztf", "--objects", "3", "--to", f"kafka:{topic}"]
    result = CliRunner().invoke(tocsin, [*arguments, "--brokers", kafka.bootstrap], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    stamps = [message.timestamp()[1] for message in read_messages(kafka.config, [topic])]
    assert len(stamps) == 3
    assert max(stamps) < (time.time() - 7 * 24 * 3600) * 1000, "Kafka's usual week is over for them"
    admin = kafka.admin  # must outlive its futures
    (future,) = admin.describe_configs([ConfigResource(ResourceType.TOPIC, topic)]).values()
    assert future.result()["retention.ms"].value == "-1"
