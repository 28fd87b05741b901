"""The metrics backend for Prometheus."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from broker.core.metrics import LABELS, CounterName, GaugeName, HistogramName

# Stages take milliseconds, latency counts from the observation too: minutes to days.
_BUCKETS = {
    "stage_seconds": (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30),
    "alert_latency_seconds": (0.1, 0.3, 1, 2, 5, 10, 30, 60, 300, 1200, 3600, 86400),
    "batch_alerts": (1, 4, 16, 64, 256, 1024, 4096, 16384),
}


@dataclass(frozen=True, slots=True)
class Prometheus:
    """Every metric of `broker.core.metrics`, registered under its own name."""

    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    counters: dict[str, Counter] = field(default_factory=dict)
    histograms: dict[str, Histogram] = field(default_factory=dict)
    gauges: dict[str, Gauge] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in get_args(CounterName):
            self.counters[name] = Counter(name, _help(name), LABELS.get(name, ()), registry=self.registry)
        for name in get_args(HistogramName):
            self.histograms[name] = Histogram(
                name, _help(name), LABELS.get(name, ()), registry=self.registry, buckets=_BUCKETS[name]
            )
        for name in get_args(GaugeName):
            self.gauges[name] = Gauge(name, _help(name), LABELS.get(name, ()), registry=self.registry)

    def count(self, name: CounterName, n: int = 1, **labels: str) -> None:
        """Add ``n`` to a counter."""
        counter = self.counters[name]
        (counter.labels(**labels) if labels else counter).inc(n)

    def observe(self, name: HistogramName, value: float, **labels: str) -> None:
        """Add one observation to a histogram."""
        histogram = self.histograms[name]
        (histogram.labels(**labels) if labels else histogram).observe(value)

    def gauge(self, name: GaugeName, value: float, **labels: str) -> None:
        """Set a gauge."""
        gauge = self.gauges[name]
        (gauge.labels(**labels) if labels else gauge).set(value)


def _help(name: str) -> str:
    return name.replace("_", " ")
