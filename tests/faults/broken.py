"""Deliveries that are wrong on purpose: the blind verifier must catch them."""

from __future__ import annotations

from typing import Any

from confluent_kafka import Producer, TopicPartition

from broker.core.schemas import latest
from broker.core.topics import Topics
from broker.deliver import deadletters
from broker.deliver.kafka import KafkaSource
from broker.deliver.topics import create, specs, specs_of_sidecar
from broker.deliver.types import Commit, Done, Hook, Idle


class NoTransactions:
    """Sends outputs, then commits offsets: what dies between the two is delivered again."""

    def __init__(self, config: dict[str, Any], topics: Topics, source: KafkaSource, at: Hook) -> None:
        self._config, self._topics, self._source, self._at = config, topics, source, at
        self._producer = Producer({"bootstrap.servers": config["bootstrap.servers"], "linger.ms": 1})

    def open(self) -> Done:
        wanted = specs(self._topics, ["ztf"], ["ia"], 1, False) + specs_of_sidecar(self._topics, (), 1)
        create({"bootstrap.servers": self._config["bootstrap.servers"]}, list({s.name: s for s in wanted}.values()))
        return {}

    def commit(self, commit: Commit, idle: Idle) -> None:
        self._send(commit)
        self._at(6)
        self._commit_offsets(commit)
        self._at(8)

    def _send(self, commit: Commit) -> None:
        for record in commit.outcomes.records:
            self._producer.produce(record.topic, record.value, record.key)
        for letter in commit.outcomes.dead:
            value = latest("deadletter").encode(deadletters.record(commit.intake.batch, letter))
            self._producer.produce(self._topics.dead_letters, value)
        self._producer.produce(self._topics.ledger, latest("ledger").encode(commit.ledger))
        assert self._producer.flush(10) == 0

    def _commit_offsets(self, commit: Commit) -> None:
        offsets = [TopicPartition(*where, offset) for where, offset in commit.intake.positions.items()]
        self._source._consumer.commit(offsets=offsets, asynchronous=False)

    def close(self) -> None:
        self._producer.flush(5)


class OffsetsFirst(NoTransactions):
    """Commits offsets, then sends outputs: what dies between the two is lost."""

    def commit(self, commit: Commit, idle: Idle) -> None:
        self._commit_offsets(commit)
        self._at(6)
        self._send(commit)
        self._at(8)
