"""What plugs into the delivery loop: a source of packets and a sink for outcomes.

The ``at`` hook of loop and sinks is called with the number of each step that it has just finished, so that a test can
kill the process there:

====== ===================================== =======================================
number Kafka                                 files
====== ===================================== =======================================
1      a batch is read                       a batch is read
2      the step returned its outcomes        the step returned its outcomes
3      the transaction is open               temporary segments are written and synced
4      records are handed to the producer    annotations are renamed into place
5      dead letters too                      dead letters too
6      the ledger record too                 the directories are synced
7      source offsets are in the transaction the manifest line is written, not yet synced
8      committed                             synced: committed
9      counted, the step knows               counted, the step knows
====== ===================================== =======================================
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol, Self

from broker.core.batch import PacketBatch
from broker.core.outcomes import Outcomes

Hook = Callable[[int], None]
Idle = Callable[[float], None]
Partition = tuple[str, int]
Done = dict[Partition, list[tuple[int, int]]]

FIRST_STEP, LAST_STEP = 1, 9


class Place(NamedTuple):
    """A packet's source."""

    topic: str
    partition: int
    offset: int


class Range(NamedTuple):
    """Contiguous offsets of one partition, both ends included; the ``range`` of the ledger schema."""

    topic: str
    partition: int
    first: int
    last: int


class Aborted(Exception):
    """The transaction was rolled back: nothing is committed; rewind the source and read again."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bounds of a micro-batch; the first that is reached closes it.

    Attributes
    ----------
    max_alerts : int
    max_bytes : int
        Bytes of packets; a batch has at least one packet, however large.
    max_wait_s : float
        Seconds since its first packet.
    """

    max_alerts: int = 512
    max_bytes: int = 128_000_000
    max_wait_s: float = 0.5


@dataclass(frozen=True, slots=True)
class Intake:
    """A batch and what its source needs to commit it.

    Attributes
    ----------
    batch : PacketBatch
        May be empty when there are only gaps to commit.
    gaps : list of Range
        Offsets that the source dropped before they were read.
    positions : dict
        Next offset to read, by (topic, partition), once this batch is committed.
    group : object
        Consumer-group metadata for the transaction; None where the source has no group.
    epoch : int
        Which assignment of the source it belongs to.
    retried : bool
        The packets are dead letters that are tried again: earlier ledger records name them as sources.
    """

    batch: PacketBatch
    gaps: list[Range] = field(default_factory=list)
    positions: dict[Partition, int] = field(default_factory=dict)
    group: Any = None
    epoch: int = 0
    retried: bool = False

    def part(self, begin: int, end: int) -> Self:
        """Return rows ``begin`` to ``end``, to be committed on their own and in order; the gaps go with the first."""
        if (begin, end) == (0, len(self.batch)):
            return self
        batch, gaps = self.batch.part(begin, end), self.gaps if begin == 0 else []
        positions = {(gap.topic, gap.partition): gap.last + 1 for gap in gaps}
        for topic, partition, offset in zip(
            batch.topics, batch.partitions.tolist(), batch.offsets.tolist(), strict=True
        ):
            positions[topic, partition] = offset + 1
        return replace(self, batch=batch, gaps=gaps, positions=positions)


@dataclass(frozen=True, slots=True)
class Commit:
    """All that must become visible at once: outcomes, the ledger record, and the source's progress."""

    intake: Intake
    outcomes: Outcomes
    ledger: dict[str, Any]


class Source(Protocol):
    """Where packets come from. Every method but ``close`` may raise `Wait` (try again) or `Stop`."""

    @property
    def exhausted(self) -> bool:
        """True when no packet will ever come again."""
        ...

    def open(self, done: Done) -> None:
        """Get ready; ``done`` is what the sink already holds and must not be read again."""
        ...

    def read(self, bounds: Bounds) -> Intake | None:
        """Return the next packets, or None when none came for a moment; never blocks longer than about a second."""
        ...

    def owns(self, intake: Intake) -> bool:
        """Tell whether the packets are still ours to deliver."""
        ...

    def idle(self, seconds: float) -> None:
        """Spend time without reading, alive to the outside; packets already read stay valid unless taken away."""
        ...

    def rewind(self) -> None:
        """Forget what was read since the last commit and read it again."""
        ...

    def committed(self, intake: Intake) -> None:
        """Learn that the packets are committed: those of the last read, or the next part of them."""
        ...

    def close(self) -> None:
        """Leave; what was read and not committed will be read again."""
        ...


class Sink(Protocol):
    """Where outcomes go, all or nothing."""

    def open(self) -> Done:
        """Get ready and return the sources that are already committed here, where the sink keeps the progress.

        Raises
        ------
        Wait, Stop
        """
        ...

    def commit(self, commit: Commit, idle: Idle) -> None:
        """Commit all of it or nothing; ``idle`` is called while something outside makes it wait.

        Raises
        ------
        Wait
            Nothing was begun; call again with the same commit.
        Aborted
            Rolled back; rewind the source.
        Stop
            Going on would do harm.
        """
        ...

    def close(self) -> None:
        """Leave; an open transaction is rolled back."""
        ...


def no_hook(number: int) -> None:
    """Do nothing: what ``at`` is outside fault tests."""
