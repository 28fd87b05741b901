"""The two backends behind one face, for the behaviour suite."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from broker.core.batch import FilePacket
from broker.core.metrics import Recorded
from broker.core.topics import Topics
from broker.deliver.deadletters import Limits
from broker.deliver.files import FileSink, FileSource
from broker.deliver.kafka import KafkaSink, KafkaSource
from broker.deliver.loop import Totals, run
from broker.deliver.outputs import DirectoryOutputs, KafkaOutputs, Outputs
from broker.deliver.recount import recount
from broker.deliver.types import Bounds

from .fakes import FakeStep, primary


class Backend(Protocol):
    """Feed packets, run the loop until they are delivered (or for a moment), look at the outputs."""

    topics: Topics
    metrics: Recorded

    def feed(self, values: list[bytes]) -> None: ...

    def run(self, step: FakeStep, *, until: int, **options: Any) -> Totals: ...

    @property
    def outputs(self) -> Outputs: ...


def found(backend: Backend) -> dict[str, Any]:
    return recount(backend.outputs)


def numbers(backend: Backend) -> list[int]:
    """Return the number of every annotated packet, sorted."""
    return sorted(annotation["alertId"] for annotation in backend.outputs.annotations())


class FilesBackend:
    def __init__(self, directory: Path) -> None:
        self.topics, self.metrics = Topics("t"), Recorded()
        self.directory = directory / "out"
        self._packets: list[FilePacket] = []

    def feed(self, values: list[bytes]) -> None:
        begin = len(self._packets)
        self._packets += [FilePacket(f"/in/{i // 10}", i % 10, value) for i, value in enumerate(values, begin)]

    def run(self, step: FakeStep, *, until: int, **options: Any) -> Totals:
        sink = FileSink(self.directory, primary=primary(self.topics))
        return run(FileSource(self._packets), step, sink, metrics=self.metrics, primary=primary(self.topics), **options)

    @property
    def outputs(self) -> Outputs:
        return DirectoryOutputs(self.directory)


class KafkaBackend:
    def __init__(self, kafka: Any) -> None:
        self.kafka, self.metrics = kafka, Recorded()
        self.name = uuid.uuid4().hex[:8]
        self.topics = Topics(f"t{self.name}")
        self.topic: str = kafka.topic("in", 3)

    def feed(self, values: list[bytes]) -> None:
        self.kafka.send(self.topic, values)

    def run(self, step: FakeStep, *, until: int, **options: Any) -> Totals:
        """Run until ``until`` packets are committed over all runs of the step, at most 30 s; 0: for 2 s."""
        stop = options.pop("stop", None) or threading.Event()
        watch = threading.Thread(target=_stop_when, args=(stop, lambda: bool(until) and len(step.seen) >= until, until))
        watch.start()
        try:
            return run(
                KafkaSource(self.kafka.config, [self.topic], f"g{self.name}", metrics=self.metrics),
                step,
                KafkaSink(self.kafka.config, f"x{self.name}", self.topics),
                metrics=self.metrics,
                primary=primary(self.topics),
                stop=stop,
                **options,
            )
        finally:
            stop.set()
            watch.join()

    @property
    def outputs(self) -> Outputs:
        return KafkaOutputs(self.kafka.config, self.topics)


def _stop_when(stop: threading.Event, reached: Callable[[], bool], until: int) -> None:
    end = time.monotonic() + (30 if until else 2)
    while not stop.is_set() and not reached() and time.monotonic() < end:
        time.sleep(0.02)
    stop.set()


__all__ = ["Backend", "Bounds", "FilesBackend", "KafkaBackend", "Limits", "found", "numbers"]
