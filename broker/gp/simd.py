"""SIMD vectors as numba values, so that hot loops can be written with ``+ - *`` on whole registers.

A vector is an LLVM vector of ``lanes`` floats; LLVM splits one that is wider than the machine's registers, so the same
code runs on AVX-512, AVX2 and NEON. Products and sums may be fused (flag ``contract``).
"""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import cgutils, types
from numba.core.typing import signature
from numba.core.typing.templates import AbstractTemplate, infer_global
from numba.extending import intrinsic, lower_builtin, models, register_model

_FLAGS = ("contract",)
_ESTIMATE = ("contract", "afn", "arcp", "nsz", "reassoc", "ninf")  # lets LLVM use the machine's reciprocal estimates


class Vector(types.Type):
    """Numba type of ``lanes`` floats of ``bits`` 32 or 64."""

    def __init__(self, bits: int, lanes: int) -> None:
        self.bits, self.lanes = bits, lanes
        super().__init__(name=f"float{bits}x{lanes}")

    @property
    def scalar(self) -> Any:
        """Numba's type of one lane."""
        return types.float32 if self.bits == 32 else types.float64

    @property
    def llvm(self) -> ir.VectorType:
        """LLVM's type."""
        return ir.VectorType(ir.FloatType() if self.bits == 32 else ir.DoubleType(), self.lanes)

    @property
    def llvm_int(self) -> ir.VectorType:
        """LLVM's integer vector of the same shape."""
        return ir.VectorType(ir.IntType(self.bits), self.lanes)


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, fe_type: Vector) -> None:
        super().__init__(manager, fe_type, fe_type.llvm)


def constant(kind: Vector, value: float) -> ir.Constant:
    """Return the LLVM constant with ``value`` in all lanes."""
    return ir.Constant(kind.llvm, [float(np.float32(value)) if kind.bits == 32 else value] * kind.lanes)


def pointer(context: Any, builder: Any, array_type: Any, array: Any, index: Any, kind: ir.Type) -> Any:
    """Return a pointer of type ``kind*`` to element ``index`` of a contiguous numba array."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), kind.as_pointer())


def splat_value(builder: Any, kind: Vector, scalar: Any) -> Any:
    """Return ``scalar`` in all lanes."""
    one = builder.insert_element(ir.Constant(kind.llvm, ir.Undefined), scalar, ir.Constant(ir.IntType(32), 0))
    mask = ir.Constant(ir.VectorType(ir.IntType(32), kind.lanes), [0] * kind.lanes)
    return builder.shuffle_vector(one, ir.Constant(kind.llvm, ir.Undefined), mask)


def call(builder: Any, name: str, result: ir.Type, *arguments: Any) -> Any:
    """Call an LLVM intrinsic that takes and gives vectors."""
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(result, [a.type for a in arguments]), name
    )
    return builder.call(function, arguments)


def _suffix(kind: Vector) -> str:
    return f"v{kind.lanes}f{kind.bits}"


def fma(builder: Any, kind: Vector, a: Any, b: Any, c: Any) -> Any:
    """Return a·b + c, fused."""
    return call(builder, f"llvm.fma.{_suffix(kind)}", kind.llvm, a, b, c)


def inverse_sqrt_value(builder: Any, kind: Vector, value: Any) -> Any:
    """Return 1/√value of float32, where there is one by the machine's estimate and a Newton step (to 1e-7)."""
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(kind.llvm, [kind.llvm]), f"llvm.sqrt.{_suffix(kind)}"
    )
    root = builder.call(function, [value], fastmath=_ESTIMATE)
    return builder.fdiv(constant(kind, 1.0), root, flags=_ESTIMATE)


def root_value(builder: Any, kind: Vector, value: Any) -> Any:
    """Return the square root of a value in 0 .. 1e38 by an estimate of its inverse (relative error 1e-7, or 1e-13).

    It is three times as fast as the machine's own square root of float64.
    """
    tiny = constant(kind, 1e-30)
    value = builder.select(builder.fcmp_ordered(">", value, tiny), value, tiny)
    if kind.bits == 32:
        return builder.fmul(value, inverse_sqrt_value(builder, kind, value))
    narrow = Vector(32, kind.lanes)
    estimate = inverse_sqrt_value(builder, narrow, builder.fptrunc(value, narrow.llvm))
    estimate = builder.fpext(estimate, kind.llvm)
    root = builder.fmul(value, estimate)
    error = fma(builder, kind, builder.fneg(root), estimate, constant(kind, 1.0))
    return fma(builder, kind, builder.fmul(root, constant(kind, 0.5)), error, root)


