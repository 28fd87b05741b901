"""Packets from Kafka topics, read by one member of a consumer group.

Where a partition starts is decided here and nowhere else: at the group's committed offset; at the beginning where there
is none; behind a named gap where the committed offset has expired. Rebalances happen only inside ``poll``, in this
thread: they take away everything that was read and not committed, and the epoch moves on.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from itertools import chain
from typing import Any

import numpy as np
from confluent_kafka import OFFSET_INVALID, Consumer, KafkaError, KafkaException, Message, TopicPartition

from broker.core.batch import PacketBatch
from broker.core.errors import Stop, Wait
from broker.core.kafka import client
from broker.core.metrics import Metrics
from broker.deliver import librdkafka
from broker.deliver.topics import expand
from broker.deliver.types import Bounds, Done, Intake, Partition, Range

log = logging.getLogger(__name__)

CALL_S = 5.0
POLL_S = 0.2
NAP_S = 0.01
LAG_EVERY_S = 5.0


class KafkaSource:
    """A `Source` over a bounded list of topics.

    Parameters
    ----------
    config : dict
        librdkafka settings, at least ``bootstrap.servers``.
    topics : sequence of str
        Names; ``{date}`` is expanded to the last ``nights`` nights (UTC). Topics that do not exist yet are awaited.
    group : str
        Consumer group.
    refresh_s : float
        How often missing topics and the date are looked at.
    tonight : callable
        The date; injected by tests.
    """

    def __init__(
        self,
        config: dict[str, Any],
        topics: Sequence[str],
        group: str,
        *,
        nights: int = 2,
        metrics: Metrics | None = None,
        refresh_s: float = 15.0,
        tonight: Callable[[], date] = lambda: datetime.now(UTC).date(),
    ) -> None:
        self._names, self._nights, self._tonight = list(topics), nights, tonight
        self._night = date.min
        self._refresh_s, self._refresh_at = refresh_s, 0.0
        self._metrics, self._lag_at = metrics, 0.0
        self._away = librdkafka.Away(log, config)
        self._consumer = client(Consumer, {**librdkafka.consumer(config, group), "error_cb": self._away})
        self._subscribed: list[str] = []
        self._missing: list[str] = []
        self._assigned: list[TopicPartition] | None = None  # waiting for their start
        self._joined = False
        self._owned: dict[Partition, int] = {}  # next offset to read
        self._high: dict[Partition, int] = {}  # lag is told against it
        self._behind: dict[Partition, int] = {}  # where a partition ended: behind control records, which are no packets
        self._gaps: list[Range] = []
        self._held: Message | None = None
        self._paused = False
        self._broken: KafkaError | None = None
        self._group: Any = None
        self._epoch = 0
        self._read_at = 0.0

    @property
    def exhausted(self) -> bool:
        """False: a stream has no end."""
        return False

    @property
    def assigned(self) -> bool:
        """True when the group has given this member its share, even an empty one (a standby), and Kafka is there."""
        started = self._assigned is None or bool(self._owned)
        return self._joined and started and self._away.since is None

    def open(self, done: Done) -> None:
        """Subscribe to the topics that exist; the group's offsets are the progress, not ``done``."""
        self._refresh(force=True)

    def read(self, bounds: Bounds) -> Intake | None:
        """Return the next packets of the partitions that this member owns."""
        self._refresh()
        if self._assigned is not None:
            self._start(self._assigned)
        if self._paused:
            self._consumer.resume(self._partitions())
            self._paused = False
        messages = self._messages(bounds)
        self._tell_lag()
        if messages or self._gaps:
            return self._intake(messages)
        if self._broken is not None:  # a position that expired while we ran
            self._broken = None
            self.rewind()
        return None

    def owns(self, intake: Intake) -> bool:
        """Tell whether no rebalance came since the packets were read."""
        return intake.epoch == self._epoch

    def idle(self, seconds: float) -> None:
        """Pause, and poll so that the group knows us alive; messages of partitions that come meanwhile wait too."""
        if not self._paused and self._owned:
            self._consumer.pause(self._partitions())
            self._paused = True
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            message = self._poll(min(left, POLL_S))
            if message is not None:  # a pause that came too late for it: read it again later
                self._assigned = self._assigned or self._partitions()

    def rewind(self) -> None:
        """Start every owned partition again at its committed offset."""
        if self._assigned is None:
            self._assigned = self._partitions()
        self._forget()
        self._start(self._assigned)

    def committed(self, intake: Intake) -> None:
        """Do nothing: the transaction moved the group's offsets."""

    def close(self) -> None:
        """Leave the group, so that the others take over at once."""
        self._consumer.close()

    # -- topics -------------------------------------------------------------------------------------------------

    def _refresh(self, *, force: bool = False) -> None:
        """Subscribe again when a topic that we want has come (tonight's) or has gone."""
        if not force and time.monotonic() < self._refresh_at:
            return
        self._away.refuse()
        try:
            there = self._consumer.list_topics(timeout=CALL_S).topics
        except KafkaException as error:
            self._away.refuse()
            self._refresh_at = time.monotonic() + min(self._refresh_s, CALL_S)
            if force:
                raise Wait(f"Kafka does not answer: {error.args[0].str()}") from error
            return
        self._refresh_at = time.monotonic() + self._refresh_s
        self._away.back()
        tonight = self._tonight()
        self._night = max(self._night, tonight)  # a clock that is set back across midnight drops no topic
        windows = [expand(self._names, day, self._nights) for day in (tonight, self._night)]
        wanted = list(dict.fromkeys(chain(*windows)))
        missing = [name for name in wanted if name not in there]
        if missing != self._missing and missing:
            log.warning("waiting for topics that do not exist yet: %s", ", ".join(missing))
        self._missing = missing
        found = [name for name in wanted if name in there]
        if found != self._subscribed:
            log.info("reading topics: %s", ", ".join(found) or "none yet")
            self._subscribed = found
            if found:
                self._consumer.subscribe(found, on_assign=self._on_assign, on_revoke=self._on_revoke)
            else:
                self._consumer.unsubscribe()
                self._joined = False

    # -- partitions ---------------------------------------------------------------------------------------------

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Take note only: where to start is looked up outside the callback, where it can wait."""
        consumer.assign([])
        self._forget()
        self._disown()
        self._joined, self._assigned = True, partitions
        log.info("%d partitions assigned", len(partitions))

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Drop everything that is not committed; the same when the partitions were lost."""
        self._forget()
        self._disown()
        self._joined, self._assigned, self._group = False, None, None
        consumer.unassign()

    def _disown(self) -> None:
        """Own nothing; the lag of what was owned is another member's to tell."""
        if self._metrics is not None:
            for topic, partition in self._owned:
                self._metrics.gauge("consumer_lag", 0, topic=topic, partition=str(partition))
        self._owned = {}

    def _forget(self) -> None:
        self._held, self._gaps, self._broken = None, [], None
        self._epoch += 1

    def _start(self, partitions: list[TopicPartition]) -> None:
        """Begin to read partitions at their committed offsets.

        Raises
        ------
        Wait
            Kafka does not answer, or another member's transaction on them is still open.
        """
        if not partitions:  # this member has none, or none any more
            self._assigned = None
            return
        gaps: list[Range] = []
        starts: list[TopicPartition] = []
        high: dict[Partition, int] = {}
        try:
            found = self._consumer.committed([TopicPartition(p.topic, p.partition) for p in partitions], timeout=CALL_S)
            for partition in found:
                if partition.error is not None:
                    raise KafkaException(partition.error)
                first, end = self._consumer.get_watermark_offsets(partition, timeout=CALL_S)
                starts.append(_start_at(partition, first, end, gaps))
                high[partition.topic, partition.partition] = end
        except KafkaException as error:
            raise Wait(f"the offsets of the group are not known yet: {error.args[0].str()}") from error
        metadata = self._consumer.consumer_group_metadata()
        if _generation(metadata) < 0:
            raise Wait("this member lost its place in the group and joins again")
        self._consumer.assign(starts)
        self._consumer.resume(starts)  # a pause outlives the assignment that it was made in
        self._group, self._gaps, self._assigned, self._held, self._paused = metadata, gaps, None, None, False
        self._owned = {(p.topic, p.partition): p.offset for p in starts}
        self._high, self._behind = high, {}
        for gap in gaps:
            log.error("offsets %d to %d of %s/%d expired unread", gap.first, gap.last, gap.topic, gap.partition)

    def _partitions(self) -> list[TopicPartition]:
        return [TopicPartition(*where) for where in self._owned]

    # -- messages -----------------------------------------------------------------------------------------------

    def _messages(self, bounds: Bounds) -> list[Message]:
        """Return messages up to the bounds; a rebalance on the way throws away what came before it."""
        messages: list[Message] = []
        epoch, size = self._epoch, 0
        deadline = time.monotonic() + POLL_S
        while len(messages) < bounds.max_alerts and (left := deadline - time.monotonic()) > 0:
            message = self._held or self._poll(min(left, POLL_S))
            self._held = None
            if self._epoch != epoch or self._assigned is not None:
                return []
            if message is None:
                if self._gaps or self._broken is not None:
                    break
                continue
            length = len(message)
            if messages and size + length > bounds.max_bytes:
                self._held = message
                break
            if not messages:
                self._read_at = time.time()
                deadline = time.monotonic() + bounds.max_wait_s
            messages.append(message)
            size += length
        return messages

    def _poll(self, timeout_s: float) -> Message | None:
        """Return the next message of an owned partition if it is there; else sleep a moment, at most ``timeout_s``.

        We sleep, not librdkafka: it would wait by the wall clock, for an hour more where that is set back by one.
        """
        message = self._consumer.poll(0)
        if message is None:
            time.sleep(min(timeout_s, NAP_S))
            return None
        if message.error() is not None:
            self._take_error(message)
            return None
        where = message.topic(), message.partition()
        if message.offset() < self._owned.get(where, message.offset() + 1):  # not ours, or read before
            return None
        self._owned[where] = message.offset() + 1
        return message

    def _take_error(self, message: Message) -> None:
        error, topic, partition = message.error(), message.topic(), message.partition()
        code = error.code()
        if code == KafkaError._AUTO_OFFSET_RESET:
            log.warning("the position in %s/%s expired: %s", topic, partition, error.str())
            self._broken = error
        elif code in (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED) or error.fatal():
            raise Stop(f"Kafka refuses to let us read {topic or ''}: {error.str()}")
        elif code == KafkaError._PARTITION_EOF:
            self._behind[topic, partition] = message.offset()
        else:
            log.info("consumer: %s (%s/%s)", error.str(), topic, partition)

    def _intake(self, messages: list[Message]) -> Intake:
        topics = [message.topic() for message in messages]
        partitions = [message.partition() for message in messages]
        offsets = [message.offset() for message in messages]
        positions = {(gap.topic, gap.partition): gap.last + 1 for gap in self._gaps}
        for topic, partition, offset in zip(topics, partitions, offsets, strict=True):
            positions[topic, partition] = offset + 1
        batch = PacketBatch(
            values=[message.value() or b"" for message in messages],
            topics=topics,
            partitions=np.array(partitions, np.int32),
            offsets=np.array(offsets, np.int64),
            timestamps_ms=np.array([librdkafka.time_ms(message) for message in messages], np.int64),
            ingest_ms=int((self._read_at if messages else time.time()) * 1000),
        )
        gaps, self._gaps = self._gaps, []
        return Intake(batch, gaps, positions, self._group, self._epoch)

    def _tell_lag(self) -> None:
        if self._metrics is None or not self._owned or time.monotonic() < self._lag_at:
            return
        self._lag_at = time.monotonic() + LAG_EVERY_S
        for (topic, partition), position in self._owned.items():
            _, high = self._consumer.get_watermark_offsets(TopicPartition(topic, partition), cached=True)
            high = max(high, self._high.get((topic, partition), 0))  # -1001 before the first fetch
            at = max(position, self._behind.get((topic, partition), 0))
            self._metrics.gauge("consumer_lag", max(high - at, 0), topic=topic, partition=str(partition))


def _generation(metadata: bytes) -> int:
    """Return the generation in a group's metadata, -1 where the member was expelled.

    librdkafka writes them as ``CGMDv2:`` and a native 32-bit generation. With generation -1 Kafka takes an offset
    commit as one from outside the group and does not fence it, so such metadata must never reach a transaction; taken
    once, when an assignment begins, they stay those of its generation.
    """
    if not metadata.startswith(b"CGMDv2:"):
        return 0  # a format of another version: nothing is known
    return int.from_bytes(metadata[7:11], sys.byteorder, signed=True)


def _start_at(committed: TopicPartition, first: int, end: int, gaps: list[Range]) -> TopicPartition:
    """Return the partition with the offset to start at; an expired stretch is appended to ``gaps``."""
    topic, partition, offset = committed.topic, committed.partition, committed.offset
    if offset == OFFSET_INVALID:
        return TopicPartition(topic, partition, first)
    if offset > end:
        raise Stop(
            f"the group's offset {offset} of {topic}/{partition} lies behind the topic's end {end}: "
            "was the topic made anew? Reset the group's offsets, or take another group"
        )
    if offset < first:
        gaps.append(Range(topic, partition, offset, first - 1))
    return TopicPartition(topic, partition, max(offset, first))
