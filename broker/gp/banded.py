"""Prediction by a banded Cholesky factorisation, in registers (see `panels`).

Points are in time order, so a covariance that is dropped where it is negligible leaves a band, and the factor keeps it.
Grid points are further rows below the matrix: their part of the factor is V = L⁻¹ k*, and the variance A² - Σ V².

The factor is float64. The mean, k*ᵀ α, may be float32 where the noise is large beside 1e-7 A² |α|, and the variance
where it is large beside 1e-7 A²: α is the larger the smaller the noise, so the variance bears float32 for longer.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from broker.core.jit import jit
from broker.gp import functions, panels, simd

Real = NDArray[Any]
Index = NDArray[np.int64]

FAR = 1e15
"""Times of padding points, days: correlated with nothing."""


@jit()
def reach_days(ratio: float, tau: float) -> float:
    """Return the time lag, days, beyond which the correlation (1 + x) exp(-x), x = √3 Δt / τ, is below ``ratio``."""
    if ratio <= 0.0:
        return 1e300
    if ratio >= 1.0:
        return 0.0
    x = 1.0 - np.log(ratio)
    for _ in range(20):
        x = np.log1p(x) - np.log(ratio)
    return float(x * tau / np.sqrt(3.0))


@jit()
def factorise(
    n: int, time: Real, wave: Real, noise: Real, rate: float, reach: float, factor: Real, first: Index
) -> None:
    """Factorise the covariance of n points, in units of A² (arrays padded to a multiple of 8 with points at `FAR`).

    ``rate`` is 3 / τ²; ``factor`` (panels, columns, 8) flat; ``first`` (panels,) the first column of each panel that is
    not zero.
    """
    count = (n + 7) // 8
    stride, low = count * 64, 0
    for begin in range(0, count, panels.ROWS):
        while time[low * 8 + 7] < time[begin * 8] - reach:
            low += 1
        end = min(begin + panels.ROWS, count)
        for p in range(begin, end):
            first[p] = low * 8
            _fill(low * 8, p, time, wave, noise, rate, factor, stride)
        done = low
        if end - begin == panels.ROWS:
            for q in range(low, begin):
                start = max(low * 8, first[q])
                panels.solve_panels(factor, begin * stride, stride, 8, factor, q * stride, start, q * 8, factor)
            done = begin
        for p in range(begin, end):
            for q in range(done, p):
                start = max(low * 8, first[q])
                panels.solve_panel(factor, p * stride, 0, 8, factor, q * stride, start, q * 8, factor)
            panels.corner(factor, p * stride, low * 8, p * 8)


@jit()
def _fill(low: int, p: int, time: Real, wave: Real, noise: Real, rate: float, factor: Real, stride: int) -> None:
    """Write panel p of the covariance, from column ``low`` on."""
    times, waves, rates = simd.load(time, p * 8), simd.load(wave, p * 8), simd.splat(factor, rate)
    for k in range(low, p * 8 + 8):
        gap, step = times - simd.same(time, k), waves - simd.same(wave, k)
        simd.store(factor, p * stride + k * 8, functions.matern(gap * gap * rates + step * step))
    for j in range(p * 8, p * 8 + 8):
        factor[p * stride + j * 8 + j - p * 8] += noise[j]


@jit()
def forward(n: int, flux: Real, factor: Real, first: Index, white: Real) -> float:
    """Solve L z = flux into ``white`` and return the log likelihood of the n points."""
    wide = simd.lanes(factor)
    count = (n + wide - 1) // wide
    stride = count * wide * wide
    value = -0.5 * n * np.log(2.0 * np.pi)
    for p in range(count):
        place = p * stride
        total, other = simd.load(flux, p * wide), simd.splat(factor, 0.0)
        for k in range(first[p], p * wide, 2):
            total = total - simd.load(factor, place + k * wide) * simd.splat(factor, white[k])
            other = other - simd.load(factor, place + (k + 1) * wide) * simd.splat(factor, white[k + 1])
        simd.store(white, p * wide, total + other)
        for j in range(p * wide, p * wide + wide):
            column = place + j * wide - p * wide
            white[j] *= factor[column + j]
            for i in range(j + 1, p * wide + wide):
                white[i] -= factor[column + i] * white[j]
            if j < n:
                value += np.log(np.float64(factor[column + j])) - 0.5 * np.float64(white[j]) ** 2
    return float(value)


@jit()
def backward(n: int, factor: Real, first: Index, white: Real, sums: Real, alpha: Real) -> None:
    """Solve Lᵀ α = z; ``sums`` (W · W,) is scratch."""
    wide = simd.lanes(factor)
    count = (n + wide - 1) // wide
    stride = count * wide * wide
    for q in range(count - 1, -1, -1):
        for i in range(wide * wide):
            sums[i] = 0.0
        for p in range(q + 1, count):
            if first[p] > q * wide:
                break
            panels.pull(factor, p * stride, q * wide, alpha, p * wide, sums, 0)
        for j in range(wide - 1, -1, -1):
            k = q * wide + j
            total = white[k]
            for lane in range(wide):
                total -= sums[j * wide + lane]
            for i in range(j + 1, wide):
                total -= factor[q * stride + k * wide + i] * alpha[q * wide + i]
            alpha[k] = total * factor[q * stride + k * wide + j]


@jit()
def narrowed(n: int, factor: Real, first: Index, narrow: Real) -> None:
    """Copy the factor of n points into ``narrow``."""
    count = (n + 7) // 8
    stride = count * 64
    for p in range(count):
        for i in range(p * stride + first[p] * 8, p * stride + p * 64 + 64):
            narrow[i] = factor[i]


@jit()
def mean_of(
    low: int,
    high: int,
    near: Real,
    wave: Real,
    rate: float,
    alpha: Real,
    grid_time: Real,
    grid_wave: Real,
    item: int,
    size: int,
    mean: Real,
    row: Real,
) -> None:
    """Write the means of ``size`` grid points from ``item`` on, and their covariances with points low .. high to row.

    ``near`` and ``grid_time`` (size,) count from the same instant: float32 holds small differences only of near times.
    """
    wide, lanes = simd.lanes(mean), simd.lanes(row)
    rates = simd.splat(mean, rate)
    for v in range(0, size, wide):
        times, waves, total = simd.load(grid_time, v), simd.load(grid_wave, item + v), simd.splat(mean, 0.0)
        for k in range(low, high):
            gap, step = times - simd.same(near, k), waves - simd.same(wave, k)
            covariance = functions.matern(gap * gap * rates + step * step)
            total = total + covariance * simd.same(alpha, k)
            simd.store_as(row, k * panels.ROWS * lanes + v, covariance)
        simd.store(mean, item + v, total)


@jit()
def variance_of(
    low: int,
    high: int,
    count: int,
    factor: Real,
    first: Index,
    row: Real,
    share: Real,
    tail: float,
    item: int,
    spread: Real,
) -> None:
    """Write the variances, in units of A², of a tile of grid points from ``item`` on whose covariances ``row`` holds.

    They are covariances with panels low .. high of the points; the columns behind are followed to the last panel, or
    until one panel's share of each variance is below ``tail`` of what is left.
    """
    lanes = simd.lanes(row)
    tile = panels.ROWS * lanes
    zero, one, small = simd.splat(row, 0.0), simd.splat(row, 1.0), simd.splat(row, tail)
    for v in range(0, tile, lanes):
        simd.store(spread, item + v, one)
    for q in range(low, count):
        if q >= high:
            for v in range(q * 8 * tile, (q + 1) * 8 * tile, lanes):
                simd.store(row, v, zero)
        panels.solve_rows(row, 0, lanes, tile, factor, q * count * 64, max(low * 8, first[q]), q * 8, share)
        done = True
        for v in range(0, tile, lanes):
            part = simd.load(share, v)
            left = simd.load(spread, item + v) - part
            simd.store(spread, item + v, left)
            done = done and simd.all_below(part, left * small)
        if q >= high and tail > 0.0 and done:
            break


@jit()
def posterior(
    n: int,
    time: Real,
    wave: Real,
    rate: float,
    reach: float,
    factor: Real,
    first: Index,
    alpha: Real,
    grid: int,
    grid_time: Real,
    grid_wave: Real,
    near: Real,
    near_grid: Real,
    row: Real,
    share: Real,
    mean: Real,
    spread: Real,
    variance: bool,
    tail: float,
) -> None:
    """Write mean and variance of ``grid`` points in time order, padded to whole tiles.

    ``time`` and ``grid_time`` are float64. ``wave``, ``alpha``, ``grid_wave``, ``near``, ``near_grid`` and
    ``mean`` have the precision of the mean, ``factor``, ``row``, ``share`` and ``spread`` that of the variance.
    """
    count, tile = (n + 7) // 8, panels.ROWS * simd.lanes(row)
    low = high = 0
    for item in range(0, grid, tile):
        earliest, latest = grid_time[item], grid_time[item + tile - 1]
        while low < count and time[min(low * 8 + 8, n) - 1] < earliest - reach:
            low += 1
        high = max(high, low)
        while high < count and time[high * 8] <= latest + reach:
            high += 1
        for k in range(low * 8, high * 8):
            near[k] = time[k] - earliest
        for i in range(tile):
            near_grid[i] = grid_time[item + i] - earliest
        mean_of(low * 8, high * 8, near, wave, rate, alpha, near_grid, grid_wave, item, tile, mean, row)
        if variance:
            variance_of(low, high, count, factor, first, row, share, tail, item, spread)
