"""Whether packets wait and nothing is committed: what ``/readyz`` knows beside the source's own word."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from broker.core.metrics import CounterName, GaugeName, HistogramName, Metrics


class Watched:
    """A metrics backend that passes everything on, and watches lag, packets in flight and commits on their way.

    Parameters
    ----------
    metrics : Metrics
        The backend behind it.
    after_s : float
        How long packets may wait while nothing is committed.
    clock : callable
        Seconds that never go back.
    """

    def __init__(self, metrics: Metrics, after_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._metrics, self._after_s, self._clock = metrics, after_s, clock
        self._waiting: dict[tuple[str, ...], float] = {}
        self._since: float | None = None

    def why(self) -> str:
        """Return '' while the stream moves or is at its end, else how many packets wait since when."""
        since, waiting = self._since, sum(self._waiting.copy().values())
        if since is None or self._clock() - since <= self._after_s:
            return ""
        return f"stalled: {waiting:.0f} packets wait, and nothing was committed for {self._clock() - since:.0f} s"

    def count(self, name: CounterName, n: int = 1, **labels: str) -> None:
        """Pass it on."""
        self._metrics.count(name, n, **labels)

    def observe(self, name: HistogramName, value: float, **labels: str) -> None:
        """Pass it on."""
        self._metrics.observe(name, value, **labels)

    def gauge(self, name: GaugeName, value: float, **labels: Any) -> None:
        """Pass it on; the time that counts begins when the first packet waits, and anew with every commit."""
        self._metrics.gauge(name, value, **labels)
        if name in ("consumer_lag", "alerts_in_flight"):
            self._waiting[name, *labels.values()] = value
        if not any(self._waiting.values()):
            self._since = None
        elif self._since is None or name == "last_commit_timestamp_seconds":
            self._since = self._clock()
