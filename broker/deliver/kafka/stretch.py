"""A stretch of a topic, read like a file: from its beginning to the end that it has now, without a consumer group.

A replay must not touch a group's offsets. It reads committed messages only, and merges the partitions by the messages'
time stamps, so that packets come about in the order in which they were sent.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from numpy.typing import NDArray

from broker.core.batch import FilePacket
from broker.core.errors import Stop, TocsinError, Wait
from broker.core.kafka import Refusal, client
from broker.deliver import librdkafka
from broker.deliver.files import Skip
from broker.deliver.types import Range

log = logging.getLogger(__name__)

CALL_S, POLL_S = 10.0, 0.2
_AT_ONCE = 100
_QUEUE_KB = 16 * 1024
_REFUSED = (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC)


@dataclass(frozen=True, slots=True)
class Stretch:
    """What of a topic is read.

    Attributes
    ----------
    config : dict
        librdkafka settings.
    topic : str
    bounds : dict of int to (int, int)
        First offset and the one behind the last, by partition.
    """

    config: dict[str, Any]
    topic: str
    bounds: dict[int, tuple[int, int]]

    @property
    def total(self) -> int:
        """About how many packets there are: transactions leave gaps among the offsets."""
        return sum(end - first for first, end in self.bounds.values())

    def packets(self, skip: Skip) -> Iterator[FilePacket | None]:
        """Yield every packet that is not done; None where none came for a moment.

        ``skip`` is asked once for each offset, before the first packet comes.

        Raises
        ------
        Stop
            Kafka refuses; or, behind the last packet, some expired before they were read.
        """
        done = {
            partition: np.fromiter((skip(self.topic, n, partition) for n in range(first, end)), np.bool_, end - first)
            for partition, (first, end) in self.bounds.items()
        }
        expired: list[Range] = []
        readers = [self._partition(partition, found, expired) for partition, found in done.items() if not found.all()]
        heads: list[FilePacket | None] = [None] * len(readers)
        try:
            while readers:
                for i in reversed(range(len(readers))):
                    try:
                        heads[i] = heads[i] or next(readers[i])
                    except StopIteration:
                        del readers[i], heads[i]
                waiting = [head for head in heads if head is not None]
                if len(waiting) < len(readers):
                    yield None
                elif waiting:
                    earliest = min(waiting, key=lambda packet: packet.timestamp_ms)
                    heads[heads.index(earliest)] = None
                    yield earliest
        finally:
            for reader in readers:
                reader.close()
        if expired:
            ranges = ", ".join(f"{gap.first} to {gap.last} of {gap.topic}/{gap.partition}" for gap in expired)
            raise Stop(f"offsets {ranges} expired before they were read; run again to end without them")

    def _partition(self, partition: int, done: NDArray[np.bool_], expired: list[Range]) -> Generator[FilePacket | None]:
        """Yield the packets of one partition that are not done; append to ``expired`` what Kafka deletes meanwhile."""
        first, end = self.bounds[partition]
        own = {"queued.max.messages.kbytes": _QUEUE_KB, "auto.offset.reset": "error"}
        away = librdkafka.Away(log, self.config)
        consumer = client(Consumer, {**librdkafka.reader(self.config), **own, "error_cb": away})
        at = first + int(np.argmin(done))
        messages: deque[Message] = deque()
        try:
            consumer.assign([TopicPartition(self.topic, partition, at)])
            while at < end:
                if not messages:
                    messages.extend(consumer.consume(_AT_ONCE, timeout=POLL_S))
                if not messages:
                    yield None
                    continue
                message = messages.popleft()
                if message.error() is not None and message.error().code() == KafkaError._AUTO_OFFSET_RESET:
                    kept, _ = consumer.get_watermark_offsets(TopicPartition(self.topic, partition), timeout=CALL_S)
                    expired += [Range(self.topic, partition, at, min(kept, end) - 1)] if kept > at else []
                    at = max(at, kept)
                    consumer.assign([TopicPartition(self.topic, partition, at)])
                    continue
                if message.error() is not None:
                    at = max(at, self._behind(message))
                    continue
                at = message.offset() + 1
                if at <= end and not done[message.offset() - first]:
                    value, stamp = message.value() or b"", librdkafka.time_ms(message)
                    yield FilePacket(self.topic, message.offset(), value, partition, stamp)
        except KafkaException as error:
            raise Stop(f"Kafka does not let us read {self.topic}: {error.args[0].str()}") from error
        finally:
            consumer.close()

    def _behind(self, message: Message) -> int:
        """Return the offset behind everything that was read, where an event says that the partition ends; else 0."""
        error = message.error()
        if error.code() in _REFUSED or error.fatal():
            raise Stop(f"Kafka does not let us read {self.topic}: {error.str()}")
        # behind an open transaction there may be more: then the event's offset lies before the end
        return int(message.offset()) if error.code() == KafkaError._PARTITION_EOF else 0


def stretch(config: dict[str, Any], topic: str) -> Stretch:
    """Return all of ``topic`` that is committed now.

    Raises
    ------
    Wait
        Kafka does not answer.
    TocsinError
        There is no such topic; a setting is wrong, or Kafka refuses the login.
    """
    refusal = Refusal(config)
    consumer = client(Consumer, {**librdkafka.reader(config), "error_cb": refusal})
    try:
        found = refusal.topics(consumer, CALL_S).get(topic)
        if found is None or found.error is not None:
            raise TocsinError(f"there is no topic {topic}")
        bounds = {n: consumer.get_watermark_offsets(TopicPartition(topic, n), timeout=CALL_S) for n in found.partitions}
        return Stretch(config, topic, {n: b for n, b in sorted(bounds.items()) if b[1] > b[0]})
    except KafkaException as error:
        raise Wait(f"Kafka does not answer: {error.args[0].str()}") from error
    finally:
        consumer.close()
