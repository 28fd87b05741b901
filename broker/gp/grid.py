"""Prediction of a batch of curves: units, precision and windows per curve around `banded`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from broker.core.batch import Floats, Ints
from broker.core.jit import jit
from broker.gp import banded, panels, simd

LIMIT = 1024
"""A curve of more points is predicted in windows: no survey's packet holds as many that cannot be joined."""
WINDOW = 512
"""Points that a window is conditioned on: the nearest in time to its grid times, as many before as behind."""

NOISE_MIN, NOISE_MAX = 1e-11, 1e18
"""Bounds of a squared error beside the squared amplitude: what float64 can factorise, and float32 can hold."""

Scratch = tuple[Any, ...]


def scratch(points: int, grid: int, kind: type, solved: type) -> Scratch:
    """Return arrays for means of type ``kind`` and variances of type ``solved``, for so many points and grid points.

    float64 of the points: time, wave, noise, flux, white, alpha, then their factor; first columns of its panels; times
    of the grid points, and sums. Of type ``kind``: wave, alpha, near times, waves of the grid points, near times
    of a tile of them, means. Of type ``solved``: factor, covariances of a tile,
    its shares, variances.
    """
    size, tile = (points + 7) // 8 * 8, panels.ROWS * 64 // np.dtype(solved).itemsize
    cells = (grid + tile - 1) // tile * tile
    exact = [_aligned(n, np.float64) for n in (size, size, size, size, size, size, size * size)]
    grids = [_aligned(cells, np.float64), _aligned(64, np.float64)]
    near = [_aligned(n, kind) for n in (size, size, size, cells, tile, cells)]
    solve = [_aligned(n, solved) for n in (size * size, size * tile, tile, cells)]
    return (*exact, np.zeros(size // 8, np.int64), *grids, *near, *solve)


def _aligned(items: int, kind: type) -> NDArray[Any]:
    """Return an array whose data begin at a multiple of 64 bytes: a register's load then touches one cache line."""
    size = items * np.dtype(kind).itemsize
    memory = np.empty(size + 64, np.uint8)
    begin = -memory.ctypes.data % 64
    return memory[begin : begin + size].view(kind)


@jit()
def _condition(
    start: int,
    n: int,
    mjd: Floats,
    flux: Floats,
    error: Floats,
    wave: Floats,
    amplitude: float,
    tau: float,
    cut: float,
    work: Scratch,
) -> tuple[float, float]:
    """Factorise n points from start on, fluxes in units of the amplitude; return log likelihood and reach, days."""
    time, waves, noise, fluxes, white, alpha, factor, first, _, sums = work[:10]
    smallest = np.inf
    for i in range(n):
        time[i], waves[i] = mjd[start + i] - mjd[start], wave[start + i]
        fluxes[i] = flux[start + i] / amplitude
        noise[i] = min(max((error[start + i] / amplitude) ** 2, NOISE_MIN), NOISE_MAX)
        smallest = min(smallest, (error[start + i] / amplitude) ** 2)
    for i in range(n, (n + 7) // 8 * 8):
        time[i], waves[i], noise[i], fluxes[i] = banded.FAR * (1 + i - n), 0.0, 1.0, 0.0
    # beside noise larger than the process, the error bar is the process's own
    reach = banded.reach_days(cut * min(smallest, np.sqrt(smallest)), tau)
    banded.factorise(n, time, waves, noise, 3.0 / tau**2, reach, factor, first)
    value = banded.forward(n, fluxes, factor, first, white)
    banded.backward(n, factor, first, white, sums, alpha)
    return float(value - n * np.log(amplitude)), reach


@jit()
def _evaluate(
    n: int,
    origin: float,
    row: int,
    begin: int,
    end: int,
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
) -> None:
    """Write mean and variance at grid times begin .. end of curve ``row``, after `_condition`."""
    time, exact_wave, exact_alpha, exact_factor, first, grid_time = work[0], work[1], work[5], work[6], work[7], work[8]
    wave, alpha, near, grid_wave, near_grid, mean, factor, row_work, share, left = work[10:]
    bands, count = len(waves), (end - begin) * len(waves)
    for i in range((n + 7) // 8 * 8):
        wave[i], alpha[i] = exact_wave[i], exact_alpha[i]
    for t in range(end - begin):
        for b in range(bands):
            grid_time[t * bands + b], grid_wave[t * bands + b] = times[row, begin + t] - origin, waves[b]
    tile = panels.ROWS * simd.lanes(left)
    for i in range(count, (count + tile - 1) // tile * tile):
        grid_time[i], grid_wave[i] = grid_time[count - 1], grid_wave[count - 1]
    if variance:
        banded.narrowed(n, exact_factor, first, factor)
    banded.posterior(
        n, time, wave, 3.0 / tau**2, reach, factor, first, alpha, count, grid_time, grid_wave, near, near_grid,
        row_work, share, mean, left, variance, tail,
    )  # fmt: skip
    for b in range(bands):
        for t in range(end - begin):
            flux[row, b, begin + t] = amplitude * mean[t * bands + b]
    if variance:
        for b in range(bands):
            for t in range(end - begin):
                spread[row, b, begin + t] = amplitude**2 * max(left[t * bands + b], 0.0)


@jit()
def _first_at(mjd: Floats, low: int, high: int, time: float) -> int:
    """Return the first index in low .. high whose point is not before ``time``."""
    while low < high:
        middle = (low + high) // 2
        if mjd[middle] < time:
            low = middle + 1
        else:
            high = middle
    return low


@jit()
def _span(mjd: Floats, start: int, stop: int, times: Floats, row: int, begin: int) -> tuple[int, int, int]:
    """Return the end of the window of grid times that starts at ``begin``, and the points that it is conditioned on.

    A window takes in grid times until a third of its points lie between them, then as many points on both sides: the
    nearest alone would all be of one night.
    """
    left = right = _first_at(mjd, start, stop, times[row, begin])
    end = begin + 1
    while end < times.shape[1] and _first_at(mjd, start, stop, times[row, end]) - left <= WINDOW // 3:
        right = _first_at(mjd, start, stop, times[row, end])
        end += 1
    side = (WINDOW - right + left) // 2
    low = max(min(left - side, stop - WINDOW), start)
    return end, low, min(low + WINDOW, stop)


@jit()
def predict(
    rows: Ints,
    offsets: Ints,
    mjd: Floats,
    flux: Floats,
    error: Floats,
    wave: Floats,
    amplitude: Floats,
    tau: Floats,
    times: Floats,
    waves: Floats,
    cut: float,
    tail: float,
    variance: bool,
    work: Scratch,
    mean: Floats,
    spread: Floats,
    values: Floats,
) -> None:
    """Predict the curves ``rows``, in the precision of ``work``.

    ``times`` (A, T) must be finite and in order; ``cut`` and ``tail`` are those of `fast.Fast`. Writes mean, spread
    (A, B, T) and, for curves without windows, values (A,): log likelihoods.
    """
    for row in rows:
        start, stop = offsets[row], offsets[row + 1]
        begin = start - start  # an int64: a literal 0 would compile `_evaluate` twice
        whole = stop - start <= LIMIT
        end, low, high = times.shape[1], start, stop
        while True:
            if not whole and begin < times.shape[1]:
                end, low, high = _span(mjd, start, stop, times, row, begin)
            elif not whole:
                break
            value, reach = _condition(low, high - low, mjd, flux, error, wave, amplitude[row], tau[row], cut, work)
            if whole:
                values[row] = value
            if end > begin:
                _evaluate(
                    high - low, mjd[low], row, begin, end, times, waves, amplitude[row], tau[row], reach, tail,
                    variance, work,
                    mean, spread,
                )  # fmt: skip
            begin = end
            if begin >= times.shape[1]:
                break
