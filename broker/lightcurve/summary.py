"""A light curve in brief: what subscribers filter on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from broker.core.batch import Floats, Ints, Kind, LightCurves
from broker.core.jit import jit
from broker.core.units import NJY_ZERO_POINT

MIN_GAP_D = 0.5  # a rate over less says more of the noise than of the object


@dataclass(frozen=True, slots=True)
class Summary:
    """Counts and rates per alert.

    Attributes
    ----------
    counts : (A, 3) int64
        Detections, forced points, limits: the order of `Kind`.
    first_mjd, last_mjd : (A,) float64
        First and last detection, MJD TAI; NaN without one.
    last_mag : (A, B) float64
        AB magnitude of the last detection with positive flux; NaN without one.
    rise_rate : (A, B) float64
        Magnitudes per day, positive is brightening, between the last detection with positive flux and the latest
        such one at least `MIN_GAP_D` before it; NaN without two.
    """

    counts: NDArray[np.int64]
    first_mjd: Floats
    last_mjd: Floats
    last_mag: Floats
    rise_rate: Floats


def summarize(curves: LightCurves, bands: int) -> Summary:
    """Return the `Summary` of clean, time-ordered light curves in ``bands`` bands."""
    alerts = len(curves)
    summary = Summary(
        np.zeros((alerts, len(Kind)), np.int64),
        np.full(alerts, np.nan),
        np.full(alerts, np.nan),
        np.full((alerts, bands), np.nan),
        np.full((alerts, bands), np.nan),
    )
    _summarize(
        curves.offsets, curves.mjd, curves.flux_njy, curves.band, curves.kind,
        summary.counts, summary.first_mjd, summary.last_mjd, summary.last_mag, summary.rise_rate,
    )  # fmt: skip
    return summary


@jit()
def _summarize(
    offsets: Ints, mjd: Floats, flux: Floats, band: NDArray[np.int8], kind: NDArray[np.int8],
    counts: NDArray[np.int64], first: Floats, last: Floats, last_mag: Floats, rise_rate: Floats,
) -> None:  # fmt: skip
    last_time = np.empty(last_mag.shape[1])
    for a in range(len(offsets) - 1):
        for p in range(offsets[a + 1] - 1, offsets[a] - 1, -1):
            counts[a, kind[p]] += 1
            if kind[p] != 0:
                continue
            first[a] = mjd[p]
            if np.isnan(last[a]):
                last[a] = mjd[p]
            if not flux[p] > 0:
                continue
            mag = NJY_ZERO_POINT - 2.5 * np.log10(flux[p])
            b = band[p]
            if np.isnan(last_mag[a, b]):
                last_mag[a, b] = mag
                last_time[b] = mjd[p]
            elif np.isnan(rise_rate[a, b]) and last_time[b] - mjd[p] >= MIN_GAP_D:
                rise_rate[a, b] = (mag - last_mag[a, b]) / (last_time[b] - mjd[p])
