"""Dead letters tried again: read back, and given to the same loop as any packet.

The annotations or new dead letters and the ledger record, whose ``retried`` names each packet's new end, are one
transaction. What was retried is known from what is committed alone, so a retry that was killed is simply run again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from broker.core.batch import FilePacket
from broker.deliver.files import FileSource
from broker.deliver.ledger import DEAD, Chains, place_of, unix_ms
from broker.deliver.outputs import Outputs
from broker.deliver.types import Bounds, Done, Intake, Place


@dataclass(frozen=True, slots=True)
class Letter:
    """A packet with a dead letter, as ``dlq list`` shows it.

    Attributes
    ----------
    number : int
        Its rank among all sources that have dead letters.
    place : Place
    reason : str
        Of its last dead letter.
    tries : list of (str, str)
        Outcome and reason of each retry.
    """

    number: int
    place: Place
    reason: str
    tries: list[tuple[str, str]]

    @property
    def is_open(self) -> bool:
        """Tell whether a dead letter is still its end."""
        return not self.tries or self.tries[-1][0] == DEAD


def letters(outputs: Outputs) -> list[Letter]:
    """Return every packet that has dead letters, in the order of their sources."""
    chains = Chains()
    for entry in outputs.ledgers():
        chains.add(entry)
    reasons = {place_of(letter): letter["reason"] for letter in outputs.dead_letters()}
    return [Letter(n, place, reasons[place], chains.ends.get(place, [])) for n, place in enumerate(sorted(reasons))]


class RetrySource:
    """A `Source` of the dead letters that are chosen and open when it is opened, each once.

    Open it after the sink, which takes this name over from a retry that may still run: what that one committed is seen.

    Parameters
    ----------
    outputs : Outputs
        Where the dead letters and the ledger are.
    choose : callable
        Given the open letters, returns those to retry.
    """

    def __init__(self, outputs: Outputs, choose: Callable[[list[Letter]], list[Letter]]) -> None:
        self._outputs, self._choose = outputs, choose
        self._source = FileSource(())

    @property
    def exhausted(self) -> bool:
        """True when every chosen letter was given."""
        return self._source.exhausted

    def open(self, done: Done) -> None:
        """Choose; ``done`` names the sources of all dead letters and does not matter."""
        chosen = {letter.place for letter in self._choose([found for found in letters(self._outputs) if found.is_open])}
        self._source = FileSource(self._packets(chosen))
        self._source.open({})

    def _packets(self, chosen: set[Place]) -> Iterator[FilePacket]:
        if not chosen:
            return
        for letter in self._outputs.dead_letters():
            if (place := place_of(letter)) in chosen:
                chosen.discard(place)  # a packet that was retried in vain has several letters, with the same bytes
                yield _packet(letter)

    def read(self, bounds: Bounds) -> Intake | None:
        """Return the next packets; None at the end."""
        intake = self._source.read(bounds)
        return replace(intake, retried=True) if intake is not None else None

    def owns(self, intake: Intake) -> bool:
        """Tell that nobody else takes them."""
        return True

    def idle(self, seconds: float) -> None:
        """Sleep."""
        self._source.idle(seconds)

    def rewind(self) -> None:
        """Give what is left of the last batch again."""
        self._source.rewind()

    def committed(self, intake: Intake) -> None:
        """Forget the batch, or this part of it."""
        self._source.committed(intake)

    def close(self) -> None:
        """Do nothing."""


def _packet(letter: dict[str, Any]) -> FilePacket:
    place = place_of(letter)
    return FilePacket(place.topic, place.offset, letter["packet"], place.partition, unix_ms(letter["timestamp"]))
