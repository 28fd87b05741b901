"""The loops of the SALT3 fit: Levenberg and Marquardt's descent at one redshift after the other.

Four parameters: x0, x0 x1, the day of the peak, the colour. A model that is off by a known fraction of itself widens a
point's error, so what is minimised is chi² with the logarithm of the widening.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from broker.core.batch import Floats, Ints
from broker.core.jit import jit

FIRST_D, BEFORE_D, AFTER_D = -20.0, 120.0, 260.0
"""Rest-frame phase of a table's first column; days around the most significant point outside which nothing is read."""
TRIED_D, TRIED_STEP_D = 36.0, 4.0
TRIED_COLOURS = np.array([-0.05, 0.3])
"""Starts: days around the most significant point, colours."""
EVERY = 3
"""One redshift in so many gets starts of its own."""
STEPS, ENOUGH = 8, 0.02
X1_SD, COLOUR_SD = 1.3, 0.2
"""Weak priors: wider than the scatter of supernovae (Scolnic & Kessler 2016)."""
REDDEN = 0.4 * math.log(10.0)
_NOTHING = 1e-12


class Points(NamedTuple):
    """Points of one curve or of many, all (N,): days, nJy, nJy, band."""

    mjd: Floats
    flux: Floats
    err: Floats
    band: Ints


class Model(NamedTuple):
    """The model at one redshift, or with an axis of redshifts before all others.

    ``table`` (B, P, 2), ``law`` (B,) and ``floor`` (B, P) as in `broker.models.transients.salt.Grid`; ``stretch``
    is 1 + z.
    """

    table: Floats
    law: Floats
    floor: Floats
    stretch: Any


@jit(error_model="numpy")
def profiles(offsets: Ints, points: Points, models: Model) -> Floats:
    """Return the best fit at every redshift, (A, Z, 5): what was minimised, x0, x0 x1, day of the peak, colour.

    NaN for a curve without points. ``offsets`` (A + 1,) say which points are whose.
    """
    out = np.full((len(offsets) - 1, len(models.stretch), 5), np.nan)
    for i in range(len(out)):
        rows = _inside(points, offsets[i], offsets[i + 1])
        if len(rows) > 0:
            _profile(_taken(points, rows), models, out[i])
    return out


@jit(error_model="numpy")
def residuals(offsets: Ints, points: Points, models: Model, pick: Ints, found: Floats, edges: Floats) -> Floats:
    """Return sums over the points of each band and span of phase, (A, B, S + 1, 4), for one fit of each object.

    The sums are of 1, r²/σ², r m/σ² and m²/σ² of residuals r and model m; span 0 is before the model's first phase.

    Parameters
    ----------
    pick : (A,) int64
        Which redshift; -1 for none.
    found : (A, 4) float64
        x0, x0 x1, day of the peak, colour.
    edges : (S + 1,) float64
        Rest-frame days between spans, the first `FIRST_D`.
    """
    out = np.zeros((len(pick), models.table.shape[1], len(edges), 4))
    for i in range(len(pick)):
        if pick[i] >= 0:
            own = _taken(points, _inside(points, offsets[i], offsets[i + 1]))
            _summed(own, _one(models, pick[i]), found[i], edges[: len(edges) - 1], out[i])
    return out


@jit(error_model="numpy")
def _summed(points: Points, model: Model, at: Floats, edges: Floats, out: Floats) -> None:
    for j in range(len(points.mjd)):
        b, err = points.band[j], points.err[j]
        phase = (points.mjd[j] - at[2]) / model.stretch
        m0, m1, _, _, wide = _at(phase, model.table[b], model.floor[b])
        m = (at[0] * m0 + at[1] * m1) * math.exp(-REDDEN * at[3] * model.law[b])
        variance = err * err + wide * wide * m * m
        r = points.flux[j] - m
        cell = out[b, np.searchsorted(edges, phase)]
        cell[0] += 1.0
        cell[1] += r * r / variance
        cell[2] += r * m / variance
        cell[3] += m * m / variance


