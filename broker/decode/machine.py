"""The decoder's machine: one jitted loop that runs a program over a batch of packets.

A program (`broker.decode.compile`) is a table of instructions, ``[op, a, b, c, d, e]``. The machine walks each body
from its first byte to its last, skips what we do not read, and writes what we do into the two tables of
`broker.decode.fields`. It never copies a packet: it reads by address. Nothing that a packet says is trusted: every
read is checked against the end of the body, and items, depth and instructions are counted against bounds.

Rows of a history are alike. So the bytes that decide where the fields of a row lie (union branches, continuation bits
of numbers, lengths of strings) are kept as a template: mask and expected bytes. A row that matches a template, eight
bytes at a time, is captured at known places without walking it; one that matches none is walked, and makes a new
template.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic

from broker.core.batch import Ints
from broker.core.jit import jit

# Straight instructions: only the position moves. `c` is the index of the null branch, -1 where there is no union.
SKIP = 0  # a: bytes
RUN = 1  # a: first entry, b: entries, d: most bytes
VARINT = 2
BYTES = 3
ENUM = 4  # a: symbols
CAP_FLOAT = 5  # b: word
CAP_DOUBLE = 6
CAP_INT = 7
CAP_INT_AS_FLOAT = 8
CAP_BOOL = 9
CAP_SPAN = 10
CAP_CODE = 11
CAP_ENUM = 12  # a: symbols, d: first of their codes in the jump table
LAST_STRAIGHT = 12
# Control instructions.
JUMP = 13  # a: target
UNION = 14  # a: branches, b: first of their targets in the jump table
ARRAY = 15  # opens a loop; the next instruction is its NEXT
NEXT = 16  # a: body, b: exit, c: tag of the history or -1, d: least bytes of an item
FIXED_ARRAY = 17  # a: bytes of an item; b: exit
CALL = 18  # a: target
RETURN = 19
HALT = 20  # a: 1 where the body may go on
FAIL = 21  # a branch whose type we do not read

# What can be wrong with a body; positions below zero carry it.
OK = 0
CUT = 1
LONG_VARINT = 2
BAD_BRANCH = 3
BAD_LENGTH = 4
TOO_MANY_ITEMS = 5
TOO_DEEP = 6
TOO_LONG = 7
TRAILING = 8
BAD_TYPE = 9
BAD_SYMBOL = 10

DEPTH = 64
_ROOM = 100_000  # instructions that any body may take, beside two per byte
_STEP = 6  # words of an instruction
_RUN = 3  # words of a run's entry: fixed bytes before the branch, bytes to the end of branch 0, what branch 1 has more

# A template: bytes, words and captures of a row; the captures; which bits must match; what they must be.
TEMPLATES = 8
_LONGEST = 128  # words of a row
_CAPTURE = 4  # words of a capture: instruction, offset in the row, word, length of a string or code of a symbol
_CAPTURES = 3
_MASKS = _CAPTURES + _CAPTURE * 16
_EXPECTED = _MASKS + _LONGEST
_TEMPLATE = _EXPECTED + _LONGEST
# The templates of a history: how many there are, their slots, the last used first, and the slots.
_ORDER = 1
_SLOTS = _ORDER + TEMPLATES
HISTORY_WORDS = _SLOTS + TEMPLATES * _TEMPLATE
MOST_CAPTURES = 16


# A program as the machine reads it is a tuple of addresses of int64 tables, and of the sizes of rows. Addresses,
# because each look into a numpy array within a tuple costs the machine a reference count.
STEPS = 0  # instructions, 6 words each
RUNS = 1  # entries of `RUN`, 3 words each
JUMPS = 2  # targets of `UNION`, codes of `CAP_ENUM`
BLANKS = 3  # an alert row in which nothing was captured, and then such a point row for every tag
ALERT_WORDS = 4
POINT_WORDS = 5
Code = tuple[int, int, int, int, int, int]


def _loader(bits: int, real: bool, signed: bool) -> Callable[[int], Any]:
    """Return a jitted function that reads a little-endian number at an address, which need not be aligned."""
    kind = {32: ir.FloatType(), 64: ir.DoubleType()}[bits] if real else ir.IntType(bits)
    out = (types.float32 if bits == 32 else types.float64) if real else types.int64 if signed else types.uint64

    def load(typing_context: Any, address: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            pointer = builder.inttoptr(arguments[0], kind.as_pointer())
            value = builder.load(pointer, align=1)
            return value if real or bits == 64 else builder.zext(value, ir.IntType(64))

        return out(types.int64), generate

    return cast(Callable[[int], Any], intrinsic(load))


def _storer() -> Callable[[int, int], None]:
    """Return a jitted function that writes an int64 at an address."""

    def store(typing_context: Any, address: Any, value: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            builder.store(arguments[1], builder.inttoptr(arguments[0], ir.IntType(64).as_pointer()), align=8)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64), generate

    return cast(Callable[[int, int], None], intrinsic(store))


def _bits_of() -> Callable[[float], int]:
    """Return a jitted function that gives the bits of a float64."""

    def bits(typing_context: Any, value: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.bitcast(arguments[0], ir.IntType(64))

        return types.int64(types.float64), generate

    return cast(Callable[[float], int], intrinsic(bits))


def _signed() -> Callable[[Any], int]:
    """Return a jitted function that makes an int64 of any 64-bit integer."""

    def signed(typing_context: Any, value: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return arguments[0]

        return types.int64(value), generate

    return cast(Callable[[Any], int], intrinsic(signed))


load_u8 = _loader(8, real=False, signed=True)
load_u32 = _loader(32, real=False, signed=True)
load_u64 = _loader(64, real=False, signed=False)
load_i64: Callable[[int], int] = _loader(64, real=False, signed=True)
load_f32 = _loader(32, real=True, signed=True)
store = _storer()
bits_of = _bits_of()
signed = _signed()


@jit()
def word(table: int, i: int) -> int:
    """Return word ``i`` of the int64 table at an address."""
    return load_i64(table + 8 * i)


@jit()
def varint(p: int, end: int) -> tuple[int, int]:
    """Return the zig-zag number at ``p`` and the position behind it; a position below zero is an error."""
    value = np.uint64(0)
    for i in range(10):
        if p + i >= end:
            return 0, -CUT
        byte = load_u8(p + i)
        value |= np.uint64(byte & 0x7F) << np.uint64(7 * i)
        if byte < 0x80:
            if i == 9 and byte > 1:
                return 0, -LONG_VARINT
            return signed(value >> np.uint64(1)) ^ -signed(value & np.uint64(1)), p + i + 1
    return 0, -LONG_VARINT


@jit()
def _string(p: int, end: int) -> tuple[int, int]:
    """Return the length of the string at ``p`` and the position of its first byte; all its bytes are there."""
    size, p = varint(p, end)
    if p < 0:
        return 0, p
    if size < 0:
        return 0, -BAD_LENGTH
    return (0, -CUT) if size > end - p else (size, p)


@jit()
def _code(p: int, size: int) -> int:
    """Return the string at ``p`` as one word, as `broker.decode.fields.code` does."""
    if size > 7:
        return 8 << 56
    word = size << 56
    for i in range(size):
        word |= load_u8(p + i) << (8 * i)
    return word


@jit()
def _run(p: int, end: int, runs: int, count: int, most: int) -> int:
    """Return the position behind ``count`` two-branch unions of fixed widths, each with fixed bytes before it."""
    if p + most <= end:
        q, bad = p, 0
        for i in range(0, _RUN * count, _RUN):
            byte = load_u8(q + word(runs, i))
            bad |= byte
            q += word(runs, i + 1) + ((byte >> 1) & 1) * word(runs, i + 2)
        if bad & ~2 == 0:
            return q
    for i in range(0, _RUN * count, _RUN):
        branch, q = varint(p + word(runs, i), end)
        if q < 0:
            return q
        if branch not in (0, 1):
            return -BAD_BRANCH
        p = q + word(runs, i + 1) - word(runs, i) - 1 + branch * word(runs, i + 2)
        if p > end:
            return -CUT
    return p


@jit()
def _branch(p: int, end: int, null: int) -> tuple[bool, int]:
    """Return whether the optional value at ``p`` is null, and the position behind its branch."""
    if p >= end:
        return True, -CUT
    branch, p = varint(p, end)
    if p >= 0 and branch not in (0, 1):
        return True, -BAD_BRANCH
    return branch == null, p


@jit()
def _capture_number(op: int, p: int, end: int, target: int) -> int:
    """Write the number or truth value at ``p`` to the address ``target``; return the position behind it."""
    if op == CAP_FLOAT:
        if p + 4 > end:
            return -CUT
        store(target, bits_of(np.float64(load_f32(p))))
        return p + 4
    if op == CAP_DOUBLE:
        if p + 8 > end:
            return -CUT
        store(target, load_i64(p))
        return p + 8
    if op == CAP_BOOL:
        if p >= end:
            return -CUT
        store(target, 1 if load_u8(p) != 0 else 0)
        return p + 1
    value, p = varint(p, end)
    if p >= 0:
        store(target, value if op == CAP_INT else bits_of(np.float64(value)))
    return p


@jit()
def _capture_text(op: int, p: int, end: int, target: int, base: int, n: int, codes: int) -> int:
    """Write the string or symbol at ``p`` to the address ``target``; return the position behind it."""
    if op == CAP_ENUM:
        symbol, p = varint(p, end)
        if p < 0:
            return p
        if symbol < 0 or symbol >= n:
            return -BAD_SYMBOL
        store(target, word(codes, symbol))
        return p
    size, p = _string(p, end)
    if p < 0:
        return p
    if op == CAP_SPAN:
        store(target, p - base)
        store(target + 8, size)
    else:
        store(target, _code(p, size))
    return p + size


@jit()
def _straight(code: Code, step: int, p: int, end: int, row: int, base: int) -> int:
    """Execute the straight instruction at address ``step``; return the new position, below zero an error."""
    op, a, null = word(step, 0), word(step, 1), word(step, 3)
    if op == RUN:
        return _run(p, end, code[RUNS] + 8 * _RUN * a, word(step, 2), word(step, 4))
    if op == SKIP:
        return p + a if a <= end - p else -CUT
    if null >= 0:
        is_null, p = _branch(p, end, null)
        if p < 0 or is_null:
            return p
    if op == VARINT:
        return varint(p, end)[1]
    if op == BYTES:
        size, p = _string(p, end)
        return p if p < 0 else p + size
    if op == ENUM:
        symbol, p = varint(p, end)
        return p if p < 0 or 0 <= symbol < a else -BAD_SYMBOL
    target = row + 8 * word(step, 2)
    if op <= CAP_BOOL:
        return _capture_number(op, p, end, target)
    return _capture_text(op, p, end, target, base, a, code[JUMPS] + 8 * word(step, 4))


@jit()
def _block(p: int, end: int, least: int, array: int, items: int, limits: Ints) -> tuple[int, int]:
    """Return the items of the block at ``p``, and the position of its first; its size in bytes is not trusted.

    ``least`` is the fewest bytes of an item; ``array`` and ``items`` were counted before, in this array and in all.
    """
    count, p = varint(p, end)
    if p < 0:
        return 0, p
    if count < 0:
        count = -count
        _, p = varint(p, end)
        if p < 0:
            return 0, p
    # Below zero only: minus the smallest int64.
    if count < 0 or count > limits[0] - array or count > limits[1] - items:
        return 0, -TOO_MANY_ITEMS
    return (0, -CUT) if count * least > end - p else (count, p)


@jit()
def _copy_words(source: int, target: int, count: int) -> None:
    """Copy ``count`` words between addresses."""
    for i in range(0, 8 * count, 8):
        store(target + i, load_i64(source + i))


@jit()
def _mark(slot: int, offset: int, mask: int, byte: int) -> None:
    """Make the byte at ``offset`` of a row one that must match, in the bits of ``mask``."""
    shift = 8 * (offset & 7)
    masks, expected = slot + 8 * (_MASKS + (offset >> 3)), slot + 8 * (_EXPECTED + (offset >> 3))
    store(masks, load_i64(masks) | (mask << shift))
    store(expected, load_i64(expected) | ((byte & mask) << shift))


@jit()
def _trace_number(slot: int, row: int, p: int, end: int, mask: int) -> int:
    """Mark the bytes of the number at ``p`` with ``mask``; return the position behind it, below zero an error."""
    after = varint(p, end)[1]
    for q in range(p, after):
        _mark(slot, q - row, 0xFF if q - p == 9 else mask, load_u8(q))
    return after


@jit()
def _trace_run(slot: int, runs: int, count: int, row: int, p: int, most: int) -> int:
    """Mark the branches of a run, all before ``most``; return the position behind it, below zero an error."""
    for i in range(0, _RUN * count, _RUN):
        q = p + word(runs, i)
        if q >= most:
            return -CUT
        byte = load_u8(q)
        if byte & ~2 != 0:
            return -BAD_BRANCH
        _mark(slot, q - row, 0xFF, byte)
        p += word(runs, i + 1) + (byte >> 1) * word(runs, i + 2)
    return p


@jit()
def _trace_branch(slot: int, null: int, row: int, p: int, most: int) -> tuple[bool, int]:
    """Mark the branch at ``p``; return whether it is the null one, and the position behind it."""
    is_null, after = _branch(p, most, null)
    if after < 0:
        return True, after
    if after > p + 1:
        return True, -BAD_BRANCH  # more bytes than it needs: valid, but not worth a template
    _mark(slot, p - row, 0xFF, load_u8(p))
    return is_null, after


@jit()
def _trace_value(code: Code, step: int, slot: int, row: int, p: int, most: int) -> int:
    """Mark what decides how long a value is, and note its capture; return the position behind it."""
    op, captures = word(step, 0), word(slot, 2)
    extra, start = 0, p
    if op in (VARINT, CAP_INT, CAP_INT_AS_FLOAT):
        after = _trace_number(slot, row, p, most, 0x80)
    elif op in (BYTES, CAP_CODE):
        extra, start = _string(p, most)
        after = start if start < 0 else start + extra
        if after >= 0:
            _trace_number(slot, row, p, most, 0xFF)
    elif op == CAP_ENUM:
        symbol, after = varint(p, most)
        if symbol < 0 or symbol >= word(step, 1):
            return -BAD_SYMBOL
        extra = word(code[JUMPS], word(step, 4) + symbol)
        after = _trace_number(slot, row, p, most, 0xFF)
    elif op in (CAP_FLOAT, CAP_DOUBLE, CAP_BOOL):
        after = p + (4 if op == CAP_FLOAT else 8 if op == CAP_DOUBLE else 1)
    else:
        return -BAD_TYPE
    if op >= CAP_FLOAT:
        capture = slot + 8 * (_CAPTURES + _CAPTURE * captures)
        store(capture, op)
        store(capture + 8, start - row)
        store(capture + 16, word(step, 2))
        store(capture + 24, extra)
        store(slot + 16, captures + 1)
    return after


@jit()
def _trace(code: Code, history: int, loop: int, row: int, end: int) -> None:
    """Make a template of the row at address ``row``; none where it is too long, broken, or not a plain record.

    ``loop`` is the address of the history's `NEXT`. The new template takes the place of the one that was not used
    for the longest time.
    """
    count = word(history, 0)
    place = min(count, TEMPLATES - 1)
    number = count if count < TEMPLATES else word(history, _ORDER + place)
    slot = history + 8 * (_SLOTS + _TEMPLATE * number)
    for i in range(_TEMPLATE):
        store(slot + 8 * i, 0)
    most = min(end, row + 8 * _LONGEST)
    p, step = row, code[STEPS] + 8 * _STEP * word(loop, 1)
    while 0 <= p <= most and word(step, 0) <= LAST_STRAIGHT:
        if word(step, 0) == RUN:
            p = _trace_run(slot, code[RUNS] + 8 * _RUN * word(step, 1), word(step, 2), row, p, most)
        elif word(step, 0) == SKIP:
            p += word(step, 1)
        else:
            is_null = False
            if word(step, 3) >= 0:
                is_null, p = _trace_branch(slot, word(step, 3), row, p, most)
            if not is_null:
                p = _trace_value(code, step, slot, row, p, most)
        step += 8 * _STEP
    back = word(step, 0) == JUMP and code[STEPS] + 8 * _STEP * word(step, 1) == loop
    if 0 <= p <= most and back:
        store(slot, p - row)
        store(slot + 8, (p - row + 7) >> 3)
        store(history + 8 * (_ORDER + place), number)
        store(history, max(count, number + 1))


@jit()
def _fits(slot: int, p: int, end: int) -> bool:
    """Return whether the row at ``p`` looks like a template's."""
    size = 8 * word(slot, 1)
    if size == 0 or p + size > end:
        return False
    wrong = 0
    for i in range(0, size, 8):
        wrong |= (load_i64(p + i) ^ load_i64(slot + 8 * _EXPECTED + i)) & load_i64(slot + 8 * _MASKS + i)
    return wrong == 0


