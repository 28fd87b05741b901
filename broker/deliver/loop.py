"""The delivery loop: read a batch, run the step, commit everything at once; again.

The loop knows neither Kafka nor files nor astronomy. Two failures reach it: `Wait` (the same batch is tried again, the
source stays alive and paused meanwhile) and `Stop` (going on would do harm). Another exception of the step is looked
for among the packets (`broker.deliver.suspects`); anywhere else it ends the process, and what was not committed is read
again by the next one.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import numpy as np

from broker.core.errors import Stop, Wait
from broker.core.metrics import Metrics
from broker.core.outcomes import Outcomes, Step
from broker.core.reasons import Outcome
from broker.deliver import ledger
from broker.deliver.deadletters import Limits
from broker.deliver.notes import Notes
from broker.deliver.suspects import Suspects
from broker.deliver.types import Aborted, Bounds, Commit, Hook, Intake, Sink, Source, no_hook

T = TypeVar("T")
log = logging.getLogger(__name__)

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0
SAY_AGAIN_S = 30.0


@dataclass(slots=True)
class Totals:
    """What one call of `run` committed."""

    batches: int = 0
    received: int = 0
    scored: int = 0
    unscored: int = 0
    filtered: int = 0
    dead_lettered: int = 0
    aborted: int = 0


class _Drained(Exception):
    """The process was asked to stop, and what it waited for does not come."""


def run(
    source: Source,
    step: Step,
    sink: Sink,
    *,
    metrics: Metrics,
    bounds: Bounds | None = None,
    limits: Limits | None = None,
    primary: frozenset[str],
    member: str = "files",
    stop: threading.Event | None = None,
    drain_s: float = 30.0,
    notes: Notes | None = None,
    at: Hook = no_hook,
) -> Totals:
    """Deliver until the source is exhausted or ``stop`` is set; return what was committed.

    Parameters
    ----------
    bounds : Bounds
        Of a micro-batch.
    limits : Limits or None
        Dead letters that stop the service; None for a replay.
    primary : frozenset of str
        Topics of which exactly one record is due per scored or unscored packet.
    member : str
        Who commits, for the ledger.
    stop : threading.Event
        Set it (see `stop_on_signals`) to stop after the batch in flight.
    drain_s : float
        Seconds that the batch in flight may still take after ``stop``; then it is left uncommitted.
    notes : Notes or None
        Where a packet at which the process dies is found again after the restart; None: it is not.
    at : callable
        Called with the number of each finished step (`broker.deliver.types`): where fault tests kill.

    Raises
    ------
    Stop
        A limit is broken, or the sink or the source cannot go on; what is committed is sound.
    """
    suspects, stop = Suspects(step, notes), stop or threading.Event()
    loop = _Loop(source, step, suspects, sink, metrics, bounds or Bounds(), limits, primary, member, stop, drain_s, at)
    try:
        loop.run()
    except _Drained as drained:
        log.info("stopped: %s", drained)
    finally:
        sink.close()
        source.close()
    return loop.totals


@contextmanager
def stop_on_signals(stop: threading.Event) -> Iterator[None]:
    """Set ``stop`` on SIGTERM and SIGINT; the second SIGINT interrupts at once."""

    def handle(number: int, _frame: object) -> None:
        if stop.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass(slots=True)
class _Loop:
    source: Source
    step: Step
    suspects: Suspects
    sink: Sink
    metrics: Metrics
    bounds: Bounds
    limits: Limits | None
    primary: frozenset[str]
    member: str
    stop: threading.Event
    drain_s: float
    at: Hook
    totals: Totals = field(default_factory=Totals)
    _give_up: float | None = None
    _aborts_in_a_row: int = 0

    def run(self) -> None:
        """Open both ends, then deliver batch after batch."""
        done = self._until_ready("start", self.sink.open, drop=True)
        self._until_ready("start", lambda: self.source.open(done), drop=True)
        while not self.stop.is_set():
            began = time.monotonic()
            intake = self._until_ready("source", lambda: self.source.read(self.bounds), drop=True)
            if intake is None:
                if self.source.exhausted:
                    return
                continue
            if self.stop.is_set():  # not begun: the next process reads it
                return
            self.metrics.observe("stage_seconds", time.monotonic() - began, stage="read")
            self.metrics.gauge("alerts_in_flight", len(intake.batch))
            self._deliver(intake)
            self.metrics.gauge("alerts_in_flight", 0)

    def _deliver(self, intake: Intake) -> None:
        """Run the step over a batch and commit it; in parts where it ends the first packets alone, or fails."""
        parts = self._until_ready("notes", lambda: self.suspects.parts(intake))
        while parts:
            part = parts.pop(0)
            self.at(1)
            outcomes = self._until_ready("step", partial(self.suspects.run, part))
            if isinstance(outcomes, list):
                parts[:0] = outcomes
                continue
            if not outcomes.whole and 0 < (ended := len(outcomes.code)) < len(part.batch):
                parts.insert(0, part.part(ended, len(part.batch)))
                part = part.part(0, ended)
            if not self._commit(part, outcomes) or self.stop.is_set():
                return
            if parts:  # each may take long, and Kafka must hear of us in between
                self._idle(FIRST_PAUSE_S)
                if not self._ours(parts[0]):
                    return

    def _ours(self, intake: Intake) -> bool:
        if not (ours := self.source.owns(intake)):
            log.info("a rebalance took the batch in flight: its new owner delivers it")
        return ours

    def _commit(self, intake: Intake, outcomes: Outcomes) -> bool:
        """Commit a batch; tell whether what was read behind it is still ours to deliver."""
        if not self._ours(intake):
            return False
        self.at(2)
        _check(intake, outcomes, self.primary)
        if self.limits is not None:
            self.limits.check(outcomes)
        commit = Commit(intake, outcomes, ledger.record(intake, outcomes, self.member))
        began = time.monotonic()
        try:
            self._until_ready("commit", lambda: self.sink.commit(commit, self._idle))
        except Aborted as error:
            self._rewind(error)
            return False
        self._aborts_in_a_row = 0
        self.metrics.observe("stage_seconds", time.monotonic() - began, stage="commit")
        self._after_commit(intake, outcomes)
        return True

    def _rewind(self, error: Aborted) -> None:
        self._aborts_in_a_row += 1
        self.totals.aborted += 1
        self.metrics.count("transactions_aborted_total")
        log.warning("the transaction was rolled back and its packets will be read again: %s", error)
        self._until_ready("source", self.source.rewind, drop=True)
        if self._aborts_in_a_row > 1:
            self._idle(min(FIRST_PAUSE_S * 2.0**self._aborts_in_a_row, LONGEST_PAUSE_S))

    def _after_commit(self, intake: Intake, outcomes: Outcomes) -> None:
        """Only now may anything remember the batch."""
        self.source.committed(intake)
        if self.limits is not None:
            self.limits.committed(outcomes)
        self._count(intake, outcomes)
        if len(intake.batch):
            self.step.committed(intake.batch, outcomes)
        self.at(9)
        self._until_ready("notes", lambda: self.suspects.committed(intake))

    def _count(self, intake: Intake, outcomes: Outcomes) -> None:
        now, size = time.time(), len(intake.batch)
        ended = Counter(zip(outcomes.code.tolist(), outcomes.reason, strict=True))
        for (code, reason), n in ended.items():
            if code == Outcome.SCORED:
                self.metrics.count("alerts_scored_total", n)
                self.totals.scored += n
            elif code == Outcome.UNSCORED:
                self.metrics.count("alerts_unscored_total", n, reason=reason)
                self.totals.unscored += n
            elif code == Outcome.FILTERED:
                self.metrics.count("alerts_filtered_total", n, reason=reason)
                self.totals.filtered += n
        for letter in outcomes.dead:
            self.metrics.count("alerts_dead_lettered_total", 1, stage=letter.stage, reason=letter.reason)
        for gap in intake.gaps:
            self.metrics.count("alerts_expired_total", gap.last - gap.first + 1, topic=gap.topic)
        self.totals.dead_lettered += len(outcomes.dead)
        self.totals.received += size
        self.totals.batches += 1
        self.metrics.gauge("last_commit_timestamp_seconds", now)
        if size:
            self.metrics.count("alerts_received_total", size)
            self.metrics.observe("batch_alerts", size)
            latency = max(0.0, now - intake.batch.ingest_ms / 1000)  # the clock may have been set back meanwhile
            self.metrics.observe("alert_latency_seconds", latency, since="ingest")

    def _until_ready(self, what: str, call: Callable[[], T], *, drop: bool = False) -> T:
        """Return ``call()``, tried again with a growing pause while it raises `Wait`.

        ``drop``: nothing is in flight, so a request to stop ends the wait at once.
        """
        pause, said = FIRST_PAUSE_S, 0.0
        while True:
            try:
                return call()
            except Wait as error:
                if drop and self.stop.is_set():
                    raise _Drained(f"nothing was in flight ({error})") from error
                if time.monotonic() - said > SAY_AGAIN_S:
                    log.warning("waiting (%s): %s", what, error)
                    said = time.monotonic()
                self.metrics.count("waits_total", what=what)
                self._idle(pause)
                pause = min(2 * pause, LONGEST_PAUSE_S)

    def _idle(self, seconds: float) -> None:
        """Let time pass, alive to the outside; raise once the deadline of a requested stop is over."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if self.stop.is_set():
                self._give_up = self._give_up or time.monotonic() + self.drain_s
                if time.monotonic() > self._give_up:
                    raise _Drained("the time to drain is over; the batch in flight is left uncommitted")
            self.source.idle(min(left, 0.2))


def _check(intake: Intake, outcomes: Outcomes, primary: frozenset[str]) -> None:
    """Raise `Stop` unless every packet has one end, one annotation or dead letter as that end demands."""
    size = len(intake.batch)
    if len(outcomes.code) != size or len(outcomes.reason) != size:
        raise Stop(f"the step returned {len(outcomes.code)} outcomes for {size} packets")
    annotated = [record.row for record in outcomes.records if record.topic in primary]
    dead = [letter.row for letter in outcomes.dead]
    for rows, due, what in (
        (annotated, outcomes.code <= Outcome.UNSCORED, "annotation"),
        (dead, outcomes.code == Outcome.DEAD_LETTERED, "dead letter"),
    ):
        found = np.bincount(np.array(rows, np.int64), minlength=size)
        wrong = np.flatnonzero(found != due) if len(found) == size else np.array([max(rows)])
        if len(wrong):
            raise Stop(f"the step must return exactly one {what} per packet that ends as one; row {wrong[0]} breaks it")
