"""The two densities that posteriors are made of: piecewise linear on a grid, and mixtures of Gaussians. numpy only.

n = records, m = grid points, k = components, p = points per record, q = levels. A grid is ``grid`` (m,) and ``pdf``
(n, m), a mixture ``weights``, ``means``, ``sigmas`` (n, k). What is said of a grid is exact for a linear density.
"""

from __future__ import annotations

from math import pi, sqrt

import numpy as np

from broker.sidecar.answer import Floats

ROUNDS = 50
"""At most, of a quantile's search; most need six."""


def normal(z: Floats) -> tuple[Floats, Floats]:
    """Return the standard normal distribution's cumulative value, to 1e-7, and density (Abramowitz & Stegun 7.1.26)."""
    number = z.dtype.type
    t = 1 / (1 + number(0.3275911 / sqrt(2)) * np.abs(z))
    series = t * number(1.061405429)
    for coefficient in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        series += number(coefficient)
        series *= t
    bell = np.exp(number(-0.5) * z * z)
    tail = number(0.5) * series * bell
    return np.where(z > 0, 1 - tail, tail), number(1 / sqrt(2 * pi)) * bell


def grid_pdf(grid: Floats, pdf: Floats, x: Floats) -> Floats:
    """Return the density (n, p) at x (n, p); 0 beyond the grid."""
    at, inside = _cell(grid, x)
    left, right = _ends(pdf, at)
    density: Floats = np.where((x < grid[0]) | (x > grid[-1]), 0.0, left + inside * (right - left))
    return density


def grid_cdf(grid: Floats, pdf: Floats, x: Floats) -> Floats:
    """Return the cumulative distribution (n, p) at x (n, p)."""
    at, inside = _cell(grid, x)
    left, right = _ends(pdf, at)
    below = np.take_along_axis(_below(grid, pdf), at, axis=1)
    found: Floats = below + np.diff(grid)[at] * inside * (left + 0.5 * inside * (right - left))
    return np.clip(found, 0.0, 1.0)


def grid_quantiles(grid: Floats, pdf: Floats, levels: Floats) -> Floats:
    """Return quantiles (n, q) at levels (q,); NaN of what is NaN."""
    below = _below(grid, pdf)
    at = np.stack([np.sum(below[:, 1:-1] < level, axis=1) for level in levels], axis=1)
    left, right = _ends(pdf, at)
    width = np.diff(grid)[at]
    wanted = np.maximum(levels - np.take_along_axis(below, at, axis=1), 0.0) / width
    # the root of left t + (right - left) t²/2 = wanted, written so that nothing cancels
    root = left + np.sqrt(np.maximum(left**2 + 2 * (right - left) * wanted, 0.0))
    inside = np.where(root > 0, 2 * wanted / np.where(root > 0, root, 1.0), 0.0)
    found: Floats = (grid[at] + width * np.clip(inside, 0.0, 1.0)).astype(pdf.dtype)
    found[np.isnan(below[:, -1])] = np.nan
    return found


def grid_moments(grid: Floats, pdf: Floats) -> tuple[Floats, Floats]:
    """Return mean and standard deviation (n,)."""
    middle = float(grid.mean())
    points = grid.astype(np.float64) - middle  # small numbers: their squares cancel less
    a, b, step = points[:-1], points[1:], np.diff(points)
    first = np.append(step * (2 * a + b), 0.0) / 6 + np.append(0.0, step * (a + 2 * b)) / 6
    second = np.append(step * (3 * a**2 + 2 * a * b + b**2), 0.0) / 12
    second += np.append(0.0, step * (a**2 + 2 * a * b + 3 * b**2)) / 12
    weights = np.stack((first, second), axis=1).astype(pdf.dtype)
    mean, square = (pdf @ weights).T
    return mean + pdf.dtype.type(middle), np.sqrt(np.maximum(square - mean**2, 0.0))


def grid_mode(grid: Floats, pdf: Floats) -> Floats:
    """Return where the density is highest (n,): the top of the parabola through the highest point and its neighbours.

    The two outermost points of either end are no candidates: the ends need not be as far apart as the others. NaN of
    what is NaN.
    """
    top = np.argmax(pdf[:, 2:-2], axis=1)[:, None] + 2
    left, middle, right = (np.take_along_axis(pdf, top + i, axis=1)[:, 0] for i in (-1, 0, 1))
    bend = left - 2 * middle + right
    shift = np.where(bend < 0, 0.5 * (left - right) / np.where(bend < 0, bend, -1.0), 0.0)
    found: Floats = (grid[top[:, 0]] + np.clip(shift, -0.5, 0.5) * (grid[3] - grid[2])).astype(pdf.dtype)
    found[np.isnan(middle)] = np.nan
    return found


def grid_square(grid: Floats, pdf: Floats) -> Floats:
    """Return the integral of the squared density (n,)."""
    left, right = pdf[:, :-1], pdf[:, 1:]
    total: Floats = (left**2 + left * right + right**2) @ (np.diff(grid) / 3).astype(pdf.dtype)
    return total


def _cell(grid: Floats, x: Floats) -> tuple[np.ndarray, Floats]:
    """Return the number of each point's cell and where in it the point is [0 to 1], both (n, p)."""
    at = np.clip(np.searchsorted(grid, x, side="right") - 1, 0, len(grid) - 2)
    return at, np.clip((x - grid[at]) / np.diff(grid)[at], 0.0, 1.0)


