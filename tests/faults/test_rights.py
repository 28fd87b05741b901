"""Topics that are missing, and topics that we may not write to: one clear error or a wait, and nothing lost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
)

from broker.core.topics import Topics
from broker.deliver.topics import create, specs
from tests.conftest import RealKafka

from .conftest import PASSWORD, USER
from .service import FULL, Service, wait_until
from .verifier import verify_kafka

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


def allow(kafka: RealKafka, kind: ResourceType, name: str, *operations: AclOperation) -> None:
    admin = kafka.admin
    bindings = [
        AclBinding(kind, name, ResourcePatternType.PREFIXED, f"User:{USER}", "*", operation, AclPermissionType.ALLOW)
        for operation in operations
    ]
    for future in admin.create_acls(bindings).values():
        future.result(10)


@pytest.fixture
def humble(kafka: RealKafka, ports: dict[str, int], tmp_path: Path) -> Iterator[Service]:
    """A service that logs in, and may read its source and write all that it writes but the class topic."""
    login = {
        "bootstrap.servers": f"127.0.0.1:{ports['login']}", "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "PLAIN", "sasl.username": USER, "sasl.password": PASSWORD,
    }  # fmt: skip
    service = Service(kafka, tmp_path, more=login)
    allow(kafka, ResourceType.TOPIC, service.topic, AclOperation.READ)
    allow(kafka, ResourceType.GROUP, service.group, AclOperation.READ)
    allow(kafka, ResourceType.TRANSACTIONAL_ID, "tocsin-", AclOperation.WRITE)
    for name in ("ztf.all", "dead-letters", "ledger", "in-flight"):
        allow(kafka, ResourceType.TOPIC, f"{service.prefix}.{name}", AclOperation.WRITE, AclOperation.READ)
    yield service
    service.close()


def refused(service: Service) -> str:
    """Start a member that must end with one error and without a commit; return what it says."""
    service.start().ends(1)
    said = [line for line in service.said().splitlines() if line.startswith("Error")]
    assert len(said) == 1, service.said()
    assert service.lag() == service.sent
    report = verify_kafka(service.kafka.bootstrap, [service.topic], service.prefix)
    assert len(report.lost) == service.sent, "nothing is committed"
    return said[0]


def test_no_right_to_write_to_one_topic(humble: Service) -> None:
    kafka, topics = humble.kafka, Topics(humble.prefix)
    one = topics.of_class("ztf", "ia")
    create(kafka.config, specs(topics, ["ztf"], ["ia"], 1, raw=False))
    allow(kafka, ResourceType.TOPIC, one, AclOperation.READ)
    humble.feed(200)
    said = refused(humble)
    assert one in said
    assert "authorization failed" in said.lower()
    allow(kafka, ResourceType.TOPIC, one, AclOperation.WRITE)
    humble.finish()
    humble.judge()


def test_a_topic_that_we_may_not_make(humble: Service) -> None:
    kafka, topics = humble.kafka, Topics(humble.prefix)
    one = topics.of_class("ztf", "ia")
    create(kafka.config, specs(topics, ["ztf"], [], 1, raw=False))
    humble.feed(200)
    said = refused(humble)
    assert one in said
    create(kafka.config, specs(topics, ["ztf"], ["ia"], 1, raw=False))
    allow(kafka, ResourceType.TOPIC, one, AclOperation.WRITE)
    humble.finish()
    humble.judge()


def test_an_output_topic_deleted_under_load(service: Service) -> None:
    """Its content is gone, by somebody's will; the service makes it again and goes on."""
    one = Topics(service.prefix).of_class("ztf", "ia")
    member = service.start(pause_s=0.02, batch=20)
    for _ in range(3 if FULL else 1):
        with service.feeding():
            member.wait_for_batches(2, since=time.monotonic())
            admin = service.kafka.admin
            for future in admin.delete_topics([one]).values():
                future.result(30)
            deleted = time.monotonic()
            # left alone, Kafka's client asks for the topic for a minute, or for ever
            wait_until(lambda: one in service.kafka.admin.list_topics(timeout=10).topics, "the topic", 30.0)
            service.recovered("an output topic deleted", deleted, member)
    service.finish(member)
    service.judge()
