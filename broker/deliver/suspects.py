"""Which packet it is when the step fails, or the process dies, at a batch.

A step that raises an error without a name is tried again on halves of its batch, before anything is committed. A
process that dies inside a step leaves a note (`broker.deliver.notes`); the packets that it names are then read in
batches of an eighth, which costs fewer restarts than halves. Either way the batch is cut into parts, each committed on
its own, until the packet stands alone; what still fails alone is dead-lettered as ``internal``, with its bytes.

A packet is given up on proof alone. An error must come back with the packet alone in the step. A death must do so
twice, and once in a process whose step had just ended for another packet, so that neither a loading of models that
takes too much memory nor a supervisor's impatience is laid at its door; the step is made before the first note, so a
process that dies of making it accuses nobody. What fails for every packet is no matter of packets but ours, or the
machine's: an error then stops the service, a death is suffered again, and what is not committed is kept. The limits
of that: where batches are small, a step that always fails dead-letters up to `PARTS` - 1 packets at each start before
it is stopped, and the only packet of a stream is given up after `UNPROVED` deaths. Both can be retried.
"""

from __future__ import annotations

import logging
import random
import traceback
from collections import deque
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np

from broker.core.batch import PacketBatch
from broker.core.errors import Stop, TocsinError
from broker.core.outcomes import DeadLetter, Outcomes, Step
from broker.core.reasons import Dead, Outcome
from broker.deliver.notes import Note, Notes
from broker.deliver.types import Intake, Partition, Place

log = logging.getLogger(__name__)

STAGE = "step"
SHARE = 8  # a death costs a restart, and a small batch only its transaction
DEATHS = 2  # of a process with the packet alone in its step, one of them proved
UNPROVED = 5  # deaths that are enough where no other packet is there to prove the process well
PARTS = 16  # of a batch, or packets in a row, that failed with none that succeeded: it is not the packets
TEXT = 500


