"""Packets copied untouched: from archives to a Kafka topic or a directory."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from broker.core.batch import FilePacket
from broker.core.errors import Stop, TocsinError
from broker.deliver import librdkafka
from broker.deliver.topics import TopicSpec, create

FLUSH_S = 60.0


def copy_to_directory(packets: Iterable[FilePacket], directory: Path) -> tuple[int, int]:
    """Write each packet's bytes to a file of its own; return how many were written and how many were there.

    A file is named after its source, so a second run over the same input writes nothing, and one that was killed is
    completed by the next.

    Raises
    ------
    TocsinError
        The disk refuses, or a file of that name holds something else.
    """
    directory.mkdir(parents=True, exist_ok=True)
    written = there = 0
    try:
        for packet in packets:
            path = directory / file_name(packet)
            if path.exists():
                if path.stat().st_size != len(packet.value) or path.read_bytes() != packet.value:
                    raise TocsinError(f"{path} holds something else than record {packet.record} of {packet.path}")
                there += 1
                continue
            _write(path, packet.value)
            written += 1
    except OSError as error:
        raise TocsinError(f"cannot write to {directory}: {error}") from error
    return written, there


def file_name(packet: FilePacket) -> str:
    """Return the name of a packet's copy: readable, and unique for (path, record)."""
    source = Path(packet.path)
    place = hashlib.sha256(packet.path.encode(errors="surrogateescape")).hexdigest()[:8]
    suffix = ".avro" if packet.value[:4] == b"Obj\x01" else ".bin"
    return f"{source.name.split('.')[0]}-{place}-{packet.record:06d}{suffix}"


def _write(path: Path, value: bytes) -> None:
    """Write a file so that it is there whole or not at all."""
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as out:
        out.write(value)
        out.flush()
        os.fsync(out.fileno())
    temporary.rename(path)


def copy_to_kafka(packets: Iterable[FilePacket], config: dict[str, Any], topic: str, *, partitions: int = 4) -> int:
    """Send each packet's bytes to ``topic``, made if it is not there; return how many were sent.

    The producer is idempotent, so nothing is doubled within a run; a second run sends everything again.

    Raises
    ------
    Stop
        Kafka did not take a packet.
    broker.core.errors.Wait
        Kafka does not answer.
    """
    limits = {"max.message.bytes": str(librdkafka.LARGEST_MESSAGE), "compression.type": "producer"}
    create(config, [TopicSpec(topic, partitions, limits)])
    failed: list[str] = []

    def note(error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            failed.append(error.str())

    # Stamps are compressed already: zstd would cost more CPU than it saves.
    settings = {"compression.type": "none", "queue.buffering.max.kbytes": 128 * 1024, **config}
    producer = Producer({**librdkafka.producer(settings, None), "on_delivery": note})
    sent = 0
    try:
        for packet in packets:
            _produce(producer, topic, packet.value)
            sent += 1
            if failed:
                break
        left = producer.flush(FLUSH_S)
    except KafkaException as error:
        raise Stop(f"Kafka does not take a packet for {topic}: {error.args[0].str()}") from error
    if failed or left:
        raise Stop(f"Kafka did not take every packet for {topic}: {failed[0] if failed else f'{left} are unanswered'}")
    return sent


def _produce(producer: Producer, topic: str, value: bytes) -> None:
    while True:
        try:
            producer.produce(topic, value)
            producer.poll(0)
            return
        except BufferError:
            producer.poll(0.05)
            time.sleep(0)
