"""What a step makes of a batch, and the step's contract.

Delivery knows only these types: it runs any `Step` and commits its `Outcomes`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from broker.core.batch import PacketBatch


@dataclass(frozen=True, slots=True)
class Record:
    """One message to publish.

    Attributes
    ----------
    row : int
        Row of the packet in its batch.
    topic : str
        Full topic name, from `broker.core.topics`.
    key : bytes or None
        Object id; None spreads messages over the partitions.
    value : bytes
        Confluent wire format: magic 0, 4-byte id, Avro body.
    headers : tuple of (str, bytes)
        ``schema`` names the fingerprint of the writer schema.
    """

    row: int
    topic: str
    key: bytes | None
    value: bytes
    headers: tuple[tuple[str, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Why the packet in ``row`` is dead: the stage that found it, a `Dead` code, and the error's text."""

    row: int
    stage: str
    reason: str
    text: str


@dataclass(frozen=True, slots=True)
class Outcomes:
    """One code per packet of a batch, and everything to publish.

    Attributes
    ----------
    code : (A,) int8
        `broker.core.reasons.Outcome`.
    reason : list of str, (A,)
        '' for scored packets, else the reason code.
    records : list of Record
        Exactly one on the survey's ``all`` topic per scored or unscored packet, and its copies.
    dead : list of DeadLetter
        Exactly one per dead-lettered packet.
    whole : bool
        False: these are of the batch's first packets alone, as many as there are codes; the other packets come again.
        For all that is to be published would be too much to be committed at once, or the next packet has to wait.
    """

    code: NDArray[np.int8]
    reason: list[str]
    records: list[Record]
    dead: list[DeadLetter]
    whole: bool = True


class Step(Protocol):
    """What the delivery loop runs. Two failures only: a row's code, or `broker.core.errors.Wait` for the batch."""

    def __call__(self, batch: PacketBatch) -> Outcomes:
        """Return one outcome per packet, or of the first ones; must not block on anything but its own work.

        Raises
        ------
        broker.core.errors.Wait
            Something outside is away; the loop tries the same batch again.
        """
        ...

    def committed(self, batch: PacketBatch, outcomes: Outcomes) -> None:
        """Learn that the outcomes are committed: the only place where a step's memory may change."""
        ...