@jit()
def _inside(points: Points, begin: int, end: int) -> NDArray[np.int64]:
    """Return the rows around the most significant point."""
    if end == begin:
        return np.zeros(0, np.int64)
    days = points.mjd[begin:end] - points.mjd[begin + np.argmax(points.flux[begin:end] / points.err[begin:end])]
    return begin + np.flatnonzero((days > -BEFORE_D) & (days < AFTER_D))


@jit()
def _taken(points: Points, rows: Ints) -> Points:
    return Points(points.mjd[rows], points.flux[rows], points.err[rows], points.band[rows])


@jit(inline="always")
def _one(models: Model, k: int) -> Model:
    return Model(models.table[k], models.law[k], models.floor[k], models.stretch[k])


@jit(error_model="numpy")
def _profile(points: Points, models: Model, out: Floats) -> None:
    z = len(models.stretch)
    starts, at, last = np.zeros(((z + EVERY - 1) // EVERY, 4)), np.zeros(4), np.zeros(4)
    for c in range(len(starts)):
        _search(points, _one(models, c * EVERY), starts[c])
    hess, grad = np.zeros((4, 4)), np.zeros(4)
    for k in range(z):
        model = _one(models, k)
        _copy(starts[min((k + EVERY // 2) // EVERY, len(starts) - 1)], at)
        if k > 0:
            # The fit at the redshift before is another start, once it is as bright as these points.
            top, bottom = _overlap(points, model, last[2], last[3])
            last[1] *= max(top / bottom, _NOTHING) / last[0]
            last[0] = max(top / bottom, _NOTHING)
            if _gather(points, model, last, hess, grad) < _gather(points, model, at, hess, grad):
                _copy(last, at)
        out[k, 0] = _descend(points, model, at)
        _copy(at, out[k, 1:])
        _copy(at, last)


@jit(error_model="numpy")
def _search(points: Points, model: Model, best: Floats) -> None:
    """Put the best of a grid of days and colours, with x1 = 0, into ``best``."""
    peak, most = points.mjd[np.argmax(points.flux / points.err)], -1.0
    best[0], best[1], best[2], best[3] = _NOTHING, 0.0, peak, 0.0
    for day in np.arange(peak - TRIED_D, peak + TRIED_D + 0.1, TRIED_STEP_D):
        for colour in TRIED_COLOURS:
            top, bottom = _overlap(points, model, day, colour)
            if top > 0.0 and top * top > most * bottom:
                most = top * top / bottom
                best[0], best[2], best[3] = max(top / bottom, _NOTHING), day, colour


@jit(error_model="numpy")
def _overlap(points: Points, model: Model, day: float, colour: float) -> tuple[float, float]:
    """Return the sums of f m / σ² and m² / σ² for x1 = 0."""
    red = np.exp(-REDDEN * colour * model.law)
    top, bottom = 0.0, 1e-300
    for i in range(len(points.mjd)):
        place = (points.mjd[i] - day) / model.stretch - FIRST_D
        if place < 0.0:
            continue
        b, f, err = points.band[i], points.flux[i], points.err[i]
        m = model.table[b, min(int(place), model.table.shape[1] - 1), 0] * red[b]
        weight = m / (err * err + 0.01 * f * f)
        top += f * weight
        bottom += m * weight
    return top, bottom


@jit()
def _copy(whole: Floats, into: Floats) -> None:
    # A slice assigned would take numba seconds to compile.
    for j in range(len(whole)):
        into[j] = whole[j]


@jit(error_model="numpy")
def _descend(points: Points, model: Model, at: Floats) -> float:
    """Move ``at`` to the nearest minimum and return its value."""
    hess, grad, other_hess, other_grad = np.zeros((4, 4)), np.zeros(4), np.zeros((4, 4)), np.zeros(4)
    trial, step = np.zeros(4), np.zeros(4)
    now, damping = _gather(points, model, at, hess, grad), 0.01
    for _ in range(STEPS):
        _solve(hess, grad, damping, step)
        _moved(at, step, trial)
        then = _gather(points, model, trial, other_hess, other_grad)
        if then < now:
            gain, now = now - then, then
            _copy(trial, at)
            hess, other_hess, grad, other_grad = other_hess, hess, other_grad, grad
            damping *= 0.2
            if gain < ENOUGH:
                break
        else:
            damping = 10.0 * damping + 0.01
    return now


@jit(error_model="numpy")
def _moved(at: Floats, step: Floats, out: Floats) -> None:
    """Put ``at + step`` into ``out``, kept where supernovae are."""
    out[0] = max(at[0] + step[0], 0.3 * at[0])
    out[1] = min(max(at[1] + step[1], -5.0 * out[0]), 5.0 * out[0])
    out[2] = at[2] + min(max(step[2], -8.0), 8.0)
    out[3] = min(max(at[3] + min(max(step[3], -0.3), 0.3), -0.6), 1.5)


@jit(error_model="numpy")
def _gather(points: Points, model: Model, at: Floats, hess: Floats, grad: Floats) -> float:
    """Return what is minimised; ``hess`` gets half its second derivatives, ``grad`` minus half its first ones."""
    x0, x0x1, colour = at[0], at[1], at[3]
    x1 = x0x1 / x0
    for j in range(4):
        grad[j] = 0.0
        for k in range(4):
            hess[j, k] = 0.0
    hess[1, 1], hess[3, 3] = (X1_SD * x0) ** -2, COLOUR_SD**-2
    grad[1], grad[3] = -x0x1 * hess[1, 1], -colour * hess[3, 3]
    total: float = (x1 / X1_SD) ** 2 + (colour / COLOUR_SD) ** 2
    red = np.exp(-REDDEN * colour * model.law)
    slope = np.zeros(4)
    for i in range(len(points.mjd)):
        b, own = points.band[i], points.err[i] * points.err[i]
        m0, m1, d0, d1, wide = _at((points.mjd[i] - at[2]) / model.stretch, model.table[b], model.floor[b])
        m = red[b] * (x0 * m0 + x0x1 * m1)
        variance = own + wide * wide * m * m
        r, w = points.flux[i] - m, 1.0 / variance
        total += r * r * w + math.log(variance / own)
        slope[0], slope[1] = red[b] * m0, red[b] * m1
        slope[2], slope[3] = -red[b] * (x0 * d0 + x0x1 * d1) / model.stretch, -REDDEN * model.law[b] * m
        for j in range(4):
            grad[j] += r * slope[j] * w
            for k in range(j + 1):
                hess[j, k] += slope[j] * slope[k] * w
    return total


@jit(inline="always", error_model="numpy")
def _at(phase: float, table: Floats, floor: Floats) -> tuple[float, float, float, float, float]:
    """Return both components at a rest-frame phase, their slopes per day, and the model's relative error."""
    place = phase - FIRST_D
    if place < 0.0:
        return 0.0, 0.0, 0.0, 0.0, 0.0
    j = min(int(place), table.shape[0] - 2)
    part = min(place - j, 1.0)
    d0, d1 = table[j + 1, 0] - table[j, 0], table[j + 1, 1] - table[j, 1]
    return table[j, 0] + part * d0, table[j, 1] + part * d1, d0, d1, floor[j]


@jit(error_model="numpy")
def _solve(hess: Floats, grad: Floats, damping: float, out: Floats) -> None:
    """Put the damped step into ``out``: Cholesky of the rows scaled to ones on the diagonal."""
    scale, low = np.zeros(4), np.zeros((4, 4))
    for r in range(4):
        scale[r] = 1.0 / math.sqrt(hess[r, r] + 1e-300)
    for r in range(4):
        for c in range(r + 1):
            s = 1.0 + damping if r == c else hess[r, c] * scale[r] * scale[c]
            for q in range(c):
                s -= low[r, q] * low[c, q]
            low[r, c] = math.sqrt(max(s, 1e-9)) if r == c else s / low[c, c]
    for r in range(4):
        out[r] = grad[r] * scale[r]
        for q in range(r):
            out[r] -= low[r, q] * out[q]
        out[r] /= low[r, r]
    for r in range(3, -1, -1):
        for q in range(r + 1, 4):
            out[r] -= low[q, r] * out[q]
        out[r] /= low[r, r]
    out *= scale
