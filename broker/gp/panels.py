"""Instructions of a Cholesky factorisation by panels: rows in the lanes of a register, one register per column.

Panel p holds rows p·W .. p·W + W - 1 (W lanes of 64 bytes); column k of it is items offset + k·W ff. of a flat array.
Every tile is W columns wide and stays in W registers from its first load to its last store. A diagonal tile keeps the
inverse of its diagonal.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import cgutils, types
from numba.extending import intrinsic

from broker.gp import simd


class _Tile:
    """Emits the instructions of one tile (a panel's columns q·W .. q·W + W - 1)."""

    def __init__(self, context: Any, builder: Any, kind: simd.Vector) -> None:
        self.context, self.builder, self.kind, self.wide = context, builder, kind, kind.lanes

    def column(self, array: tuple[Any, Any, Any], k: Any, lane: int | None = None) -> Any:
        """Return a pointer to column k, or to one lane of it; ``array`` is (type, value, offset of column 0)."""
        item = self.builder.add(array[2], self.builder.mul(k, _index(self.wide)))
        if lane is None:
            return simd.pointer(self.context, self.builder, array[0], array[1], item, self.kind.llvm)
        item = self.builder.add(item, _index(lane))
        return simd.pointer(self.context, self.builder, array[0], array[1], item, self.kind.llvm.element)

    def load(self, array: Any, k: Any) -> Any:
        """Load column k."""
        return self.builder.load(self.column(array, k), align=self.kind.bits // 8)

    def lane(self, array: Any, k: Any, lane: int) -> Any:
        """Load one lane of column k into all lanes."""
        return simd.splat_value(self.builder, self.kind, self.builder.load(self.column(array, k, lane)))

    def minus(self, total: Any, left: Any, right: Any) -> Any:
        """Return total - left·right."""
        return simd.fma(self.builder, self.kind, self.builder.fneg(left), right, total)

    def accumulate(self, target: Any, factor: Any, low: Any, high: Any) -> list[Any]:
        """Load columns high .. high + W of ``target`` and subtract the products of its columns low .. high - 1."""
        builder = self.builder
        spots = [
            cgutils.alloca_once_value(builder, self.load(target, builder.add(high, _index(j))))
            for j in range(self.wide)
        ]
        with cgutils.for_range_slice(builder, low, high, _index(1), intp=ir.IntType(64)) as (k, _count):
            row = self.load(target, k)
            for j, spot in enumerate(spots):
                builder.store(self.minus(builder.load(spot), row, self.lane(factor, k, j)), spot)
        return [builder.load(spot) for spot in spots]

    def save(self, target: Any, high: Any, tile: list[Any]) -> None:
        """Store the tile."""
        for j, value in enumerate(tile):
            self.builder.store(value, self.column(target, self.builder.add(high, _index(j))), align=self.kind.bits // 8)


def _index(value: int) -> ir.Constant:
    return ir.Constant(ir.IntType(64), value)


@intrinsic  # type: ignore[untyped-decorator]
def corner(typingctx: Any, factor: Any, offset: Any, low: Any, high: Any) -> Any:
    """Factorise the diagonal tile at columns high ff. of the panel at ``offset``; it is zero before ``low``."""
    kind = simd.kind_of(factor)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        code, panel = _Tile(context, builder, kind), (sig.args[0], args[0], args[1])
        tile = code.accumulate(panel, panel, args[2], args[3])
        one = ir.Constant(kind.llvm.element, 1.0)
        for j in range(kind.lanes):
            at_j = ir.Constant(ir.IntType(32), j)
            name = f"llvm.sqrt.f{kind.bits}"
            root = simd.call(builder, name, kind.llvm.element, builder.extract_element(tile[j], at_j))
            inverse = builder.fdiv(one, root)
            tile[j] = builder.fmul(tile[j], simd.splat_value(builder, kind, inverse))
            for i in range(j + 1, kind.lanes):
                below = builder.extract_element(tile[j], ir.Constant(ir.IntType(32), i))
                tile[i] = code.minus(tile[i], tile[j], simd.splat_value(builder, kind, below))
            tile[j] = builder.insert_element(tile[j], inverse, at_j)
        code.save(panel, args[3], tile)
        return context.get_dummy_value()

    return types.void(factor, types.intp, types.intp, types.intp), generate


@intrinsic  # type: ignore[untyped-decorator]
def square(typingctx: Any, target: Any, place: Any, factor: Any, offset: Any, low: Any, high: Any) -> Any:
    """Finish columns high ff. of the panel at ``place`` against the finished one at ``offset``; return their Σ v²."""
    kind = simd.kind_of(factor)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        code = _Tile(context, builder, kind)
        rows, columns = (sig.args[0], args[0], args[1]), (sig.args[2], args[2], args[3])
        tile = code.accumulate(rows, columns, args[4], args[5])
        for j in range(kind.lanes):
            k = builder.add(args[5], _index(j))
            tile[j] = builder.fmul(tile[j], code.lane(columns, k, j))
            for i in range(j + 1, kind.lanes):
                tile[i] = code.minus(tile[i], tile[j], code.lane(columns, k, i))
        code.save(rows, args[5], tile)
        sums = [builder.fmul(value, value) for value in tile]
        while len(sums) > 1:
            sums = [builder.fadd(*pair) for pair in zip(sums[::2], sums[1::2], strict=True)]
        return sums[0]

    return kind(target, types.intp, factor, types.intp, types.intp, types.intp), generate


@intrinsic  # type: ignore[untyped-decorator]
def pull(typingctx: Any, factor: Any, place: Any, column: Any, vector: Any, item: Any, total: Any, spot: Any) -> Any:
    """Add W columns of a panel, times the register of ``vector`` at ``item``, to the W registers of ``total``."""
    kind = simd.kind_of(factor)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        code = _Tile(context, builder, kind)
        panel = (sig.args[0], args[0], args[1])
        weights = builder.load(simd.pointer(context, builder, sig.args[3], args[3], args[4], kind.llvm), align=4)
        sums = (sig.args[5], args[5], args[6])
        for j in range(kind.lanes):
            k = builder.add(args[2], _index(j))
            value = simd.fma(builder, kind, code.load(panel, k), weights, code.load(sums, _index(j)))
            builder.store(value, code.column(sums, _index(j)), align=kind.bits // 8)
        return context.get_dummy_value()

    return types.void(factor, types.intp, types.intp, vector, types.intp, total, types.intp), generate
