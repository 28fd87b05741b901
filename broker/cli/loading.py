"""The step of a service, made while Kafka is joined: importing torch and loading the models takes seconds."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from broker.core.batch import PacketBatch
from broker.core.errors import Stop
from broker.core.outcomes import Outcomes, Step

log = logging.getLogger("tocsin.run")


@contextmanager
def loading(make: Callable[[], Step], stop: threading.Event) -> Iterator[Step]:
    """Yield a step that waits, at its first batch, for the one that ``make`` returns in a thread of its own.

    Where ``make`` fails, ``stop`` is set and what it raised is raised at the end of the block.
    """
    began = time.monotonic()
    with ThreadPoolExecutor(1, "loading") as pool:
        made = pool.submit(make)
        made.add_done_callback(lambda done: stop.set() if done.exception() else _say(began))
        try:
            yield _Later(made)
        finally:
            if (error := made.exception()) is not None:
                raise error


def _say(began: float) -> None:
    log.info("models loaded", extra={"seconds": round(time.monotonic() - began, 3)})


@dataclass(frozen=True, slots=True)
class _Later:
    made: Future[Step]

    def __call__(self, batch: PacketBatch) -> Outcomes:
        """Run the step.

        Raises
        ------
        Stop
            There is none.
        """
        if self.made.exception() is not None:  # nothing that a packet did
            raise Stop("the models cannot be loaded")
        return self.made.result()(batch)

    def committed(self, batch: PacketBatch, outcomes: Outcomes) -> None:
        """Tell the step."""
        self.made.result().committed(batch, outcomes)
