"""The search for the maximum of the marginal likelihood, 16 points at a time.

A grid over the whole range, then stencils of 4 × 4 points whose centre, slant and widths come from a quadratic fitted
to the stencil before, the last of them with larger Vecchia blocks. All in s = log τ² and a = log A².
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from broker.core.batch import Floats, Ints
from broker.core.jit import jit
from broker.gp import vecchia
from broker.gp.model import LOG_AMPLITUDE_RANGE as RANGE
from broker.gp.model import LOG_TIME_SCALE_MAX as TOP

Vec = NDArray[np.float64]
Lanes = NDArray[np.float32]
Work = tuple[Lanes, ...]

SEARCH, FINAL, LONG = (24, 12), (48, 24), (64, 32)
"""Points of a Vecchia block with its conditioning points, and of the block: while searching, at the end, and at the end
for long curves, whose errors add up."""
LONG_FROM = 200
"""Points from which on a curve is long."""
SEARCH_MIN, SEARCH_MAX, FINAL_MAX = 2, 6, 8
"""Stencils of the search: at least, at most, and at most of the final ones; they end where the top is settled."""
RIVAL = 30.0
"""A second maximum of the first grid is tried where its log likelihood is within this of the best."""
TRUST = 0.7
"""How far beyond its best point, in half widths, a stencil's quadratic is believed."""

COARSE_S = np.array([0.5, 4.2, 7.2, 10.6])
COARSE_A = np.array([[-3.2, -1.6, -0.3, 1.0], [-2.6, -1.2, 0.0, 1.4], [-2.0, -0.7, 0.4, 1.8], [-1.6, 0.0, 1.4, 3.2]])
"""log A² of the first grid, from its start, at each of its log τ² (the longer τ, the larger A)."""
STEPS = np.array([-1.0, -1.0 / 3.0, 1.0 / 3.0, 1.0])
TERMS = 6


@jit()
def coarse(s: Vec, a: Vec) -> None:
    """Fill s (4,) and a (16,) with the first grid; lane l is at s[l % 4], a[l]."""
    for i in range(4):
        s[i] = COARSE_S[i]
        for j in range(4):
            a[j * 4 + i] = COARSE_A[i, j]


@jit()
def stencil(centre: Vec, s: Vec, a: Vec) -> None:
    """Fill s and a with a slanted stencil: ``centre`` is (s, a, half width in s, half width in a, slant da/ds)."""
    cs = min(max(centre[0], 0.0), TOP)
    left, right = max(cs - centre[2], 0.0), min(cs + centre[2], TOP)
    for i in range(4):
        s[i] = left + (right - left) * 0.5 * (STEPS[i] + 1.0)
        for j in range(4):
            value = centre[1] + centre[4] * (s[i] - centre[0]) + centre[3] * STEPS[j]
            a[j * 4 + i] = min(max(value, -RANGE), RANGE)


@jit()
def best_of(values: Vec) -> int:
    """Return the index of the largest value."""
    best = 0
    for lane in range(1, 16):
        if values[lane] > values[best]:
            best = lane
    return best


@jit()
def quadratic(centre: Vec, s: Vec, a: Vec, values: Vec, terms: Vec) -> bool:
    """Fit 1, x, y, x², xy, y² to the values, weighted towards the top; x, y are in half widths along the slant.

    Returns whether the fit is sound (at least six finite values, no singular matrix).
    """
    matrix = np.zeros((TERMS, TERMS + 1))
    best = values[best_of(values)]
    finite = 0
    row = np.empty(TERMS)
    for lane in range(16):
        drop = best - values[lane]
        if not drop < 1e6:
            continue
        finite += 1
        x = (s[lane % 4] - centre[0]) / centre[2]
        y = (a[lane] - centre[1] - centre[4] * (s[lane % 4] - centre[0])) / centre[3]
        row[0], row[1], row[2], row[3], row[4], row[5] = 1.0, x, y, x * x, x * y, y * y
        weight = 1.0 / (1.0 + drop * drop)
        for i in range(TERMS):
            for j in range(TERMS):
                matrix[i, j] += weight * row[i] * row[j]
            matrix[i, TERMS] += weight * row[i] * -drop
    return finite >= TERMS and _solve(matrix, terms)


