"""The bytes of packets, copied: from archives or topics to a Kafka topic or a directory, each once.

A message's key, headers and time stamp are not copied; packets spread over the partitions.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from broker.core.batch import FilePacket, PacketBatch
from broker.core.errors import TocsinError
from broker.core.metrics import Recorded
from broker.core.outcomes import Outcomes, Record
from broker.core.reasons import Outcome
from broker.core.topics import Topics
from broker.deliver import librdkafka
from broker.deliver.files import FileSource, Packets, Skip, write_whole
from broker.deliver.kafka import KafkaSink
from broker.deliver.loop import run
from broker.deliver.topics import TopicSpec, create
from broker.deliver.types import Bounds

COPIED = "copied"
"""How a copied packet's end is called in the ledger of the copy."""


def no_progress(packets: int) -> None:
    """Take note of nothing."""


def copy_to_directory(packets: Packets, directory: Path, progress: Callable[[int], None] = no_progress) -> int:
    """Write each packet's bytes to a file of its own; return how many were not there before.

    A file is named after its source, so a second run over the same input writes nothing, and one that was killed is
    completed by the next.

    Raises
    ------
    TocsinError
        The disk refuses, or a file of that name holds something else.
    """
    written = 0
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for packet in packets:
            if packet is None or is_there(packet, directory):
                continue
            write_whole(directory / file_name(packet), packet.value)
            written += 1
            progress(1)
    except OSError as error:
        raise TocsinError(f"cannot write to {directory}: {error}") from error
    return written


def is_there(packet: FilePacket, directory: Path) -> bool:
    """Tell whether a directory holds the copy of a packet.

    Raises
    ------
    TocsinError
        A file of that name holds something else.
    """
    path = directory / file_name(packet)
    if not path.exists():
        return False
    if path.stat().st_size != len(packet.value) or path.read_bytes() != packet.value:
        raise TocsinError(f"{path} holds something else than record {packet.record} of {packet.path}")
    return True


def file_name(packet: FilePacket) -> str:
    """Return the name of a packet's copy: readable, and unique for (path, partition, record)."""
    source = Path(packet.path)
    place = f"{packet.path}/{packet.partition}" if packet.partition else packet.path
    digest = hashlib.sha256(place.encode(errors="surrogateescape")).hexdigest()[:8]
    suffix = ".avro" if packet.value[:4] == b"Obj\x01" else ".bin"
    return f"{source.name.split('.')[0]}-{digest}-{packet.record:06d}{suffix}"


@dataclass(frozen=True, slots=True)
class _Copy:
    """The step that passes packets on."""

    topic: str
    progress: Callable[[int], None]

    def __call__(self, batch: PacketBatch) -> Outcomes:
        code = np.full(len(batch), Outcome.UNSCORED, np.int8)
        records = [Record(row, self.topic, None, value) for row, value in enumerate(batch.values)]
        return Outcomes(code, [COPIED] * len(batch), records, [])

    def committed(self, batch: PacketBatch, outcomes: Outcomes) -> None:
        self.progress(len(batch))


def copy_to_kafka(
    packets: Packets | Callable[[Skip], Packets],
    config: dict[str, Any],
    topic: str,
    *,
    partitions: int = 4,
    stop: threading.Event | None = None,
    progress: Callable[[int], None] = no_progress,
) -> int:
    """Send each packet's bytes to ``topic``, made if it is not there; return how many were sent.

    The packets of a batch and the record of which they were, on ``<topic>.ledger``, are one transaction: a second run
    over the same input sends nothing, and one that was killed is completed by the next.

    Parameters
    ----------
    packets : as `broker.deliver.files.FileSource` takes them
    stop : threading.Event
        Set it to stop after the batch in flight.
    progress : callable
        Told how many packets were committed.

    Raises
    ------
    Stop
        Kafka refuses a packet, or another process copies to the topic.
    """
    limits = {"max.message.bytes": str(librdkafka.LARGEST_MESSAGE), "compression.type": "producer"}
    create(config, [TopicSpec(topic, partitions, limits)])
    # Stamps are compressed already: zstd would cost more CPU than it saves.
    settings = {"compression.type": "none", "queue.buffering.max.kbytes": 128 * 1024, **config}
    sink = KafkaSink(settings, f"tocsin-copy-{topic}", Topics(topic), resume=True)
    totals = run(
        FileSource(packets),
        _Copy(topic, progress),
        sink,
        metrics=Recorded(),
        bounds=Bounds(max_bytes=32_000_000),
        primary=frozenset((topic,)),
        member="copy",
        stop=stop,
    )
    return totals.received
