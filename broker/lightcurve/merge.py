"""Raw histories to clean light curves: valid points only, sorted, one per band and exposure.

The rule for duplicates (points of one band within `SAME_EXPOSURE_D`) does not depend on their order in the packet: a
detection beats forced photometry, which beats a limit; of two of a kind the smaller error wins, then the smaller
flux. A survey lists the same exposure as detection and as forced point; both are one measurement.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from broker.core.batch import Floats, Ints, LightCurves
from broker.core.jit import jit

MAX_MJD = 1e7  # 27,000 years
MAX_NJY = 1e15  # magnitude -6
MIN_ERR_NJY = 1e-30  # magnitude 106; the inverse square of a smaller one may be infinite
SAME_EXPOSURE_D = 1e-6  # 0.09 s: time stamps of one exposure are equal up to rounding


@dataclass(frozen=True, slots=True)
class Dropped:
    """Points left out per alert, each (A,) int64: see `merge`."""

    not_finite: Ints
    unknown_band: Ints
    duplicate: Ints


def merge(curves: LightCurves, bands: int) -> tuple[LightCurves, Dropped]:
    """Return the light curves sorted in time, with only usable points, and what was dropped.

    Parameters
    ----------
    curves : LightCurves
        As decoded: any order, NaN, unknown bands (-1) and duplicates allowed.
    bands : int
        Number of bands of the survey, B.

    Returns
    -------
    LightCurves
        Points within `MAX_MJD` and `MAX_NJY`, with an error of `MIN_ERR_NJY` at least, in time order; equal times are
        ordered by band.
    Dropped
        Counts by reason; a point with several faults counts under the first of the list.
    """
    points = len(curves.mjd)
    out = (np.empty(points), np.empty(points), np.empty(points), np.empty(points, np.int8), np.empty(points, np.int8))
    offsets = np.zeros(len(curves) + 1, np.int64)
    dropped = np.zeros((len(curves), 3), np.int64)
    _merge(
        curves.offsets, curves.mjd, curves.flux_njy, curves.flux_err_njy, curves.band, curves.kind,
        bands, *out, offsets, dropped,
    )  # fmt: skip
    used = slice(offsets[-1])
    clean = LightCurves(offsets, out[0][used], out[1][used], out[2][used], out[3][used], out[4][used])
    return clean, Dropped(dropped[:, 0], dropped[:, 1], dropped[:, 2])


@jit()
def _beats(kind_a: int, err_a: float, flux_a: float, kind_b: int, err_b: float, flux_b: float) -> bool:
    if kind_a != kind_b:
        return kind_a < kind_b
    if err_a != err_b:
        return err_a < err_b
    return flux_a < flux_b


@jit()
def _time_order(index: Ints, mjd: Floats, band: NDArray[np.int8]) -> Ints:
    """Return ``index`` (n,) ordered by time, then band: two stable sorts, whatever order a stranger sends."""
    by_band = index[np.argsort(band[index], kind="mergesort")]
    return by_band[np.argsort(mjd[by_band], kind="mergesort")]


@jit()
def _merge(
    offsets: Ints, mjd: Floats, flux: Floats, err: Floats, band: NDArray[np.int8], kind: NDArray[np.int8], bands: int,
    out_mjd: Floats, out_flux: Floats, out_err: Floats, out_band: NDArray[np.int8], out_kind: NDArray[np.int8],
    out_offsets: Ints, dropped: NDArray[np.int64],
) -> None:  # fmt: skip
    end = 0
    last = np.empty(bands, np.int64)
    for a in range(len(offsets) - 1):
        usable = np.empty(offsets[a + 1] - offsets[a], np.int64)
        n = 0
        for p in range(offsets[a], offsets[a + 1]):
            # false for NaN too, and for what no sky shows
            if not (abs(mjd[p]) <= MAX_MJD and abs(flux[p]) <= MAX_NJY and MIN_ERR_NJY <= err[p] <= MAX_NJY):
                dropped[a, 0] += 1
            elif band[p] < 0 or band[p] >= bands:
                dropped[a, 1] += 1
            else:
                usable[n] = p
                n += 1
        last[:] = -1
        for p in _time_order(usable[:n], mjd, band):
            at = last[band[p]]
            if at >= 0 and mjd[p] - out_mjd[at] <= SAME_EXPOSURE_D:
                dropped[a, 2] += 1
                if not _beats(kind[p], err[p], flux[p], out_kind[at], out_err[at], out_flux[at]):
                    continue
            else:
                at = end
                end += 1
                last[band[p]] = at
                out_mjd[at] = mjd[p]
                out_band[at] = band[p]
            out_flux[at], out_err[at], out_kind[at] = flux[p], err[p], kind[p]
        out_offsets[a + 1] = end
