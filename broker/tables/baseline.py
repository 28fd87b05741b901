"""Magnitudes of a star to what an alert stream measures of it: the difference to a reference.

Alerts carry differences to a reference image. The published magnitudes of a variable star are of its whole light, and
a network that has never seen such a curve takes the constant part for a long transient. The median in each band
stands for the reference here.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from broker.core.batch import Floats, Ints, Kind, LightCurves
from broker.tables.points import DETECTION_SIGMA

Mode = Literal["none", "median", "auto"]
LEAST = 10
"""Points of a band that say whether it varies without order."""
DISORDER = 1.0
"""Rank version of von Neumann's ratio (Bartels 1982): 2 for points in random order, near 0 for a rise and a decline."""
SCATTER = 3.0
"""Median distance from the median, in errors."""


def subtract(curves: LightCurves, bands: int, mode: Mode) -> tuple[LightCurves, NDArray[np.bool_]]:
    """Return clean curves of which some have their medians taken away, and which (A,).

    Parameters
    ----------
    mode : {"none", "median", "auto"}
        Of no curve; of every one; of those that scatter far beyond their errors without order in time, in some band
        with `LEAST` points: so does a short-period variable, and no transient.

    A point of such a curve is a detection where the difference is `DETECTION_SIGMA` errors, of either sign.
    """
    chosen: NDArray[np.bool_] = np.full(len(curves), mode == "median")
    if mode == "none" or not len(curves.mjd):
        return curves, chosen
    owner = np.repeat(np.arange(len(curves)), curves.counts)
    group = owner * bands + curves.band
    medians = _medians(curves.flux_njy, group, len(curves) * bands)
    away = curves.flux_njy - medians[group]
    if mode == "auto":
        shuffled = _shuffled(curves, group, away, len(curves) * bands)
        chosen = np.asarray(shuffled.reshape(-1, bands).max(axis=1))
    flux = np.where(chosen[owner], away, curves.flux_njy)
    detected = abs(flux) >= DETECTION_SIGMA * curves.flux_err_njy
    kind = np.where(detected, np.int8(Kind.DETECTION), np.int8(Kind.FORCED))
    return replace(curves, flux_njy=flux, kind=np.where(chosen[owner], kind, curves.kind)), chosen


def _shuffled(curves: LightCurves, group: Ints, away: Floats, groups: int) -> NDArray[np.bool_]:
    """Return for each group (G,) of points, those of one curve and band, whether it varies without order in time."""
    count = np.bincount(group, minlength=groups)
    by_flux = np.lexsort((curves.flux_njy, group))
    rank = np.empty(len(group))
    rank[by_flux] = np.arange(len(group))
    in_time = np.lexsort((curves.mjd, group))
    neighbours = group[in_time][1:] == group[in_time][:-1]
    jump = np.diff(rank[in_time])[neighbours]
    disorder = np.bincount(group[in_time][1:][neighbours], jump**2, groups) / np.maximum(count * (count**2 - 1) / 12, 1)
    scatter = _medians(abs(away) / curves.flux_err_njy, group, groups)
    return np.asarray((count >= LEAST) & (disorder > DISORDER) & (scatter > SCATTER))


def _medians(values: Floats, group: Ints, groups: int) -> Floats:
    """Return the median (G,) of the values (n,) of each group, 0 of none."""
    count = np.bincount(group, minlength=groups)
    first = np.cumsum(count) - count
    ordered = np.append(values[np.lexsort((values, group))], 0.0)
    low, high = first + np.maximum(count - 1, 0) // 2, first + count // 2
    return np.where(count > 0, 0.5 * (ordered[low] + ordered[np.minimum(high, len(values))]), 0.0)