@jit()
def _capture(slot: int, p: int, target: int) -> None:
    """Capture the row at ``p``, which fits a template, to the point row at address ``target``."""
    first = slot + 8 * _CAPTURES
    for capture in range(first, first + 8 * _CAPTURE * word(slot, 2), 8 * _CAPTURE):
        op, q, place = word(capture, 0), p + word(capture, 1), target + 8 * word(capture, 2)
        if op == CAP_DOUBLE:
            store(place, load_i64(q))
        elif op == CAP_FLOAT:
            store(place, bits_of(np.float64(load_f32(q))))
        elif op == CAP_CODE:
            store(place, _code(q, word(capture, 3)))
        elif op == CAP_ENUM:
            store(place, word(capture, 3))
        else:
            _capture_number(op, q, q + 10, place)


@jit()
def _find(history: int, p: int, end: int) -> int:
    """Return the address of the template that the row at ``p`` fits, which comes first from now on; 0 for none."""
    for i in range(word(history, 0)):
        number = word(history, _ORDER + i)
        slot = history + 8 * (_SLOTS + _TEMPLATE * number)
        if _fits(slot, p, end):
            for j in range(i, 0, -1):
                store(history + 8 * (_ORDER + j), word(history, _ORDER + j - 1))
            store(history + 8 * _ORDER, number)
            return slot
    return 0