def log_value(builder: Any, kind: Vector, x: Any) -> Any:
    """Return ln x for positive normal float32 x (absolute error about 1e-7; not a number for x <= 0 or NaN)."""
    ints = kind.llvm_int

    def whole(value: int) -> ir.Constant:
        return ir.Constant(ints, [value] * kind.lanes)

    bits = builder.bitcast(x, ints)
    offset = builder.sub(bits, whole(0x3F3504F3))  # the bits of √½: the mantissa ends in [√½, √2)
    exponent = builder.ashr(offset, whole(23))
    mantissa = builder.bitcast(builder.sub(bits, builder.shl(exponent, whole(23))), kind.llvm)
    one = constant(kind, 1.0)
    ratio = builder.fdiv(builder.fsub(mantissa, one), builder.fadd(mantissa, one), flags=_ESTIMATE)
    square = builder.fmul(ratio, ratio)
    series = constant(kind, 2 / 9)  # ln m = 2 atanh((m - 1) / (m + 1))
    for power in (7, 5, 3, 1):
        series = fma(builder, kind, series, square, constant(kind, 2 / power))
    result = fma(
        builder, kind, ratio, series, builder.fmul(builder.sitofp(exponent, kind.llvm), constant(kind, math.log(2)))
    )
    good = builder.fcmp_ordered(">", x, constant(kind, 0.0))
    return builder.select(good, result, constant(kind, math.nan))


def _register(operation: Any, emit: str) -> None:
    @infer_global(operation)
    class _Typing(AbstractTemplate):  # type: ignore[misc]
        def generic(self, args: Any, kws: Any) -> Any:
            if len(args) == 2 and isinstance(args[0], Vector) and args[0] == args[1]:
                return signature(args[0], *args)
            return None

    @lower_builtin(operation, Vector, Vector)  # type: ignore[untyped-decorator]
    def _lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return getattr(builder, emit)(*args, flags=_FLAGS)


for _operation, _emit in ((operator.add, "fadd"), (operator.sub, "fsub"), (operator.mul, "fmul")):
    _register(_operation, _emit)


