"""The decoder's machine: one jitted loop that runs a program over a batch of packets.

A program (`broker.decode.compile`) is a table of instructions, ``[op, a, b, c, d, e]``. The machine walks each body
from its first byte to its last, skips what we do not read, and writes what we do into the two tables of
`broker.decode.fields`. It never copies a packet: it reads by address. Nothing that a packet says is trusted: every
read is checked against the end of the body, and items, depth and instructions are counted against bounds.
"""

from __future__ import annotations

import numpy as np

from broker.core.batch import Ints
from broker.core.jit import jit
from broker.decode.instructions import (
    ALERT_WORDS,
    ARRAY,
    BAD_BRANCH,
    BAD_TYPE,
    BLANKS,
    CALL,
    CUT,
    FAIL,
    FIXED_ARRAY,
    JUMP,
    JUMPS,
    LAST_STRAIGHT,
    NEXT,
    POINT_WORDS,
    RETURN,
    STEP_WORDS,
    STEPS,
    TOO_DEEP,
    TOO_LONG,
    TOO_MANY_ITEMS,
    TRAILING,
    UNION,
    Code,
)
from broker.decode.memory import copy_words, signed, store, varint, word
from broker.decode.straight import straight
from broker.decode.templates import HISTORY_WORDS, match, trace

DEPTH = 64
_ROOM = 100_000  # instructions that any body may take, beside two per byte
_POINTS = 1000  # points that any body may have, beside one for
_POINT_BYTES = 16  # bytes: a null takes one byte, and a row of the table some fifty


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
    fuel, n_most = _ROOM + 2 * (end - p), n + _POINTS + (end - p) // _POINT_BYTES
    while p >= 0 and fuel >= 0:
        op, fuel = word(step, 0), fuel - 1
        if op <= LAST_STRAIGHT:
            p = straight(code, step, p, end, row, base)
            step += 8 * STEP_WORDS if p >= 0 else 0
        elif op == NEXT and word(top, 0) == 0:
            count, p = _block(p, end, word(step, 4), word(top, 2), items, limits)
            count, p = (0, -TOO_MANY_ITEMS) if word(step, 3) >= 0 and n + count > n_most else (count, p)
            store(top, count)
            store(top + 16, word(top, 2) + count)
            items += count
            if count == 0 and p >= 0:
                row, step = word(top, 1), code[STEPS] + 8 * STEP_WORDS * word(step, 2)
                top -= 24
            elif word(step, 3) >= 0 and n + count > most:
                return p, n + count, step
        elif op == NEXT:
            left, tag = word(top, 0), word(step, 3)
            if tag >= 0:
                blank, history = code[BLANKS] + 8 * code[ALERT_WORDS] + wide * tag, seen + 8 * HISTORY_WORDS * tag
                done, p = match(history, p, end, left, blank, code[POINT_WORDS], points + wide * n)
                n, left = n + done, left - done
                if left > 0:
                    trace(code, history, step, p, end)
                    row = points + wide * n
                    copy_words(blank, row, code[POINT_WORDS])
                    n += 1
            store(top, max(left - 1, 0))
            if left > 0:
                step = code[STEPS] + 8 * STEP_WORDS * word(step, 1)
        elif op == JUMP:
            step = code[STEPS] + 8 * STEP_WORDS * word(step, 1)
        elif op == UNION:
            branch, p = varint(p, end)
            if p >= 0 and 0 <= branch < word(step, 1):
                step = code[STEPS] + 8 * STEP_WORDS * word(code[JUMPS], word(step, 2) + branch)
            elif p >= 0:
                p = -BAD_BRANCH
        elif op == FIXED_ARRAY:
            count, p = _block(p, end, word(step, 1), 0, items, limits)
            items += count
            if p >= 0:
                p += count * word(step, 1)
                step += 8 * STEP_WORDS if count == 0 else 0
        elif op in (ARRAY, CALL):
            top += 24
            if top >= stack + 24 * DEPTH:
                return -TOO_DEEP, n, step
            store(top, 0 if op == ARRAY else step + 8 * STEP_WORDS)
            store(top + 8, row)
            store(top + 16, 0)
            step = step + 8 * STEP_WORDS if op == ARRAY else code[STEPS] + 8 * STEP_WORDS * word(step, 1)
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
        copy_words(code[BLANKS], row, code[ALERT_WORDS])
        copy_words(blank, table + wide * first[i], code[POINT_WORDS])
        p, n, step = _walk(
            code, templates, scratch, limits, bodies[i, 0], bodies[i, 1], bodies[i, 2], row, table, n, room
        )
        if n > room:
            return i, n
        ends[i, 0], ends[i, 1] = 0 if p >= 0 else -p, (step - code[STEPS]) // (8 * STEP_WORDS)
        ends[i, 2] = max(p - bodies[i, 1], 0)
        first[i + 1] = n if p >= 0 else first[i]
    return bodies.shape[0], 0
