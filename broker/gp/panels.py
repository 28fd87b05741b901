"""Instructions of a Cholesky factorisation by panels of 8 rows, and of the solves against it.

Panel p of the factor holds rows 8 p .. 8 p + 7; its column k is items offset + 8 k ff. of a flat array. A diagonal
tile keeps the inverse of its diagonal. What is solved against it lies in registers of W rows (64 bytes), R of them at
once, so that each broadcast element of the factor serves several: column k of register r is items place + step r +
width k ff. A tile is `COLUMNS` columns wide and stays in registers from its first load to its last store.
"""

from __future__ import annotations

from typing import Any

from llvmlite import binding, ir  # type: ignore[import-untyped]
from numba.core import cgutils, types
from numba.extending import intrinsic

from broker.gp import simd

COLUMNS = 8
ROWS = 3 if binding.get_host_cpu_features().get("avx512f") else 1
"""Registers of a tile: 3 · 8 sums fill the 32 of AVX-512; a machine with 16 half as wide ones holds but 8 sums."""


class _Tile:
    """Emits the instructions of one tile."""

    def __init__(self, context: Any, builder: Any, kind: simd.Vector, rows: int) -> None:
        self.context, self.builder, self.kind, self.rows = context, builder, kind, rows

    def place(self, array: Any, column: Any, row: int = 0) -> Any:
        """Return a pointer to a register; ``array`` is (type, value, place, step, width)."""
        builder = self.builder
        item = builder.add(array[2], builder.mul(column, array[4]))
        if row:
            item = builder.add(item, builder.mul(array[3], _index(row)))
        return simd.pointer(self.context, builder, array[0], array[1], item, self.kind.llvm)

    def load(self, array: Any, column: Any, row: int = 0) -> Any:
        """Load a register."""
        return self.builder.load(self.place(array, column, row), align=self.kind.bits // 8)

    def element(self, factor: Any, column: Any, row: int) -> Any:
        """Load the factor's element (row of the panel, column) into all lanes; ``factor`` is (type, value, offset)."""
        item = self.builder.add(factor[2], self.builder.mul(column, _index(COLUMNS)))
        item = self.builder.add(item, _index(row))
        spot = simd.pointer(self.context, self.builder, factor[0], factor[1], item, self.kind.llvm.element)
        return simd.splat_value(self.builder, self.kind, self.builder.load(spot))

    def minus(self, total: Any, left: Any, right: Any) -> Any:
        """Return total - left·right."""
        return simd.fma(self.builder, self.kind, self.builder.fneg(left), right, total)

    def accumulate(self, target: Any, factor: Any, low: Any, high: Any) -> list[list[Any]]:
        """Load columns high .. high + 7 of ``target`` and subtract the products of its columns low .. high - 1."""
        builder = self.builder
        spots = [
            [
                cgutils.alloca_once_value(builder, self.load(target, builder.add(high, _index(j)), r))
                for r in range(self.rows)
            ]
            for j in range(COLUMNS)
        ]
        with cgutils.for_range_slice(builder, low, high, _index(1), intp=ir.IntType(64)) as (k, _count):
            rows = [self.load(target, k, r) for r in range(self.rows)]
            for j, column in enumerate(spots):
                element = self.element(factor, k, j)
                for row, spot in zip(rows, column, strict=True):
                    builder.store(self.minus(builder.load(spot), row, element), spot)
        return [[builder.load(spot) for spot in column] for column in spots]

    def save(self, target: Any, high: Any, tile: list[list[Any]]) -> None:
        """Store the tile."""
        for j, column in enumerate(tile):
            for r, value in enumerate(column):
                place = self.place(target, self.builder.add(high, _index(j)), r)
                self.builder.store(value, place, align=self.kind.bits // 8)


def _index(value: int) -> ir.Constant:
    return ir.Constant(ir.IntType(64), value)


@intrinsic  # type: ignore[untyped-decorator]
def corner(typingctx: Any, factor: Any, offset: Any, low: Any, high: Any) -> Any:
    """Factorise the diagonal tile at columns high ff. of the panel at ``offset``; it is zero before ``low``.

    ``factor`` is float64: a panel is one register wide.
    """
    kind = simd.kind_of(factor)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        code = _Tile(context, builder, kind, 1)
        panel = (sig.args[0], args[0], args[1], None, _index(COLUMNS))
        tile = [column[0] for column in code.accumulate(panel, panel, args[2], args[3])]
        one = ir.Constant(kind.llvm.element, 1.0)
        for j in range(COLUMNS):
            at_j = ir.Constant(ir.IntType(32), j)
            root = simd.call(builder, "llvm.sqrt.f64", kind.llvm.element, builder.extract_element(tile[j], at_j))
            inverse = builder.fdiv(one, root)
            tile[j] = builder.fmul(tile[j], simd.splat_value(builder, kind, inverse))
            for i in range(j + 1, COLUMNS):
                below = builder.extract_element(tile[j], ir.Constant(ir.IntType(32), i))
                tile[i] = code.minus(tile[i], tile[j], simd.splat_value(builder, kind, below))
            tile[j] = builder.insert_element(tile[j], inverse, at_j)
        code.save(panel, args[3], [[column] for column in tile])
        return context.get_dummy_value()

    return types.void(factor, types.intp, types.intp, types.intp), generate


def _solver(rows: int, squares: bool) -> Any:
    """Return an intrinsic that finishes columns high ff. of ``rows`` registers against the finished panel at offset.

    The registers' columns before ``low`` are zero. It writes their Σ v² of the tile to ``sums``, if it is to.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def operation(
        typingctx: Any,
        target: Any,
        place: Any,
        step: Any,
        width: Any,
        factor: Any,
        offset: Any,
        low: Any,
        high: Any,
        sums: Any,
    ) -> Any:
        kind, index = simd.kind_of(target), types.intp

        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            code = _Tile(context, builder, kind, rows)
            registers, panel = (sig.args[0], *args[:4]), (sig.args[4], args[4], args[5])
            low, high = args[6], args[7]
            tile = code.accumulate(registers, panel, low, high)
            for j in range(COLUMNS):
                k = builder.add(high, _index(j))
                inverse = code.element(panel, k, j)
                tile[j] = [builder.fmul(value, inverse) for value in tile[j]]
                for i in range(j + 1, COLUMNS):
                    element = code.element(panel, k, i)
                    tile[i] = [code.minus(*pair, element) for pair in zip(tile[i], tile[j], strict=True)]
            code.save(registers, high, tile)
            if squares:
                _square(code, tile, (sig.args[8], args[8], _index(0), _index(kind.lanes), _index(0)))
            return context.get_dummy_value()

        return types.void(target, index, index, index, factor, index, index, index, sums), generate

    return operation


def _square(code: _Tile, tile: list[list[Any]], sums: Any) -> None:
    """Store the sum over a tile's columns of v²."""
    for r in range(code.rows):
        total = code.builder.fmul(tile[0][r], tile[0][r])
        for column in tile[1:]:
            total = simd.fma(code.builder, code.kind, column[r], column[r], total)
        code.builder.store(total, code.place(sums, _index(0), r), align=code.kind.bits // 8)


solve_panel = _solver(1, squares=False)
solve_panels = _solver(ROWS, squares=False)
solve_rows = _solver(ROWS, squares=True)


@intrinsic  # type: ignore[untyped-decorator]
def pull(typingctx: Any, factor: Any, place: Any, column: Any, vector: Any, item: Any, total: Any, spot: Any) -> Any:
    """Add 8 columns of a panel, times the register of ``vector`` at ``item``, to the 8 registers of ``total``."""
    kind = simd.kind_of(factor)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        code = _Tile(context, builder, kind, 1)
        panel = (sig.args[0], args[0], args[1], None, _index(COLUMNS))
        sums = (sig.args[5], args[5], args[6], None, _index(COLUMNS))
        weights = builder.load(simd.pointer(context, builder, sig.args[3], args[3], args[4], kind.llvm), align=8)
        for j in range(COLUMNS):
            k = builder.add(args[2], _index(j))
            value = simd.fma(builder, kind, code.load(panel, k), weights, code.load(sums, _index(j)))
            builder.store(value, code.place(sums, _index(j)), align=8)
        return context.get_dummy_value()

    return types.void(factor, types.intp, types.intp, vector, types.intp, total, types.intp), generate
