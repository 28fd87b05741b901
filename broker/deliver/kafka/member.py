"""A member's name, the same after a restart: what makes its transactional id stable.

A random id would leave a crashed member's open transaction in the way of every ``read_committed`` reader until the
transaction timeout; a stable one is taken over, and its transaction rolled back, as soon as the member is back.
"""

from __future__ import annotations

import fcntl
import re
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from broker.core.errors import TocsinError

SLOTS = 1024


@dataclass(frozen=True, slots=True)
class Member:
    """A claimed name; the claim holds until `close` or the end of the process.

    Attributes
    ----------
    name : str
        As configured, or host name and slot.
    group : str
        Consumer group that it is a member of.
    """

    name: str
    group: str
    _lock: BinaryIO | None = None

    @property
    def transactional_id(self) -> str:
        """Unique in the group, the same after a restart."""
        return f"tocsin-{self.group}-{self.name}"

    def close(self) -> None:
        """Give the name back."""
        if self._lock is not None:
            self._lock.close()


def claim_member(group: str, cache_dir: Path, name: str | None = None) -> Member:
    """Return the configured name, or this host's name with the first slot that no other process of it holds.

    Raises
    ------
    TocsinError
        The configured name is held by another process of this host.
    """
    folder = cache_dir / "members"
    folder.mkdir(parents=True, exist_ok=True)
    names = [name] if name else [f"{socket.gethostname()}-{slot}" for slot in range(SLOTS)]
    for found in names:
        lock = (folder / re.sub(r"[^\w.-]", "_", f"{group}-{found}")).open("ab")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            continue
        return Member(found, group, lock)
    raise TocsinError(f"the member name {names[0]} of group {group} is taken: another process of this host has it")
