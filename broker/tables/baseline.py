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
from broker.core.jit import jit
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
    chosen = np.full(len(curves), mode == "median")
    if mode == "none" or not len(curves.mjd):
        return curves, chosen
    order = np.lexsort((curves.mjd, curves.band, np.repeat(np.arange(len(curves)), curves.counts)))
    medians = np.zeros((len(curves), bands))
    shuffled = np.zeros(len(curves), np.bool_)
    _medians(curves.offsets, curves.band[order], curves.flux_njy[order], curves.flux_err_njy[order], medians, shuffled)
    chosen |= shuffled
    owner = np.repeat(np.arange(len(curves)), curves.counts)
    flux = curves.flux_njy - np.where(chosen[owner], medians[owner, curves.band], 0.0)
    detected = abs(flux) >= DETECTION_SIGMA * curves.flux_err_njy
    kind = np.where(detected, np.int8(Kind.DETECTION), np.int8(Kind.FORCED))
    return replace(curves, flux_njy=flux, kind=np.where(chosen[owner], kind, curves.kind)), chosen


@jit()
def _medians(
    offsets: Ints, band: NDArray[np.int8], flux: Floats, err: Floats, medians: Floats, shuffled: NDArray[np.bool_]
) -> None:
    """Fill in medians (A, B) and whether some band has no order (A,); points of a curve by band, then time."""
    for i in range(len(offsets) - 1):
        start = offsets[i]
        while start < offsets[i + 1]:
            stop = start
            while stop < offsets[i + 1] and band[stop] == band[start]:
                stop += 1
            values = flux[start:stop]
            middle = np.median(values)
            medians[i, band[start]] = middle
            if stop - start >= LEAST and np.median(np.abs(values - middle) / err[start:stop]) > SCATTER:
                rank = np.argsort(np.argsort(values)).astype(np.float64)
                away = rank - np.mean(rank)
                if np.sum(np.diff(rank) ** 2) > DISORDER * np.sum(away * away):
                    shuffled[i] = True
            start = stop
