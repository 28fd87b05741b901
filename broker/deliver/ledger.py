"""The ledger record of one transaction: which packets it covers and how each ended."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from broker import __version__
from broker.core.outcomes import Outcomes
from broker.core.reasons import Outcome
from broker.deliver.types import Intake, Place, Range

DEAD = Outcome.DEAD_LETTERED.name.lower()


def ranges(topics: Iterable[str], partitions: Iterable[int], offsets: Iterable[int]) -> list[Range]:
    """Return sources (A,) as contiguous ranges, sorted; a hole (a control record of a transaction) splits one."""
    by_partition: dict[tuple[str, int], list[int]] = {}
    for topic, partition, offset in zip(topics, partitions, offsets, strict=True):
        by_partition.setdefault((topic, partition), []).append(offset)
    return [
        Range(topic, partition, first, last)
        for (topic, partition), found in sorted(by_partition.items())
        for first, last in _runs(sorted(found))
    ]


def _runs(offsets: list[int]) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    for offset in offsets:
        if runs and offset == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], offset)
        else:
            runs.append((offset, offset))
    return runs


def record(intake: Intake, outcomes: Outcomes, member: str) -> dict[str, Any]:
    """Return the record, in the schema ``ledger``, of the transaction that commits ``intake`` as ``outcomes``."""
    batch, first_time = intake.batch, not intake.retried
    places = [Place(*at) for at in zip(batch.topics, batch.partitions.tolist(), batch.offsets.tolist(), strict=True)]
    ends = list(zip(outcomes.code.tolist(), outcomes.reason, strict=True))
    ended = Counter(ends if first_time else ())
    return {
        "member": member,
        "brokerVersion": __version__,
        "timestamp": int(time.time() * 1000),
        "sources": [r._asdict() for r in (ranges(*zip(*places, strict=True)) if places and first_time else ())],
        "gaps": [gap._asdict() for gap in intake.gaps],
        "received": sum(ended.values()),
        "scored": sum(n for (code, _), n in ended.items() if code == Outcome.SCORED),
        "unscored": {reason: n for (code, reason), n in ended.items() if code == Outcome.UNSCORED},
        "deadLettered": {reason: n for (code, reason), n in ended.items() if code == Outcome.DEAD_LETTERED},
        "filtered": [
            {**place._asdict(), "reason": reason}
            for place, (code, reason) in zip(places, ends, strict=True)
            if code == Outcome.FILTERED and first_time
        ],
        "retried": [
            {**place._asdict(), "outcome": Outcome(code).name.lower(), "reason": reason}
            for place, (code, reason) in zip(places, ends, strict=True)
            if not first_time
        ],
    }


@dataclass(slots=True)
class Chains:
    """What became of each packet that was retried: (outcome, reason) after (outcome, reason), by source."""

    ends: dict[Place, list[tuple[str, str]]] = field(default_factory=dict)

    def add(self, entry: dict[str, Any]) -> None:
        """Take a ledger record; they must come in their order."""
        for end in entry.get("retried", ()):  # version 1.0 has none
            self.ends.setdefault(place_of(end), []).append((end["outcome"], end["reason"]))


def place_of(record: dict[str, Any]) -> Place:
    """Return the source that a record of ours names."""
    return Place(record["topic"], record["partition"], record["offset"])


def unix_ms(value: Any) -> int:
    """Return a time stamp of a record (a datetime, as fastavro reads it, or a number) as Unix ms UTC."""
    return round(value.timestamp() * 1000) if isinstance(value, datetime) else int(value)
