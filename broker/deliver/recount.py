"""The ledger, recounted from the outputs themselves and never from counters.

It balances when annotations, dead letters and filtered offsets are disjoint and their union is exactly the sources that
the ledger records name.
"""

from __future__ import annotations

import sys
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from broker.core.batch import Ints
from broker.core.errors import Wait
from broker.core.topics import Topics
from broker.deliver import ledger
from broker.deliver.ledger import DEAD, place_of, unix_ms
from broker.deliver.outputs import DirectoryOutputs, KafkaOutputs, Outputs
from broker.deliver.types import Place, Range

EXAMPLES = 5
SLACK_MS = 60_000
"""Between the clocks of members: a record may be as much younger than an output that lies behind its own."""
Found = dict[str, Any]


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


class _End(NamedTuple):
    """How a packet ended, and when that was written, Unix ms."""

    outcome: str
    reason: str
    place: Place
    time_ms: int


class _Columns:
    """What is matched: the ledger's sources, the packets' ends, and the sources as the ledger names them afterwards.

    ``old_sources`` and ``old_ends`` are those whose counterpart may have been deleted since.
    """

    def __init__(self) -> None:
        self._numbers: dict[tuple[str, int], int] = {}
        self.tables = [_Places(self._numbers) for _ in range(5)]
        self.sources, self.ends, self.later, self.old_sources, self.old_ends = self.tables
        self._labels: dict[tuple[str, str], int] = {}
        self._label = array("q")

    def add_end(self, end: _End, *, old: bool) -> None:
        self.ends.add(*end.place)
        self._label.append(self._labels.setdefault((end.outcome, end.reason), len(self._labels)))
        if old:
            self.old_ends.add(*end.place)

    def counted(self, rows: Ints) -> Found:
        """Return how many of the ends in ``rows`` (n,) are of each kind."""
        by_label = np.bincount(np.array(self._label, np.int64)[rows], minlength=len(self._labels)).tolist()
        found: Found = {"scored": sum(by_label[i] for (outcome, _), i in self._labels.items() if outcome == "scored")}
        for kind in ("unscored", "filtered", DEAD):
            pairs = sorted(
                (reason, by_label[i]) for (o, reason), i in self._labels.items() if o == kind and by_label[i]
            )
            found[kind] = dict(pairs)
        return found

    def places(self, columns: Ints) -> list[Place]:
        """Return ``columns`` (2, n) as places."""
        names = list(self._numbers)
        return [Place(names[where][0], names[where][1], offset) for where, offset in columns.T.tolist()]


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
        ``balanced``; ``retried`` (packets that are counted as what a retry made of them); ``transactions``; ``gaps``
        (ranges that expired unread) and ``expired`` (their packets); ``expired_outputs`` (received, but Kafka may have
        deleted the annotation or dead letter since); ``missing`` (sources without an end), ``doubled`` (ends too many),
        ``unknown`` (ends without a source), and up to five ``examples`` of them; ``redelivered``: the ranges that
        several transactions name, each with ends of its own (the group's offsets were set back). They count as doubled
        too: a subscriber sees them twice.

    Raises
    ------
    Wait
        Kafka does not answer; dead letters were retried meanwhile.
    """
    columns = _Columns()
    gaps: set[Range] = set()
    transactions = 0
    filtered: list[dict[str, Any]] = []
    chains, chains_later = ledger.Chains(), ledger.Chains()
    for entry in outputs.ledgers():
        transactions += 1
        chains.add(entry)
        columns.sources.add_ranges(entry["sources"])
        gaps.update(Range(**gap) for gap in entry["gaps"])
        filtered += entry["filtered"]
    outputs_ms, ledger_ms = outputs.forgotten()
    for end in _ends(outputs, filtered, chains, cut=outputs_ms > 0):
        columns.add_end(end, old=end.time_ms <= ledger_ms)
    for entry in outputs.ledgers():  # again: what was committed while the outputs were read
        columns.later.add_ranges(entry["sources"])
        chains_later.add(entry)
        if outputs_ms and unix_ms(entry["timestamp"]) <= outputs_ms + SLACK_MS:
            columns.old_sources.add_ranges(entry["sources"])
    if chains_later != chains:
        raise Wait("dead letters were retried while they were counted: count again")
    return {
        **_match(columns),
        "retried": len(chains.ends),
        "transactions": transactions,
        "gaps": [gap._asdict() for gap in sorted(gaps)],
        "expired": sum(gap.last - gap.first + 1 for gap in gaps),
    }


def _ends(outputs: Outputs, filtered: list[dict[str, Any]], chains: ledger.Chains, *, cut: bool) -> Iterator[_End]:
    """Yield every packet's end; of one that was retried that which counts."""
    tried: dict[Place, Counter[str]] = {place: Counter() for place in chains.ends}
    for end in _outputs(outputs):
        if end.place in tried:
            tried[end.place][end.outcome] += 1
        else:
            yield end
    for cut_out in filtered:
        yield _End("filtered", cut_out["reason"], place_of(cut_out), sys.maxsize)  # in the ledger, by its nature
    for place, seen in tried.items():
        for outcome, reason in _settled(chains.ends[place], seen, cut):
            yield _End(outcome, reason, place, 0)


def _outputs(outputs: Outputs) -> Iterator[_End]:
    for record in outputs.annotations():
        time_ms = unix_ms(record["brokerPublishTimestamp"])
        yield _End(record["outcome"], record["unscoredReason"] or "", place_of(record["source"]), time_ms)
    for letter in outputs.dead_letters():
        yield _End(DEAD, letter["reason"], place_of(letter), unix_ms(letter["ingestTimestamp"]))


def _settled(chain: list[tuple[str, str]], seen: Counter[str], cut: bool) -> list[tuple[str, str]]:
    """Return the ends that count of a packet that was retried: one where all is well, and that is its last.

    Every try but the last that left a dead letter is superseded by the next one. ``seen`` is how many outputs of each
    kind there are; ``cut`` that Kafka may have deleted some.
    """
    due = Counter([DEAD, *(outcome for outcome, _ in chain if outcome != "filtered")])
    lacking, surplus = due - seen, seen - due
    last, alive = chain[-1], [end for end in chain if end[0] != DEAD]
    superseded = cut and set(lacking) <= {DEAD} and (last[0] != DEAD or seen[DEAD] > 0)
    if lacking and not superseded:
        return []
    return alive + ([last] if last[0] == DEAD else []) + [(outcome, "") for outcome in surplus.elements()]


def _match(columns: _Columns) -> Found:
    """Match ends with sources; return how many ends of each kind count, and what does not match."""
    tables = [places.columns() for places in columns.tables]
    sizes = [table.shape[1] for table in tables]
    kinds, both = np.repeat(np.arange(len(tables)), sizes), np.concatenate(tables, axis=1)
    order = np.lexsort((both[1], both[0]))
    both, kinds = both[:, order], kinds[order]
    first = np.flatnonzero(np.diff(both, axis=1, prepend=-1).any(axis=0)) if both.size else np.empty(0, np.int64)
    n_source, n_end, n_later, n_old_source, n_old_end = (
        np.add.reduceat((kinds == kind).astype(np.int64), first) if len(first) else first for kind in range(len(tables))
    )
    newer = (n_source == 0) & (n_later > 0)
    without_end = (n_source > 0) & (n_end == 0)
    without_source = (n_end > 0) & (n_source == 0) & (n_later == 0)
    missing, unknown = without_end & (n_old_source == 0), without_source & (n_old_end == 0)
    ignored = newer | (without_source & (n_old_end > 0))
    doubled = np.maximum(np.maximum(n_end, n_source) - 1, 0) * ~ignored
    again = np.flatnonzero((n_source > 1) & (n_end == n_source))
    odd = np.flatnonzero(missing | unknown | (doubled > 0))[:EXAMPLES]
    group = np.repeat(np.arange(len(first)), np.diff(np.append(first, both.shape[1])))
    rows = order[(kinds == 1) & ~ignored[group]] - sizes[0] if len(first) else np.empty(0, np.int64)
    problems = {"missing": int(missing.sum()), "doubled": int(doubled.sum()), "unknown": int(unknown.sum())}
    return {
        "received": int((n_source > 0).sum()),
        **columns.counted(rows),
        "balanced": not any(problems.values()),
        **problems,
        "expired_outputs": int((without_end & (n_old_source > 0)).sum()),
        "examples": ["/".join(map(str, place)) for place in columns.places(both[:, first[odd]])],
        "redelivered": _ranges(columns.places(both[:, first[again]])),
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
            lost.append(Place(topic, partition, offset))
    return {"packets": packets, "not_in_ledger": len(lost), "unread": unread}, _ranges(lost)