@jit()
def _match(history: int, p: int, end: int, left: int, blank: int, words: int, target: int) -> tuple[int, int]:
    """Capture rows of a history as long as they fit templates; return how many, and the position behind them."""
    for done in range(left):
        slot = _find(history, p, end)
        if slot == 0:
            return done, p
        _copy_words(blank, target, words)
        _capture(slot, p, target)
        p += word(slot, 0)
        target += 8 * words
    return left, p


@jit()
def _walk(  # noqa: C901, PLR0912, PLR0915 - an interpreter is one loop
    code: Code,
    seen: int,
    stack: int,
    limits: Ints,
    base: int,
    p: int,
    end: int,
    alert: int,
    points: int,
    n: int,
    most: int,
) -> tuple[int, int, int]:
    """Run a program over the body from address ``p`` to ``end``.

    Parameters
    ----------
    code : Code
    seen : int
        Address of the histories' templates, by tag.
    stack : int
        Address of scratch, 3 words a level: items left or where to return to; the row to come back to; items so far.
    limits : (2,) int64
        Items of one array, and of all.
    base : int
        Address that spans are counted from.
    alert, points : int
        Addresses of the alert's row and of the table of points.
    n, most : int
        Point rows that are taken, and that there are.

    Returns
    -------
    (int, int, int)
        The position reached, below zero an error; the point rows taken (more than ``most``: make room and come
        again); the address of the instruction reached.
    """
    step, top, items, row, wide = code[STEPS], stack - 24, 0, alert, 8 * code[POINT_WORDS]
    fuel = _ROOM + 2 * (end - p)
    while p >= 0 and fuel >= 0:
        op = word(step, 0)
        fuel -= 1
        if op <= LAST_STRAIGHT:
            p = _straight(code, step, p, end, row, base)
            step += 8 * _STEP if p >= 0 else 0
        elif op == NEXT and word(top, 0) == 0:
            count, p = _block(p, end, word(step, 4), word(top, 2), items, limits)
            store(top, count)
            store(top + 16, word(top, 2) + count)
            items += count
            if count == 0 and p >= 0:
                row, step = word(top, 1), code[STEPS] + 8 * _STEP * word(step, 2)
                top -= 24
            elif word(step, 3) >= 0 and n + count > most:
                return p, n + count, step
        elif op == NEXT:
            left, tag = word(top, 0), word(step, 3)
            if tag >= 0:
                blank, history = code[BLANKS] + 8 * code[ALERT_WORDS] + wide * tag, seen + 8 * HISTORY_WORDS * tag
                done, p = _match(history, p, end, left, blank, code[POINT_WORDS], points + wide * n)
                n, left = n + done, left - done
                if left > 0:
                    _trace(code, history, step, p, end)
                    row = points + wide * n
                    _copy_words(blank, row, code[POINT_WORDS])
                    n += 1
            store(top, max(left - 1, 0))
            if left > 0:
                step = code[STEPS] + 8 * _STEP * word(step, 1)
        elif op == JUMP:
            step = code[STEPS] + 8 * _STEP * word(step, 1)
        elif op == UNION:
            branch, p = varint(p, end)
            if p >= 0 and 0 <= branch < word(step, 1):
                step = code[STEPS] + 8 * _STEP * word(code[JUMPS], word(step, 2) + branch)
            elif p >= 0:
                p = -BAD_BRANCH
        elif op == FIXED_ARRAY:
            count, p = _block(p, end, word(step, 1), 0, items, limits)
            items += count
            if p >= 0:
                p += count * word(step, 1)
                step += 8 * _STEP if count == 0 else 0
        elif op in (ARRAY, CALL):
            top += 24
            if top >= stack + 24 * DEPTH:
                return -TOO_DEEP, n, step
            store(top, 0 if op == ARRAY else step + 8 * _STEP)
            store(top + 8, row)
            store(top + 16, 0)
            step = step + 8 * _STEP if op == ARRAY else code[STEPS] + 8 * _STEP * word(step, 1)
        elif op == RETURN:
            step = word(top, 0)
            top -= 24
        else:
            return (-BAD_TYPE if op == FAIL else p if p == end or word(step, 1) == 1 else -TRAILING), n, step
    return (-TOO_LONG if p >= 0 else p), n, step


