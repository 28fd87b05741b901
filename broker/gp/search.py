"""The search for the maximum of the marginal likelihood, 16 points at a time.

A grid over the whole range, a second one around its best point, then stencils of 4 × 4 points whose centre, slant and
widths come from a quadratic fitted to the stencil before. All in s = log τ² and a = log A².
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from broker.core.jit import jit

Vec = NDArray[np.float64]

COARSE_S = np.array([0.5, 4.2, 7.2, 10.6])
COARSE_A = np.array([[-3.2, -1.6, -0.3, 1.0], [-2.6, -1.2, 0.0, 1.4], [-2.0, -0.7, 0.4, 1.8], [-1.6, 0.0, 1.4, 3.2]])
"""log A² of the first grid, from its start, at each of its log τ² (the longer τ, the larger A)."""
STEPS = np.array([-1.0, -1.0 / 3.0, 1.0 / 3.0, 1.0])
TERMS = 6


@jit()
def coarse(start: float, s: Vec, a: Vec) -> None:
    """Fill s (4,) and a (16,) with the first grid; lane l is at s[l % 4], a[l]."""
    for i in range(4):
        s[i] = COARSE_S[i]
        for j in range(4):
            a[j * 4 + i] = start + COARSE_A[i, j]


@jit()
def stencil(centre: Vec, s: Vec, a: Vec, low: float, high: float, top: float) -> None:
    """Fill s and a with a slanted stencil: ``centre`` is (s, a, half width in s, half width in a, slant da/ds)."""
    cs = min(max(centre[0], 0.0), top)
    left, right = max(cs - centre[2], 0.0), min(cs + centre[2], top)
    for i in range(4):
        s[i] = left + (right - left) * 0.5 * (STEPS[i] + 1.0)
        for j in range(4):
            value = centre[1] + centre[4] * (s[i] - centre[0]) + centre[3] * STEPS[j]
            a[j * 4 + i] = min(max(value, low), high)


@jit()
def quadratic(centre: Vec, s: Vec, a: Vec, values: Vec, terms: Vec) -> bool:
    """Fit 1, x, y, x², xy, y² to the values, weighted towards the top; x, y are in half widths along the slant.

    Returns whether the fit is sound (at least six finite values, no singular matrix).
    """
    matrix = np.zeros((TERMS, TERMS + 1))
    best = np.max(values)
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
def recentre(centre: Vec, s: Vec, a: Vec, values: Vec, reach: float, low: float, high: float, top: float) -> None:
    """Move ``centre`` to the top of the quadratic and give it the quadratic's slant and widths.

    The move stays within ``reach`` half widths and the bounds (log A² in low .. high, log τ² in 0 .. top). Without a
    sound quadratic with a maximum: to the best point, same widths.
    """
    terms = np.zeros(TERMS)
    best = int(np.argmax(values))
    sound = quadratic(centre, s, a, values, terms)
    hxx, hxy, hyy = -2.0 * terms[3], -terms[4], -2.0 * terms[5]
    determinant = hxx * hyy - hxy * hxy
    if not (sound and hyy > 1e-9 and determinant > 1e-9 * hyy):
        shift = s[best % 4] - centre[0]
        centre[0], centre[1] = centre[0] + shift, a[best]
        return
    x = (terms[1] * hyy - terms[2] * hxy) / determinant
    x = min(max(x, -reach, -centre[0] / centre[2]), reach, (top - centre[0]) / centre[2])
    middle = centre[1] + centre[4] * x * centre[2]
    y = (terms[2] - hxy * x) / hyy
    y = min(max(y, -reach, (low - middle) / centre[3]), reach, (high - middle) / centre[3])
    slope = -hxy / hyy * centre[3] / centre[2]
    centre[0], centre[1] = centre[0] + x * centre[2], middle + y * centre[3]
    centre[4] += slope
    centre[2] = min(max(centre[2] / np.sqrt(determinant / hyy), 0.15), 2.0)
    centre[3] = min(max(centre[3] / np.sqrt(hyy), 0.1), 1.5)
