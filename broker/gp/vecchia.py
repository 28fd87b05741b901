"""The likelihood of one curve at 16 hyper-parameter points at once, one per SIMD lane.

A register holds the same matrix element of 16 covariances (4 time scales × 4 amplitudes each), so a Cholesky
factorisation needs no padding and no gathering. Linear in the number of points by block-Vecchia (Vecchia 1988; Katzfuss
& Guinness 2021): time-ordered blocks of points, each conditioned on the points just before it; exact for a curve
that fits into one block and its conditioning points.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import cgutils, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from broker.core.jit import jit
from broker.gp import simd

LANES = 16
TILE = 4
REACH = 40
"""Points of the largest block with its conditioning points; also the length of a row of pairs."""
LOG_2PI = float(np.log(2.0 * np.pi))

Lanes = NDArray[np.float32]


def _tile(rows: int, diagonal: bool) -> Any:
    """Return the intrinsic that finishes a tile of the Cholesky factor, (rows, 4) elements of 16 lanes.

    ``factor`` holds element (a, b) in items (a·stride + b)·16 ff.; the tile at (a, b) holds the covariance when it
    comes and the factor when it goes. Diagonal elements become inverse, their squares ``pivots``.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def operation(typingctx: Any, factor: Any, pivots: Any, stride: Any, a: Any, b: Any) -> Any:
        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            kind = simd.Vector(factor.dtype.bitwidth, LANES)
            tile = _TileCode(context, builder, kind, sig.args[0], args, rows)
            tile.accumulate(diagonal)
            if diagonal:
                tile.factorise(sig.args[1])
            else:
                tile.solve()
            return context.get_dummy_value()

        return types.void(factor, pivots, types.intp, types.intp, types.intp), generate

    return operation


class _TileCode:
    """Emits the instructions of one tile; its elements live in registers from the first load to the last store."""

    def __init__(self, context: Any, builder: Any, kind: simd.Vector, array: Any, args: Any, rows: int) -> None:
        self.context, self.builder, self.kind, self.array = context, builder, kind, array
        self.factor, self.pivots, self.stride, self.a, self.b = args
        self.rows, self.tile = rows, {}  # type: ignore[var-annotated]

    def place(self, first: Any, row: int, column: Any) -> Any:
        """Return a pointer to element (first + row, column)."""
        index = self.builder.add(self.builder.mul(self.builder.add(first, _index(row)), self.stride), column)
        item = self.builder.mul(index, _index(LANES))
        return simd.pointer(self.context, self.builder, self.array, self.factor, item, self.kind.llvm)

    def get(self, first: Any, row: int, column: Any) -> Any:
        """Load element (first + row, column)."""
        return self.builder.load(self.place(first, row, column), align=4)

    def minus(self, total: Any, left: Any, right: Any) -> Any:
        """Return total - left·right."""
        return simd.fma(self.builder, self.kind, self.builder.fneg(left), right, total)

    def accumulate(self, diagonal: bool) -> None:
        """Subtract the products of all earlier columns from the tile."""
        builder = self.builder
        cells = [(i, j) for i in range(self.rows) for j in range(TILE) if not diagonal or j <= i]
        spots = {}
        for i, j in cells:
            value = self.get(self.a, i, builder.add(self.b, _index(j)))
            spots[i, j] = cgutils.alloca_once_value(builder, value)
        with cgutils.for_range(builder, self.b, intp=ir.IntType(64)) as loop:
            left = [self.get(self.a, i, loop.index) for i in range(self.rows)]
            right = left if diagonal else [self.get(self.b, j, loop.index) for j in range(TILE)]
            for i, j in cells:
                builder.store(self.minus(builder.load(spots[i, j]), left[i], right[j]), spots[i, j])
        self.tile = {cell: builder.load(spots[cell]) for cell in cells}

    def factorise(self, pivot_array: Any) -> None:
        """Cholesky-factorise the diagonal tile."""
        builder, tile = self.builder, self.tile
        for j in range(TILE):
            item = builder.mul(builder.add(self.b, _index(j)), _index(LANES))
            spot = simd.pointer(self.context, builder, pivot_array, self.pivots, item, self.kind.llvm)
            builder.store(tile[j, j], spot, align=4)
            tile[j, j] = simd.inverse_sqrt_value(builder, self.kind, tile[j, j])
            for i in range(j + 1, TILE):
                tile[i, j] = builder.fmul(tile[i, j], tile[j, j])
            for i in range(j + 1, TILE):
                for k in range(j + 1, i + 1):
                    tile[i, k] = self.minus(tile[i, k], tile[i, j], tile[k, j])
        self.save()

    def solve(self) -> None:
        """Solve the tile against the finished diagonal tile of its columns."""
        builder, tile = self.builder, self.tile
        for j in range(TILE):
            inverse = self.get(self.b, j, builder.add(self.b, _index(j)))
            below = {k: self.get(self.b, k, builder.add(self.b, _index(j))) for k in range(j + 1, TILE)}
            for i in range(self.rows):
                tile[i, j] = builder.fmul(tile[i, j], inverse)
                for k, value in below.items():
                    tile[i, k] = self.minus(tile[i, k], tile[i, j], value)
        self.save()

    def save(self) -> None:
        """Store the tile."""
        for (i, j), value in self.tile.items():
            self.builder.store(value, self.place(self.a, i, self.builder.add(self.b, _index(j))), align=4)