def _ends(pdf: Floats, at: np.ndarray) -> tuple[Floats, Floats]:
    return np.take_along_axis(pdf, at, axis=1), np.take_along_axis(pdf, at + 1, axis=1)


def _below(grid: Floats, pdf: Floats) -> Floats:
    """Return the cumulative distribution at the grid's points (n, m)."""
    below = np.zeros_like(pdf)
    np.cumsum(0.5 * (pdf[:, 1:] + pdf[:, :-1]) * np.diff(grid).astype(pdf.dtype), axis=1, out=below[:, 1:])
    return below


def mixture_pdf(weights: Floats, means: Floats, sigmas: Floats, x: Floats) -> Floats:
    """Return the density (n, p) at x (n, p)."""
    return _mixture(*_upright(weights, means, sigmas, x))[1].T


def mixture_cdf(weights: Floats, means: Floats, sigmas: Floats, x: Floats) -> Floats:
    """Return the cumulative distribution (n, p) at x (n, p)."""
    return _mixture(*_upright(weights, means, sigmas, x))[0].T


def _upright(*parts: Floats) -> list[Floats]:
    """Return arrays (n, ...) as (..., n): long rows are what numpy is fast at."""
    return [np.ascontiguousarray(part.T) for part in parts]


def _mixture(weights: Floats, means: Floats, sigmas: Floats, x: Floats) -> tuple[Floats, Floats]:
    """Return cumulative distribution and density (p, n) at x (p, n), of a mixture's (k, n)."""
    below, density = np.zeros(x.shape, means.dtype), np.zeros(x.shape, means.dtype)
    for weight, mean, narrow in zip(weights, means, 1 / sigmas, strict=True):
        part, bell = normal((x - mean) * narrow)
        below += weight * part
        density += weight * narrow * bell
    return below, density


def mixture_moments(weights: Floats, means: Floats, sigmas: Floats) -> tuple[Floats, Floats]:
    """Return mean and standard deviation (n,)."""
    mean = np.sum(weights * means, axis=1)
    return mean, np.sqrt(np.sum(weights * ((means - mean[:, None]) ** 2 + sigmas**2), axis=1))


def mixture_quantiles(weights: Floats, means: Floats, sigmas: Floats, levels: Floats) -> Floats:
    """Return quantiles (n, q) at levels (q,), to 3e-4 of the level or 1e-3 standard deviations.

    Newton's steps; one that leaves the interval that must hold the quantile is replaced by a bisection.
    """
    parts, close = _upright(weights, means, sigmas), 1e-3 * mixture_moments(weights, means, sigmas)[1]
    found = _first_guess(weights, means, sigmas, levels)
    low = np.repeat(np.min(means - 6 * sigmas, axis=1)[None], len(levels), axis=0)
    high = np.repeat(np.max(means + 6 * sigmas, axis=1)[None], len(levels), axis=0)
    wanted, left = levels.astype(means.dtype)[:, None], np.arange(len(means))
    for _ in range(ROUNDS):
        x, (weight, mean, sigma) = found[:, left], (part[:, left] for part in parts)
        below, density = _mixture(weight, mean, sigma, x)
        miss = below - wanted
        a, b = np.where(miss < 0, x, low[:, left]), np.where(miss < 0, high[:, left], x)
        step = x - miss / np.maximum(density, 1e-30)
        near = ~((np.abs(miss) >= 3e-4) & (b - a >= close[left]))  # NaN goes no further
        step = np.where(near, x, np.where((step > a) & (step < b), step, 0.5 * (a + b)))
        found[:, left], low[:, left], high[:, left] = step, a, b
        left = left[~near.all(axis=0)]
        if not len(left):
            break
    return found.T


def _first_guess(weights: Floats, means: Floats, sigmas: Floats, levels: Floats) -> Floats:
    """Return about where quantiles (q, n) are: those of one bell where the densest components are."""
    dense = weights / sigmas
    width = 1.0 / dense.sum(axis=1)
    level = np.clip(levels, 1e-3, 1.0 - 1e-3)
    away = (np.log(level / (1.0 - level)) / 1.702).astype(means.dtype)  # of a logistic like a Gaussian
    guess: Floats = np.sum(dense * means, axis=1) * width + away[:, None] * width
    return guess


def mixture_mode(weights: Floats, means: Floats, sigmas: Floats) -> Floats:
    """Return where the density is highest (n,): uphill from the component that begins highest.

    A step is the weighted mean of Carreira-Perpiñán 2000.
    """
    heights = mixture_pdf(weights, means, sigmas, means)
    x = np.take_along_axis(means, np.argmax(heights, axis=1)[:, None], axis=1)
    for _ in range(8):
        share = weights / sigmas**3 * np.exp(-0.5 * ((x - means) / sigmas) ** 2)
        x = np.sum(share * means, axis=1, keepdims=True) / np.sum(share, axis=1, keepdims=True)
    return x[:, 0]


def mixture_square(weights: Floats, means: Floats, sigmas: Floats) -> Floats:
    """Return the integral of the squared density (n,): products of Gaussians are Gaussians."""
    total = np.zeros_like(means[:, 0])
    for weight, mean, sigma in zip(weights.T, means.T, sigmas.T, strict=True):  # all pairs at once would not fit
        variance = sigma[:, None] ** 2 + sigmas**2
        overlap = np.exp(-0.5 * (mean[:, None] - means) ** 2 / variance) / np.sqrt(2 * pi * variance)
        total += weight * np.einsum("nk,nk->n", weights, overlap)
    return total
