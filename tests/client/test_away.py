"""A subscription whose Kafka goes away between the list of topics and the first message says so in our words."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from broker.client import subscribe, subscription
from broker.core.errors import TocsinError


class GoneConsumer:
    """Knows the topics; every question about offsets fails, or (``partial``) is answered with an error."""

    partial = False

    def __init__(self, _settings: dict[str, Any]) -> None:
        self._on_assign: Callable[..., None] | None = None

    def list_topics(self, timeout: float) -> Any:
        return SimpleNamespace(topics={"t": SimpleNamespace(partitions={0: None})})

    def subscribe(self, _topics: list[str], on_assign: Callable[..., None]) -> None:
        self._on_assign = on_assign

    def poll(self, _timeout: float) -> None:
        assert self._on_assign is not None
        self._on_assign(self, [TopicPartition("t", 0)])

    def get_watermark_offsets(self, *_: Any, **__: Any) -> Any:
        raise KafkaException(KafkaError(KafkaError._TRANSPORT))

    def committed(self, partitions: list[TopicPartition], timeout: float) -> Any:
        if not self.partial:
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))
        return [SimpleNamespace(topic="t", partition=0, offset=-1001, error=KafkaError(KafkaError._TRANSPORT))]

    offsets_for_times = committed

    def assign(self, _partitions: list[TopicPartition]) -> None:
        pass

    def close(self) -> None:
        pass


@pytest.mark.parametrize("partial", [False, True])
@pytest.mark.parametrize(
    "options",
    [{"from_": "earliest"}, {"from_": "2026-01-01"}, {"group": "g"}],
    ids=["watermarks", "times", "committed"],
)
def test_kafka_goes_away(monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], partial: bool) -> None:
    monkeypatch.setattr(GoneConsumer, "partial", partial)
    monkeypatch.setattr(subscription, "Consumer", GoneConsumer)
    with (
        subscribe("t", brokers="nowhere:1", **options) as alerts,
        pytest.raises(TocsinError, match="Kafka does not answer"),
    ):
        next(iter(alerts))