def _index(value: int) -> ir.Constant:
    return ir.Constant(ir.IntType(64), value)


_square = _tile(TILE, diagonal=False)
_corner = _tile(TILE, diagonal=True)
_last = _tile(1, diagonal=False)


@jit()
def fill_pairs(time: Lanes, wave: Lanes, n: int, apart_time: Lanes, apart_wave: Lanes) -> None:
    """Fill (n · REACH,) with the squared distances of each point to those before it, item d - 1 for the d-th before.

    ``time`` in days, ``wave`` in units of 6000 Å / √3; both (n,). Pairs that do not exist get 0.
    """
    for i in range(n):
        row = i * REACH
        for d in range(1, REACH + 1):
            j = max(i - d, 0)
            gap, step = time[i] - time[j], wave[i] - wave[j]
            apart_time[row + d - 1] = np.float32(gap * gap)
            apart_wave[row + d - 1] = np.float32(step * step)


@jit()
def fill_correlations(
    apart_time: Lanes, apart_wave: Lanes, n: int, reach: int, rates: Lanes, correlations: Lanes
) -> None:
    """Fill (n, REACH, 4) with the correlation of each pair at four time scales; ``rates`` (4,) holds 3 / τ²."""
    rate = simd.cycle(rates, 0)
    for i in range(n):
        row = i * REACH
        for d in range(0, min(reach, i), 4):
            x = simd.repeat(apart_time, row + d) * rate + simd.repeat(apart_wave, row + d)
            simd.store(correlations, (row + d) * 4, simd.matern(x))


@jit()
def _block(
    start: int,
    size: int,
    n: int,
    flux: Lanes,
    noise: Lanes,
    correlations: Lanes,
    power: Lanes,
    factor: Lanes,
    pivots: Lanes,
) -> None:
    """Factorise the covariance of points start .. start + size with their fluxes as one more row.

    Points at or beyond n are padding: unit variance, no correlation, flux 0.
    """
    amplitude = simd.load(power, 0)
    for a in range(size):
        row, i = a * size * LANES, start + a
        if i < n:
            for b in range(a):
                value = amplitude * simd.cycle(correlations, (i * REACH + a - b - 1) * 4)
                simd.store(factor, row + b * LANES, value)
            simd.store(factor, row + a * LANES, amplitude + simd.splat(power, noise[i]))
            simd.store(factor, (size * size + a) * LANES, simd.splat(power, flux[i]))
        else:
            for b in range(a):
                simd.store(factor, row + b * LANES, simd.splat(power, 0.0))
            simd.store(factor, row + a * LANES, simd.splat(power, 1.0))
            simd.store(factor, (size * size + a) * LANES, simd.splat(power, 0.0))
    for b in range(0, size, TILE):
        _corner(factor, pivots, size, b, b)
        for a in range(b + TILE, size, TILE):
            _square(factor, pivots, size, a, b)
        _last(factor, pivots, size, size, b)


@jit()
def lanes(
    n: int,
    reach: int,
    step: int,
    flux: Lanes,
    noise: Lanes,
    correlations: Lanes,
    power: Lanes,
    factor: Lanes,
    pivots: Lanes,
    out: Lanes,
) -> None:
    """Write the 16 log likelihoods of a curve to ``out`` (16,); -inf where a covariance is not positive definite.

    Parameters
    ----------
    n, reach, step : int
        Points; points of a block with those that it is conditioned on; points of a block. Multiples of 4.
    flux, noise : (n,) float32
        Flux and squared error, in the curve's own flux unit.
    correlations : (n · REACH · 4,) float32
        From `fill_correlations`.
    power : (16,) float32
        Squared amplitude of each lane; lane l has time scale l % 4.
    factor, pivots : float32
        Scratch: (REACH + 1) · REACH · 16, REACH · 16.
    """
    size = min(reach, (n + TILE - 1) // TILE * TILE)
    quad, logs = simd.splat(power, 0.0), simd.splat(power, 0.0)
    done = 0
    while done < n:
        end = n if n <= size else min(max(done + step, size), n)
        start = max(end - size, 0)
        _block(start, size, n, flux, noise, correlations, power, factor, pivots)
        for a in range(done - start, end - start):
            white = simd.load(factor, (size * size + a) * LANES)
            quad = quad + white * white
            logs = logs + simd.log(simd.load(pivots, a * LANES))
        done = end
    total = (quad + logs) * simd.splat(power, -0.5)
    simd.store(out, 0, total)
    for lane in range(LANES):
        value = out[lane] - np.float32(0.5 * LOG_2PI * n)
        out[lane] = value if np.isfinite(value) else np.float32(-np.inf)
