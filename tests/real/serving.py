"""The real service in a thread, without models: what a test does to it, and what it has done."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from broker.archive import simulate
from broker.cli.run import service
from broker.core.batch import FilePacket
from broker.core.config import Settings, load
from broker.core.metrics import Recorded
from broker.core.schemas import frame_prefix

SURVEYS = ("ztf", "lsst")
NO_MODELS = {"score.classifiers": {survey: [] for survey in SURVEYS}, "score.anomaly": dict.fromkeys(SURVEYS, "")}


def no_models() -> dict[str, str]:
    """Return `NO_MODELS` as variables."""
    return {f"TOCSIN_{key.upper().replace('.', '__')}": json.dumps(value) for key, value in NO_MODELS.items()}


class Serving:
    """`tocsin run`, in a thread."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.metrics, self.stop = settings, Recorded(), threading.Event()
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            service(self.settings, self.metrics, self.stop)
        except BaseException as error:
            self.error = error

    @property
    def received(self) -> int:
        return int(self.metrics.counters.get(("alerts_received_total", ()), 0))

    def waits(self, what: str) -> int:
        return int(self.metrics.counters.get(("waits_total", (("what", what),)), 0))

    def until(self, reached: Callable[[], bool], seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not reached():
            assert self.thread.is_alive(), f"the service has ended: {self.error!r}"
            assert time.monotonic() < end, f"it takes too long: {self.metrics.counters}"
            time.sleep(0.05)


@contextmanager
def serving(settings: Settings) -> Iterator[Serving]:
    """Run the service while the block runs; it must end cleanly."""
    found = Serving(settings)
    found.thread.start()
    try:
        yield found
    finally:
        found.stop.set()
        found.thread.join(60)
    assert not found.thread.is_alive()
    assert found.error is None, repr(found.error)


def settings(config: Path | None = None, **overrides: Any) -> Settings:
    """Return the service's settings, keys with ``__`` for the dot."""
    return load(config, {**NO_MODELS, **{key.replace("__", "."): value for key, value in overrides.items()}})


def packets(survey: str, count: int, seed: int = 3, schema_id: int | None = None) -> list[bytes]:
    """Return simulated packets; Rubin's with the wire id ``schema_id``."""
    values = [packet.value for packet in simulate.night(survey, count, seed)]
    return [frame_prefix(schema_id) + value[5:] for value in values] if schema_id is not None else values


def in_files(values: list[bytes]) -> list[FilePacket]:
    return [FilePacket("/night", record, value) for record, value in enumerate(values)]
