"""The ledger, recounted from the outputs themselves and never from counters.

It balances when annotations, dead letters and filtered offsets are disjoint and their union is exactly the sources that
the ledger records name.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from broker.core.batch import Ints
from broker.core.topics import Topics
from broker.deliver import ledger
from broker.deliver.outputs import DirectoryOutputs, KafkaOutputs, Outputs
from broker.deliver.types import Range

EXAMPLES = 5
Found = dict[str, Any]
Place = tuple[str, int, int]


@dataclass(slots=True)
class _Places:
    """Sources as two columns: a number for (topic, partition), and the offset."""

    numbers: dict[tuple[str, int], int]
    where: array[int] = field(default_factory=lambda: array("q"))
    offset: array[int] = field(default_factory=lambda: array("q"))

    def add(self, topic: str, partition: int, offset: int) -> None:
        self.where.append(self.numbers.setdefault((topic, partition), len(self.numbers)))
        self.offset.append(offset)

    def add_ranges(self, ranges: Iterable[dict[str, Any]]) -> None:
        for r in ranges:
            for offset in range(r["first"], r["last"] + 1):
                self.add(r["topic"], r["partition"], offset)

    def columns(self) -> Ints:
        """Return (2, n): where, offset."""
        return np.array([self.where, self.offset], np.int64)


def recount_directory(directory: Path, *, source_packets: int | None = None) -> Found:
    """Recount the output directory of a replay.

    Parameters
    ----------
    source_packets : int
        How many packets the inputs hold, counted again by the caller; None: not asked.

    Returns
    -------
    dict
        As `recount`.

    Raises
    ------
    broker.core.errors.TocsinError
        The directory is not the output of a replay.
    """
    found = recount(DirectoryOutputs(directory))
    if source_packets is not None:
        lost = source_packets - found["received"]
        found["source"] = {"packets": source_packets, "not_in_ledger": lost, "unread": 0}
        found["balanced"] = found["balanced"] and lost == 0
    return found


def recount_kafka(config: dict[str, Any], topics: Topics, *, verify_source: bool = False) -> Found:
    """Recount what was published under one prefix; with ``verify_source`` the source topics are read again too.

    A service may go on publishing meanwhile: the count is of the transactions that were committed when it began.

    Raises
    ------
    broker.core.errors.Wait
        Kafka does not answer.
    """
    outputs = KafkaOutputs(config, topics)
    found = recount(outputs)
    if verify_source:
        found["source"], found["skipped"] = _verify(outputs)
        found["balanced"] = found["balanced"] and not found["source"]["not_in_ledger"]
    return found


def recount(outputs: Outputs) -> Found:
    """Return the ledger as one object.

    Returns
    -------
    dict
        ``received``, ``scored``, ``unscored`` {reason: n}, ``filtered`` {reason: n}, ``dead_lettered`` {reason: n},
        ``balanced``; ``transactions``; ``gaps`` (expired ranges) and ``expired`` (their packets); ``missing`` (sources
        without an end), ``doubled`` (ends too many), ``unknown`` (ends without a source), and up to five
        ``examples`` of them; ``redelivered``: the ranges that several transactions name, each with ends of its own (the
        group's offsets were set back). They count as doubled too: a subscriber sees them twice.
    """
    numbers: dict[tuple[str, int], int] = {}
    sources, ends, later = _Places(numbers), _Places(numbers), _Places(numbers)
    labels: dict[tuple[str, str], int] = {}
    label = array("q")
    gaps: set[Range] = set()
    transactions = 0
    filtered: list[dict[str, Any]] = []
    for entry in outputs.ledgers():
        transactions += 1
        sources.add_ranges(entry["sources"])
        gaps.update(Range(**gap) for gap in entry["gaps"])
        filtered += entry["filtered"]
    for outcome, reason, place in _ends(outputs, filtered):
        ends.add(place["topic"], place["partition"], place["offset"])
        label.append(labels.setdefault((outcome, reason), len(labels)))
    for entry in outputs.ledgers():  # again: what was committed while the outputs were read
        later.add_ranges(entry["sources"])
    counted, problems = _match(sources.columns(), ends.columns(), later.columns(), np.array(label, np.int64), numbers)
    by_label = np.bincount(counted, minlength=len(labels)).tolist()
    found: Found = {"received": problems.pop("received")}
    found["scored"] = sum(by_label[i] for (outcome, _), i in labels.items() if outcome == "scored")
    for outcome in ("unscored", "filtered", "dead_lettered"):
        pairs = sorted((reason, by_label[i]) for (o, reason), i in labels.items() if o == outcome and by_label[i])
        found[outcome] = dict(pairs)
    found["balanced"] = not (problems["missing"] or problems["doubled"] or problems["unknown"])
    return {
        **found,
        "transactions": transactions,
        "gaps": [gap._asdict() for gap in sorted(gaps)],
        "expired": sum(gap.last - gap.first + 1 for gap in gaps),
        **problems,
    }


def _ends(outputs: Outputs, filtered: list[dict[str, Any]]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield (outcome, reason, source) of every packet's end."""
    for annotation in outputs.annotations():
        yield annotation["outcome"], annotation["unscoredReason"] or "", annotation["source"]
    for letter in outputs.dead_letters():
        yield "dead_lettered", letter["reason"], letter
    for place in filtered:
        yield "filtered", place["reason"], place


def _match(
    sources: Ints, ends: Ints, later: Ints, label: Ints, numbers: dict[tuple[str, int], int]
) -> tuple[Ints, dict[str, Any]]:
    """Match ends with sources, all (2, n); return the labels of the ends that count, and what does not match."""
    kinds = np.repeat([0, 1, 2], [sources.shape[1], ends.shape[1], later.shape[1]])
    both = np.concatenate([sources, ends, later], axis=1)
    order = np.lexsort((both[1], both[0]))
    both, kinds = both[:, order], kinds[order]
    first = np.flatnonzero(np.diff(both, axis=1, prepend=-1).any(axis=0)) if both.size else np.empty(0, np.int64)
    counts = [np.add.reduceat((kinds == kind).astype(np.int64), first) if len(first) else first for kind in range(3)]
    n_source, n_end, n_later = counts
    newer = (n_source == 0) & (n_later > 0)
    missing = (n_source > 0) & (n_end == 0)
    unknown = (n_end > 0) & (n_later == 0)
    doubled = np.maximum(np.maximum(n_end, n_source) - 1, 0) * ~newer
    names = list(numbers)
    odd = np.flatnonzero(missing | unknown | (doubled > 0))[:EXAMPLES]
    again = np.flatnonzero((n_source > 1) & (n_end == n_source))
    examples = ["/".join(map(str, (*names[both[0, at]], both[1, at]))) for at in first[odd]]
    group = np.repeat(np.arange(len(first)), np.diff(np.append(first, both.shape[1])))
    rows = order[(kinds == 1) & ~newer[group]] - sources.shape[1] if len(first) else np.empty(0, np.int64)
    return label[rows], {
        "received": int((n_source > 0).sum()),
        "missing": int(missing.sum()),
        "doubled": int(doubled.sum()),
        "unknown": int(unknown.sum()),
        "examples": examples,
        "redelivered": _ranges([(*names[where], offset) for where, offset in both[:, first[again]].T.tolist()]),
    }


def _ranges(places: list[Place]) -> list[dict[str, Any]]:
    topics, partitions, offsets = zip(*places, strict=True) if places else ((), (), ())
    return [found._asdict() for found in ledger.ranges(topics, partitions, offsets)]


def _verify(outputs: KafkaOutputs) -> tuple[dict[str, int], list[dict[str, Any]]]:
    """Read the source topics again: every packet up to the last one in the ledger must be in it, or in a gap.

    Returns the counts, and the ranges of those that are not.
    """
    covered: dict[tuple[str, int], set[int]] = {}
    for entry in outputs.ledgers():
        for r in entry["sources"] + entry["gaps"]:
            covered.setdefault((r["topic"], r["partition"]), set()).update(range(r["first"], r["last"] + 1))
    last = {where: max(offsets) for where, offsets in covered.items()}
    packets = unread = 0
    lost: list[Place] = []
    for topic, partition, offset in outputs.sources(sorted({topic for topic, _ in covered})):
        packets += 1
        if offset > last.get((topic, partition), -1):
            unread += 1
        elif offset not in covered[topic, partition]:
            lost.append((topic, partition, offset))
    return {"packets": packets, "not_in_ledger": len(lost), "unread": unread}, _ranges(lost)
