"""Functions of whole registers: logarithm and the Matern-3/2 correlation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import cgutils
from numba.extending import intrinsic

from broker.gp import simd

_ESTIMATE = ("contract", "afn", "arcp", "nsz", "reassoc", "ninf")  # lets LLVM use the machine's reciprocal estimates


def inverse_sqrt_value(builder: Any, kind: simd.Vector, value: Any) -> Any:
    """Return 1/√value of float32, where there is one by the machine's estimate and a Newton step (to 1e-7)."""
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(kind.llvm, [kind.llvm]), f"llvm.sqrt.{simd.suffix(kind)}"
    )
    root = builder.call(function, [value], fastmath=_ESTIMATE)
    return builder.fdiv(simd.constant(kind, 1.0), root, flags=_ESTIMATE)


def root_value(builder: Any, kind: simd.Vector, value: Any) -> Any:
    """Return the square root of a value in 0 .. 1e38 by an estimate of its inverse (relative error 1e-7, or 1e-13).

    It is three times as fast as the machine's own square root of float64.
    """
    tiny = simd.constant(kind, 1e-30)
    value = builder.select(builder.fcmp_ordered(">", value, tiny), value, tiny)
    if kind.bits == 32:
        return builder.fmul(value, inverse_sqrt_value(builder, kind, value))
    narrow = simd.Vector(32, kind.lanes)
    estimate = inverse_sqrt_value(builder, narrow, builder.fptrunc(value, narrow.llvm))
    estimate = builder.fpext(estimate, kind.llvm)
    root = builder.fmul(value, estimate)
    error = simd.fma(builder, kind, builder.fneg(root), estimate, simd.constant(kind, 1.0))
    return simd.fma(builder, kind, builder.fmul(root, simd.constant(kind, 0.5)), error, root)


def log_value(builder: Any, kind: simd.Vector, x: Any) -> Any:
    """Return ln x for positive normal float32 x (absolute error about 1e-7; not a number for x <= 0 or NaN)."""
    ints = kind.llvm_int

    def whole(value: int) -> ir.Constant:
        return ir.Constant(ints, [value] * kind.lanes)

    bits = builder.bitcast(x, ints)
    offset = builder.sub(bits, whole(0x3F3504F3))  # the bits of √½: the mantissa ends in [√½, √2)
    exponent = builder.ashr(offset, whole(23))
    mantissa = builder.bitcast(builder.sub(bits, builder.shl(exponent, whole(23))), kind.llvm)
    one = simd.constant(kind, 1.0)
    ratio = builder.fdiv(builder.fsub(mantissa, one), builder.fadd(mantissa, one), flags=_ESTIMATE)
    square = builder.fmul(ratio, ratio)
    series = simd.constant(kind, 2 / 9)  # ln m = 2 atanh((m - 1) / (m + 1))
    for power in (7, 5, 3, 1):
        series = simd.fma(builder, kind, series, square, simd.constant(kind, 2 / power))
    result = simd.fma(
        builder,
        kind,
        ratio,
        series,
        builder.fmul(builder.sitofp(exponent, kind.llvm), simd.constant(kind, math.log(2))),
    )
    good = builder.fcmp_ordered(">", x, simd.constant(kind, 0.0))
    return builder.select(good, result, simd.constant(kind, math.nan))


def _power_of_two(order: int) -> list[float]:
    """Return coefficients, highest first, of a polynomial for 2^f, |f| <= 1/2, that is nearly the best of its order."""
    chebyshev = np.polynomial.Chebyshev.interpolate(np.exp2, order, [-0.5, 0.5])
    return [float(c) for c in chebyshev.convert(kind=np.polynomial.Polynomial).coef[::-1]]


_SERIES = {32: _power_of_two(5), 64: _power_of_two(10)}  # relative errors 8e-8 and 2e-16


def matern_value(builder: Any, kind: simd.Vector, three_r2: Any) -> Any:
    """Return (1 + √x) exp(-√x) for x = 3 r² (errors of about 1e-7, or 1e-13); √x counts as 40 at most.

    exp(-√x) = 2^k 2^f with |f| <= 1/2; adding 1.5 · 2^mantissa rounds to k, and leaves k in the lowest bits. The
    smallest values, 1e-16 and 1e-35, keep what is computed from them out of the slow range of tiny numbers.
    """
    mantissa = 52 if kind.bits == 64 else 23
    far, shifter = simd.constant(kind, 40.0), simd.constant(kind, 1.5 * 2**mantissa)
    root = root_value(builder, kind, three_r2)
    root = builder.select(builder.fcmp_ordered("<", root, far), root, far)
    minus_root = builder.fneg(root)
    log2e = simd.constant(kind, 1.0 / math.log(2.0))
    shifted = simd.fma(builder, kind, minus_root, log2e, shifter)
    f = simd.fma(builder, kind, minus_root, log2e, builder.fneg(builder.fsub(shifted, shifter)))
    first, *rest = _SERIES[kind.bits]
    power = simd.constant(kind, first)
    for coefficient in rest:
        power = simd.fma(builder, kind, power, f, simd.constant(kind, coefficient))
    shift = ir.Constant(kind.llvm_int, [mantissa] * kind.lanes)
    k = builder.shl(builder.bitcast(shifted, kind.llvm_int), shift)
    decay = builder.bitcast(builder.add(builder.bitcast(power, kind.llvm_int), k), kind.llvm)
    return simd.fma(builder, kind, root, decay, decay)


def _unary(emit: Any) -> Any:
    @intrinsic  # type: ignore[untyped-decorator]
    def operation(typingctx: Any, value: Any) -> Any:
        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return emit(builder, value, args[0])

        return value(value), generate

    return operation


log = _unary(log_value)
matern = _unary(matern_value)
"""The Matern-3/2 correlation of 3 r²."""