@jit()
def _solve(matrix: Vec, terms: Vec) -> bool:
    """Gauss-Jordan on a symmetric positive (6, 7) system; False where it is singular."""
    for i in range(TERMS):
        pivot = matrix[i, i]
        if not pivot > 1e-10:
            return False
        for j in range(i, TERMS + 1):
            matrix[i, j] /= pivot
        for k in range(TERMS):
            if k != i:
                factor = matrix[k, i]
                for j in range(i, TERMS + 1):
                    matrix[k, j] -= factor * matrix[i, j]
    for i in range(TERMS):
        terms[i] = matrix[i, TERMS]
    return True


@jit()
def recentre(centre: Vec, s: Vec, a: Vec, values: Vec) -> bool:
    """Move ``centre`` to the top of the quadratic and give it the quadratic's slant and widths.

    The top is trusted within `TRUST` half widths of the best point, and within the bounds. Without a sound quadratic
    with a maximum: to the best point, narrower where that lies inside, wider in log A² where it does not. Returns
    whether the top is trusted and lies in the stencil.
    """
    terms = np.zeros(TERMS)
    sound = quadratic(centre, s, a, values, terms)
    hxx, hxy, hyy = -2.0 * terms[3], -terms[4], -2.0 * terms[5]
    determinant = hxx * hyy - hxy * hxy
    best = best_of(values)
    best_x = (s[best % 4] - centre[0]) / centre[2]
    best_y = (a[best] - centre[1] - centre[4] * best_x * centre[2]) / centre[3]
    if not (sound and hyy > 1e-9 and determinant > 1e-9 * hyy):
        inside = 0 < best % 4 < 3 or s[best % 4] <= 0.0 or s[best % 4] >= TOP
        centre[2] *= 0.5 if inside else 1.0
        inside = 4 <= best < 12 or abs(a[best]) >= RANGE
        centre[3] = max(0.5 * centre[3], 0.1) if inside else min(2.0 * centre[3], 4.0)
        centre[0], centre[1] = s[best % 4], a[best]
        return False
    wish_x = (terms[1] * hyy - terms[2] * hxy) / determinant
    wish_x = min(max(wish_x, -centre[0] / centre[2]), (TOP - centre[0]) / centre[2])
    x = min(max(wish_x, best_x - TRUST), best_x + TRUST)
    middle = centre[1] + centre[4] * x * centre[2]
    wish_y = (terms[2] - hxy * x) / hyy
    wish_y = min(max(wish_y, (-RANGE - middle) / centre[3]), (RANGE - middle) / centre[3])
    y = min(max(wish_y, best_y - TRUST), best_y + TRUST)
    slope = -hxy / hyy * centre[3] / centre[2]
    centre[0], centre[1] = centre[0] + x * centre[2], middle + y * centre[3]
    centre[4] += slope
    centre[2] = min(max(centre[2] / np.sqrt(determinant / hyy), 0.15), 2.0)
    centre[3] = min(max(centre[3] / np.sqrt(hyy), 0.1), 1.5)
    return bool(x == wish_x and y == wish_y and abs(x) <= 1.2 and abs(y) <= 1.2)


@jit()
def evaluate(
    n: int, reach: int, step: int, s: Vec, a: Vec, curve: tuple[Floats, Lanes, Lanes, Lanes], work: Work, values: Vec
) -> None:
    """Write the 16 log likelihoods at log τ² ``s`` (4,) and log A² ``a`` (16,) to ``values`` (16,)."""
    time, wave, flux, noise = curve
    rates, power, out, pivots = work[3:]
    for i in range(4):
        rates[i] = 3.0 * np.exp(-s[i])
    for lane in range(16):
        power[lane] = np.exp(a[lane])
    vecchia.lanes(n, reach, step, time, wave, flux, noise, rates, power, work[:3], pivots, out)
    for lane in range(16):
        values[lane] = out[lane]


def workspace() -> Work:
    """Return scratch arrays."""
    reach = vecchia.REACH
    sizes = ((reach + 1) * reach * 16, reach, reach, 4, 16, 16, reach * 16)
    return tuple(np.zeros(size, dtype=np.float32) for size in sizes)


