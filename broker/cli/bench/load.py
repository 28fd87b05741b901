"""The load of the stream's benches: distinct simulated packets of real size, with the mix told."""

from __future__ import annotations

import json
import mmap
import tarfile
import time
from collections import Counter
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from confluent_kafka import Producer

if TYPE_CHECKING:
    from broker.archive.simulate import SimulatedPacket

PARTITIONS = 4
IN_FLIGHT_BYTES = 200_000_000
TICK_S = 0.005
AHEAD_S = 0.5


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


def to_topic(client: dict[str, Any], topic: str, found: Iterator[SimulatedPacket], pool: Path, keep: int) -> None:
    """Send packets to ``topic``, round robin over its partitions; the first ``keep`` also go to the file ``pool``."""
    producer = _producer(client)
    with pool.open("wb") as file:
        for number, packet in enumerate(found):
            if number < keep:
                file.write(len(packet.value).to_bytes(8, "little") + packet.value)
            _send(producer, topic, packet.value, number % PARTITIONS)
    producer.flush()


def read_pool(path: Path) -> list[memoryview]:
    """Return the packets of a file that `to_topic` wrote; they stay in the page cache."""
    with path.open("rb") as file:
        data = memoryview(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))
    rows, place = [], 0
    while place < len(data):
        end = place + 8 + int.from_bytes(data[place : place + 8], "little")
        rows.append(data[place + 8 : end])
        place = end
    return rows


def feed(client: dict[str, Any], topic: str, pool: Path, n: int, rate: float, result: Path) -> None:
    """Send ``n`` packets of ``pool``, round and round, at ``rate`` per second (infinite: all at once).

    A packet's time stamp is when it was due, not when it was sent: what the generator or Kafka makes it wait counts as
    latency. How late they were sent goes to ``result``, and so does when the last one was in Kafka.
    """
    rows, producer = read_pool(pool), _producer(client)
    producer.list_topics(topic, timeout=10.0)  # connects
    late = np.empty(n)
    start = time.time() + AHEAD_S
    for number in range(n):
        due = start + number / rate
        while (left := due - time.time()) > 0:
            producer.poll(0)
            time.sleep(max(left, TICK_S))
        late[number] = time.time() - due
        _send(producer, topic, bytes(rows[number % len(rows)]), number % PARTITIONS, int(due * 1000))
    sent = time.time()
    producer.flush()
    told = {"start": start, "rate": n / max(sent - start, 1e-9), "fed_s": time.time() - start}
    result.write_text(json.dumps({**told, "late_p99_s": float(np.percentile(late, 99)), "distinct": min(n, len(rows))}))


def _producer(client: dict[str, Any]) -> Producer:
    return Producer({**client, "linger.ms": 5, "queue.buffering.max.kbytes": 600_000, "message.max.bytes": 16_000_000})


def _send(producer: Producer, topic: str, value: bytes, partition: int, timestamp_ms: int = 0) -> None:
    while len(producer) * len(value) > IN_FLIGHT_BYTES:
        producer.poll(0.01)
    producer.produce(topic, value, partition=partition, timestamp=timestamp_ms)
    producer.poll(0)
