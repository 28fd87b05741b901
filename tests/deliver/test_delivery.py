"""How delivery behaves, on files and on a real Kafka: one suite, two backends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from broker.core.batch import PacketBatch
from broker.core.errors import Stop
from broker.core.metrics import Recorded
from broker.core.outcomes import Outcomes

from .backends import Backend, Bounds, FilesBackend, KafkaBackend, Limits, found, numbers
from .fakes import FakeStep, number_of, packet

COUNT = 400
ANNOTATED = [n for n in range(COUNT) if n % 8 in (0, 1, 2, 3, 4, 6)]


@pytest.fixture(params=["files", pytest.param("kafka", marks=pytest.mark.kafka)])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    if request.param == "files":
        return FilesBackend(tmp_path)
    return KafkaBackend(request.getfixturevalue("kafka"))


def counter(metrics: Recorded, name: str, **labels: str) -> int:
    return metrics.counters[name, tuple(sorted(labels.items()))]


def test_every_packet_has_one_end_and_counters_agree(backend: Backend) -> None:
    backend.feed([packet(n) for n in range(COUNT)])
    step = FakeStep(backend.topics)
    totals = backend.run(step, until=COUNT, bounds=Bounds(max_alerts=64))
    assert sorted(step.seen) == list(range(COUNT))
    assert numbers(backend) == ANNOTATED
    ledger = found(backend)
    assert ledger["balanced"]
    assert ledger["received"] == COUNT == totals.received
    assert ledger["scored"] == counter(backend.metrics, "alerts_scored_total") == COUNT * 5 // 8
    assert ledger["unscored"] == {"bogus": COUNT // 8}
    assert ledger["filtered"] == {"programid": COUNT // 8}
    assert ledger["dead_lettered"] == {"malformed": COUNT // 8}
    assert counter(backend.metrics, "alerts_filtered_total", reason="programid") == COUNT // 8
    assert counter(backend.metrics, "alerts_dead_lettered_total", stage="decode", reason="malformed") == COUNT // 8
    dead = list(backend.outputs.dead_letters())
    assert sorted(letter["packet"] for letter in dead) == sorted(packet(n) for n in range(COUNT) if n % 8 == 7)
    assert {(letter["stage"], letter["reason"]) for letter in dead} == {("decode", "malformed")}


def test_a_second_run_adds_nothing_and_new_packets_are_added(backend: Backend) -> None:
    backend.feed([packet(n) for n in range(80)])
    backend.run(FakeStep(backend.topics), until=80)
    before = found(backend)
    again = FakeStep(backend.topics)
    assert backend.run(again, until=0).received == 0
    assert again.calls == 0, "what is done is skipped before the step sees it"
    assert found(backend) == before
    backend.feed([packet(n) for n in range(80, 100)])
    backend.run(FakeStep(backend.topics), until=20)
    assert found(backend)["received"] == 100
    assert found(backend)["balanced"]


def test_a_batch_that_must_wait_is_tried_again_and_said(backend: Backend, caplog: pytest.LogCaptureFixture) -> None:
    backend.feed([packet(n) for n in range(50)])
    step = FakeStep(backend.topics, waits=3)
    backend.run(step, until=50)
    assert counter(backend.metrics, "waits_total", what="step") == 3
    assert any("the registry is away" in message for message in caplog.messages)
    assert sorted(step.seen) == list(range(50))
    assert found(backend)["balanced"]


def test_a_step_may_end_the_first_packets_alone(backend: Backend) -> None:
    class Brief(FakeStep):
        def __call__(self, batch: PacketBatch) -> Outcomes:
            found = super().__call__(batch.part(0, min(7, len(batch))))
            return replace(found, whole=len(found.code) == len(batch))

    backend.feed([packet(n) for n in range(50)])
    step = Brief(backend.topics)
    totals = backend.run(step, until=50, bounds=Bounds(max_alerts=20, max_wait_s=2.0))
    assert (sorted(step.seen), totals.received) == (list(range(50)), 50)
    assert totals.batches >= 8
    ledger = found(backend)
    assert (ledger["received"], ledger["balanced"]) == (50, True)


def test_a_step_that_ends_no_packet_stops_the_run(backend: Backend) -> None:
    class Idle(FakeStep):
        def __call__(self, batch: PacketBatch) -> Outcomes:
            return replace(super().__call__(batch.part(0, 0)), whole=False)

    backend.feed([packet(n) for n in range(50)])
    with pytest.raises(Stop, match="the step returned 0 outcomes"):
        backend.run(Idle(backend.topics), until=50)


def test_a_failure_outside_the_step_ends_the_run_and_loses_nothing(backend: Backend) -> None:
    backend.feed([packet(n) for n in range(100)])

    class Forgetful(FakeStep):
        def committed(self, batch: PacketBatch, outcomes: Outcomes) -> None:
            super().committed(batch, outcomes)
            if self.calls == 2:
                raise ZeroDivisionError("a bug")

    step = Forgetful(backend.topics)
    with pytest.raises(ZeroDivisionError):
        backend.run(step, until=100, bounds=Bounds(max_alerts=20))
    committed = len(step.seen)
    assert committed == found(backend)["received"] < 100
    backend.run(FakeStep(backend.topics), until=100 - committed)
    ledger = found(backend)
    assert (ledger["received"], ledger["balanced"]) == (100, True)


def fail_at(*bad: int) -> Callable[[PacketBatch], None]:
    """Return a bug that shows at some packets."""

    def before(batch: PacketBatch) -> None:
        if {number_of(value) for value in batch.values} & set(bad):
            raise ZeroDivisionError("a bug")

    return before


def test_a_packet_at_which_the_step_fails_is_dead_lettered_and_no_other(
    backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    backend.feed([packet(n) for n in range(100)])
    step = FakeStep(backend.topics, before=fail_at(40, 41, 66))
    backend.run(step, until=100, bounds=Bounds(max_alerts=100, max_wait_s=2.0))
    ledger = found(backend)
    assert (ledger["received"], ledger["balanced"]) == (100, True)
    assert ledger["dead_lettered"] == {"internal": 3, "malformed": 12}
    letters = [letter for letter in backend.outputs.dead_letters() if letter["reason"] == "internal"]
    assert sorted(letter["packet"] for letter in letters) == [packet(40), packet(41), packet(66)]
    assert {letter["stage"] for letter in letters} == {"step"}
    assert all("ZeroDivisionError: a bug (test_delivery.py, line" in letter["error"] for letter in letters)
    assert sum("Traceback" in record.exc_text for record in caplog.records if record.exc_text) <= 3, "once per batch"


def test_a_step_that_fails_for_every_packet_stops_and_keeps_them(backend: Backend) -> None:
    backend.feed([packet(n) for n in range(200)])
    step = FakeStep(backend.topics, before=fail_at(*range(200)))
    with pytest.raises(Stop, match=r"not the packets' fault: ZeroDivisionError: a bug"):
        backend.run(step, until=200, bounds=Bounds(max_alerts=100, max_wait_s=2.0))
    assert step.calls < 40, "it does not try every packet"
    assert found_or_nothing(backend) == 0
    backend.run(FakeStep(backend.topics), until=200)
    assert found(backend)["received"] == 200


def test_a_failure_that_does_not_come_back_hurts_nobody(backend: Backend) -> None:
    """Memory that is short for a whole batch, say: its halves go through, on their own."""

    def once_too_many(batch: PacketBatch) -> None:
        if len(batch) > 30:
            raise MemoryError

    backend.feed([packet(n) for n in range(100)])
    backend.run(FakeStep(backend.topics, before=once_too_many), until=100, bounds=Bounds(100, max_wait_s=2.0))
    assert found(backend)["dead_lettered"] == {"malformed": 12}
    assert numbers(backend) == [n for n in ANNOTATED if n < 100]


def test_limits_stop_the_service_before_the_batch_that_breaks_them(backend: Backend) -> None:
    backend.feed([packet(8 * n) for n in range(40)] + [packet(8 * n + 7) for n in range(40)])
    step = FakeStep(backend.topics)
    with pytest.raises(Stop, match=r"dead letters in the last .*malformed: packet \d+ is broken"):
        backend.run(step, until=80, bounds=Bounds(max_alerts=10, max_wait_s=2.0), limits=Limits(0.25, window=100))
    ledger = found(backend)
    assert ledger["balanced"]
    assert ledger["dead_lettered"].get("malformed", 0) <= 25
    backend.run(FakeStep(backend.topics), until=80 - ledger["received"])
    assert found(backend)["received"] == 80


@pytest.mark.parametrize("wrong", ["doubled", "missing", "short"])
def test_a_step_that_breaks_its_contract_is_stopped(backend: Backend, wrong: str) -> None:
    class Broken(FakeStep):
        def __call__(self, batch: PacketBatch) -> Outcomes:
            outcomes = super().__call__(batch)
            if wrong == "short":
                return Outcomes(outcomes.code[:-1], outcomes.reason, outcomes.records, outcomes.dead)
            records = outcomes.records[1:] if wrong == "missing" else outcomes.records + outcomes.records[:1]
            return Outcomes(outcomes.code, outcomes.reason, records, outcomes.dead)

    backend.feed([packet(n) for n in range(8)])
    with pytest.raises(Stop, match="step"):
        backend.run(Broken(backend.topics), until=8)
    assert found_or_nothing(backend) == 0


def found_or_nothing(backend: Backend) -> int:
    received: int = found(backend)["received"]
    return received


def test_bounds_hold(backend: Backend) -> None:
    sizes: list[tuple[int, int]] = []
    step = FakeStep(
        backend.topics, before=lambda batch: sizes.append((len(batch), sum(len(value) for value in batch.values)))
    )
    backend.feed([packet(n, 1000) for n in range(100)])
    backend.run(step, until=100, bounds=Bounds(max_alerts=30, max_bytes=20_500))
    assert max(count for count, _ in sizes) <= 20
    assert max(size for _, size in sizes) <= 20_500
    backend.feed([packet(1000, 50_000)])
    step.seen.clear()
    backend.run(step, until=1, bounds=Bounds(max_alerts=30, max_bytes=20_500))
    assert sizes[-1] == (1, 50_000), "a packet above the bound travels alone"


def test_a_request_to_stop_finishes_the_batch_in_flight(backend: Backend) -> None:
    backend.feed([packet(n) for n in range(100)])
    stop = threading.Event()
    step = FakeStep(backend.topics, before=lambda batch: stop.set())
    totals = backend.run(step, until=100, stop=stop, bounds=Bounds(max_alerts=10))
    assert totals.batches == 1
    assert found(backend)["received"] == totals.received <= 10
    backend.run(FakeStep(backend.topics), until=100 - totals.received)
    assert found(backend)["received"] == 100
    assert found(backend)["balanced"]


def test_a_batch_that_cannot_finish_is_left_after_the_deadline(backend: Backend) -> None:
    backend.feed([packet(n) for n in range(10)])
    stop = threading.Event()
    step = FakeStep(backend.topics, waits=10**6)
    threading.Timer(3.0, stop.set).start()
    began = time.monotonic()
    totals = backend.run(step, until=10, stop=stop, drain_s=1.0)
    assert 3.0 < time.monotonic() - began < 12.0
    assert totals.received == 0
    backend.run(FakeStep(backend.topics), until=10)
    assert found(backend)["received"] == 10


def test_a_step_learns_only_what_is_committed(backend: Backend) -> None:
    backend.feed([packet(n) for n in range(40)])
    learned: list[int] = []

    class Remembering(FakeStep):
        def committed(self, batch: PacketBatch, outcomes: Outcomes) -> None:
            super().committed(batch, outcomes)
            learned.append(found(backend)["received"])

    step = Remembering(backend.topics)
    backend.run(step, until=40, bounds=Bounds(max_alerts=20, max_wait_s=2.0))
    assert learned == list(np.cumsum(np.diff([0, *learned])))
    assert learned[-1] == 40
