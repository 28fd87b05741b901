"""A member of the service as a process of its own, with a fast fake step, that kills itself where it is told to.

``python -m tests.faults.member '{"mode": "kafka", ...}'``; the option ``"kill_at": "6:3"``: SIGKILL when step 6 of the
transaction is finished for the third time; ``"deadly": [7]``: it dies while the step works on packet 7, ``"failing":
[8]``: the step raises at packet 8; ``"step": "sidecar"``: the
sidecar's step on products, not the fake one. It prints a line per finished batch.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from broker.core.batch import PacketBatch
from broker.core.errors import TocsinError
from broker.core.metrics import Recorded
from broker.core.outcomes import Step
from broker.core.topics import Topics
from broker.deliver.files import FileSink, FileSource
from broker.deliver.kafka import KafkaNotes, KafkaSink, KafkaSource, claim_member
from broker.deliver.loop import run, stop_on_signals
from broker.deliver.notes import FileNotes, Notes
from broker.deliver.outputs import KafkaOutputs
from broker.deliver.retry import RetrySource
from broker.deliver.types import Bounds, Hook, Sink, Source
from tests.deliver.fakes import FakeStep, file_packets, number_of, packet, primary

from .broken import NoTransactions, OffsetsFirst


def kill_at(wanted: str | None) -> Hook:
    """Return a hook that kills this process when a step was finished so many times."""
    number, times = map(int, (wanted or "0:0").split(":"))
    seen = 0

    def at(step: int) -> None:
        nonlocal seen
        seen += step == number
        if step == number and seen == times:
            os.kill(os.getpid(), signal.SIGKILL)
        if step == 9:
            print("batch", flush=True)  # noqa: T201

    return at


def poison(deadly: list[int], failing: list[int]) -> Callable[[PacketBatch], None]:
    """Return what the step does first: die, or raise, at some packets."""

    def before(batch: PacketBatch) -> None:
        found = {number_of(value) for value in batch.values}
        if found & set(deadly):
            os._exit(139)  # as after a segmentation fault: nothing of Python runs any more
        if found & set(failing):
            raise ZeroDivisionError("a bug")

    return before


def maker(options: dict[str, Any]) -> Callable[[int], bytes]:
    """Return what makes the packet with a number."""
    if options.get("step") != "sidecar":
        return packet
    from tests.sidecar.rows import product  # it brings numba, 50 MB that other members do without

    return product


def sidecar(topics: Topics) -> Step:
    """Return the sidecar's own step with two rows; batches are committed in parts."""
    from broker.sidecar.step import Sidecar  # numba, as above
    from tests.sidecar.rows import Colour

    step = Sidecar([Colour("one"), Colour("other")], topics, Recorded(), "test", lambda: 0)
    step.stretch_bytes, step.batch_bytes = 4000, 6000
    return step


def due(options: dict[str, Any], topics: Topics) -> frozenset[str]:
    """Return the topics of what the step makes."""
    return frozenset({topics.results}) if options.get("step") == "sidecar" else primary(topics)


def ends(options: dict[str, Any], topics: Topics, at: Hook) -> tuple[Source, Sink, str]:
    """Return the source and the sink of the wanted mode."""
    if options["mode"] == "files":
        packets = file_packets(Path("/in"), options["count"], make=maker(options))
        schema = "result" if options.get("step") == "sidecar" else "annotation"
        sink = FileSink(Path(options["directory"]), primary=due(options, topics), schema=schema, at=at)
        return FileSource(packets), sink, "files"
    config, group = options["config"], options["group"]
    if options["mode"] == "retry":
        retries = RetrySource(KafkaOutputs(config, topics), lambda letters: letters)
        return retries, KafkaSink(config, f"retry-{topics.prefix}", topics, resume=True, at=at), "dlq-retry"
    member = claim_member(group, Path(options["cache"]), options["member"])
    source = KafkaSource(config, options["topics"], group, refresh_s=2.0)
    if options["mode"] == "no transactions":
        return source, NoTransactions(config, topics, source, at), member.name
    if options["mode"] == "offsets first":
        return source, OffsetsFirst(config, topics, source, at), member.name
    return source, KafkaSink(config, member.transactional_id, topics, at=at), member.name


def notes(options: dict[str, Any], topics: Topics) -> Notes:
    if options["mode"] == "files":
        return FileNotes(Path(options["directory"]) / "in_flight.json")
    return KafkaNotes(options["config"], topics, options["group"])


def main(options: dict[str, Any]) -> None:
    stop = threading.Event()
    topics = Topics(options["prefix"])
    at = kill_at(options.get("kill_at"))
    source, sink, member = ends(options, topics, at)
    bounds = Bounds(max_alerts=options.get("batch", 50), max_wait_s=0.05)
    before = poison(options.get("deadly", []), options.get("failing", []))
    mended = options.get("mended", False)
    step: Step = FakeStep(topics, pause_s=options.get("pause_s", 0.0), before=before, mended=mended)
    if options.get("step") == "sidecar":
        step = sidecar(topics)
    metrics = Recorded()
    with stop_on_signals(stop):
        run(
            source,
            step,
            sink,
            metrics=metrics,
            bounds=bounds,
            primary=due(options, topics),
            member=member,
            stop=stop,
            notes=notes(options, topics),
            at=at,
        )
    assert all(min(seconds) >= 0 for seconds in metrics.observations.values()), "time ran backwards"


if __name__ == "__main__":
    try:
        main(json.loads(sys.argv[1]))
    except TocsinError as error:
        sys.exit(f"Error: {error}")