def kind_of(array: Any, lanes: int = 0) -> Vector:
    """Return the vector type that fits an array's items: 64 bytes of them, or ``lanes``."""
    bits = array.dtype.bitwidth
    return Vector(bits, lanes or 512 // bits)


@intrinsic  # type: ignore[untyped-decorator]
def load(typingctx: Any, array: Any, index: Any) -> Any:
    """Load 64 bytes of a flat array, from item ``index`` on."""
    kind = kind_of(array)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load(pointer(context, builder, sig.args[0], args[0], args[1], kind.llvm), align=kind.bits // 8)

    return kind(array, types.intp), generate


@intrinsic  # type: ignore[untyped-decorator]
def store(typingctx: Any, array: Any, index: Any, value: Any) -> Any:
    """Store a vector into a flat array, from item ``index`` on."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        place = pointer(context, builder, sig.args[0], args[0], args[1], value.llvm)
        builder.store(args[2], place, align=value.bits // 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, value), generate


@intrinsic  # type: ignore[untyped-decorator]
def store_as(typingctx: Any, array: Any, index: Any, value: Any) -> Any:
    """Store a vector into a flat array of its own or of a narrower type, from item ``index`` on."""
    kind = Vector(array.dtype.bitwidth, value.lanes)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        place = pointer(context, builder, sig.args[0], args[0], args[1], kind.llvm)
        narrow = args[2] if kind == value else builder.fptrunc(args[2], kind.llvm)
        builder.store(narrow, place, align=kind.bits // 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, value), generate


@intrinsic  # type: ignore[untyped-decorator]
def splat(typingctx: Any, like: Any, scalar: Any) -> Any:
    """Return a number in all lanes of a vector that fits the array (or vector) ``like``."""
    kind = like if isinstance(like, Vector) else kind_of(like)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return splat_value(builder, kind, context.cast(builder, args[1], sig.args[1], kind.scalar))

    return kind(like, scalar), generate


@intrinsic  # type: ignore[untyped-decorator]
def same(typingctx: Any, array: Any, index: Any) -> Any:
    """Load one item into all lanes of a vector that fits the array."""
    kind = kind_of(array)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        place = pointer(context, builder, sig.args[0], args[0], args[1], kind.llvm.element)
        return splat_value(builder, kind, builder.load(place))

    return kind(array, types.intp), generate


@intrinsic  # type: ignore[untyped-decorator]
def lanes(typingctx: Any, array: Any) -> Any:
    """Return how many lanes a vector has that fits the array: a constant of the compiler's."""
    kind = kind_of(array)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return context.get_constant(types.intp, kind.lanes)

    return types.intp(array), generate


@intrinsic  # type: ignore[untyped-decorator]
def repeat(typingctx: Any, array: Any, index: Any) -> Any:
    """Load a quarter of a vector and repeat each item four times: a a a a b b b b ..."""
    return _spread(array, lambda lane: lane // 4)


@intrinsic  # type: ignore[untyped-decorator]
def cycle(typingctx: Any, array: Any, index: Any) -> Any:
    """Load four items and repeat the group through the vector: a b c d a b c d ..."""
    return _spread(array, lambda lane: lane % 4)


def _spread(array: Any, source: Any) -> Any:
    kind = kind_of(array)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        quarter = ir.VectorType(kind.llvm.element, 4)
        place = pointer(context, builder, sig.args[0], args[0], args[1], quarter)
        loaded = builder.load(place, align=kind.bits // 8)
        return _shuffle(builder, loaded, [source(lane) for lane in range(kind.lanes)])

    return kind(array, types.intp), generate


@intrinsic  # type: ignore[untyped-decorator]
def quarters(typingctx: Any, value: Any) -> Any:
    """Return four vectors, each of one quarter of ``value``, four times over."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        size = value.lanes // 4
        parts = [
            _shuffle(builder, args[0], [size * part + lane % size for lane in range(value.lanes)]) for part in range(4)
        ]
        return context.make_tuple(builder, sig.return_type, parts)

    return types.UniTuple(value, 4)(value), generate  # type: ignore[attr-defined]


def _shuffle(builder: Any, value: Any, lanes: list[int]) -> Any:
    mask = ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), lanes)
    return builder.shuffle_vector(value, ir.Constant(value.type, ir.Undefined), mask)


def _unary(emit: Any) -> Any:
    @intrinsic  # type: ignore[untyped-decorator]
    def operation(typingctx: Any, value: Any) -> Any:
        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return emit(builder, value, args[0])

        return value(value), generate

    return operation


log = _unary(log_value)


def _power_of_two(order: int) -> list[float]:
    """Return coefficients, highest first, of a polynomial for 2^f, |f| <= 1/2, that is nearly the best of its order."""
    chebyshev = np.polynomial.Chebyshev.interpolate(np.exp2, order, [-0.5, 0.5])
    return [float(c) for c in chebyshev.convert(kind=np.polynomial.Polynomial).coef[::-1]]


_SERIES = {32: _power_of_two(5), 64: _power_of_two(10)}  # relative errors 8e-8 and 2e-16


def matern_value(builder: Any, kind: Vector, three_r2: Any) -> Any:
    """Return (1 + √x) exp(-√x) for x = 3 r² (errors of about 1e-7, or 1e-13); √x counts as 40 at most.

    exp(-√x) = 2^k 2^f with |f| <= 1/2; adding 1.5 · 2^mantissa rounds to k, and leaves k in the lowest bits. The
    smallest values, 1e-16 and 1e-35, keep what is computed from them out of the slow range of tiny numbers.
    """
    mantissa = 52 if kind.bits == 64 else 23
    far, shifter = constant(kind, 40.0), constant(kind, 1.5 * 2**mantissa)
    root = root_value(builder, kind, three_r2)
    root = builder.select(builder.fcmp_ordered("<", root, far), root, far)
    minus_root = builder.fneg(root)
    log2e = constant(kind, 1.0 / math.log(2.0))
    shifted = fma(builder, kind, minus_root, log2e, shifter)
    f = fma(builder, kind, minus_root, log2e, builder.fneg(builder.fsub(shifted, shifter)))
    first, *rest = _SERIES[kind.bits]
    power = constant(kind, first)
    for coefficient in rest:
        power = fma(builder, kind, power, f, constant(kind, coefficient))
    shift = ir.Constant(kind.llvm_int, [mantissa] * kind.lanes)
    k = builder.shl(builder.bitcast(shifted, kind.llvm_int), shift)
    decay = builder.bitcast(builder.add(builder.bitcast(power, kind.llvm_int), k), kind.llvm)
    return fma(builder, kind, root, decay, decay)


matern = _unary(matern_value)
"""The Matern-3/2 correlation of 3 r²."""


@intrinsic  # type: ignore[untyped-decorator]
def all_below(typingctx: Any, left: Any, right: Any) -> Any:
    """Say whether left <= right in every lane."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        truth = builder.fcmp_ordered("<=", args[0], args[1])
        mask = builder.bitcast(truth, ir.IntType(left.lanes))
        return builder.icmp_unsigned("==", mask, ir.Constant(mask.type, (1 << left.lanes) - 1))

    return types.boolean(left, right), generate
