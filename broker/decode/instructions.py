"""The decoder's instructions, what can be wrong with a body, and how a program lies in memory."""

from __future__ import annotations

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
FIXED_ARRAY = 17  # a: bytes of an item
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

# A program as the machine reads it is a tuple of addresses of int64 tables, and of the sizes of rows. Addresses,
# because each look into a numpy array within a tuple costs the machine a reference count.
STEPS = 0  # instructions, 6 words each
RUNS = 1  # entries of `RUN`, 3 words each
JUMPS = 2  # targets of `UNION`, codes of `CAP_ENUM`
BLANKS = 3  # an alert row in which nothing was captured, and then such a point row for every tag
ALERT_WORDS = 4
POINT_WORDS = 5
Code = tuple[int, int, int, int, int, int]
STEP_WORDS = 6
RUN_WORDS = 3  # fixed bytes before the branch, bytes to the end of branch 0, what branch 1 has more
