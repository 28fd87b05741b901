"""Compiled programs by writer schema: bounded, least recently used out first, never by a version's name."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from broker.core.batch import Ints
from broker.core.reasons import Dead
from broker.decode import lsst, ztf
from broker.decode.compile import Program, compile_program
from broker.decode.fields import Projection
from broker.decode.framing import address_of, digest
from broker.decode.limits import Limits, Reject
from broker.decode.tree import Node, Tree

MOST_PROGRAMS = 64
_TELLTALES = ((frozenset(("candid", "candidate")), ztf.PROJECTION), (frozenset(("diaSource",)), lsst.PROJECTION))


@dataclass(frozen=True, slots=True)
class Entry:
    """A writer schema and what became of it: a program, or why there is none.

    Attributes
    ----------
    text : bytes
        The schema as it was sent.
    program : Program or None
    reject : (Dead, str) or None
        Reason and sentence; never the error itself, whose traceback would keep the whole batch in memory.
    """

    text: bytes
    program: Program | None
    reject: tuple[Dead, str] | None


@dataclass(frozen=True, slots=True)
class Known:
    """The embedded schemas that `broker.decode.framing` looks up.

    Attributes
    ----------
    entries : list of Entry, (K,)
    table : (K, 3) int64
        Hash, address and bytes of their texts.
    """

    entries: list[Entry]
    table: Ints


class Programs:
    """The programs that this process has compiled. A schema that cannot be used is remembered as such."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._entries: OrderedDict[bytes, Entry] = OrderedDict()
        self._lock = threading.Lock()
        self.known = Known([], np.empty((0, 3), dtype=np.int64))

    def get(self, text: bytes) -> Entry:
        """Return the entry of a writer schema, compiled at its first use."""
        with self._lock:
            entry = self._entries.get(text)
            if entry is not None:
                self._entries.move_to_end(text)
                return entry
            entry = self._compile(text)
            if len(text) <= self._limits.schema_bytes:
                self._entries[text] = entry
                if len(self._entries) > MOST_PROGRAMS:
                    self._entries.popitem(last=False)
                self.known = _known(list(self._entries.values()))
            return entry

    def _compile(self, text: bytes) -> Entry:
        try:
            tree = Tree(text, self._limits)
            program = compile_program(tree, projection_of(tree.resolve(tree.root)), self._limits)
        except Reject as reject:
            return Entry(text, None, (reject.reason, str(reject)))
        return Entry(text, program, None)


def projection_of(root: Node) -> Projection:
    """Return what we read of packets with this schema; its fields say whose it is, never a topic's name.

    Raises
    ------
    Reject
        It is no survey's that we know.
    """
    for fields, projection in _TELLTALES:
        if root.type == "record" and fields <= set(root.labels):
            return projection
    raise Reject(Dead.MISSING_FIELD, "the writer schema has neither candid and candidate (ZTF) nor diaSource (Rubin)")


def _known(entries: list[Entry]) -> Known:
    rows = [(digest(address_of(e.text), len(e.text)), address_of(e.text), len(e.text)) for e in entries]
    return Known(entries, np.array(rows, dtype=np.int64).reshape(-1, 3))
