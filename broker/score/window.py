"""Which times the Gaussian process is asked for: one rule, the same in training and in serving."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from broker.core.batch import Floats, Ints, Kind, LightCurves
from broker.core.jit import jit

_DETECTION = int(Kind.DETECTION)


@dataclass(frozen=True, slots=True)
class GridRule:
    """Window and grid of one light curve; it depends on nothing but that curve.

    The window ends at the last point, but at most ``after_d`` after the last detection; it begins ``before_d``
    before the first detection, but at most ``longest_d`` before its end.

    Attributes
    ----------
    points : int
        Grid times T, uniform, both ends included.
    before_d, after_d, longest_d : float
        Days.
    margin_d : float
        Points up to this many days before the window still inform the interpolation.
    near_d : float
        A grid time holds data when a point is within this many days, or within one grid step if that is longer.
    """

    points: int = 40
    before_d: float = 20.0
    after_d: float = 50.0
    longest_d: float = 365.0
    margin_d: float = 15.0
    near_d: float = 5.0


@dataclass(frozen=True, slots=True)
class GridRequest:
    """What the Gaussian process is asked, and what the scorers keep of the whole history.

    Attributes
    ----------
    curves : LightCurves
        The points of the window, A alerts; what `broker.gp.interpolate` reads.
    times : (A, T) float64
        MJD TAI.
    history : LightCurves
        The whole curves, before the window.
    mask : (A, T) bool
        Grid times that hold data.
    n_detections : (A,) int64
        Detections of the whole curve.
    """

    curves: LightCurves
    times: Floats
    history: LightCurves
    mask: NDArray[np.bool_]
    n_detections: Ints

    def __len__(self) -> int:
        return len(self.times)


def request(curves: LightCurves, rule: GridRule) -> GridRequest:
    """Return the grid of A clean light curves (sorted in time, at least one point each).

    Without a detection the window is laid around the last point.
    """
    start, end, detections = _spans(
        curves.offsets, curves.mjd, curves.kind, rule.before_d, rule.after_d, rule.longest_d
    )
    steps = np.linspace(0.0, 1.0, rule.points)
    times = start[:, None] + (end - start)[:, None] * steps
    # The grid's end must be the window's end to the last bit, whatever the rounding of the sum.
    times[:, -1] = end
    alert = np.repeat(np.arange(len(curves)), curves.counts)
    windowed = curves.keep((curves.mjd >= start[alert] - rule.margin_d) & (curves.mjd <= end[alert]))
    near = np.maximum(rule.near_d, (end - start) / (rule.points - 1))
    mask = _near_data(windowed.offsets, windowed.mjd, times, near)
    return GridRequest(windowed, times, curves, mask, detections)


@jit()
def _spans(
    offsets: Ints, mjd: Floats, kind: NDArray[np.int8], before: float, after: float, longest: float
) -> tuple[Floats, Floats, Ints]:
    """Return start (A,), end (A,) in MJD and the number of detections (A,)."""
    n = len(offsets) - 1
    start, end, detections = np.zeros(n), np.zeros(n), np.zeros(n, np.int64)
    for i in range(n):
        first, last = np.nan, np.nan
        for j in range(offsets[i], offsets[i + 1]):
            if kind[j] == _DETECTION:
                first = mjd[j] if detections[i] == 0 else first
                last = mjd[j]
                detections[i] += 1
        if offsets[i + 1] == offsets[i]:
            continue
        final = mjd[offsets[i + 1] - 1]
        if detections[i] == 0:
            first, last = final, final
        end[i] = min(final, last + after)
        start[i] = max(first - before, end[i] - longest)
    return start, end, detections


@jit()
def _near_data(offsets: Ints, mjd: Floats, times: Floats, near: Floats) -> NDArray[np.bool_]:
    """Return (A, T), true where a point is within ``near`` (A,) days of the grid time; one sweep, both are sorted."""
    out = np.zeros(times.shape, np.bool_)
    for i in range(times.shape[0]):
        j = offsets[i]
        for t in range(times.shape[1]):
            while j + 1 < offsets[i + 1] and abs(mjd[j + 1] - times[i, t]) <= abs(mjd[j] - times[i, t]):
                j += 1
            out[i, t] = j < offsets[i + 1] and abs(mjd[j] - times[i, t]) <= near[i]
    return out