class Suspects:
    """Runs the step, and cuts batches until a failure has its packet.

    Parameters
    ----------
    step : Step
    notes : Notes or None
        Where the batch in flight is remembered beyond the death of this process; None: it is not.
    """

    def __init__(self, step: Step, notes: Notes | None = None) -> None:
        self._step, self._store = step, notes
        self._notes: dict[Partition, Note] = {}
        self._epoch: int | None = None
        self._begun: set[Partition] = set()  # partitions of which a batch has gone through since they were assigned
        self._guilty: dict[Place, str] = {}
        self._others: list[PacketBatch] = []  # packets of this batch that are under no suspicion, each alone
        self._works = False  # the step has ended in this process
        self._failed_in_a_row = 0

    def parts(self, intake: Intake) -> list[Intake]:
        """Return a batch in parts that are to be committed one after the other: one, unless notes speak of it.

        Raises
        ------
        Wait
            The notes cannot be read now.
        """
        if self._store is not None and intake.epoch != self._epoch:
            self._notes, self._begun, self._epoch = self._store.load(), set(), intake.epoch
            self._others = []
        if not self._notes:
            return [intake]
        noted = [(row, note) for row, place in enumerate(_places(intake)) if (note := self._note_of(place))]
        if not noted:
            return [intake]
        rows = {row for row, _ in noted}
        self._others = [intake.batch.part(row, row + 1) for row in range(len(intake.batch)) if row not in rows]
        share, end = max(1, min(note.size for _, note in noted) // SHARE), noted[-1][0] + 1
        log.warning("a process died while it worked on packets of this batch: they are read %d at a time", share)
        return _cut(intake, {*range(0, end, share), end})

    def run(self, intake: Intake) -> Outcomes | list[Intake]:
        """Return the step's outcomes; or, because it failed, the parts that are to be delivered instead.

        Raises
        ------
        Wait
            From the step, or because a note cannot be written now.
        Stop
            It fails for every packet; or from the step.
        """
        if not len(intake.batch):  # gaps only: the step has nothing to see
            return Outcomes(np.empty(0, np.int8), [], [], [])
        if text := self._why_guilty(intake):
            code = np.array([Outcome.DEAD_LETTERED], np.int8)
            return Outcomes(code, [Dead.INTERNAL], [], [DeadLetter(0, STAGE, Dead.INTERNAL, text)])
        if not self._works and self._store is not None:
            self._error(intake.batch.part(0, 0))  # making the step is no packet's fault
        self._prove(intake)
        marks = self._marks(intake)
        self._save(marks)
        try:
            outcomes = self._step(intake.batch)
        except TocsinError:
            raise
        except Exception as error:
            log.exception("the step failed in a batch of %d packets: looking for those at fault", len(intake.batch))
            return self._search(intake, error)
        finally:
            self._save({where: self._notes.get(where) for where in marks})
        self._begun |= marks.keys()
        self._works, self._failed_in_a_row = True, 0
        return outcomes

    def committed(self, intake: Intake) -> None:
        """Forget what was said of packets that are committed.

        Raises
        ------
        Wait
            A note cannot be removed now.
        """
        if not self._notes and not self._guilty:
            return
        last = {}
        for place in _places(intake):
            self._guilty.pop(place, None)
            last[place.topic, place.partition] = place.offset
        over = [where for where, note in self._notes.items() if note.last <= last.get(where, -1)]
        self._save(dict.fromkeys(over))
        for where in over:
            del self._notes[where]
        if not self._notes:
            self._others = []

    # -- a step that raises -------------------------------------------------------------------------------------

    def _search(self, intake: Intake, error: Exception) -> list[Intake]:
        """Find the packets at which the step fails alone, breadth first; return the batch cut around them."""
        batch, passed, guilty = intake.batch, False, {}
        failed = deque([(0, len(batch), error)])
        while failed:
            begin, end, error = failed.popleft()
            if end - begin == 1:
                guilty[begin] = _say(error)
                continue
            middle = (begin + end) // 2
            for half in ((begin, middle), (middle, end)):
                found = self._error(batch.part(*half))
                passed = passed or found is None
                failed += [(*half, found)] if found else []
            if not passed and len(failed) + len(guilty) >= PARTS:
                raise Stop(f"the step fails at every part of a batch, which is not the packets' fault: {_say(error)}")
        places = list(_places(intake))
        new = [row for row in guilty if places[row] not in self._guilty]  # else counted before a `Wait` threw this away
        self._failed_in_a_row = 0 if passed else self._failed_in_a_row + len(new)
        if self._failed_in_a_row >= PARTS:
            raise Stop(f"the step failed at the last {self._failed_in_a_row} packets, at every one: {_say(error)}")
        self._guilty |= {places[row]: text for row, text in guilty.items()}
        return _cut(intake, {at for row in guilty for at in (row, row + 1)} or {len(batch) // 2})

    def _error(self, batch: PacketBatch) -> Exception | None:
        """Return what the step raises for ``batch``; its outcomes are not used."""
        try:
            self._step(batch)
        except TocsinError:
            raise
        except Exception as error:
            return error
        return None

    # -- a process that dies ------------------------------------------------------------------------------------

    def _why_guilty(self, intake: Intake) -> str:
        """Return why a packet that stands alone is given up without a try, or ''."""
        if len(intake.batch) > 1 or not (self._notes or self._guilty):
            return ""
        (place,) = _places(intake)
        note = self._note_of(place)
        if note is not None and note.deaths >= (DEATHS if note.proved else UNPROVED):
            return f"the process died {note.deaths} times while it worked on this packet alone"
        return self._guilty.get(place, "")

    def _prove(self, intake: Intake) -> None:
        """Let the step work on some other packet before it sees a suspect alone; what comes of it is thrown away.

        Which one is left to chance: if that one kills too, the next process takes another.
        """
        if self._works or not self._others or len(intake.batch) > 1:
            return
        error = self._error(random.choice(self._others))
        log.info("the step works on another packet%s", f", and says: {_say(error)}" if error else "")
        self._works = True

    def _marks(self, intake: Intake) -> dict[Partition, Note]:
        """Return the notes that are due before the step sees the batch: most often none."""
        batch = intake.batch
        if self._store is None:
            return {}
        if not self._notes and self._begun.issuperset(zip(batch.topics, batch.partitions.tolist(), strict=True)):
            return {}
        ends: dict[Partition, list[int]] = {}
        for topic, partition, offset in _places(intake):
            ends.setdefault((topic, partition), [offset, offset])[1] = offset
        marks = {}
        for where, (first, last) in ends.items():
            old = self._notes.get(where)
            if old is not None or where not in self._begun:
                same = old if old and (old.first, old.last, old.size, len(batch)) == (first, last, 1, 1) else None
                deaths = same.deaths if same else 0
                proved = self._works or (same is not None and same.proved)
                marks[where] = Note(first, last, len(batch), deaths + (len(batch) == 1), proved)
        return marks

    def _note_of(self, place: Place) -> Note | None:
        note = self._notes.get(place[:2])
        return note if note is not None and note.first <= place[2] <= note.last else None

    def _save(self, notes: Mapping[Partition, Note | None]) -> None:
        if notes and self._store is not None:
            self._store.save(notes)


def _places(intake: Intake) -> Iterator[Place]:
    batch = intake.batch
    return map(Place, batch.topics, batch.partitions.tolist(), batch.offsets.tolist())


def _cut(intake: Intake, at: set[int]) -> list[Intake]:
    """Return the parts of a batch between the rows ``at``."""
    return [intake.part(begin, end) for begin, end in pairwise(sorted({0, *at, len(intake.batch)}))]


def _say(error: Exception) -> str:
    """Return an error and where it was raised, as one sentence."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno}, {frames[-1].name})" if frames else ""
    return f"{type(error).__name__}: {error}"[:TEXT] + where
