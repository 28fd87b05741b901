"""The one list of metrics, and what a backend must do.

Prometheus is a backend (`broker.serve.metrics`); tests use `Recorded`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Literal, Protocol

CounterName = Literal[
    "alerts_received_total",  # packets read from the source and committed
    "alerts_scored_total",  # packets with at least one score
    "alerts_unscored_total",  # {reason} packets annotated without a score
    "alerts_filtered_total",  # {reason} packets left out by an operator's cut
    "alerts_dead_lettered_total",  # {stage, reason} packets that cannot be understood
    "shadow_failed_total",  # {model, reason} alerts that a candidate should have scored and could not
    "products_sent_total",  # {kind} products of classified alerts for sidecars
    "products_missing_total",  # {kind, reason} alerts that were chosen and have no such product
    "records_answered_total",  # {row} records of products that a survey model answered, pz-mdn@dc2
    "records_unanswered_total",  # {row, reason} records of products that it could not answer
    "alerts_expired_total",  # {topic} offsets that the source dropped before we read them
    "transactions_aborted_total",  # transactions that were rolled back and tried again
    "waits_total",  # {what} times that a batch waited for something outside
]
HistogramName = Literal[
    "stage_seconds",  # {stage} seconds of a stage per batch
    "alert_latency_seconds",  # {since} ingest or observation to commit, per batch
    "batch_alerts",  # alerts per batch
]
GaugeName = Literal[
    "consumer_lag",  # {topic, partition} messages behind the end of the topic
    "alerts_in_flight",  # packets that are read and not committed
    "last_commit_timestamp_seconds",  # Unix time of the last commit
]

LABELS: dict[str, tuple[str, ...]] = {
    "alerts_unscored_total": ("reason",),
    "alerts_filtered_total": ("reason",),
    "alerts_dead_lettered_total": ("stage", "reason"),
    "shadow_failed_total": ("model", "reason"),
    "products_sent_total": ("kind",),
    "products_missing_total": ("kind", "reason"),
    "records_answered_total": ("row",),
    "records_unanswered_total": ("row", "reason"),
    "alerts_expired_total": ("topic",),
    "waits_total": ("what",),
    "stage_seconds": ("stage",),
    "alert_latency_seconds": ("since",),
    "consumer_lag": ("topic", "partition"),
}


class Metrics(Protocol):
    """A backend: three verbs, names from the lists above."""

    def count(self, name: CounterName, n: int = 1, **labels: str) -> None:
        """Add ``n`` to a counter."""
        ...

    def observe(self, name: HistogramName, value: float, **labels: str) -> None:
        """Add one observation to a histogram."""
        ...

    def gauge(self, name: GaugeName, value: float, **labels: str) -> None:
        """Set a gauge."""
        ...


Key = tuple[str, tuple[tuple[str, str], ...]]


@dataclass
class Recorded:
    """A backend that remembers, for tests and for `tocsin bench`."""

    counters: Counter[Key] = field(default_factory=Counter)
    observations: dict[Key, list[float]] = field(default_factory=lambda: defaultdict(list))
    gauges: dict[Key, float] = field(default_factory=dict)

    def count(self, name: CounterName, n: int = 1, **labels: str) -> None:
        """Add ``n`` to a counter."""
        self.counters[name, tuple(sorted(labels.items()))] += n

    def observe(self, name: HistogramName, value: float, **labels: str) -> None:
        """Remember one observation."""
        self.observations[name, tuple(sorted(labels.items()))].append(value)

    def gauge(self, name: GaugeName, value: float, **labels: str) -> None:
        """Set a gauge."""
        self.gauges[name, tuple(sorted(labels.items()))] = value
