"""Whole topics, read back from their beginning to their end as it is now, committed messages only."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from broker.core import schemas
from broker.core.errors import Stop, TocsinError, Wait
from broker.core.kafka import Refusal, client
from broker.deliver import librdkafka

CALL_S = 10.0
SILENCE_S = 60.0


def read_records(
    config: dict[str, Any], topics: Sequence[str], schema: str
) -> Iterator[tuple[dict[str, Any], Message]]:
    """Yield every record of ours on ``topics`` with its message; ``schema`` is what they are without a header.

    Raises
    ------
    Wait
        Kafka does not answer.
    TocsinError
        A message is not ours; the text names its place.
    """
    for message in read_messages(config, topics):
        yield _record(message, schema), message


def _record(message: Message, schema: str) -> dict[str, Any]:
    try:
        return schemas.decode(message.value() or b"", message.headers(), schema)
    except (ValueError, EOFError, IndexError, OverflowError) as error:  # what fastavro raises on foreign bytes
        place = f"{message.topic()}/{message.partition()}/{message.offset()}"
        raise TocsinError(f"the message {place} is not a record of ours: {error!r}") from error


def read_messages(config: dict[str, Any], topics: Sequence[str]) -> Iterator[Message]:
    """Yield every committed message on those of ``topics`` that exist, up to their ends.

    The end of a partition is told by Kafka's end-of-partition event, never by counting offsets: transactions leave
    control records among them.

    Raises
    ------
    Wait
        Kafka does not answer.
    TocsinError
        It refuses us.
    """
    refusal = Refusal(config)
    consumer = client(Consumer, {**librdkafka.reader(config), "error_cb": refusal})
    try:
        there = refusal.topics(consumer, CALL_S)
        open_ends = {(name, number) for name in topics if name in there for number in there[name].partitions}
        consumer.assign([TopicPartition(*where, OFFSET_BEGINNING) for where in sorted(open_ends)])
        heard = time.monotonic()
        while open_ends:
            for message in consumer.consume(500, timeout=0.05):
                heard = time.monotonic()
                where = message.topic(), message.partition()
                if message.error() is None:
                    if where in open_ends:  # behind the end that we saw: newer than this reading
                        yield message
                elif message.error().code() == KafkaError._PARTITION_EOF:
                    open_ends.discard(where)
                else:
                    _take_error(message.error(), message.topic())
            if time.monotonic() - heard > SILENCE_S:
                raise Wait("Kafka does not answer: no end of a topic was seen")
    except KafkaException as error:
        raise Wait(f"Kafka does not answer: {error.args[0].str()}") from error
    finally:
        consumer.close()


def _take_error(error: KafkaError, topic: str | None) -> None:
    if error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
        raise Stop(f"Kafka refuses to let us read {topic}: {error.str()}")
    if error.code() != KafkaError.GROUP_AUTHORIZATION_FAILED:  # the group is but a name that librdkafka asks for
        raise KafkaException(error)
