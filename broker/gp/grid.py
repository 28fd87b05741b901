"""Prediction of a batch of curves: units, precision and windows per curve around `banded`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from broker.core.batch import Floats, Ints
from broker.core.jit import jit
from broker.gp import banded

LIMIT = 512
"""A curve of more points is predicted in windows."""
WINDOW = 384
"""Points that a window is conditioned on: the nearest in time to its grid times."""

Scratch = tuple[Any, ...]


@jit()
def _scratch(points: int, grid: int, like: NDArray[Any]) -> Scratch:
    """Return arrays of ``like``'s type: per point (6), the factor, its first columns, the grid (4), a row of tiles."""
    wide = 64 // like.itemsize
    size, cells = (points + wide - 1) // wide * wide, (grid + wide - 1) // wide * wide
    one, kind = np.zeros, like.dtype
    return (
        one(size, kind), one(size, kind), one(size, kind), one(size, kind), one(size, kind), one(size, kind),
        one(size * size, kind), np.zeros(size // wide, np.int64),
        one(cells, kind), one(cells, kind), one(cells, kind), one(cells, kind),
        one(max(size, wide) * wide, kind), one(2, kind),
    )  # fmt: skip


@jit()
def _condition(
    mjd: Floats, flux: Floats, error: Floats, wave: Floats, amplitude: float, tau: float, cut: float, work: Scratch
) -> float:
    """Factorise one window of points; return its log likelihood. Fluxes are taken in units of the amplitude."""
    time, waves, noise, fluxes, white, alpha, factor, first = work[:8]
    scale, n = work[13], len(mjd)
    wide = 64 // factor.itemsize
    smallest = np.inf
    for i in range(n):
        time[i], waves[i] = mjd[i] - mjd[0], wave[i]
        fluxes[i] = flux[i] / amplitude
        noise[i] = min((error[i] / amplitude) ** 2, 1e18)
        smallest = min(smallest, (error[i] / amplitude) ** 2)
    for i in range(n, (n + wide - 1) // wide * wide):
        time[i], waves[i], noise[i], fluxes[i] = banded.FAR * (1 + i - n), 0.0, 1.0, 0.0
    scale[0], scale[1] = 1.0, 3.0 / tau**2
    reach = banded.reach_days(cut * smallest, tau)
    banded.factorise(n, time, waves, noise, scale, reach, factor, first)
    value = banded.forward(n, fluxes, factor, first, white)
    banded.backward(n, factor, first, white, work[12], alpha)
    return value - n * np.log(amplitude)


@jit()
def _evaluate(
    n: int,
    origin: float,
    times: Floats,
    waves: Floats,
    amplitude: float,
    tau: float,
    reach: float,
    tail: float,
    variance: bool,
    work: Scratch,
    flux: Floats,
    spread: Floats,
    begin: int,
) -> None:
    """Write mean and variance (B, T) at ``times``, which are columns ``begin`` ff., after `_condition`."""
    time, wave, _noise, _fluxes, _white, alpha, factor, first = work[:8]
    grid_time, grid_wave, mean, left, row, scale = work[8:]
    bands, count = len(waves), len(times) * len(waves)
    wide = 64 // factor.itemsize
    for t in range(len(times)):
        for b in range(bands):
            grid_time[t * bands + b], grid_wave[t * bands + b] = times[t] - origin, waves[b]
    for i in range(count, (count + wide - 1) // wide * wide):
        grid_time[i], grid_wave[i] = grid_time[count - 1], grid_wave[count - 1]
    banded.posterior(
        n, time, wave, scale, reach, factor, first, alpha, count, grid_time, grid_wave, row, mean, left, variance, tail
    )
    for t in range(len(times)):
        for b in range(bands):
            flux[b, begin + t] = amplitude * mean[t * bands + b]
            if variance:
                spread[b, begin + t] = amplitude**2 * max(left[t * bands + b], 0.0)


@jit()
def _span(mjd: Floats, times: Floats, begin: int) -> tuple[int, int, int]:
    """Return the end of the window of grid times that starts at ``begin``, and the points that it is conditioned on."""
    n = len(mjd)
    end = begin + 1
    while end < len(times) and (np.searchsorted(mjd, times[end]) - np.searchsorted(mjd, times[begin]) <= WINDOW // 3):
        end += 1
    low = high = np.searchsorted(mjd, 0.5 * (times[begin] + times[end - 1]))
    while high - low < WINDOW:
        before = times[begin] - mjd[low - 1] if low > 0 else np.inf
        after = mjd[high] - times[end - 1] if high < n else np.inf
        if before <= after:
            low -= 1
        else:
            high += 1
    return end, low, high


@jit()
def _one(
    mjd: Floats,
    flux: Floats,
    error: Floats,
    wave: Floats,
    times: Floats,
    waves: Floats,
    amplitude: float,
    tau: float,
    cut: float,
    tail: float,
    variance: bool,
    work: Scratch,
    mean: Floats,
    spread: Floats,
) -> float:
    """Predict one curve, in windows if it is long; return its log likelihood (not a number for windows)."""
    begin, value = 0, np.nan
    whole = len(mjd) <= LIMIT
    while begin < len(times) or (whole and begin == 0):
        end, low, high = len(times), 0, len(mjd)
        if not whole:
            end, low, high = _span(mjd, times, begin)
        value = _condition(mjd[low:high], flux[low:high], error[low:high], wave[low:high], amplitude, tau, cut, work)
        if end == 0:
            break
        reach = banded.reach_days(cut * (np.min(error[low:high]) / amplitude) ** 2, tau)
        _evaluate(
            high - low, mjd[low], times[begin:end], waves, amplitude, tau, reach, tail, variance, work, mean, spread,
            begin,
        )  # fmt: skip
        begin = end
    return value if whole else np.nan


@jit()
def predict_curves(
    offsets: Ints,
    mjd: Floats,
    flux: Floats,
    error: Floats,
    wave: Floats,
    good: NDArray[np.bool_],
    longest: int,
    amplitude: Floats,
    tau: Floats,
    times: Floats,
    waves: Floats,
    rules: Floats,
    variance: bool,
    mean: Floats,
    spread: Floats,
    values: Floats,
) -> None:
    """Predict every good curve.

    ``times`` (A, T) must be finite and in order. ``rules`` is (cut, tail, single): correlations below cut · min(error²)
    are dropped; `banded.posterior`'s tail; curves with min(error²) / A² above ``single`` are computed in float32.
    """
    size, cells = min(longest, LIMIT), times.shape[1] * len(waves)
    double = _scratch(size, cells, np.zeros(1, np.float64))
    single = _scratch(size, cells, np.zeros(1, np.float32))
    for row in range(len(offsets) - 1):
        if not good[row]:
            continue
        points = slice(offsets[row], offsets[row + 1])
        a, t = amplitude[row], tau[row]
        if (np.min(error[points]) / a) ** 2 > rules[2] and np.max(np.abs(flux[points])) < 1e15 * a:
            values[row] = _one(
                mjd[points], flux[points], error[points], wave[points], times[row], waves, a, t, rules[0], rules[1],
                variance, single, mean[row], spread[row],
            )  # fmt: skip
        else:
            values[row] = _one(
                mjd[points], flux[points], error[points], wave[points], times[row], waves, a, t, rules[0], rules[1],
                variance, double, mean[row], spread[row],
            )  # fmt: skip
