"""Run the machine over mutated bodies that end at a page that may not be touched: a read too far kills this process.

Run by ``test_guard.py`` in a process of its own.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import random
import sys

import numpy as np

from broker.decode import framing
from broker.decode.decoder import Bodies, run
from broker.decode.fields import Projection
from broker.decode.limits import Limits
from broker.decode.programs import Programs
from tests.decode import samples
from tests.decode.generate import Maker
from tests.decode.oracle import container, wire
from tests.decode.test_fuzz import mutated

PAGES = 64


class Guarded:
    """Memory with a page behind it that may not be read."""

    def __init__(self) -> None:
        self._map = mmap.mmap(-1, (PAGES + 1) * mmap.PAGESIZE)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        self.end = start + PAGES * mmap.PAGESIZE
        if ctypes.CDLL(None).mprotect(ctypes.c_void_p(self.end), mmap.PAGESIZE, 0) != 0:
            raise OSError("mprotect failed")

    def put(self, data: bytes) -> int:
        """Write ``data`` so that it ends where memory ends; return its address."""
        ctypes.memmove(self.end - len(data), data, len(data))
        return self.end - len(data)


def walk(guarded: Guarded, programs: Programs, text: bytes, body: bytes) -> None:
    """Decode one body at the edge."""
    entry = programs.get(text)
    assert entry.program is not None
    start = guarded.put(body)
    spans = np.array([[start, start, guarded.end]], dtype=np.int64)
    run(entry.program, Bodies(np.zeros(1, np.int64), [body], spans), Limits())


def main(seed: int, n: int) -> None:
    """Walk mutated and cut bodies of generated schemas, and read mutated headers."""
    pick, guarded, programs = random.Random(seed), Guarded(), Programs(Limits())
    from broker.decode import lsst, ztf

    projections: tuple[Projection, ...] = (ztf.PROJECTION, lsst.PROJECTION)
    for k in range(n):
        maker = Maker(seed + k)
        schema = maker.schema(projections[k % 2])
        text, body = maker.text(schema), maker.encode(schema, maker.value(schema))
        if len(body) > PAGES * mmap.PAGESIZE - 100:
            continue
        walk(guarded, programs, text, body)
        for _ in range(20):
            walk(guarded, programs, text, body[: pick.randrange(len(body) + 1)])
            if body:
                walk(guarded, programs, text, mutated(body, 0, pick))
    headers(guarded, pick, n)


def headers(guarded: Guarded, pick: random.Random, n: int) -> None:
    """Read the frames of cut and mutated packets at the edge."""
    packets = [
        container(samples.ZTF, samples.ztf()),
        wire(1, json.loads(json.dumps(samples.LSST_JSON)), samples.lsst()),
    ]
    known = np.array([[1, framing.address_of(packets[0]), 2000]], dtype=np.int64)
    frames = np.empty((1, 9), dtype=np.int64)
    for _ in range(20 * n):
        packet = mutated(pick.choice(packets), 0, pick)[: pick.randrange(3000)]
        where = np.array([[guarded.put(packet), len(packet)]], dtype=np.int64)
        framing._frame(where, known, 10**6, frames)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
