"""Runs of points of one band, so close in time that the flux is a straight line between them, taken as two points.

A deep field's night is dozens of exposures, a minute apart. All that such a run says of a straight line is its mean and
its slope, and two points, one deviation of the run's times before and behind their mean, say the same with the same
errors; a factorisation's cost falls with the cube of the points. How long a run may be follows from the model: over a
width Δt a Matern-3/2 process leaves the line, as the run weighs it, by a variance of about A² h³ / 1000, h = √3 Δt / τ
(computed for points spread evenly), and a run ends before that exceeds a share of its mean's squared error.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from broker.core.batch import Floats, Ints, LightCurves
from broker.core.jit import jit

BEND = 1e-3
LEAST = 64
"""A curve of fewer points stays as it is: there is little to gain."""
LOG_2PI = float(np.log(2.0 * np.pi))

START, WEIGHT, TIME, FLUX, TIMES2, TIME_FLUX, FLUX2 = range(7)  # of a run; FLUX2 with the logarithms of its errors²
POINTS = 2  # behind its first two points


@dataclass(frozen=True, slots=True)
class Coalesced:
    """Light curves with fewer points.

    Attributes
    ----------
    curves : LightCurves
        Sorted in time. Runs of one or two points are as they were; a longer one has the kind of its first point.
    log_likelihood : (A,) float64
        What to add to the log likelihood of ``curves`` to have that of all points; no hyper-parameter changes it.
    """

    curves: LightCurves
    log_likelihood: Floats


def coalesce(curves: LightCurves, amplitude: Floats, time_scale_d: Floats, share: float | Floats) -> Coalesced:
    """Take runs of points as two each.

    Parameters
    ----------
    curves : LightCurves
        Usable ones (`broker.gp.model.usable`), sorted in time.
    amplitude, time_scale_d : (A,) float64
        Of the model, nJy and days.
    share : float or (A,) float64
        Of a run's error, that its bend must stay below; 0 for all leaves them as they are.
    """
    counts, constant = curves.counts.copy(), np.zeros(len(curves))
    if not np.any(share):
        return Coalesced(curves, constant)
    mjd, flux, error = (column.copy() for column in (curves.mjd, curves.flux_njy, curves.flux_err_njy))
    row = np.arange(len(mjd))
    scale = BEND * amplitude**2 * (np.sqrt(3.0) / time_scale_d) ** 3 / share**2
    bands = int(curves.band.max(initial=0)) + 1
    _coalesce(curves.offsets, curves.band, bands, scale, mjd, flux, error, row, counts, constant)
    if np.array_equal(counts, curves.counts):
        return Coalesced(curves, constant)
    offsets = np.concatenate(([0], np.cumsum(counts)))
    kept = np.repeat(curves.offsets[:-1] - offsets[:-1], counts) + np.arange(offsets[-1])
    rows = row[kept]
    left = LightCurves(offsets, mjd[kept], flux[kept], error[kept], curves.band[rows], curves.kind[rows])
    return Coalesced(left, constant)


@jit()
def _coalesce(
    offsets: Ints,
    band: NDArray[np.int8],
    bands: int,
    scale: Floats,
    mjd: Floats,
    flux: Floats,
    error: Floats,
    row: Ints,
    counts: Ints,
    constant: Floats,
) -> None:
    """Work in place: the first ``counts[i]`` of curve i's items are what is left; ``row`` says of which points.

    A run ends before ``scale`` (A,) · width³ exceeds its mean's squared error.
    """
    runs, members = np.zeros((bands, FLUX2 + 1)), np.zeros((bands, POINTS + 1), np.int64)
    pairs = np.empty((bands, 2, 3))  # a run's first two points: they may be overwritten before the run ends
    for curve in range(len(counts)):
        low = at = offsets[curve]
        if counts[curve] < LEAST or not _has_run(
            low, offsets[curve + 1], band, scale[curve], mjd, error, runs, members
        ):
            continue
        origin = mjd[low]
        for i in range(low, offsets[curve + 1]):
            b, time, value, sigma = band[i], mjd[i] - origin, flux[i], error[i]
            weight = 1.0 / sigma**2
            k = members[b, POINTS]
            if k and scale[curve] * (time - runs[b, START]) ** 3 * (runs[b, WEIGHT] + weight) > 1.0:
                at = _close(at, origin, b, runs, members, pairs, mjd, flux, error, row, constant, curve)
                k = 0
            if k == 0:
                runs[b, :] = 0.0
                runs[b, START] = time
            if k < 2:
                pairs[b, k, 0], pairs[b, k, 1], pairs[b, k, 2], members[b, k] = mjd[i], value, sigma, i
            _add(b, runs, time, value, weight)
            members[b, POINTS] = k + 1
        for b in range(bands):
            at = _close(at, origin, b, runs, members, pairs, mjd, flux, error, row, constant, curve)
        counts[curve] = at - low
        _sort(low, at, mjd, flux, error, row)


@jit()
def _has_run(
    low: int, high: int, band: NDArray[np.int8], scale: float, mjd: Floats, error: Floats, runs: Floats, members: Ints
) -> bool:
    """Say whether a run of more than two of the points low .. high would become two; most curves have none."""
    members[:, POINTS] = 0
    found = False
    for i in range(low, high):
        b, weight = band[i], 1.0 / error[i] ** 2
        if members[b, POINTS] and scale * (mjd[i] - runs[b, START]) ** 3 * (runs[b, WEIGHT] + weight) <= 1.0:
            runs[b, WEIGHT] += weight
            members[b, POINTS] += 1
            found = found or members[b, POINTS] > 2
        else:
            runs[b, START], runs[b, WEIGHT], members[b, POINTS] = mjd[i], weight, 1
    members[:, POINTS] = 0
    return found


@jit()
def _add(b: int, runs: Floats, time: float, value: float, weight: float) -> None:
    """Add a point to the weighted means and moments of a band's run."""
    runs[b, WEIGHT] += weight
    part, dt, dy = weight / runs[b, WEIGHT], time - runs[b, TIME], value - runs[b, FLUX]
    runs[b, TIME] += part * dt
    runs[b, FLUX] += part * dy
    left = weight - weight * part
    runs[b, TIMES2] += left * dt * dt
    runs[b, TIME_FLUX] += left * dt * dy
    runs[b, FLUX2] += left * dy * dy - np.log(weight)


