"""An iterator over a topic of ours, decoded; committed messages only, no schema registry needed."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from confluent_kafka import OFFSET_INVALID, Consumer, KafkaError, KafkaException, Message, TopicPartition

from broker.core import schemas
from broker.core.config import load
from broker.core.errors import TocsinError, Wait
from broker.core.kafka import Refusal, client

CALL_S = 10.0
POLL_S = 0.25
LOOK_AGAIN_S = 2.0


class Received(NamedTuple):
    """A message with its place.

    Attributes
    ----------
    topic, partition, offset : where it was.
    timestamp_ms : int
        Kafka's time stamp, Unix ms UTC.
    key, value : bytes
        Untouched.
    headers : list of (str, bytes)
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]

    def decode(self) -> dict[str, Any]:
        """Return the record in it, by the fingerprint of its schema among the installed schemas.

        Raises
        ------
        ValueError
            It is not a record of ours (a raw packet of the survey, for example).
        """
        if schemas.HEADER not in dict(self.headers):
            raise ValueError("it has no schema header")
        return schemas.decode(self.value, self.headers, "annotation")


def subscribe(
    topic: str | Sequence[str],
    *,
    brokers: str | None = None,
    group: str | None = None,
    from_: str = "latest",
    limit: int | None = None,
    once: bool = False,
    config: Path | None = None,
) -> Subscription:
    """Subscribe to one topic or several.

    Parameters
    ----------
    brokers : str
        Bootstrap servers; default: from ``config``, else ``TOCSIN_KAFKA__BROKERS``.
    group : str
        Consumer group: its offsets are kept, and members of one name share the stream. Without one nothing is kept.
    from_ : str
        ``latest``, ``earliest`` or an ISO time (UTC unless it says otherwise): where to start; a group that has an
        offset goes on from there.
    limit : int
        Stop after so many messages.
    once : bool
        Stop at what is the end of the topic now, instead of waiting for more.
    config : Path
        TOML file with a ``[kafka]`` table. Credentials also come from ``TOCSIN_KAFKA__USERNAME`` and
        ``TOCSIN_KAFKA__PASSWORD``, or from ``KAFKA_*`` variables.

    Returns
    -------
    Subscription
        Iterate over it for records as dicts, or over `Subscription.received` for the messages themselves.

    Notes
    -----
    At least once: with a group, a message counts as read when the next one is asked for, so the one in hand at a
    crash comes again.

    Raises
    ------
    TocsinError
        ``from_`` is no time, or the configuration is wrong.
    """
    settings = load(config, {"kafka.brokers": brokers}).kafka.librdkafka()
    if brokers is not None:
        settings["bootstrap.servers"] = brokers
    names = [topic] if isinstance(topic, str) else list(topic)
    return Subscription(settings, names, group, _start(from_), limit, once)


