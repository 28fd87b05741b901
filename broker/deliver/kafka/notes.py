"""Notes of packets in flight, in a compacted topic: another member, or a container with a fresh disk, finds them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from confluent_kafka import KafkaError, Message, Producer

from broker.core.errors import Stop, Wait
from broker.core.kafka import client
from broker.core.topics import Topics
from broker.deliver import librdkafka
from broker.deliver.kafka.reader import read_messages
from broker.deliver.notes import Note
from broker.deliver.topics import create, spec
from broker.deliver.types import Partition

CALL_S = 5.0


class KafkaNotes:
    """The notes of one consumer group.

    Parameters
    ----------
    config : dict
        librdkafka settings, at least ``bootstrap.servers``.
    topics : Topics
        Names the topic of notes, which is made where it is missing.
    group : str
        Whose notes: other groups may share the topic.
    """

    def __init__(self, config: dict[str, Any], topics: Topics, group: str) -> None:
        self._config, self._topics, self._group = config, topics, group
        self._producer: Producer | None = None
        self._failed: KafkaError | None = None

    def load(self) -> dict[Partition, Note]:
        """Read the topic; a message without a value takes a note back."""
        found: dict[Partition, Note] = {}
        for message in read_messages(self._config, [self._topics.in_flight]):
            group, topic, partition = json.loads(message.key())
            if group == self._group and message.value():
                found[topic, partition] = Note(**json.loads(message.value()))
            elif group == self._group:
                found.pop((topic, partition), None)
        return found

    def save(self, notes: Mapping[Partition, Note | None]) -> None:
        """Write to the topic, and wait until Kafka has it."""
        producer = self._producer or self._connect()
        self._failed = None
        for where, note in notes.items():
            value = None if note is None else json.dumps(note._asdict())
            producer.produce(self._topics.in_flight, value, json.dumps([self._group, *where]))
        if producer.flush(CALL_S):
            raise Wait("Kafka does not answer: the note of what is in flight is not written")
        if self._failed is not None:
            refused = self._failed.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED
            kind = Stop if refused else Wait
            raise kind(f"Kafka does not take a note on {self._topics.in_flight}: {self._failed.str()}")

    def _connect(self) -> Producer:
        create(self._config, [spec(self._topics, self._topics.in_flight, 1)])
        settings = {**librdkafka.producer(self._config, None), "linger.ms": 0, "error_cb": lambda _error: None}
        self._producer = client(Producer, {**settings, "on_delivery": self._on_delivery})
        return self._producer

    def _on_delivery(self, error: KafkaError | None, message: Message) -> None:
        self._failed = error or self._failed