@jit()
def _close(
    at: int,
    origin: float,
    b: int,
    runs: Floats,
    members: Ints,
    pairs: Floats,
    mjd: Floats,
    flux: Floats,
    error: Floats,
    row: Ints,
    constant: Floats,
    curve: int,
) -> int:
    """Write a band's run from item ``at`` on, and what it leaves out to ``constant``; return the next item."""
    points, weight = members[b, POINTS], runs[b, WEIGHT]
    members[b, POINTS] = 0
    if points <= 2:
        for k in range(points):
            mjd[at + k], flux[at + k], error[at + k] = pairs[b, k, 0], pairs[b, k, 1], pairs[b, k, 2]
            row[at + k] = members[b, k]
        return int(at + points)
    slope = runs[b, TIME_FLUX] / runs[b, TIMES2] if runs[b, TIMES2] > 0.0 else 0.0
    step = np.sqrt(runs[b, TIMES2] / weight)
    for k in range(2):
        mjd[at + k], flux[at + k] = origin + runs[b, TIME] - step, runs[b, FLUX] - slope * step
        error[at + k], row[at + k] = np.sqrt(2.0 / weight), members[b, 0]
        step = -step
    misfit = runs[b, FLUX2] - slope * runs[b, TIME_FLUX] + points * LOG_2PI
    constant[curve] += np.log(4.0 * np.pi / weight) - 0.5 * misfit
    return at + 2


@jit()
def _sort(low: int, high: int, mjd: Floats, flux: Floats, error: Floats, row: Ints) -> None:
    """Sort the items low .. high by time; they nearly are."""
    for i in range(low + 1, high):
        time, value, sigma, point = mjd[i], flux[i], error[i], row[i]
        j = i
        while j > low and mjd[j - 1] > time:
            mjd[j], flux[j], error[j], row[j] = mjd[j - 1], flux[j - 1], error[j - 1], row[j - 1]
            j -= 1
        mjd[j], flux[j], error[j], row[j] = time, value, sigma, point
