"""Prediction by a banded Cholesky factorisation, in registers (see `panels`).

Points are in time order, so a covariance that is dropped where it is negligible leaves a band, and the factor keeps it.
Grid points are further rows below the matrix: their part of the factor is V = L⁻¹ k*, and the variance A² - Σ V².
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from broker.core.jit import jit
from broker.gp import panels, simd

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
def _row(
    target: Real, place: int, time: Real, wave: Real, item: int, column: int, at: Real, at_wave: Real, scale: Real
) -> None:
    """Fill W columns of a panel with the covariance of its points (at ``item``) and the data points from ``column`` on.

    ``scale`` is (A², 3 / τ²).
    """
    wide = 64 // target.itemsize
    rows_time, rows_wave = simd.load(time, item), simd.load(wave, item)
    power, rate = simd.splat(target, scale[0]), simd.splat(target, scale[1])
    for j in range(column, column + wide):
        gap, step = rows_time - simd.splat(target, at[j]), rows_wave - simd.splat(target, at_wave[j])
        simd.store(target, place + j * wide, power * simd.matern(gap * gap * rate + step * step))


@jit()
def factorise(
    n: int, time: Real, wave: Real, noise: Real, scale: Real, reach: float, factor: Real, first: Index
) -> None:
    """Factorise the covariance of n points (arrays padded to a multiple of W with points at `FAR`).

    ``factor`` (panels, columns, W) flat, ``first`` (panels,): the first column of each panel that is not zero.
    """
    wide = 64 // factor.itemsize
    count = (n + wide - 1) // wide
    stride = count * wide * wide
    low = 0
    for p in range(count):
        while time[low * wide + wide - 1] < time[p * wide] - reach:
            low += 1
        first[p] = low * wide
        place = p * stride
        for q in range(low, p + 1):
            _row(factor, place, time, wave, p * wide, q * wide, time, wave, scale)
            if q < p:
                panels.square(factor, place, factor, q * stride, max(first[p], first[q]), q * wide)
        for j in range(wide):
            factor[place + (p * wide + j) * wide + j] += noise[p * wide + j]
        panels.corner(factor, place, first[p], p * wide)


@jit()
def forward(n: int, flux: Real, factor: Real, first: Index, white: Real) -> float:
    """Solve L z = flux into ``white`` and return the log likelihood of the n points."""
    wide = 64 // factor.itemsize
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
    wide = 64 // factor.itemsize
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
def posterior(
    n: int,
    time: Real,
    wave: Real,
    scale: Real,
    reach: float,
    factor: Real,
    first: Index,
    alpha: Real,
    grid: int,
    grid_time: Real,
    grid_wave: Real,
    row: Real,
    mean: Real,
    spread: Real,
    variance: bool,
    tail: float,
) -> None:
    """Write mean and variance of ``grid`` points (padded to a multiple of W); ``row`` (n · W) is scratch.

    Columns behind the last point that correlates with a panel of grid points are followed until one tile's share of the
    variance is below ``tail`` of what is left.
    """
    wide = 64 // factor.itemsize
    count = (n + wide - 1) // wide
    stride = count * wide * wide
    power = simd.splat(factor, scale[0])
    for item in range(0, grid, wide):
        earliest = latest = grid_time[item]
        for i in range(item + 1, item + wide):
            earliest, latest = min(earliest, grid_time[i]), max(latest, grid_time[i])
        earliest, latest = earliest - reach, latest + reach
        low = 0
        while low < count and time[min(low * wide + wide, n) - 1] < earliest:
            low += 1
        total, left = simd.splat(factor, 0.0), power
        for q in range(low, count):
            near = time[q * wide] <= latest
            if not near and not variance:
                break
            if near:
                _row(row, 0, grid_time, grid_wave, item, q * wide, time, wave, scale)
                for k in range(q * wide, q * wide + wide):
                    total = total + simd.load(row, k * wide) * simd.splat(factor, alpha[k])
            else:
                for k in range(q * wide, q * wide + wide):
                    simd.store(row, k * wide, simd.splat(factor, 0.0))
            if variance:
                panels.square(row, 0, factor, q * stride, max(low * wide, first[q]), q * wide)
                before = left
                for k in range(q * wide, q * wide + wide):
                    value = simd.load(row, k * wide)
                    left = left - value * value
                if not near and tail > 0.0 and simd.all_below(before - left, left * simd.splat(factor, tail)):
                    break
        simd.store(mean, item, total)
        simd.store(spread, item, left)
