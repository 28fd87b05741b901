"""How far topics can be read: what is still open at their ends, and what Kafka has deleted at their beginnings."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition

from broker.core.errors import Wait
from broker.core.kafka import Refusal, client
from broker.deliver import librdkafka

CALL_S = 10.0
PAUSE_S = 0.05
OPEN_S = 90.0
"""Longer than a transaction of ours may stay open after its process died (``transaction.timeout.ms``)."""
Ends = dict[tuple[str, int], tuple[int, int]]


def settle(config: dict[str, Any], topics: Sequence[str]) -> None:
    """Wait until every transaction on ``topics`` that is open now has ended.

    A ``read_committed`` reading ends where the first open transaction begins, and misses what others committed behind
    it; one that begins after this misses nothing that was committed before it. Partitions that are made meanwhile hold
    nothing that was.

    Raises
    ------
    Wait
        Kafka does not answer, or a transaction does not end.
    """
    with _reader(config, topics, "read_uncommitted") as (consumer, partitions):
        written = _ends(consumer, partitions)
    give_up = time.monotonic() + OPEN_S
    with _reader(config, topics, "read_committed") as (consumer, partitions):
        known = [p for p in partitions if (p.topic, p.partition) in written]
        while any(stable < written[where][1] for where, (_, stable) in _ends(consumer, known).items()):
            if time.monotonic() > give_up:
                raise Wait(f"a transaction on {', '.join(topics)} does not end")
            time.sleep(PAUSE_S)


def oldest_kept(config: dict[str, Any], topics: Sequence[str]) -> int:
    """Return the time before which Kafka may have deleted messages of ``topics``, Unix ms UTC; 0: it deleted none.

    A partition that begins behind offset 0 was cut there: what it lost is older than the first message that it kept. Of
    several such partitions the newest first message counts; of one that is empty the present.

    Raises
    ------
    Wait
        Kafka does not answer.
    """
    with _reader(config, topics, "read_committed") as (consumer, partitions):
        ends = _ends(consumer, partitions)
        cut = {where for where, (first, _) in ends.items() if first > 0}
        kept = {where for where in cut if ends[where][0] < ends[where][1]}
        newest = int(time.time() * 1000) if cut - kept else 0
        consumer.assign([TopicPartition(*where, OFFSET_BEGINNING) for where in sorted(kept)])
        give_up = time.monotonic() + OPEN_S
        while kept:
            message = consumer.poll(1.0)
            if message is not None and (message.topic(), message.partition()) in kept:
                kept.discard((message.topic(), message.partition()))
                # the end of the partition instead of a message: only control records are left of it
                newest = max(newest, message.timestamp()[1] if message.error() is None else int(time.time() * 1000))
            elif time.monotonic() > give_up:
                raise Wait("Kafka does not answer: the first messages of topics were not read")
        return newest


@contextmanager
def _reader(
    config: dict[str, Any], topics: Sequence[str], isolation: str
) -> Iterator[tuple[Consumer, list[TopicPartition]]]:
    """Give a consumer and the partitions of those of ``topics`` that exist."""
    refusal = Refusal(config)
    settings = {**librdkafka.reader(config), "isolation.level": isolation, "error_cb": refusal}
    consumer = client(Consumer, settings)
    try:
        there = refusal.topics(consumer, CALL_S)
        yield consumer, [TopicPartition(name, p) for name in topics if name in there for p in there[name].partitions]
    except KafkaException as error:
        raise Wait(f"Kafka does not answer: {error.args[0].str()}") from error
    finally:
        consumer.close()


def _ends(consumer: Consumer, partitions: list[TopicPartition]) -> Ends:
    """Return the first offset of partitions, and the one behind the last that the consumer may see."""
    return {(p.topic, p.partition): consumer.get_watermark_offsets(p, timeout=CALL_S) for p in partitions}
