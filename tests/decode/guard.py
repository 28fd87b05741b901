"""Run the machine over mutated bodies, all tables and bodies at the edge of pages that may not be touched.

A read or a write too far kills this process. ``test_guard.py`` runs it in a process of its own, where numba also
checks every index (``NUMBA_BOUNDSCHECK``).
"""

from __future__ import annotations

import ctypes
import json
import mmap
import random
import sys

import numpy as np

from broker.core.batch import Ints
from broker.decode import Decoder, framing, lsst, machine, ztf
from broker.decode.compile import Program
from broker.decode.fields import Projection
from broker.decode.limits import Limits
from broker.decode.programs import Programs
from broker.decode.templates import HISTORY_WORDS
from tests.decode.fuzz import bodies, frames, mutate, seeds
from tests.decode.fuzz.seeds import Schemas, Seed
from tests.decode.generate import Maker
from tests.decode.oracle import batch
from tests.decode.test_corpus import CORPUS

_MOST = np.array([Limits().array_items, Limits().packet_items], dtype=np.int64)


class Guarded:
    """Memory with a page behind it that may not be touched."""

    def __init__(self, pages: int = 64) -> None:
        self._map = mmap.mmap(-1, (pages + 1) * mmap.PAGESIZE)
        self.size = pages * mmap.PAGESIZE
        start = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        self.end = start + self.size
        if ctypes.CDLL(None).mprotect(ctypes.c_void_p(self.end), mmap.PAGESIZE, 0) != 0:
            raise OSError("mprotect failed")

    def put(self, data: bytes) -> int:
        """Write ``data`` so that it ends where memory ends; return its address."""
        ctypes.memmove(self.end - len(data), data, len(data))
        return self.end - len(data)

    def table(self, *shape: int) -> Ints:
        """An int64 table of zeros that ends where memory ends."""
        table: Ints = np.ndarray(shape, np.int64, self._map, self.size - 8 * int(np.prod(shape)))
        table[:] = 0
        return table


class Edge:
    """Everything that the machine reads or writes, each in guarded memory of its own."""

    def __init__(self) -> None:
        self.bodies = Guarded(), Guarded()
        self._alerts, self._points, self._seen, self._ends = Guarded(), Guarded(1024), Guarded(), Guarded()
        self._first = Guarded()

    def walk(self, program: Program, good: bytes, hurt: bytes) -> None:
        """Run a program over a good body, which teaches it templates, and over a hurt one."""
        starts = [memory.put(body) for memory, body in zip(self.bodies, (good, hurt), strict=True)]
        spans = np.array([[s, s, m.end] for s, m in zip(starts, self.bodies, strict=True)], dtype=np.int64)
        projection, rows = program.projection, 1
        tags = len(projection.point_null)
        while True:
            points, first = self._points.table(rows, projection.point_words), self._first.table(3)
            alerts, ends = self._alerts.table(2, len(projection.alert_null)), self._ends.table(2, 3)
            seen = self._seen.table(tags * HISTORY_WORDS)
            done, needed = machine.run(program.code, _MOST, seen, spans, alerts, points, first, ends, 0)
            if done == 2:
                return
            rows = needed


def main(seed: int, n: int) -> None:
    """Walk mutated bodies of generated schemas, read mutated headers, decode mutated packets and the corpus."""
    pick, edge, programs = random.Random(seed), Edge(), Programs(Limits())
    projections: tuple[Projection, ...] = (ztf.PROJECTION, lsst.PROJECTION)
    for k in range(n):
        maker = Maker(seed + k)
        schema = maker.schema(projections[k % 2])
        text, body = maker.text(schema), maker.encode(schema, maker.value(schema))
        program = programs.get(text).program
        assert program is not None
        made = Seed("generated", text, body, -1, seeds.marks(json.loads(text), body))
        for _ in range(20 if body else 0):
            hurt = pick.choice(bodies.ALL)(pick, made)
            if max(len(body), len(hurt)) < edge.bodies[0].size:
                edge.walk(program, body, hurt)
                edge.walk(program, body, body[: pick.randrange(len(body) + 1)])
    headers(pick, 20 * n)
    groups = [seeds._small()] * 3
    decoder = Decoder(Schemas())
    decoder(batch([made.value for k in range(n // 10) for made in mutate.batch(seed, k, 50, groups)]))
    decoder(batch([path.read_bytes() for path in CORPUS]))


def headers(pick: random.Random, n: int) -> None:
    """Read the frames of mutated packets at the edge."""
    memory, found = Guarded(), seeds._small()
    text = found[0].schema
    known = np.array([[framing.digest(framing.address_of(text), len(text)), framing.address_of(text), len(text)]])
    read = np.empty((1, 9), dtype=np.int64)
    for _ in range(n):
        packet = pick.choice(frames.ALL)(pick, pick.choice(found))[: pick.choice((200, 3000, memory.size))]
        framing._frame(np.array([[memory.put(packet), len(packet)]]), known, 10**6, read)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
