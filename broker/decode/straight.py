"""The straight instructions: each reads, skips or captures one value, and only moves the position.

Every function returns the position behind what it read; below zero it is minus what is wrong.
"""

from __future__ import annotations

import numpy as np

from broker.core.jit import jit
from broker.decode.instructions import (
    BAD_BRANCH,
    BAD_LENGTH,
    BAD_SYMBOL,
    BYTES,
    CAP_BOOL,
    CAP_DOUBLE,
    CAP_ENUM,
    CAP_FLOAT,
    CAP_INT,
    CAP_SPAN,
    CUT,
    ENUM,
    JUMPS,
    RUN,
    RUN_WORDS,
    RUNS,
    SKIP,
    VARINT,
    Code,
)
from broker.decode.memory import bits_of, load_f32, load_i64, load_u8, store, varint, word


@jit()
def string(p: int, end: int) -> tuple[int, int]:
    """Return the length of the string at ``p`` and the position of its first byte; all its bytes are there."""
    size, p = varint(p, end)
    if p < 0:
        return 0, p
    if size < 0:
        return 0, -BAD_LENGTH
    return (0, -CUT) if size > end - p else (size, p)


@jit()
def code_at(p: int, size: int) -> int:
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
        for i in range(0, RUN_WORDS * count, RUN_WORDS):
            byte = load_u8(q + word(runs, i))
            bad |= byte
            q += word(runs, i + 1) + ((byte >> 1) & 1) * word(runs, i + 2)
        if bad & ~2 == 0:
            return q
    for i in range(0, RUN_WORDS * count, RUN_WORDS):
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
def branch_at(p: int, end: int, null: int) -> tuple[bool, int]:
    """Return whether the optional value at ``p`` is null, and the position behind its branch."""
    if p >= end:
        return True, -CUT
    branch, p = varint(p, end)
    if p >= 0 and branch not in (0, 1):
        return True, -BAD_BRANCH
    return branch == null, p


@jit()
def capture_number(op: int, p: int, end: int, target: int) -> int:
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
    size, p = string(p, end)
    if p < 0:
        return p
    if op == CAP_SPAN:
        store(target, p - base)
        store(target + 8, size)
    else:
        store(target, code_at(p, size))
    return p + size


@jit()
def straight(code: Code, step: int, p: int, end: int, row: int, base: int) -> int:
    """Execute the straight instruction at address ``step``; return the new position, below zero an error."""
    op, a, null = word(step, 0), word(step, 1), word(step, 3)
    if op == RUN:
        return _run(p, end, code[RUNS] + 8 * RUN_WORDS * a, word(step, 2), word(step, 4))
    if op == SKIP:
        return p + a if a <= end - p else -CUT
    if null >= 0:
        is_null, p = branch_at(p, end, null)
        if p < 0 or is_null:
            return p
    if op == VARINT:
        return varint(p, end)[1]
    if op == BYTES:
        size, p = string(p, end)
        return p if p < 0 else p + size
    if op == ENUM:
        symbol, p = varint(p, end)
        return p if p < 0 or 0 <= symbol < a else -BAD_SYMBOL
    target = row + 8 * word(step, 2)
    if op <= CAP_BOOL:
        return capture_number(op, p, end, target)
    return _capture_text(op, p, end, target, base, a, code[JUMPS] + 8 * word(step, 4))
