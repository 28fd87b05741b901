"""What operators and surveys do to source topics: more partitions, offsets reset, records that expire, midnight."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import NewPartitions

from broker.core.errors import Wait
from broker.core.topics import Topics
from broker.deliver.recount import recount_kafka
from tests.deliver.fakes import packet

from .clock import Clock
from .service import Service, recoveries, wait_until
from .verifier import read_inputs, verify_kafka

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


def test_a_topic_gains_partitions_under_load(service: Service) -> None:
    """All of a new partition is delivered, from its beginning, though it is found late."""
    members = [service.start(name, pause_s=0.01, batch=20) for name in ("one", "two")]
    service.feed(400)
    members[0].wait_for_batches()
    admin = service.kafka.admin
    for future in admin.create_partitions([NewPartitions(service.topic, 7)]).values():
        future.result(10)
    began = time.monotonic()
    for partition in (4, 5, 6):
        service.feed(30, partition)
    service.finish(*members)
    recoveries.append(("a topic gains partitions: until they are delivered", time.monotonic() - began))
    service.judge()


def reset(service: Service, offsets: dict[int, int]) -> None:
    """Set the group's offsets as ``kafka-consumer-groups --reset-offsets`` does, while no member is there."""
    wanted = [TopicPartition(service.topic, *where) for where in offsets.items()]
    admin = service.kafka.admin
    group = ConsumerGroupTopicPartitions(service.group, wanted)
    for future in admin.alter_consumer_group_offsets([group]).values():
        future.result(10)


def recounted(service: Service) -> dict[str, object]:
    return recount_kafka(service.kafka.config, Topics(service.prefix), verify_source=True)


def received(service: Service) -> int:
    """Return how many packets the ledger has, 0 while its topics are being made."""
    try:
        return int(recount_kafka(service.kafka.config, Topics(service.prefix))["received"])
    except Wait:
        return 0


def span(service: Service, partition: int, first: int, last: int) -> dict[str, object]:
    return {"topic": service.topic, "partition": partition, "first": first, "last": last}


def test_offsets_set_back_deliver_again_and_the_ledger_names_the_ranges(service: Service) -> None:
    for partition in (0, 1):
        service.feed(100, partition)
    service.finish()
    service.judge()
    reset(service, {0: 0, 1: 60})
    service.feed(20, 0)
    service.finish()
    found = recounted(service)
    assert found["redelivered"] == [span(service, 0, 0, 99), span(service, 1, 60, 99)]
    assert (found["received"], found["doubled"], found["missing"], found["balanced"]) == (220, 140, 0, False)
    report = verify_kafka(service.kafka.bootstrap, [service.topic], service.prefix)
    again = [(service.topic, 0, n) for n in range(100)] + [(service.topic, 1, n) for n in range(60, 100)]
    assert (report.lost, report.doubled, report.invented, report.ledger_differs) == ([], again, [], [])


def test_offsets_set_forward_are_named_as_skipped(service: Service) -> None:
    service.feed(100, 0)
    service.finish()
    service.feed(50, 0)
    reset(service, {0: 150})
    service.feed(20, 0)
    service.finish()
    found = recounted(service)
    assert found["skipped"] == [span(service, 0, 100, 149)]
    assert (found["received"], found["balanced"]) == (120, False)
    report = verify_kafka(service.kafka.bootstrap, [service.topic], service.prefix)
    assert report.lost == [(service.topic, 0, n) for n in range(100, 150)]
    assert (report.doubled, report.invented, report.ledger_differs) == ([], [], [])


def test_records_that_expire_unread_are_gaps(service: Service) -> None:
    """Retention takes what was read and what was not, while the only member is dead: inputs = ends + gaps."""
    service.feed(300, 0)
    service.feed(300, 1)
    member = service.start(pause_s=0.05, batch=20)
    member.wait_for_batches(3)
    member.kill()
    inputs = set(read_inputs(service.kafka.bootstrap, [service.topic]))
    admin = service.kafka.admin
    for future in admin.delete_records([TopicPartition(service.topic, 0, 250)]).values():
        future.result(10)
    service.finish()
    gaps = {
        (gap["topic"], gap["partition"], offset)
        for gap in recount_kafka(service.kafka.config, Topics(service.prefix))["gaps"]
        for offset in range(gap["first"], gap["last"] + 1)
    }
    report = verify_kafka(service.kafka.bootstrap, [service.topic], service.prefix, inputs=sorted(inputs - gaps))
    assert gaps < {(service.topic, 0, offset) for offset in range(250)}
    assert gaps
    assert report.sound, str(report)


def test_a_night_that_crosses_midnight(service: Service, clock: Clock) -> None:
    """Topics by date: a new night is read from midnight UTC on, the old one too; a clock set back drops neither."""
    kafka, stem = service.kafka, service.topic
    midnight = clock.now.replace(hour=0, minute=0, second=0, microsecond=0)
    names = [f"{stem}_{night:%Y%m%d}" for night in (midnight - timedelta(days=1), midnight)]
    for name in names:
        kafka.make(name, 2)

    def delivered(count: int) -> None:
        for name in names:
            kafka.send(name, [packet(n) for n in range(100)])
        wait_until(lambda: received(service) == count, f"{count} packets")

    clock.set_to(midnight - timedelta(minutes=10))
    member = service.start(topics=[f"{stem}_{{date}}"], environ=clock.environ)
    delivered(100)
    clock.set_to(midnight - timedelta(seconds=1))
    delivered(400)
    clock.shift(-3600)
    time.sleep(3.0)  # it looks at the date every two seconds
    delivered(600)
    member.leave()
    report = verify_kafka(kafka.bootstrap, names, service.prefix)
    assert report.inputs == 600
    assert report.sound, str(report)
