"""What came of a batch of products so far: results, dead letters, and how each product ended."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from broker.core.batch import PacketBatch
from broker.core.outcomes import DeadLetter, Outcomes, Record
from broker.core.reasons import Outcome


@dataclass(slots=True)
class Made:
    """What came of a batch so far."""

    batch: PacketBatch
    records: list[Record] = field(default_factory=list)
    dead: list[DeadLetter] = field(default_factory=list)
    ended: Counter[tuple[str, str]] = field(default_factory=Counter)
    code: NDArray[np.int8] = field(init=False)
    reason: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.code = np.full(len(self.batch), Outcome.DEAD_LETTERED, np.int8)
        self.reason = [""] * len(self.batch)

    def outcomes(self, ended: int) -> Outcomes:
        """Return what came of the first ``ended`` packets."""
        whole = ended == len(self.batch)
        return Outcomes(self.code[:ended], self.reason[:ended], self.records, self.dead, whole)

    def add(self, record: Record, why: str) -> None:
        """Take the result of a product that is unscored if there is a reason why."""
        self.records.append(record)
        self.code[record.row], self.reason[record.row] = (Outcome.UNSCORED if why else Outcome.SCORED), why

    def bury(self, letters: list[DeadLetter]) -> None:
        """Take dead letters."""
        self.dead += letters
        for letter in letters:
            self.reason[letter.row] = letter.reason