def fit_curves(offsets: Ints, time: Floats, wave: Lanes, flux: Lanes, noise: Lanes) -> tuple[Vec, Vec, Vec]:
    """Return log A² and log τ² at the maximum of the likelihood, and its logarithm there: (A,) each.

    Parameters
    ----------
    offsets : (A + 1,)
        Points of curve i are offsets[i] .. offsets[i + 1] - 1; none is empty.
    time : (D,) float64
        Days, in order.
    wave, flux, noise : (D,) float32
        Wavelength in units of 6000 Å / √3; flux in units of the curve's start amplitude, and squared error.
    """
    found = np.empty((3, len(offsets) - 1))
    s, a, values, centre = (np.zeros(n) for n in (4, 16, 16, 5))
    _fit_curves(offsets, time, wave, flux, noise, workspace(), s, a, values, centre, np.zeros(4, np.int64), found)
    return found[0], found[1], found[2]


@jit()
def likelihoods(
    rows: Ints,
    offsets: Ints,
    time: Floats,
    wave: Lanes,
    flux: Lanes,
    noise: Lanes,
    s: Vec,
    a: Vec,
    work: Work,
    found: Vec,
) -> None:
    """Write the log likelihood at log τ² ``s`` and log A² ``a`` (A,) of the curves ``rows`` to ``found`` (A,)."""
    at_s, at_a, values = np.empty(4), np.empty(16), np.empty(16)
    for row in rows:
        first, n = offsets[row], offsets[row + 1] - offsets[row]
        points = slice(first, first + n)
        at_s[:], at_a[:] = s[row], a[row]
        curve = (time[points], wave[points], flux[points], noise[points])
        evaluate(n, FINAL[0], FINAL[1], at_s, at_a, curve, work, values)
        found[row] = values[0]


@jit()
def _climb(
    n: int, curve: tuple[Floats, Lanes, Lanes, Lanes], work: Work, s: Vec, a: Vec, values: Vec, centre: Vec
) -> float:
    """Climb from the point (centre[0], centre[1]), leave the top there and return the log likelihood near it."""
    centre[2], centre[3], centre[4] = 2.0, 1.2, 0.3
    for stage in range(SEARCH_MAX):
        stencil(centre, s, a)
        evaluate(n, SEARCH[0], SEARCH[1], s, a, curve, work, values)
        if recentre(centre, s, a, values) and stage + 1 >= SEARCH_MIN:
            break
    last = LONG if n >= LONG_FROM else FINAL
    for _ in range(FINAL_MAX):
        stencil(centre, s, a)
        evaluate(n, last[0], last[1], s, a, curve, work, values)
        if recentre(centre, s, a, values):
            break
    return float(values[best_of(values)])


@jit()
def starts(values: Vec, tops: Ints) -> int:
    """Write the lanes of the first grid to climb from to ``tops`` (4,), best first; return how many: one or two.

    The second one is a time scale that is better than its neighbours, and not much worse than the best.
    """
    for i in range(4):
        tops[i] = i
        for lane in range(i, 16, 4):
            if values[lane] > values[tops[i]]:
                tops[i] = lane
    best, other = best_of(values), -1
    for i in range(4):
        left, right = values[tops[max(i - 1, 0)]], values[tops[min(i + 1, 3)]]
        here = values[tops[i]]
        if i != best % 4 and here >= left and here >= right and here > values[best] - RIVAL:
            other = tops[i] if other < 0 or here > values[other] else other
    tops[0], tops[1] = best, other
    return 1 if other < 0 else 2


@jit()
def _fit_curves(
    offsets: Ints,
    time: Floats,
    wave: Lanes,
    flux: Lanes,
    noise: Lanes,
    work: Work,
    s: Vec,
    a: Vec,
    values: Vec,
    centre: Vec,
    tops: Ints,
    found: Floats,
) -> None:
    for row in range(len(offsets) - 1):
        first, n = offsets[row], offsets[row + 1] - offsets[row]
        points = slice(first, first + n)
        curve = (time[points], wave[points], flux[points], noise[points])
        coarse(s, a)
        evaluate(n, SEARCH[0], SEARCH[1], s, a, curve, work, values)
        count = starts(values, tops)
        found[2, row] = -np.inf
        for k in range(count):
            coarse(s, a)
            centre[0], centre[1] = s[tops[k] % 4], a[tops[k]]
            value = _climb(n, curve, work, s, a, values, centre)
            if value > found[2, row] or k == 0:
                found[0, row] = min(max(centre[1], -RANGE), RANGE)
                found[1, row] = min(max(centre[0], 0.0), TOP)
                found[2, row] = value
