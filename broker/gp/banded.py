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
def factorise(
    n: int, time: Real, wave: Real, noise: Real, scale: Real, reach: float, factor: Real, first: Index
) -> None:
    """Factorise the covariance of n points (arrays padded to a multiple of W with points at `FAR`).

    ``scale`` is (A², 3 / τ²); ``factor`` (panels, columns, W) flat; ``first`` (panels,) the first column of each panel
    that is not zero.
    """
    wide = simd.lanes(factor)
    count = (n + wide - 1) // wide
    stride = count * wide * wide
    power, rate = simd.same(scale, 0), simd.same(scale, 1)
    low = 0
    for p in range(count):
        while time[low * wide + wide - 1] < time[p * wide] - reach:
            low += 1
        first[p] = low * wide
        place = p * stride
        times, waves = simd.load(time, p * wide), simd.load(wave, p * wide)
        for k in range(low * wide, p * wide + wide):
            gap, step = times - simd.same(time, k), waves - simd.same(wave, k)
            simd.store(factor, place + k * wide, power * simd.matern(gap * gap * rate + step * step))
        for q in range(low, p):
            panels.square(factor, place, factor, q * stride, max(first[p], first[q]), q * wide)
        for j in range(wide):
            factor[place + (p * wide + j) * wide + j] += noise[p * wide + j]
        panels.corner(factor, place, first[p], p * wide)


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
    wide = simd.lanes(factor)
    count = (n + wide - 1) // wide
    stride = count * wide * wide
    power, rate, zero = simd.same(scale, 0), simd.same(scale, 1), simd.splat(factor, 0.0)
    small = simd.splat(factor, tail)
    for item in range(0, grid, wide):
        earliest = latest = grid_time[item]
        for i in range(item + 1, item + wide):
            earliest, latest = min(earliest, grid_time[i]), max(latest, grid_time[i])
        low = 0
        while low < count and time[min(low * wide + wide, n) - 1] < earliest - reach:
            low += 1
        high = low
        while high < count and time[high * wide] <= latest + reach:
            high += 1
        times, waves, total = simd.load(grid_time, item), simd.load(grid_wave, item), zero
        for k in range(low * wide, high * wide):
            gap, step = times - simd.same(time, k), waves - simd.same(wave, k)
            covariance = power * simd.matern(gap * gap * rate + step * step)
            total = total + covariance * simd.same(alpha, k)
            simd.store(row, k * wide, covariance)
        simd.store(mean, item, total)
        if not variance:
            continue
        left = power
        for q in range(low, count):
            if q >= high:
                for k in range(q * wide, q * wide + wide):
                    simd.store(row, k * wide, zero)
            share = panels.square(row, 0, factor, q * stride, max(low * wide, first[q]), q * wide)
            left = left - share
            if q >= high and tail > 0.0 and simd.all_below(share, left * small):
                break
        simd.store(spread, item, left)
