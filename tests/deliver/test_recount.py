"""The recount finds what is wrong, and only that; limits and topic names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.cli.ledger import table
from broker.core.errors import Stop, Wait
from broker.core.outcomes import DeadLetter, Outcomes
from broker.core.reasons import Outcome
from broker.core.topics import Topics
from broker.deliver.deadletters import Limits
from broker.deliver.ledger import ranges
from broker.deliver.recount import recount
from broker.deliver.topics import expand, specs


@dataclass
class Memory:
    """Outputs made by hand."""

    scored: list[int] = field(default_factory=list)
    dead: list[int] = field(default_factory=list)
    filtered: list[int] = field(default_factory=list)
    sources: list[int] = field(default_factory=list)
    later: list[int] = field(default_factory=list)  # committed after the first look at the ledger
    retried: list[tuple[int, str, str]] = field(default_factory=list)
    cut: tuple[int, int] = (0, 0)
    looks: int = 0

    def annotations(self) -> Iterator[dict[str, Any]]:
        for offset in self.scored:
            yield {
                "outcome": "scored", "unscoredReason": None, "source": place(offset), "brokerPublishTimestamp": offset,
            }  # fmt: skip

    def dead_letters(self) -> Iterator[dict[str, Any]]:
        for offset in self.dead:
            yield {"reason": "malformed", **place(offset), "ingestTimestamp": offset}

    def ledgers(self) -> Iterator[dict[str, Any]]:
        self.looks += 1
        covered = self.sources + (self.later if self.looks > 1 else [])
        found = ranges(["in"] * len(covered), [0] * len(covered), covered)
        filtered = [{**place(offset), "reason": "programid"} for offset in self.filtered]
        for r in found:
            yield {"sources": [r._asdict()], "gaps": [], "filtered": filtered, "timestamp": r.first, "retried": []}
            filtered = []
        for n, (offset, outcome, reason) in enumerate(self.retried):
            again = {**place(offset), "outcome": outcome, "reason": reason}
            yield {"sources": [], "gaps": [], "filtered": [], "timestamp": 1000 + n, "retried": [again]}

    def forgotten(self) -> tuple[int, int]:
        return self.cut


def place(offset: int) -> dict[str, Any]:
    return {"topic": "in", "partition": 0, "offset": offset}


def test_it_balances() -> None:
    found = recount(Memory([0, 1, 2], [3], [4], [0, 1, 2, 3, 4]))
    assert found == {
        "received": 5, "scored": 3, "unscored": {}, "filtered": {"programid": 1}, "dead_lettered": {"malformed": 1},
        "balanced": True, "transactions": 1, "gaps": [], "expired": 0, "missing": 0, "doubled": 0, "unknown": 0,
        "examples": [], "redelivered": [], "retried": 0, "expired_outputs": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("outputs", "wrong"),
    [
        (Memory([0, 1], sources=[0, 1, 2]), "missing"),
        (Memory([0, 1, 1], sources=[0, 1]), "doubled"),
        (Memory([0, 1], [1], sources=[0, 1]), "doubled"),
        (Memory([0, 1], filtered=[0], sources=[0, 1]), "doubled"),
        (Memory([0, 1, 7], sources=[0, 1]), "unknown"),
    ],
)
def test_it_names_what_is_wrong(outputs: Memory, wrong: str) -> None:
    found = recount(outputs)
    assert not found["balanced"]
    assert {name for name in ("missing", "doubled", "unknown") if found[name]} == {wrong}
    assert found[wrong] == 1
    assert found["examples"][0].startswith("in/0/")


def test_a_ledger_that_names_a_source_twice_does_not_balance() -> None:
    class Twice(Memory):
        def ledgers(self) -> Iterator[dict[str, Any]]:
            yield from super().ledgers()
            yield from super().ledgers()

    found = recount(Twice([0], sources=[0]))
    assert (found["doubled"], found["redelivered"]) == (1, [])
    found = recount(Twice([1, 2, 1, 2], [3, 3], sources=[1, 2, 3]))
    assert (found["doubled"], found["balanced"]) == (3, False)
    assert found["redelivered"] == [{"topic": "in", "partition": 0, "first": 1, "last": 3}]
    assert "in/0 1 to 3 was delivered again" in table(found)


AGAIN = [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("scored", "dead", "retried", "ends"),
    [
        ([0, 3], [1, 2, 3], [(3, "scored", "")], (2, {"malformed": 2}, {})),
        ([0], [1, 2, 3], [(3, "filtered", "programid")], (1, {"malformed": 2}, {"programid": 1})),
        ([0], [1, 2, 3, 3], [(3, "dead_lettered", "internal")], (1, {"malformed": 2, "internal": 1}, {})),
        ([0, 3], [1, 2, 3, 3], [(3, "dead_lettered", "internal"), (3, "scored", "")], (2, {"malformed": 2}, {})),
    ],
)
def test_a_packet_that_was_retried_counts_once_as_its_last_outcome(
    scored: list[int], dead: list[int], retried: list[tuple[int, str, str]], ends: tuple[Any, ...]
) -> None:
    found = recount(Memory(scored, dead, sources=AGAIN, retried=retried))
    assert (found["scored"], found["dead_lettered"], found["filtered"]) == ends
    assert (found["received"], found["retried"], found["balanced"]) == (4, 1, True)
    assert "retried" in table(found)


@pytest.mark.parametrize(
    ("scored", "dead", "retried", "wrong"),
    [
        ([0, 1, 2], [3], [(3, "scored", "")], "missing"),  # the annotation of the retry
        ([0, 1, 2, 3], [], [(3, "scored", "")], "missing"),  # the dead letter that it is of
        ([0, 1, 2], [3], [(3, "dead_lettered", "malformed")], "missing"),
        ([0, 1, 2, 3, 3], [3], [(3, "scored", "")], "doubled"),
        ([0, 1, 2, 3], [3, 3], [(3, "scored", "")], "doubled"),
        ([0, 1, 2, 3, 3], [3], [(3, "scored", ""), (3, "scored", "")], "doubled"),
        ([0, 1, 2, 3], [3, 3], [(3, "scored", ""), (3, "dead_lettered", "malformed")], "doubled"),
        ([0, 1, 2, 3], [3], [], "doubled"),  # a retry without a record
    ],
)
def test_a_retry_that_is_not_sound_does_not_balance(
    scored: list[int], dead: list[int], retried: list[tuple[int, str, str]], wrong: str
) -> None:
    found = recount(Memory(scored, dead, sources=AGAIN, retried=retried))
    assert not found["balanced"]
    assert {name for name in ("missing", "doubled", "unknown") if found[name]} == {wrong}


def test_what_kafka_deleted_is_expired_and_what_is_younger_is_lost() -> None:
    old, young = [0, 1], [200_000, 200_001]
    outputs = Memory([200_001], sources=old + young)
    assert recount(outputs)["missing"] == 3, "as long as nothing was deleted"
    found = recount(Memory([200_001], sources=old + young, cut=(100_000, 0)))
    assert (found["expired_outputs"], found["missing"], found["received"], found["scored"]) == (2, 1, 4, 1)
    assert found["examples"] == ["in/0/200000"]
    assert "expired outputs" in table(found)


def test_outputs_whose_ledger_records_kafka_deleted_are_left_out() -> None:
    outputs = Memory([0, 1, 200_000, 300_000], sources=[200_000], cut=(0, 100_000))
    found = recount(outputs)
    assert (found["unknown"], found["scored"], found["received"]) == (1, 2, 1), "0 and 1 are not in it"
    assert found["examples"] == ["in/0/300000"]


def test_a_retry_outlives_the_dead_letter_that_it_is_of() -> None:
    found = recount(Memory([0, 3], [], sources=[0, 3], retried=[(3, "scored", "")], cut=(1, 1)))
    assert (found["balanced"], found["scored"]) == (True, 2)
    found = recount(Memory([0, 3], [], sources=[0], retried=[(3, "scored", "")], cut=(1, 1)))
    assert (found["balanced"], found["scored"]) == (True, 1), "its first ledger record is gone too"


def test_a_retry_while_we_count_asks_to_count_again() -> None:
    class Busy(Memory):
        def annotations(self) -> Iterator[dict[str, Any]]:
            self.retried = [(1, "scored", "")]
            self.scored = [0, 1]
            return super().annotations()

    with pytest.raises(Wait, match="count again"):
        recount(Busy([0], [1], sources=[0, 1]))


def test_what_is_committed_meanwhile_is_left_out() -> None:
    found = recount(Memory([0, 1, 2, 3], sources=[0, 1], later=[2, 3]))
    assert (found["received"], found["scored"], found["balanced"]) == (2, 2, True)


@given(st.lists(st.sampled_from("sdf")), st.data())
def test_one_change_anywhere_is_found(ends: list[str], data: st.DataObject) -> None:
    def outputs(offsets: dict[str, list[int]]) -> Memory:
        return Memory(offsets["s"], offsets["d"], offsets["f"], list(range(len(ends))))

    offsets = {kind: [i for i, end in enumerate(ends) if end == kind] for kind in "sdf"}
    assert recount(outputs(offsets))["balanced"]
    if not ends:
        return
    changed = data.draw(st.integers(0, len(ends) - 1))
    if data.draw(st.booleans()):
        offsets[ends[changed]].remove(changed)
    else:
        offsets[data.draw(st.sampled_from("sdf"))].append(changed)
    assert not recount(outputs(offsets))["balanced"]


@given(st.sets(st.tuples(st.sampled_from("ab"), st.integers(0, 2), st.integers(0, 30))))
def test_ranges_cover_exactly_their_sources(places: set[tuple[str, int, int]]) -> None:
    found = ranges(*zip(*places, strict=True)) if places else []
    covered = [(r.topic, r.partition, offset) for r in found for offset in range(r.first, r.last + 1)]
    assert len(covered) == len(places)
    assert set(covered) == places
    for one, other in pairwise(found):
        assert one[:2] != other[:2] or one.last + 1 < other.first, "ranges that touch are one range"


def outcomes(dead: list[bool]) -> Outcomes:
    codes = np.where(dead, Outcome.DEAD_LETTERED, Outcome.SCORED).astype(np.int8)
    letters = [DeadLetter(row, "decode", "malformed", "it is broken") for row, is_dead in enumerate(dead) if is_dead]
    return Outcomes(codes, ["malformed" if is_dead else "" for is_dead in dead], [], letters)


def deliver(limits: Limits, *batches: list[bool]) -> None:
    for batch in batches:
        limits.check(outcomes(batch))
        limits.committed(outcomes(batch))


def test_a_run_of_dead_letters_counts_over_batches() -> None:
    deliver(Limits(1.0, 1000, max_run=6), [False, True, True], [True, True], [False], [True] * 5)
    with pytest.raises(Stop, match=r"6 dead letters in a row \(limit 6\), mostly malformed: it is broken"):
        deliver(Limits(1.0, 1000, max_run=6), [False, True, True], [True, True], [True, True])


def test_a_ratio_counts_over_the_window_and_forgets() -> None:
    some = [True] + [False] * 9
    deliver(Limits(0.1, 100, 50), *[some] * 50)
    with pytest.raises(Stop, match=r"11 dead letters in the last 100 packets \(limit 10%\)"):
        deliver(Limits(0.1, 100, 50), *[some] * 9, [True, True] + [False] * 8)
    deliver(Limits(0.1, 100, 50), [True] * 10 + [False] * 90, [False] * 100, [True] * 10 + [False] * 90)


def test_a_young_stream_is_not_stopped_by_its_first_packets() -> None:
    deliver(Limits(0.1, 10_000, 500), [True] * 24, [False] * 10)


def test_the_batch_that_breaks_a_limit_is_not_remembered() -> None:
    limits = Limits(1.0, 1000, max_run=3)
    for _ in range(2):
        with pytest.raises(Stop):
            deliver(limits, [True] * 3)
    deliver(limits, [True, True])


def test_nights_are_a_bounded_list() -> None:
    names = ["ztf_{date}_programid1", "lsst-alerts-v11"]
    assert expand(names, date(2026, 3, 1), 2) == [
        "ztf_20260228_programid1", "ztf_20260301_programid1", "lsst-alerts-v11",
    ]  # fmt: skip
    assert expand(["a", "a"], date(2026, 1, 1), 3) == ["a"]


def test_every_output_topic_has_room_for_its_largest_message() -> None:
    found = {spec.name: spec for spec in specs(Topics("t"), ["ztf", "lsst"], ["snia"], 4, raw=True)}
    assert {"t.ztf.all", "t.ztf.raw", "t.lsst.anomaly", "t.ztf.class.snia", "t.dead-letters", "t.ledger"} <= set(found)
    assert int(found["t.dead-letters"].config["max.message.bytes"]) > 33_554_432
    assert int(found["t.ztf.raw"].config["max.message.bytes"]) > 33_554_432
    assert found["t.ledger"].partitions == found["t.dead-letters"].partitions == 1
    assert found["t.ztf.all"].partitions == 4
    assert len({spec.config["retention.ms"] for spec in found.values()}) == 1, "they are compared with each other"
