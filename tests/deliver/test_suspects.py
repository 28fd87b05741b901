"""A packet at which the process dies, in a world where a death is an exception: what the next process does of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.core.batch import PacketBatch
from broker.core.errors import Wait
from broker.core.outcomes import Outcomes
from broker.deliver.notes import FileNotes, Note
from broker.deliver.suspects import Suspects
from broker.deliver.types import Intake


class Death(BaseException):
    """Nothing of the process runs after it: what a ``finally`` still writes is not taken (`Memory.dead`)."""


class Memory:
    """Notes that forget nothing, and that a dead process does not write."""

    def __init__(self) -> None:
        self.notes: dict[Any, Note] = {}
        self.writes, self.dead = 0, False

    def load(self) -> dict[Any, Note]:
        self.dead = False
        return dict(self.notes)

    def save(self, notes: Any) -> None:
        if self.dead:
            return
        self.writes += 1
        for where, note in notes.items():
            self.notes[where] = note
            if note is None:
                del self.notes[where]


class Step:
    """Dies of some packets, or for every one when the world is broken."""

    def __init__(self, killers: set[int], outside: list[int] | None = None, *, made: bool = True) -> None:
        self.killers, self.outside, self.seen, self.made = killers, outside or [], 0, made
        self.notes = Memory()

    def __call__(self, batch: PacketBatch) -> Outcomes:
        self.seen += len(batch) > 0  # an empty batch only makes the step
        killed = len(batch) > 0 and self.seen in self.outside
        if not self.made or self.killers & set(batch.offsets.tolist()) or killed:
            self.notes.dead = True
            raise Death
        return Outcomes(np.zeros(len(batch), np.int8), [""] * len(batch), [], [])

    def committed(self, batch: PacketBatch, outcomes: Outcomes) -> None: ...


class World:
    """One partition of offsets 0 to ``count``, read in batches of ``size`` by one process after the other."""

    def __init__(self, count: int, size: int = 512) -> None:
        self.count, self.size = count, size
        self.notes, self.next, self.deaths = Memory(), 0, 0
        self.given_up: list[int] = []

    def live(self, step: Step) -> bool:
        """Deliver until the end (True) or until the process dies."""
        step.notes = self.notes
        suspects = Suspects(step, self.notes)
        try:
            while self.next < self.count:
                for part in suspects.parts(intake(self.next, min(self.next + self.size, self.count))):
                    found = suspects.run(part)
                    assert isinstance(found, Outcomes)
                    self.given_up += part.batch.offsets[found.code == 3].tolist()
                    self.next = int(part.batch.offsets[-1]) + 1
                    suspects.committed(part)
        except Death:
            self.deaths += 1
            return False
        return True


def intake(begin: int, end: int, topic: str = "in") -> Intake:
    offsets = np.arange(begin, end, dtype=np.int64)
    return Intake(
        PacketBatch(
            [b"x"] * len(offsets),
            [topic] * len(offsets),
            np.zeros(len(offsets), np.int32),
            offsets,
            offsets,
            ingest_ms=0,
        )
    )


def test_a_killer_is_found_in_five_more_lives_and_no_other_packet_is_lost() -> None:
    here = World(2000)
    while not here.live(Step({700})):
        assert here.deaths < 20
    assert here.given_up == [700]
    assert here.deaths == 6, "at 512 unseen, at 512, 64, 8, then twice alone"
    assert here.notes.notes == {}, "what is delivered is forgotten"


def test_a_killer_in_the_first_batch_costs_a_life_less() -> None:
    here = World(2000)
    while not here.live(Step({3})):
        assert here.deaths < 20
    assert (here.given_up, here.deaths) == ([3], 5)


@settings(max_examples=50, deadline=None)
@given(st.sets(st.integers(0, 299), max_size=4), st.integers(1, 100), st.data())
def test_killers_are_found_wherever_they_are(killers: set[int], size: int, data: st.DataObject) -> None:
    here = World(300, size)
    while not here.live(Step(killers)):
        assert here.deaths < 60
    assert here.given_up == sorted(killers)
    assert here.next == 300


def test_a_stream_that_flows_writes_two_notes_at_its_start() -> None:
    here = World(10_000)
    assert here.live(Step(set()))
    assert here.notes.writes == 2


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 4), max_size=40), st.integers(1, 64))
def test_kills_from_outside_never_cost_a_packet_that_goes_through_between(kills: list[int], size: int) -> None:
    """A kill at the n-th step of a life, n > 1: what the first step held was committed."""
    here = World(300, size)
    for kill in kills:
        if here.live(Step(set(), outside=[kill + 1])):
            break
    while not here.live(Step(set())):
        pass
    assert here.given_up == []


def test_a_process_that_is_always_killed_at_its_first_step_costs_no_packet() -> None:
    here = World(300, 64)
    assert not any(here.live(Step(set(), outside=[1])) for _ in range(40))
    assert here.live(Step(set()))
    assert here.given_up == []


def test_one_death_alone_is_no_proof() -> None:
    here = World(100, 1)
    assert not here.live(Step(set(), outside=[1]))
    assert here.live(Step(set()))
    assert here.given_up == []


def test_a_machine_that_kills_every_packet_costs_none_and_goes_on_when_it_is_mended() -> None:
    """Models that need more memory than there is, say: it dies in every step, and no packet is to blame."""
    here = World(300, 64)
    assert not any(here.live(Step(set(range(300)))) for _ in range(40))
    assert here.live(Step(set()))
    assert here.given_up == []


def test_the_only_packet_of_a_topic_is_given_up_after_more_deaths() -> None:
    here = World(1)
    while not here.live(Step({0})):
        assert here.deaths < 20
    assert (here.given_up, here.deaths) == ([0], 5)


def test_a_step_that_kills_while_it_is_made_accuses_no_packet() -> None:
    """Models that need more memory than there is, on a stream of single packets."""
    here = World(1)
    assert not any(here.live(Step(set(), made=False)) for _ in range(20))
    assert here.live(Step(set()))
    assert here.given_up == []


class Failing(Step):
    """Fails at every packet."""

    def __call__(self, batch: PacketBatch) -> Outcomes:
        raise ZeroDivisionError


class Refusing(Memory):
    """Takes no note back for a while: Kafka is away."""

    away = 0

    def save(self, notes: Any) -> None:
        if self.away and None in notes.values():
            self.away -= 1
            raise Wait("Kafka is away")
        super().save(notes)


def test_packets_that_fail_are_counted_once_however_often_their_notes_wait() -> None:
    notes = Refusing()
    notes.away = 40
    suspects, both = Suspects(Failing(set()), notes), intake(0, 2)
    while True:
        try:
            parts = suspects.run(both)
            break
        except Wait:
            pass
    assert isinstance(parts, list)
    assert [len(part.batch) for part in parts] == [1, 1]


def test_packets_kept_to_prove_a_process_well_are_dropped_with_the_last_suspicion() -> None:
    suspects = Suspects(Step(set()), memory := Memory())
    memory.notes["in", 0] = Note(0, 0, 1)
    parts = suspects.parts(intake(0, 30))
    assert suspects._others
    for part in parts:
        suspects.run(part)
        suspects.committed(part)
    assert not suspects._others


def test_the_packets_of_another_topic_are_not_cut() -> None:
    suspects, notes = Suspects(Step(set()), memory := Memory()), {("in", 0): Note(0, 9, 10)}
    memory.notes.update(notes)
    assert [len(part.batch) for part in suspects.parts(intake(0, 30, "other"))] == [30]
    assert [len(part.batch) for part in suspects.parts(intake(5, 30))] == [1, 1, 1, 1, 1, 20]


def test_a_file_of_notes_that_a_power_cut_left_empty_holds_none(tmp_path: Path) -> None:
    path = tmp_path / "in_flight.json"
    for left in (b"", b"\0" * 30, b"\xff\xfe"):
        path.write_bytes(left)
        assert FileNotes(path).load() == {}


def test_notes_in_a_file_outlive_the_process(tmp_path: Path) -> None:
    path = tmp_path / "in_flight.json"
    FileNotes(path).save({("/a", 0): Note(0, 5, 6), ("/b", 0): Note(1, 1, 1, 1, True)})
    again = FileNotes(path)
    assert again.load() == {("/a", 0): Note(0, 5, 6), ("/b", 0): Note(1, 1, 1, 1, True)}
    again.save({("/a", 0): None})
    assert json.loads(path.read_text()) == [["/b", 0, [1, 1, 1, 1, True]]]
    again.save({("/b", 0): None})
    assert not path.exists()
