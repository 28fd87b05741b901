"""What outlives a process that dies inside a step: which packets it was working on.

A note is written before the step and taken back after it, but only for the first batch of each partition after a start
or a rebalance, and for packets that are under suspicion already: a packet that kills is the first one that the next
process reads, so a stream that flows pays nothing. The notes lie beside what is delivered, in a compacted topic or in a
replay's directory, so that a container with a fresh disk or another member finds them. They hold no progress: whatever
becomes of them, nothing is lost or doubled.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

from broker.deliver.types import Partition


class Note(NamedTuple):
    """Packets of one partition in a step that has not ended.

    Attributes
    ----------
    first, last : int
        Offsets, both ends included.
    size : int
        Packets in the step, those of other partitions included.
    deaths : int
        Steps that held this packet alone and did not end.
    proved : bool
        One of them in a process whose step had ended for another packet before.
    """

    first: int
    last: int
    size: int
    deaths: int = 0
    proved: bool = False


class Notes(Protocol):
    """Where notes are kept."""

    def load(self) -> dict[Partition, Note]:
        """Return every note that was left.

        Raises
        ------
        Wait
        """
        ...

    def save(self, notes: Mapping[Partition, Note | None]) -> None:
        """Write notes, or forget those that are None; they outlive this process when this returns.

        Raises
        ------
        Wait, Stop
        """
        ...


class FileNotes:
    """Notes in a file, for a replay.

    It is renamed into place and not synced: a process that dies leaves the system's page cache alone.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._notes: dict[Partition, Note] = {}

    def load(self) -> dict[Partition, Note]:
        """Return what the file holds."""
        if self._path.exists():
            try:
                kept = json.loads(self._path.read_text())
            except ValueError:  # a power cut left it half written: what it said is worth a few deaths more
                kept = []
            self._notes = {(topic, part): Note(*note) for topic, part, note in kept}
        return dict(self._notes)

    def save(self, notes: Mapping[Partition, Note | None]) -> None:
        """Write the file, or remove it with its last note."""
        kept = {**self._notes, **notes}
        self._notes = {where: note for where, note in kept.items() if note is not None}
        if not self._notes:
            self._path.unlink(missing_ok=True)
            return
        temporary = self._path.with_suffix(".tmp")
        temporary.write_text(json.dumps([[*where, note] for where, note in self._notes.items()]))
        temporary.rename(self._path)
