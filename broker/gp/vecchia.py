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

from broker.core.batch import Floats
from broker.core.jit import jit
from broker.gp import functions, simd

LANES = 16
TILE = 4
REACH = 64
"""Points of the largest block with its conditioning points."""
FAR = 1e15
"""Times of padding points, days."""
LOG_2PI = float(np.log(2.0 * np.pi))

Lanes = NDArray[np.float32]
Work = tuple[Lanes, ...]


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
            tile[j, j] = functions.inverse_sqrt_value(builder, self.kind, tile[j, j])
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
def _fill(
    time: Floats, wave: Lanes, start: int, size: int, n: int, noise: Lanes, rates: Lanes, power: Lanes, work: Work
) -> None:
    """Fill the factor with the covariance of points start .. start + size, and a further row with their fluxes.

    Points at or beyond n are padding, correlated with nothing: they change no row before them.
    """
    factor, near_time, near_wave = work
    for a in range(size):
        i = min(start + a, n - 1)
        near_time[a] = time[i] - time[start] if start + a < n else FAR * (a + 1)
        near_wave[a] = wave[i]
    rate, amplitude = simd.cycle(rates, 0), simd.load(power, 0)
    for a in range(size):
        times, waves, row = simd.same(near_time, a), simd.same(near_wave, a), a * size * LANES
        for b in range(0, a, TILE):
            gap, step = times - simd.repeat(near_time, b), waves - simd.repeat(near_wave, b)
            four = simd.quarters(functions.matern(gap * gap * rate + step * step))
            simd.store(factor, row + b * LANES, amplitude * four[0])
            simd.store(factor, row + (b + 1) * LANES, amplitude * four[1])
            simd.store(factor, row + (b + 2) * LANES, amplitude * four[2])
            simd.store(factor, row + (b + 3) * LANES, amplitude * four[3])
        simd.store(factor, row + a * LANES, amplitude + simd.same(noise, min(start + a, n - 1)))


@jit()
def lanes(
    n: int,
    reach: int,
    step: int,
    time: Floats,
    wave: Lanes,
    flux: Lanes,
    noise: Lanes,
    rates: Lanes,
    power: Lanes,
    work: Work,
    pivots: Lanes,
    out: Lanes,
) -> None:
    """Write the 16 log likelihoods of a curve to ``out`` (16,); -inf where a covariance is not positive definite.

    Parameters
    ----------
    n, reach, step : int
        Points; points of a block with those that it is conditioned on; points of a block. The latter multiples of 4.
    time, wave, flux, noise : (n,)
        Days (float64); wavelength in units of 6000 Å / √3, flux and squared error in the curve's own unit (float32).
    rates, power : (4,), (16,) float32
        3 / τ², and the squared amplitude of each lane; lane l has time scale l % 4.
    work : of float32
        Scratch: the factor, (REACH + 1) · REACH · 16; times and wavelengths of a block, REACH each.
    pivots : (REACH · 16,) float32
        Scratch.
    """
    factor, size = work[0], min(reach, (n + TILE - 1) // TILE * TILE)
    quad, logs = simd.splat(power, 0.0), simd.splat(power, 0.0)
    last = size * size * LANES
    done = 0
    while done < n:
        end = n if n <= size else min(max(done + step, size), n)
        start = max(end - size, 0)
        _fill(time, wave, start, size, n, noise, rates, power, work)
        for a in range(size):
            simd.store(factor, last + a * LANES, simd.same(flux, min(start + a, n - 1)))
        for b in range(0, size, TILE):
            _corner(factor, pivots, size, b, b)
            for a in range(b + TILE, size, TILE):
                _square(factor, pivots, size, a, b)
            _last(factor, pivots, size, size, b)
        for a in range(done - start, end - start):
            white = simd.load(factor, last + a * LANES)
            quad = quad + white * white
            logs = logs + functions.log(simd.load(pivots, a * LANES))
        done = end
    simd.store(out, 0, (quad + logs) * simd.splat(power, -0.5))
    for lane in range(LANES):
        value = out[lane] - np.float32(0.5 * LOG_2PI * n)
        out[lane] = value if np.isfinite(value) else np.float32(-np.inf)
