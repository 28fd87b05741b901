"""SIMD vectors as numba values, so that hot loops can be written with ``+ - *`` on whole registers.

A vector is an LLVM vector of ``lanes`` floats; LLVM splits one that is wider than the machine's registers, so the same
code runs on AVX-512, AVX2 and NEON. Products and sums may be fused (flag ``contract``).
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import cgutils, types
from numba.core.typing import signature
from numba.core.typing.templates import AbstractTemplate, infer_global
from numba.extending import intrinsic, lower_builtin, models, register_model

_FLAGS = ("contract",)


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


def suffix(kind: Vector) -> str:
    """Return what LLVM appends to the name of a function of such vectors."""
    return f"v{kind.lanes}f{kind.bits}"


def fma(builder: Any, kind: Vector, a: Any, b: Any, c: Any) -> Any:
    """Return a·b + c, fused."""
    return call(builder, f"llvm.fma.{suffix(kind)}", kind.llvm, a, b, c)


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


@intrinsic  # type: ignore[untyped-decorator]
def all_below(typingctx: Any, left: Any, right: Any) -> Any:
    """Say whether left <= right in every lane."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        truth = builder.fcmp_ordered("<=", args[0], args[1])
        mask = builder.bitcast(truth, ir.IntType(left.lanes))
        return builder.icmp_unsigned("==", mask, ir.Constant(mask.type, (1 << left.lanes) - 1))

    return types.boolean(left, right), generate
