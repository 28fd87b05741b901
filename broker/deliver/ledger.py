"""The ledger record of one transaction: which packets it covers and how each ended."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from typing import Any

from broker import __version__
from broker.core.outcomes import Outcomes
from broker.core.reasons import Outcome
from broker.deliver.types import Intake, Range


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
    batch = intake.batch
    partitions, offsets = batch.partitions.tolist(), batch.offsets.tolist()
    ended = Counter(zip(outcomes.code.tolist(), outcomes.reason, strict=True))
    filtered = [row for row, code in enumerate(outcomes.code.tolist()) if code == Outcome.FILTERED]
    return {
        "member": member,
        "brokerVersion": __version__,
        "timestamp": int(time.time() * 1000),
        "sources": [r._asdict() for r in ranges(batch.topics, partitions, offsets)],
        "gaps": [gap._asdict() for gap in intake.gaps],
        "received": len(batch),
        "scored": sum(n for (code, _), n in ended.items() if code == Outcome.SCORED),
        "unscored": {reason: n for (code, reason), n in ended.items() if code == Outcome.UNSCORED},
        "deadLettered": {reason: n for (code, reason), n in ended.items() if code == Outcome.DEAD_LETTERED},
        "filtered": [
            {"topic": batch.topics[i], "partition": partitions[i], "offset": offsets[i], "reason": outcomes.reason[i]}
            for i in filtered
        ],
    }
