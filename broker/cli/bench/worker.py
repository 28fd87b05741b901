"""The measured process of `tocsin bench pipeline|kafka`: the service as it is, with a CPU clock on every stage.

The clock is the whole process's: stages may use threads, and the Kafka client's own threads are in every stage.
"""

from __future__ import annotations

import json
import resource
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from broker.cli import assemble
from broker.core.batch import PacketBatch
from broker.core.config import Settings
from broker.core.metrics import Recorded
from broker.core.outcomes import Outcomes, Step
from broker.core.topics import Topics

if TYPE_CHECKING:
    from broker.deliver.types import Sink, Source


@dataclass(slots=True)
class Clocked:
    """A `Step` around another one that notes when how many packets were committed."""

    step: Step
    commits: list[tuple[float, int]] = field(default_factory=list)

    def __call__(self, batch: PacketBatch) -> Outcomes:
        """Run the step."""
        return self.step(batch)

    def committed(self, batch: PacketBatch, outcomes: Outcomes) -> None:
        """Note the time."""
        self.step.committed(batch, outcomes)
        self.commits.append((time.time(), len(batch)))


def files(settings: Settings, archive: Path, directory: Path, result: Path) -> None:
    """Replay an archive into a directory and write what it took to ``result``."""
    from broker.archive import read
    from broker.deliver.files import FileSink, FileSource

    primary = assemble.primary(Topics(settings.output.prefix))
    _measure(settings, FileSource(read.packets([archive])), FileSink(directory, primary=primary), result)


def kafka(settings: Settings, result: Path) -> None:
    """Run the service until SIGTERM and write what it took to ``result``."""
    from broker.deliver.kafka import KafkaSink, KafkaSource

    client = settings.kafka.librdkafka()
    source = KafkaSource(client, settings.source.topics, settings.source.group)
    sink = KafkaSink(client, f"bench-{settings.source.group}", Topics(settings.output.prefix))
    _measure(settings, source, sink, result)


def _measure(settings: Settings, source: Source, sink: Sink, result: Path) -> None:
    from broker.deliver.loop import run, stop_on_signals

    metrics, stop = Recorded(), threading.Event()
    step = Clocked(assemble.pipeline(settings, metrics, timer=time.process_time))
    cpu = time.process_time()
    with stop_on_signals(stop):
        run(
            source,
            step,
            sink,
            metrics=metrics,
            bounds=assemble.bounds(settings),
            primary=assemble.primary(Topics(settings.output.prefix)),
            stop=stop,
        )
    result.write_text(json.dumps(_summary(metrics, step.commits, time.process_time() - cpu)))


def _summary(metrics: Recorded, commits: list[tuple[float, int]], cpu_s: float) -> dict[str, Any]:
    stages = {
        dict(labels)["stage"]: sum(values)
        for (name, labels), values in metrics.observations.items()
        if name == "stage_seconds"
    }
    return {
        "commits": commits,
        "cpu_s": cpu_s,
        "stage_cpu_s": {stage: s for stage, s in stages.items() if stage not in ("read", "commit")},
        "wall_s": {stage: stages.get(stage, 0.0) for stage in ("read", "commit")},
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "aborted": sum(n for (name, _), n in metrics.counters.items() if name == "transactions_aborted_total"),
    }
