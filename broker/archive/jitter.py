"""Packets of an archive as packets of new objects: other ids, another part of the sky, later nights, the same size.

For load that goes on longer than an archive. The writer schema decides where the fields are: it is compiled into a
small program that walks a packet and changes, in place,

- ids of alerts, objects, detections (`IDS`): another number that takes as many bytes; 0, null and those of ten bytes
  (from 2^62 on) stay. The same id becomes the same other one in every packet of a round, so an object's alerts and
  histories still belong together;
- names of objects (`NAMES`): their last run of letters or digits counts on;
- right ascensions (`RAS`): the sky turns about its pole by the golden angle a round, so separations stay as they are;
- times (``jd``, ``jdstarthist``, ``jdendhist``, ``*MjdTai``, ``midPointTai``): a day a round.

Everything else stays: fluxes, stamps, image ids, names and orbits of solar-system objects. What does not parse comes
back untouched. A packet that was packed (gzip, a codec of Avro) comes back unpacked, and so is larger.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from broker.core.batch import Ints
from broker.core.jit import jit
from broker.decode import SchemaStore, framing, zipped
from broker.decode.limits import Limits, Reject
from broker.decode.memory import signed
from broker.decode.tree import TEXTS, VARINTS, Node, Tree
from broker.deliver.container import container

Bytes = NDArray[np.uint8]

IDS = frozenset(
    ("candid", "alertId", "diaSourceId", "parentDiaSourceId", "diaForcedSourceId", "diaObjectId", "ssObjectId")
)
NAMES = frozenset(("objectId",))
RAS = frozenset(("ra", "ranr", "trailRa"))
_TIMES = ("jd", "jdstarthist", "jdendhist", "midPointTai")
GOLDEN_ANGLE_DEG = 137.50776405003785
DAYS_A_ROUND = 1.0
_GOLDEN = 0.6180339887498949
_EARLIEST = 1e4  # smaller numbers are no dates but marks for "none"
_DEPTH = 64
_A, _Z, _ZERO, _NINE = ord("a"), ord("z"), ord("0"), ord("9")

_SKIP, _VARINT, _BYTES, _UNION, _JUMP, _LOOP, _NEXT, _HALT, _ID, _NAME, _RA, _TIME = range(12)


def shift_d(turn: int) -> float:
    """Return by how many days the packets of a round are later."""
    return DAYS_A_ROUND * turn


@dataclass(frozen=True, slots=True)
class Jitter:
    """Makes packets of new objects.

    Parameters
    ----------
    schemas : SchemaStore
        Where wire ids are resolved.
    limits : Limits
    """

    schemas: SchemaStore
    limits: Limits = field(default_factory=Limits)
    _programs: dict[bytes, tuple[Ints, Ints] | None] = field(default_factory=dict)

    def __call__(self, packet: bytes, turn: int) -> bytes:
        """Return ``packet`` as it is in round ``turn``; round 0 is the packet itself.

        Raises
        ------
        broker.core.errors.Wait
            The schema registry is away.
        """
        if not turn:
            return packet
        try:
            unpacked = zipped.unpack(packet, self.limits)
            found = self._body(unpacked)
        except (Reject, UnicodeDecodeError):  # the schema of a container with a codec need not be a text
            return packet
        if found is None:
            return packet
        data, start, end, schema = found
        program = self._program(schema)
        if program is None:
            return packet
        out = np.frombuffer(data, np.uint8).copy()
        done = _walk(program[0], program[1], out, start, end, turn, GOLDEN_ANGLE_DEG * turn, shift_d(turn))
        return out.tobytes() if done == end else packet

    def _body(self, packet: bytes) -> tuple[bytes, int, int, bytes] | None:
        """Return a packet that is not packed, where its body begins and ends, and its schema; None where it is none."""
        _, frames = framing.frame([packet], np.empty((0, 3), np.int64), self.limits)
        status, _, schema_id, start, end, schema, schema_size, codec, codec_size = frames[0].tolist()
        if status < 0:
            return None
        if status == framing.WIRE:
            return packet, start, end, self.schemas.get(schema_id)
        text = packet[schema : schema + schema_size]
        if not codec_size:
            return packet, start, end, text
        block = framing.decompress(packet[codec : codec + codec_size], packet[start:end], self.limits)
        plain = container(text.decode(), [block], "jitter")
        return plain, len(plain) - len(block) - 16, len(plain) - 16, text

    def _program(self, schema: bytes) -> tuple[Ints, Ints] | None:
        """Return the program of a schema; None for one that is none, or contains itself."""
        if schema not in self._programs:
            if len(self._programs) > 256:
                self._programs.clear()
            try:
                self._programs[schema] = _compile(Tree(schema, self.limits), self.limits)
            except (Reject, RecursionError):
                self._programs[schema] = None
        return self._programs[schema]


@dataclass(slots=True)
class _Writer:
    """A program while it is written: instructions (op, a, b) and the targets of unions."""

    tree: Tree
    limits: Limits
    steps: list[list[int]] = field(default_factory=list)
    jumps: list[int] = field(default_factory=list)
    inside: list[str] = field(default_factory=list)

    def add(self, op: int, a: int = 0, b: int = 0) -> int:
        if len(self.steps) >= self.limits.instructions:
            raise RecursionError("the program is too long")
        self.steps.append([op, a, b])
        return len(self.steps) - 1

    def value(self, node: Node, name: str) -> None:
        """Write what passes over a value of the field ``name``, changing it where it is one of ours."""
        node = self.tree.resolve(node)
        own = _change(node.type, name)
        width = self.tree.width(node)
        if own is not None:
            self.add(own, 4 if node.type == "float" else 8)
        elif node.type == "record":
            self.record(node)
        elif width is not None:
            if self.steps and self.steps[-1][0] == _SKIP:  # no jump leads behind a skip
                self.steps[-1][1] += width
            else:
                self.add(_SKIP, width)
        elif node.type in (*VARINTS, "enum"):
            self.add(_VARINT)
        elif node.type in TEXTS:
            self.add(_BYTES)
        elif node.type == "union":
            self.union(node, name)
        else:
            self.loop(node, name)

    def record(self, node: Node) -> None:
        if node.name in self.inside:
            raise RecursionError(f"{node.name} contains itself")
        self.inside.append(node.name)
        for label, child in zip(node.labels, node.children, strict=True):
            self.value(child, label)
        self.inside.pop()

    def union(self, node: Node, name: str) -> None:
        first = len(self.jumps)
        self.add(_UNION, len(node.children), first)
        self.jumps += [0] * len(node.children)
        leave = []
        for i, child in enumerate(node.children):
            self.jumps[first + i] = len(self.steps)
            self.value(child, name)
            leave.append(self.add(_JUMP))
        for step in leave:
            self.steps[step][1] = len(self.steps)

    def loop(self, node: Node, name: str) -> None:
        self.add(_LOOP)
        step = self.add(_NEXT)
        if node.type == "map":
            self.add(_BYTES)
        self.value(node.children[0], name)
        self.add(_JUMP, step)
        self.steps[step][1] = len(self.steps)


def _change(kind: str, name: str) -> int | None:
    """Return the instruction that changes a field of that type and name; None for one that stays."""
    if kind in VARINTS and (name in IDS or name in NAMES):
        return _ID
    if kind == "string" and name in NAMES:
        return _NAME
    if kind in ("float", "double") and name in RAS:
        return _RA
    return _TIME if kind == "double" and (name in _TIMES or name.endswith("MjdTai")) else None


def _compile(tree: Tree, limits: Limits) -> tuple[Ints, Ints]:
    writer = _Writer(tree, limits)
    writer.value(tree.root, "")
    writer.add(_HALT)
    return np.array(writer.steps, np.int64), np.array([*writer.jumps, 0], np.int64)


@jit()
def _number(data: Bytes, at: int, end: int) -> tuple[int, int]:
    """Return the long at ``at`` and the place behind it, below zero where the data end or it is too long."""
    value, shift = np.uint64(0), 0
    while at < end and shift < 70:
        byte = data[at]
        at += 1
        value |= np.uint64(byte & 0x7F) << np.uint64(shift)
        if byte < 0x80:
            return signed(value >> np.uint64(1)) ^ -signed(value & np.uint64(1)), at
        shift += 7
    return 0, -1


@jit()
def _other_id(data: Bytes, at: int, behind: int, value: int, turn: int) -> None:
    """Write another positive number over the one from ``at`` to ``behind``, as wide as it."""
    width = behind - at
    if value <= 0 or width > 9:
        return
    low = 1 if width == 1 else 1 << (7 * (width - 1) - 1)
    span = (1 << (7 * width - 1)) - low
    step = int(_GOLDEN * span) | 1
    rest = low + (value - low + turn % span * step % span) % span << 1
    for i in range(width - 1):
        data[at + i] = rest & 0x7F | 0x80
        rest >>= 7
    data[behind - 1] = rest


@jit()
def _other_name(data: Bytes, begin: int, end: int, turn: int) -> None:
    """Count the last letters, or else digits, of the text from ``begin`` to ``end`` on, at most twelve of them."""
    if begin == end:
        return
    letters = _A <= data[end - 1] <= _Z
    first, base = (_A, 26) if letters else (_ZERO, 10)
    last = _Z if letters else _NINE
    at, value, span = end, 0, 1
    while at > begin and end - at < 12 and first <= data[at - 1] <= last:
        at -= 1
        value += (data[at] - first) * span
        span *= base
    step = int(_GOLDEN * span) | 1
    value = (value + turn * step) % span
    for i in range(end - 1, at - 1, -1):
        data[i] = first + value % base
        value //= base


@jit()
def _turned(data: Bytes, at: int, width: int, degrees: float) -> None:
    """Turn the right ascension at ``at``."""
    if width == 4:
        single = data[at : at + 4].view(np.float32)
        if 0.0 <= single[0] < 360.0:
            single[0] = (single[0] + degrees) % 360.0
    else:
        double = data[at : at + 8].view(np.float64)
        if 0.0 <= double[0] < 360.0:
            double[0] = (double[0] + degrees) % 360.0


@jit()
def _walk(  # noqa: C901, PLR0912 - an interpreter is one loop
    steps: Ints, jumps: Ints, data: Bytes, at: int, end: int, turn: int, degrees: float, days: float
) -> int:
    """Change the body from ``at`` to ``end`` in place; return where the walk ended, below zero where it does not parse.

    Parameters
    ----------
    steps : (n, 3) int64
    jumps : (m,) int64
    data : (bytes,) uint8
    turn : int
        Number of the round.
    degrees, days : float64
        What is added to right ascensions and times.
    """
    left = np.zeros(_DEPTH, np.int64)
    top, step, fuel = -1, 0, 1000 + 200 * (end - at)
    while at >= 0 and fuel > 0:
        op, a = steps[step, 0], steps[step, 1]
        step, fuel = step + 1, fuel - 1
        if op == _HALT:
            return at
        if op == _JUMP:
            step = a
        elif op in (_SKIP, _RA, _TIME):
            if a > end - at:
                return -1
            if op == _RA:
                _turned(data, at, a, degrees)
            elif op == _TIME:
                time = data[at : at + 8].view(np.float64)
                time[0] += days if time[0] > _EARLIEST else 0.0
            at += a
        elif op == _LOOP:
            top += 1
            if top == _DEPTH:
                return -1
            left[top] = 0
        elif op == _NEXT and left[top] > 0:
            left[top] -= 1
        elif op == _NEXT:
            left[top], at = _number(data, at, end)
            if at >= 0 and left[top] < 0:
                left[top] = -left[top]
                at = _number(data, at, end)[1]
            if left[top] == 0:
                top, step = top - 1, a
            else:
                left[top] -= 1
        else:
            begin = at
            value, at = _number(data, at, end)
            if at < 0:
                return -1
            if op == _ID:
                _other_id(data, begin, at, value, turn)
            elif op == _UNION:
                if value < 0 or value >= a:
                    return -1
                step = jumps[steps[step - 1, 2] + value]
            elif op != _VARINT:
                if value < 0 or value > end - at:
                    return -1
                if op == _NAME:
                    _other_name(data, at, at + value, turn)
                at += value
    return -1