@jit()
def run(
    code: Code, limits: Ints, seen: Ints, bodies: Ints, alerts: Ints, points: Ints, first: Ints, ends: Ints, begin: int
) -> tuple[int, int]:
    """Run a program over packets ``begin`` and after, until all are done or the table of points is full.

    Parameters
    ----------
    limits : (2,) int64
        Items of one array, and of all.
    seen : (tags * HISTORY_WORDS,) int64
        Scratch, zeros at first: what the rows of each history looked like.
    bodies : (A, 3) int64
        Per packet: address that spans are counted from, address of the body, address behind it.
    alerts : (A, words) int64
    points : (capacity, words) int64
    first : (A + 1,) int64
        Written: where each packet's points begin. A packet with an error keeps none.
    ends : (A, 3) int64
        Written: 0 or what is wrong; the instruction that found it; how far the body was read, from its first byte.

    Returns
    -------
    (int, int)
        The packet that needs more room, and the rows that it needs so far; A and 0 when all are done.
    """
    stack = np.zeros(3 * DEPTH, dtype=np.int64)
    rows, table, room = signed(alerts.ctypes.data), signed(points.ctypes.data), points.shape[0]
    scratch, templates = signed(stack.ctypes.data), signed(seen.ctypes.data)
    wide, blank = 8 * code[POINT_WORDS], code[BLANKS] + 8 * code[ALERT_WORDS]
    for i in range(begin, bodies.shape[0]):
        row, n = rows + 8 * code[ALERT_WORDS] * i, first[i] + 1
        if n > room:
            return i, n
        _copy_words(code[BLANKS], row, code[ALERT_WORDS])
        _copy_words(blank, table + wide * first[i], code[POINT_WORDS])
        p, n, step = _walk(
            code, templates, scratch, limits, bodies[i, 0], bodies[i, 1], bodies[i, 2], row, table, n, room
        )
        if n > room:
            return i, n
        ends[i, 0], ends[i, 1] = 0 if p >= 0 else -p, (step - code[STEPS]) // (8 * _STEP)
        ends[i, 2] = max(p - bodies[i, 1], 0)
        first[i + 1] = n if p >= 0 else first[i]
    return bodies.shape[0], 0
