"""The load of the stream's benches: distinct simulated packets of real size, with the mix told."""

from __future__ import annotations

import tarfile
import time
from collections import Counter
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from confluent_kafka import Consumer, Producer

if TYPE_CHECKING:
    from broker.archive.simulate import SimulatedPacket

PARTITIONS = 4
IN_FLIGHT = 2000


def packets(survey: str, n: int, seed: int, mix: Counter[str]) -> Iterator[SimulatedPacket]:
    """Yield ``n`` packets, no alert id twice, and count their classes and points into ``mix``."""
    from broker.archive import simulate

    for packet in simulate.night(survey, n, seed, mix=simulate.BENCH):
        mix[packet.truth.class_name] += 1
        mix["points"] += packet.truth.points
        mix["bytes"] += len(packet.value)
        yield packet


def to_tar(path: Path, found: Iterator[SimulatedPacket]) -> None:
    """Write packets as members of an uncompressed tar archive."""
    with tarfile.open(path, "w") as archive:
        for packet in found:
            member = tarfile.TarInfo(f"{packet.truth.alert_id}.avro")
            member.size = len(packet.value)
            archive.addfile(member, BytesIO(packet.value))


def to_topic(client: dict[str, Any], topic: str, found: Iterator[SimulatedPacket]) -> None:
    """Send packets to ``topic``, round robin over its partitions."""
    producer = _producer(client)
    for number, packet in enumerate(found):
        _send(producer, topic, packet.value, number % PARTITIONS)
    producer.flush()


def paced(client: dict[str, Any], source: str, topic: str, rate: float, n: int) -> float:
    """Copy the first ``n`` packets of ``source`` to ``topic`` at ``rate`` per second; return the rate reached."""
    consumer = Consumer({**client, "group.id": f"paced-{topic}", "auto.offset.reset": "earliest"})
    consumer.subscribe([source])
    producer = _producer(client)
    sent, began = 0, 0.0
    while sent < n:
        for message in consumer.consume(100, timeout=1.0):
            began = began or time.monotonic()
            time.sleep(max(0.0, began + sent / rate - time.monotonic()))
            _send(producer, topic, message.value(), sent % PARTITIONS)
            sent += 1
            if sent == n:
                break
    producer.flush()
    reached = sent / (time.monotonic() - began)
    consumer.close()
    return reached


def _producer(client: dict[str, Any]) -> Producer:
    return Producer({**client, "linger.ms": 5, "queue.buffering.max.kbytes": 600_000, "message.max.bytes": 16_000_000})


def _send(producer: Producer, topic: str, value: bytes, partition: int) -> None:
    while len(producer) > IN_FLIGHT:
        producer.poll(0.01)
    producer.produce(topic, value, partition=partition)
    producer.poll(0)
