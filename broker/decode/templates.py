"""What rows of a history look like, so that the next ones need not be walked.

Rows of a history are alike. The bytes that decide where the fields of a row lie (union branches, continuation bits of
numbers, lengths of strings) make a template: a mask and the bits expected under it. A row that fits a template, eight
bytes at a time, is captured at known places; a row that fits none makes a new one.
"""

from __future__ import annotations

import numpy as np

from broker.core.jit import jit
from broker.decode.instructions import (
    BAD_BRANCH,
    BAD_SYMBOL,
    BAD_TYPE,
    BYTES,
    CAP_BOOL,
    CAP_CODE,
    CAP_DOUBLE,
    CAP_ENUM,
    CAP_FLOAT,
    CAP_INT,
    CAP_INT_AS_FLOAT,
    CUT,
    JUMP,
    JUMPS,
    LAST_STRAIGHT,
    RUN,
    RUN_WORDS,
    RUNS,
    SKIP,
    STEP_WORDS,
    STEPS,
    VARINT,
    Code,
)
from broker.decode.memory import bits_of, copy_words, load_f32, load_i64, load_u8, store, varint, word
from broker.decode.straight import branch_at, capture_number, code_at, string

# A template: bytes, words and captures of a row; the captures; which bits must match; what they must be.
TEMPLATES = 8
_LONGEST = 128  # words of a row
_CAPTURE = 4  # words of a capture: instruction, offset in the row, word, length of a string or code of a symbol
_CAPTURES = 3
MOST_CAPTURES = 16
_MASKS = _CAPTURES + _CAPTURE * MOST_CAPTURES
_EXPECTED = _MASKS + _LONGEST
_TEMPLATE = _EXPECTED + _LONGEST
# The templates of a history: how many there are, their slots, the last used first, and the slots.
_ORDER = 1
_SLOTS = _ORDER + TEMPLATES
HISTORY_WORDS = _SLOTS + TEMPLATES * _TEMPLATE


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
    for i in range(0, RUN_WORDS * count, RUN_WORDS):
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
    is_null, after = branch_at(p, most, null)
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
        extra, start = string(p, most)
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
def trace(code: Code, history: int, loop: int, row: int, end: int) -> None:
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
    p, step = row, code[STEPS] + 8 * STEP_WORDS * word(loop, 1)
    while 0 <= p <= most and word(step, 0) <= LAST_STRAIGHT:
        if word(step, 0) == RUN:
            p = _trace_run(slot, code[RUNS] + 8 * RUN_WORDS * word(step, 1), word(step, 2), row, p, most)
        elif word(step, 0) == SKIP:
            p += word(step, 1)
        else:
            is_null = False
            if word(step, 3) >= 0:
                is_null, p = _trace_branch(slot, word(step, 3), row, p, most)
            if not is_null:
                p = _trace_value(code, step, slot, row, p, most)
        step += 8 * STEP_WORDS
    back = word(step, 0) == JUMP and code[STEPS] + 8 * STEP_WORDS * word(step, 1) == loop
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
            store(place, code_at(q, word(capture, 3)))
        elif op == CAP_ENUM:
            store(place, word(capture, 3))
        else:
            capture_number(op, q, q + 10, place)


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
def match(history: int, p: int, end: int, left: int, blank: int, words: int, target: int) -> tuple[int, int]:
    """Capture rows of a history as long as they fit templates; return how many, and the position behind them."""
    for done in range(left):
        slot = _find(history, p, end)
        if slot == 0:
            return done, p
        copy_words(blank, target, words)
        _capture(slot, p, target)
        p += word(slot, 0)
        target += 8 * words
    return left, p
