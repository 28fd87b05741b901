"""The measured processes of the stream's benches: the service as it is, its metrics kept with their times.

The stages' clock is the whole process's CPU time: stages may use threads, and the Kafka client's own threads, which
work all the while, are in every stage.
"""

from __future__ import annotations

import json
import resource
import threading
import time
from dataclasses import dataclass, field
from multiprocessing.synchronize import Barrier
from pathlib import Path

from broker.cli import assemble
from broker.core.config import Settings
from broker.core.metrics import CounterName, GaugeName, HistogramName
from broker.core.topics import Topics

LOAD_S = 120.0


@dataclass(slots=True)
class Log:
    """A `broker.core.metrics.Metrics` backend that notes what the benches ask for, each with its time (Unix seconds).

    Attributes
    ----------
    commits : list of (float, int)
        Time and alerts of every commit.
    stages : list of (float, str, float)
        Time, name and seconds of every stage of every batch: CPU, but wall time of ``read`` and ``commit``.
    aborted : int
        Transactions that were rolled back.
    """

    commits: list[tuple[float, int]] = field(default_factory=list)
    stages: list[tuple[float, str, float]] = field(default_factory=list)
    aborted: int = 0

    def count(self, name: CounterName, n: int = 1, **labels: str) -> None:
        """Add to a counter."""
        if name == "transactions_aborted_total":
            self.aborted += n

    def observe(self, name: HistogramName, value: float, **labels: str) -> None:
        """Note a stage or a commit."""
        if name == "stage_seconds":
            self.stages.append((time.time(), labels["stage"], value))
        elif name == "batch_alerts":
            self.commits.append((time.time(), int(value)))

    def gauge(self, name: GaugeName, value: float, **labels: str) -> None:
        """Set a gauge."""

    def write(self, path: Path) -> None:
        """Write it all as JSON, with the process's peak memory."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        found = {"commits": self.commits, "stages": self.stages, "aborted": self.aborted, "peak_mb": peak}
        path.write_text(json.dumps(found))


def files(settings: Settings, archive: Path, directory: Path, result: Path) -> None:
    """Replay an archive into a directory and write what it took to ``result``."""
    from broker.archive import read
    from broker.deliver.files import FileSink, FileSource
    from broker.deliver.loop import run

    primary, metrics = assemble.primary(Topics(settings.output.prefix)), Log()
    run(
        FileSource(read.packets([archive])),
        assemble.pipeline(settings, metrics, timer=time.process_time),
        FileSink(directory, primary=primary),
        metrics=metrics,
        bounds=assemble.bounds(settings),
        primary=primary,
    )
    metrics.write(result)


def kafka(settings: Settings, result: Path, together: Barrier | None = None) -> None:
    """Run the service until SIGTERM and write what it took to ``result``.

    ``together``: wait there for the other members, with all code loaded, before joining the group.
    """
    from broker.cli.run import service
    from broker.deliver.loop import stop_on_signals

    stop, metrics = threading.Event(), Log()
    if together is not None:
        assemble.pipeline(settings, Log())
        together.wait(LOAD_S)
    with stop_on_signals(stop):
        service(settings, metrics, stop, timer=time.process_time)
    metrics.write(result)
