"""Reads and writes by address, for jitted code: what numba has no words for.

Addresses are checked by the callers; nothing here is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic

from broker.core.jit import jit
from broker.decode.instructions import CUT, LONG_VARINT


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
def copy_words(source: int, target: int, count: int) -> None:
    """Copy ``count`` words between addresses."""
    for i in range(0, 8 * count, 8):
        store(target + i, load_i64(source + i))


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
