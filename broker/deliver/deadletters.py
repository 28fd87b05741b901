"""Dead letters: the packet's bytes and the reason, and the limits that stop the service."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from broker import __version__
from broker.core.batch import PacketBatch
from broker.core.errors import Stop
from broker.core.outcomes import DeadLetter, Outcomes
from broker.core.reasons import Outcome


def record(batch: PacketBatch, letter: DeadLetter) -> dict[str, Any]:
    """Return the record, in the schema ``deadletter``, of the packet in ``letter.row``."""
    return {
        "topic": batch.topics[letter.row],
        "partition": int(batch.partitions[letter.row]),
        "offset": int(batch.offsets[letter.row]),
        "timestamp": int(batch.timestamps_ms[letter.row]),
        "ingestTimestamp": batch.ingest_ms,
        "stage": letter.stage,
        "reason": letter.reason,
        "error": letter.text,
        "brokerVersion": __version__,
        "packet": batch.values[letter.row],
    }


@dataclass(slots=True)
class Limits:
    """How many dead letters are too many: then our own code or a schema is wrong, not the packets.

    The check comes before the commit: the batch that breaks a limit stays unread, for the deploy that mends it.

    Attributes
    ----------
    max_ratio : float
        Dead letters over the last ``window`` packets, as a part of ``window`` (a young stream cannot break it early).
    window : int
    max_run : int
        Dead letters in a row.
    """

    max_ratio: float = 0.1
    window: int = 10_000
    max_run: int = 500
    _recent: deque[tuple[int, int]] = field(default_factory=deque)
    _packets: int = 0
    _dead: int = 0
    _run: int = 0

    def check(self, outcomes: Outcomes) -> None:
        """Raise if committing ``outcomes`` would break a limit.

        Raises
        ------
        Stop
            The text names the limit, the count, and the commonest reason of this batch.
        """
        dead = outcomes.code == Outcome.DEAD_LETTERED
        if not dead.any():
            return
        reasons = [letter.reason for letter in outcomes.dead]
        worst = max(set(reasons), key=reasons.count)
        text = next(letter.text for letter in outcomes.dead if letter.reason == worst)
        longest = _longest_run(dead, self._run)
        if longest >= self.max_run:
            raise Stop(f"{longest} dead letters in a row (limit {self.max_run}), mostly {worst}: {text}")
        self._forget(len(dead))
        count = self._dead + int(dead.sum())
        if count > self.max_ratio * self.window:
            raise Stop(
                f"{count} dead letters in the last {self.window} packets "
                f"(limit {self.max_ratio:.0%}), mostly {worst}: {text}"
            )

    def committed(self, outcomes: Outcomes) -> None:
        """Remember a batch that was committed."""
        dead = outcomes.code == Outcome.DEAD_LETTERED
        if not len(dead):
            return
        self._forget(len(dead))
        self._recent.append((len(dead), int(dead.sum())))
        self._packets += len(dead)
        self._dead += int(dead.sum())
        alive = np.flatnonzero(~dead)
        self._run = self._run + len(dead) if len(alive) == 0 else len(dead) - 1 - int(alive[-1])

    def _forget(self, coming: int) -> None:
        """Drop batches that lie behind the window once ``coming`` more packets are in it."""
        while self._recent and self._packets + coming - self._recent[0][0] >= self.window:
            packets, letters = self._recent.popleft()
            self._packets -= packets
            self._dead -= letters


def _longest_run(dead: np.ndarray[tuple[int], np.dtype[np.bool_]], before: int) -> int:
    longest, current = 0, before
    for is_dead in dead.tolist():
        current = current + 1 if is_dead else 0
        longest = max(longest, current)
    return longest
