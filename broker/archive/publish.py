"""Simulated packets out to where the survey would put them: files, a nightly tarball, a Kafka topic."""

from __future__ import annotations

import gzip
import io
import tarfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from broker.archive.simulated import SimulatedPacket
from broker.core.errors import TocsinError
from broker.core.units import SECONDS_PER_DAY
from broker.deliver import librdkafka
from broker.deliver.topics import TopicSpec, create

_FOR_EVER = {"retention.ms": "-1"}  # by its own time stamps a past night is old: Kafka would delete it within minutes
_FLUSH_S = 60.0
_HELD_BYTES = 256_000_000
_PAUSE_S = 3600.0  # a longer one is the day between two nights


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One packet on its way out.

    Attributes
    ----------
    name : str
        File name without a folder (used by files and tarballs).
    value : bytes
    timestamp_ms : int
        Unix ms UTC, -1: the time of sending (used by Kafka and tarballs).
    """

    name: str
    value: bytes
    timestamp_ms: int = -1


class Target(Protocol):
    """Somewhere that takes packets."""

    def put(self, packet: Outgoing) -> None:
        """Take one packet."""


def directory(folder: Path) -> AbstractContextManager[Target]:
    """Open ``folder`` to take a file per packet, as archives hold them.

    Raises
    ------
    TocsinError
        The folder is there and not empty: packets of two nights in one folder cannot be told apart.
    """
    return _directory(_empty(folder))


def tarball(path: Path) -> AbstractContextManager[Target]:
    """Open a ``.tar.gz`` in the layout of ZTF's public archive: a flat list of files.

    Raises
    ------
    TocsinError
        The file is there.
    """
    if path.exists():
        raise TocsinError(f"{path} is there already")
    return _tarball(path)


def kafka(config: dict[str, Any], topic: str, *, partitions: int = 4) -> AbstractContextManager[KafkaTarget]:
    """Open a topic, made if it is missing, with a plain idempotent producer.

    Messages have no key (spread over the partitions, as the surveys' are) and the packet's own time stamp.

    Parameters
    ----------
    config : dict
        librdkafka settings, as `broker.core.config.Kafka.librdkafka` gives them.

    Raises
    ------
    TocsinError
        Kafka does not answer or refuses a message (also when the context ends: it waits for all of them).
    """
    return _kafka(config, topic, partitions)


def paced(packets: Iterable[SimulatedPacket], rate: float | None) -> Iterator[SimulatedPacket]:
    """Yield packets no faster than ``rate`` per second; None or 0: as fast as they are taken."""
    began = time.monotonic()
    for index, packet in enumerate(packets):
        if rate:
            time.sleep(max(0.0, began + index / rate - time.monotonic()))
        yield packet


def bursts(
    packets: Iterable[SimulatedPacket],
    now: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[SimulatedPacket]:
    """Yield the packets of each visit at once, and the next ones when that visit's time has come.

    Those of the next visit are made while this one's time passes, up to `_HELD_BYTES`. The day between two nights is
    left out.
    """
    due = last = None
    for mjd, group in groupby(packets, key=lambda packet: packet.truth.mjd):
        visit = iter(group)
        held: list[SimulatedPacket] = []
        size = 0
        for packet in visit:
            held.append(packet)
            size += len(packet.value)
            if size > _HELD_BYTES:
                break
        gap_s = 0.0 if last is None else (mjd - last) * SECONDS_PER_DAY
        due, last = (now() if due is None else due) + (gap_s if gap_s < _PAUSE_S else 0.0), mjd
        sleep(max(0.0, due - now()))
        yield from held
        yield from visit


@contextmanager
def truth_file(path: Path) -> Iterator[io.TextIOWrapper]:
    """Open the truth's file; it is beside the folder of packets, not in it, where it would be read as a packet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        yield file


class KafkaTarget:
    """A producer to one topic and, for truth, to others."""

    def __init__(self, producer: Producer, topic: str) -> None:
        self._producer = producer
        self._topic = topic
        self.refused: KafkaError | None = None

    def put(self, packet: Outgoing) -> None:
        """Send one packet; waits while the producer's queue is full."""
        self._send(self._topic, packet.value, None, packet.timestamp_ms)

    def put_text(self, suffix: str, key: str, text: str) -> None:
        """Send a line to the side topic ``<topic><suffix>``."""
        self._send(self._topic + suffix, text.encode(), key.encode(), -1)

    def on_delivery(self, error: KafkaError | None, _message: Message) -> None:
        """Remember that Kafka refused a message."""
        self.refused = self.refused or error

    def _send(self, topic: str, value: bytes, key: bytes | None, timestamp_ms: int) -> None:
        stamp = {"timestamp": timestamp_ms} if timestamp_ms >= 0 else {}
        while True:
            try:
                self._producer.produce(topic, value, key, on_delivery=self.on_delivery, **stamp)
            except BufferError:
                self._producer.poll(0.1)
                continue
            except KafkaException as error:
                raise TocsinError(f"Kafka refuses a message: {error.args[0].str()}") from error
            break
        self._producer.poll(0)
        self.check()

    def check(self) -> None:
        """Raise for a message that Kafka refused."""
        if self.refused is not None:
            raise TocsinError(f"Kafka refuses a message: {self.refused.str()}")


@contextmanager
def _kafka(config: dict[str, Any], topic: str, partitions: int) -> Iterator[KafkaTarget]:
    large = {**_FOR_EVER, "max.message.bytes": str(librdkafka.LARGEST_MESSAGE)}
    create(config, [TopicSpec(topic, partitions, large)])
    # ZTF's stamps are compressed already, and zstd on Rubin's costs more CPU than it saves
    settings = {"compression.type": "none", "queue.buffering.max.kbytes": 128 * 1024, **config}
    producer = Producer(librdkafka.producer(settings, None))
    target = KafkaTarget(producer, topic)
    yield target
    left = producer.flush(_FLUSH_S)
    target.check()
    if left:
        raise TocsinError(f"Kafka has not taken the last {left} messages within {_FLUSH_S:.0f} s")


def side_topic(config: dict[str, Any], topic: str) -> None:
    """Make a topic of small records, of one partition, if it is missing."""
    create(config, [TopicSpec(topic, 1, _FOR_EVER)])


@dataclass(frozen=True, slots=True)
class _Folder:
    path: Path

    def put(self, packet: Outgoing) -> None:
        (self.path / packet.name).write_bytes(packet.value)


@dataclass(frozen=True, slots=True)
class _Tar:
    archive: tarfile.TarFile

    def put(self, packet: Outgoing) -> None:
        info = tarfile.TarInfo(packet.name)
        info.size, info.mtime = len(packet.value), max(0, packet.timestamp_ms // 1000)
        self.archive.addfile(info, io.BytesIO(packet.value))
        vars(self.archive)["members"].clear()  # it would remember every one


@contextmanager
def _directory(folder: Path) -> Iterator[Target]:
    yield _Folder(folder)


@contextmanager
def _tarball(path: Path) -> Iterator[Target]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        path.open("xb") as raw,
        gzip.GzipFile("", "wb", 1, raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w|") as archive,
    ):
        yield _Tar(archive)


def _empty(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise TocsinError(f"{folder} is not empty; choose another folder")
    except OSError as error:
        raise TocsinError(f"cannot write to {folder}: {error.strerror}") from error
    return folder
