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
BANDS = 128  # an int8's

START, WEIGHT, TIME, FLUX, TIMES2, TIME_FLUX, FLUX2, LOGS = range(8)
FIRST, SECOND, POINTS = range(3)


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


def coalesce(curves: LightCurves, amplitude: Floats, time_scale_d: Floats, share: float) -> Coalesced:
    """Take runs of points as two each.

    Parameters
    ----------
    curves : LightCurves
        Usable ones (`broker.gp.model.usable`), sorted in time.
    amplitude, time_scale_d : (A,) float64
        Of the model, nJy and days.
    share : float
        Of a run's error, that its bend must stay below; 0 leaves all curves as they are.
    """
    counts, constant = curves.counts.copy(), np.zeros(len(curves))
    if share == 0.0:
        return Coalesced(curves, constant)
    mjd, flux, error = (column.copy() for column in (curves.mjd, curves.flux_njy, curves.flux_err_njy))
    row = np.arange(len(mjd))
    _coalesce(curves.offsets, curves.band, amplitude, time_scale_d, share**2, mjd, flux, error, row, counts, constant)
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
    amplitude: Floats,
    tau: Floats,
    share: float,
    mjd: Floats,
    flux: Floats,
    error: Floats,
    row: Ints,
    counts: Ints,
    constant: Floats,
) -> None:
    """Work in place: the first ``counts[i]`` of curve i's items are what is left; ``row`` says of which points."""
    runs, members = np.zeros((BANDS, LOGS + 1)), np.zeros((BANDS, POINTS + 1), np.int64)
    pairs = np.empty((BANDS, 2, 3))  # a run's first two points: they may be overwritten before the run ends
    for curve in range(len(counts)):
        low, n = offsets[curve], 0
        origin = mjd[low]
        members[:, POINTS] = 0
        rate = BEND * amplitude[curve] ** 2 * (np.sqrt(3.0) / tau[curve]) ** 3
        for i in range(low, offsets[curve + 1]):
            run, own, pair = runs[band[i]], members[band[i]], pairs[band[i]]
            time, value, sigma = mjd[i] - origin, flux[i], error[i]
            weight = 1.0 / sigma**2
            if own[POINTS] and rate * (time - run[START]) ** 3 * (run[WEIGHT] + weight) > share:
                n, added = _close(low + n, origin, run, own, pair, mjd, flux, error, row)
                n -= low
                constant[curve] += added
            if own[POINTS] == 0:
                run[:] = 0.0
                run[START], own[FIRST] = time, i
            if own[POINTS] < 2:
                k = own[POINTS]
                pair[k, 0], pair[k, 1], pair[k, 2], own[SECOND] = mjd[i], value, sigma, i
            _add(run, time, value, weight)
            own[POINTS] += 1
        for b in range(BANDS):
            if members[b, POINTS]:
                n, added = _close(low + n, origin, runs[b], members[b], pairs[b], mjd, flux, error, row)
                n -= low
                constant[curve] += added
        counts[curve] = n
        _sort(low, low + n, mjd, flux, error, row)


@jit()
def _add(run: Floats, time: float, value: float, weight: float) -> None:
    """Add a point to the weighted means and moments of a run."""
    run[WEIGHT] += weight
    part, dt, dy = weight / run[WEIGHT], time - run[TIME], value - run[FLUX]
    run[TIME] += part * dt
    run[FLUX] += part * dy
    run[TIMES2] += weight * dt * (time - run[TIME])
    run[TIME_FLUX] += weight * dt * (value - run[FLUX])
    run[FLUX2] += weight * dy * (value - run[FLUX])
    run[LOGS] += np.log(2.0 * np.pi / weight)


@jit()
def _close(
    at: int, origin: float, run: Floats, own: Ints, pair: Floats, mjd: Floats, flux: Floats, error: Floats, row: Ints
) -> tuple[int, float]:
    """Write a run's points from item ``at`` on; return the next item and what the likelihood leaves out."""
    points = own[POINTS]
    own[POINTS] = 0
    if points <= 2:
        for k in range(points):
            mjd[at + k], flux[at + k], error[at + k] = pair[k, 0], pair[k, 1], pair[k, 2]
            row[at + k] = own[FIRST] if k == 0 else own[SECOND]
        return at + points, 0.0
    slope = run[TIME_FLUX] / run[TIMES2] if run[TIMES2] > 0.0 else 0.0
    reach = np.sqrt(run[TIMES2] / run[WEIGHT])
    for k in range(2):
        step = reach if k else -reach
        mjd[at + k], flux[at + k] = origin + run[TIME] + step, run[FLUX] + slope * step
        error[at + k], row[at + k] = np.sqrt(2.0 / run[WEIGHT]), own[FIRST]
    misfit = run[FLUX2] - slope * run[TIME_FLUX]
    return at + 2, float(np.log(4.0 * np.pi / run[WEIGHT]) - 0.5 * (run[LOGS] + misfit))


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