class Subscription:
    """A running subscription: an iterator and a context manager. Made by `subscribe`."""

    def __init__(
        self,
        settings: dict[str, Any],
        topics: Sequence[str],
        group: str | None,
        start: str | int,
        limit: int | None,
        once: bool,
    ) -> None:
        self._topics, self._group, self._start, self._limit, self._once = list(topics), group, start, limit, once
        self._refusal = Refusal(settings)
        self._open_ends: set[tuple[str, int]] | None = None  # None: not assigned yet
        self._consumer = client(
            Consumer,
            {
                "log_level": 2,
                "fetch.wait.max.ms": 100,
                "fetch.queue.backoff.ms": 5,
                **settings,
                "group.id": group or "tocsin-subscriber",
                "isolation.level": "read_committed",
                "enable.auto.commit": group is not None,
                "auto.commit.interval.ms": 1000,
                "enable.auto.offset.store": False,
                "enable.partition.eof": True,
                "auto.offset.reset": start if start in ("latest", "earliest") else "earliest",
                "allow.auto.create.topics": False,
                "error_cb": self._refusal,
            },
        )

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """Commit what was read (with a group) and leave."""
        self._consumer.close()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield the record of each message.

        Raises
        ------
        TocsinError
            Kafka refuses us; or a message is not a record of ours.
        """
        for received in self.received():
            try:
                record = received.decode()
            except (ValueError, EOFError, IndexError, OverflowError) as error:  # what fastavro raises on foreign bytes
                place = f"{received.topic}/{received.partition}/{received.offset}"
                raise TocsinError(f"the message {place} is not a record of ours: {error!r}") from error
            yield record

    def received(self) -> Iterator[Received]:
        """Yield each message.

        Raises
        ------
        TocsinError
            Kafka refuses us, goes away before it told where to start, or with ``once`` a topic is not there.
        """
        self._begin()
        count = 0
        while self._limit is None or count < self._limit:
            if self._once and self._open_ends == set():
                return
            message = self._consumer.poll(POLL_S)
            if message is None and self._refusal.why():
                raise TocsinError(self._refusal.why())
            if message is None or self._is_event(message):
                continue
            yield _received(message)
            count += 1
            if self._group is not None:  # handed over, and the next is asked for
                self._consumer.store_offsets(message)

    def _begin(self) -> None:
        """Take the topics' partitions: all of them, or as the group shares them out."""
        partitions = self._await_topics()
        if self._group is None:
            self._consumer.assign(self._positions(partitions))
            self._open_ends = {(p.topic, p.partition) for p in partitions}
        else:
            self._consumer.subscribe(self._topics, on_assign=self._on_assign)

    def _await_topics(self) -> list[TopicPartition]:
        while True:
            try:
                there = self._refusal.topics(self._consumer, CALL_S)
                missing = [name for name in self._topics if name not in there]
                if not missing:
                    return [TopicPartition(name, number) for name in self._topics for number in there[name].partitions]
                if self._once:
                    raise TocsinError(f"there is no topic {', '.join(missing)}")
            except Wait:
                if self._once:
                    raise
            time.sleep(LOOK_AGAIN_S)

    def _positions(self, partitions: list[TopicPartition]) -> list[TopicPartition]:
        """Return where to start in each partition; 'latest' is fixed now, not when the first fetch gets there."""
        if isinstance(self._start, int):
            times = [TopicPartition(p.topic, p.partition, self._start) for p in partitions]
            with self._answering():
                return _known(self._consumer.offsets_for_times(times, timeout=CALL_S))
        starts = []
        for p in partitions:
            with self._answering():
                first, end = self._consumer.get_watermark_offsets(p, timeout=CALL_S)
            starts.append(TopicPartition(p.topic, p.partition, first if self._start == "earliest" else end))
        return starts

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        with self._answering():
            committed = _known(consumer.committed(partitions, timeout=CALL_S))
        fresh = {(p.topic, p.partition) for p in committed if p.offset == OFFSET_INVALID}
        starts = self._positions([p for p in partitions if (p.topic, p.partition) in fresh]) if fresh else []
        consumer.assign([p for p in committed if p.offset != OFFSET_INVALID] + starts)
        self._open_ends = {(p.topic, p.partition) for p in partitions}

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """Say in our words that Kafka did not answer a question."""
        try:
            yield
        except KafkaException as error:
            if self._refusal.why():
                raise TocsinError(self._refusal.why()) from error
            raise TocsinError(f"Kafka does not answer: {error.args[0].str()}") from error

    def _is_event(self, message: Message) -> bool:
        """Take note of an event; tell whether it was one and no message."""
        error = message.error()
        if error is None:
            return False
        if error.code() == KafkaError._PARTITION_EOF:
            if self._open_ends is not None:
                self._open_ends.discard((message.topic(), message.partition()))
        elif error.code() in (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED):
            raise TocsinError(f"Kafka refuses to let us read {message.topic() or ''}: {error.str()}")
        return True


def _known(partitions: list[TopicPartition]) -> list[TopicPartition]:
    """Return partitions as they are; an answer that is an error for one of them is raised, not taken as no offset."""
    for partition in partitions:
        if partition.error is not None:
            raise KafkaException(partition.error)
    return partitions


def _start(text: str) -> str | int:
    """Return 'latest', 'earliest', or a time as Unix ms."""
    if text in ("latest", "earliest"):
        return text
    try:
        time_ = datetime.fromisoformat(text)
    except ValueError as error:
        raise TocsinError(f"from: expected latest, earliest or an ISO time, got {text!r}") from error
    return int((time_ if time_.tzinfo else time_.replace(tzinfo=UTC)).timestamp() * 1000)


def _received(message: Message) -> Received:
    return Received(
        message.topic(),
        message.partition(),
        message.offset(),
        message.timestamp()[1],
        message.key() or b"",
        message.value() or b"",
        message.headers() or [],
    )
