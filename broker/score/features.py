"""Scalars of a light curve's points, by name: brightness, history, scatter per band; one jitted sweep each."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from broker.core.batch import Floats, Ints, Kind, LightCurves
from broker.core.jit import jit

HISTORY = (
    "log_scale",  # log10 of the flux scale in nJy
    "log_peak_snr",
    "log_points",
    "log_detections",
    "detected_fraction",
    "limit_fraction",
    "negative_fraction",  # of the detections
    "log_detected_d",  # first to last detection
    "log_history_d",  # first to last point
    "log_quiet_d",  # first point to first detection
    "log_since_detection_d",  # last detection to last point
    "log_since_peak_d",
    "log_to_peak_d",  # first detection to the brightest point
    "log_longest_gap_d",  # between detections
    "peak_sign",
    "log_chi2",  # per point, about zero
)
PAIRS = ("pair_1d", "pair_4d", "pair_15d", "pair_50d")
"""log10 of 1 + chi² of flux differences of neighbours in one band, by the days between them (upper edges)."""
PER_BAND = ("detections", "points", "max", "min", "mean", "spread", "skew")

# Plain numbers: numba does not compare arrays with members of an enum.
_DETECTION, _LIMIT = int(Kind.DETECTION), int(Kind.LIMIT)
_PAIR_EDGES = np.array([1.0, 4.0, 15.0, 50.0])


def names(bands: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of the columns of `of_points`."""
    return (*HISTORY, *PAIRS, *(f"{name}_{band}" for band in bands for name in PER_BAND))


def of_points(curves: LightCurves, n_bands: int) -> tuple[Floats, Floats]:
    """Return the flux scale (A,) in nJy and the scalars (A, S) of `names`; NaN where a curve cannot say.

    The scale is |flux| of the most significant point after a 1 % error floor (Boone 2019): one wild point with
    a huge error does not set it. Limits never do.
    """
    n = len(curves)
    scale, history = np.ones(n), np.full((n, len(HISTORY)), np.nan)
    columns = (curves.offsets, curves.mjd, curves.flux_njy, curves.flux_err_njy)
    _history(*columns, curves.kind, scale, history)
    pairs = np.full((n, len(PAIRS)), np.nan)
    _pairs(*columns, curves.band, curves.kind, n_bands, _PAIR_EDGES, pairs)
    bands = np.full((n, n_bands, len(PER_BAND)), np.nan)
    _bands(*columns[:1], *columns[2:], curves.band, curves.kind, scale, bands)
    return scale, np.concatenate((history, pairs, bands.reshape(n, n_bands * len(PER_BAND))), axis=1)


@jit()
def _peak(start: int, stop: int, flux: Floats, err: Floats, kind: NDArray[np.int8]) -> tuple[int, float]:
    """Return the index of the most significant measured point (-1: none) and its signal to noise."""
    largest = 0.0
    for j in range(start, stop):
        if kind[j] != _LIMIT:
            largest = max(largest, abs(flux[j]))
    peak, best = -1, -1.0
    for j in range(start, stop):
        if kind[j] != _LIMIT:
            snr = abs(flux[j]) / np.sqrt(err[j] ** 2 + (0.01 * largest) ** 2)
            if snr > best:
                peak, best = j, snr
    return peak, best


@jit()
def _detections(
    start: int, stop: int, mjd: Floats, flux: Floats, kind: NDArray[np.int8]
) -> tuple[int, int, int, int, float]:
    """Return detections, negative ones, index of the first and the last (-1: none), the longest gap in days."""
    count, negative, first, last, gap = 0, 0, -1, -1, 0.0
    for j in range(start, stop):
        if kind[j] == _DETECTION:
            count += 1
            negative += flux[j] < 0
            if last >= 0:
                gap = max(gap, mjd[j] - mjd[last])
            else:
                first = j
            last = j
    return count, negative, first, last, gap


@jit()
def _log1p(value: float) -> float:
    return float(np.log10(1.0 + max(value, 0.0)))


@jit()
def _history(
    offsets: Ints, mjd: Floats, flux: Floats, err: Floats, kind: NDArray[np.int8], scale: Floats, out: Floats
) -> None:
    for i in range(len(offsets) - 1):
        a, b = offsets[i], offsets[i + 1]
        if a == b:
            continue
        n = b - a
        peak, snr = _peak(a, b, flux, err, kind)
        count, negative, first, last, gap = _detections(a, b, mjd, flux, kind)
        scale[i] = abs(flux[peak]) if peak >= 0 else 0.0
        scale[i] = scale[i] if scale[i] > 0.0 else np.max(err[a:b])
        limits = np.sum(kind[a:b] == _LIMIT)
        out[i, :6] = np.log10(scale[i]), _log1p(snr), np.log10(n), _log1p(count), count / n, limits / n
        out[i, 8] = _log1p(mjd[b - 1] - mjd[a])
        if count > 0:
            out[i, 6:8] = negative / count, _log1p(mjd[last] - mjd[first])
            out[i, 9:11] = _log1p(mjd[first] - mjd[a]), _log1p(mjd[b - 1] - mjd[last])
            out[i, 13] = _log1p(gap)
        if peak >= 0:
            out[i, 11], out[i, 14] = _log1p(mjd[b - 1] - mjd[peak]), np.sign(flux[peak])
            if count > 0:
                out[i, 12] = _log1p(mjd[peak] - mjd[first])
        out[i, 15] = _log1p(float(np.mean((flux[a:b] / err[a:b]) ** 2)))


@jit()
def _pairs(
    offsets: Ints,
    mjd: Floats,
    flux: Floats,
    err: Floats,
    band: NDArray[np.int8],
    kind: NDArray[np.int8],
    n_bands: int,
    edges: Floats,
    out: Floats,
) -> None:
    previous = np.empty(n_bands, np.int64)
    total, pairs = np.empty(len(edges)), np.empty(len(edges), np.int64)
    for i in range(len(offsets) - 1):
        previous[:] = -1
        total[:] = 0.0
        pairs[:] = 0
        for j in range(offsets[i], offsets[i + 1]):
            if kind[j] == _LIMIT:
                continue
            k = previous[band[j]]
            previous[band[j]] = j
            if k < 0 or mjd[j] - mjd[k] > edges[-1]:
                continue
            bin_ = np.searchsorted(edges, mjd[j] - mjd[k])
            total[bin_] += (flux[j] - flux[k]) ** 2 / (err[j] ** 2 + err[k] ** 2)
            pairs[bin_] += 1
        for b in range(len(edges)):
            if pairs[b] > 0:
                out[i, b] = _log1p(total[b] / pairs[b])


@jit()
def _bands(
    offsets: Ints, flux: Floats, err: Floats, band: NDArray[np.int8], kind: NDArray[np.int8], scale: Floats, out: Floats
) -> None:
    n_bands = out.shape[1]
    sums = np.empty((n_bands, 7))
    for i in range(len(offsets) - 1):
        sums[:] = 0.0
        sums[:, 2], sums[:, 3] = -np.inf, np.inf
        for j in range(offsets[i], offsets[i + 1]):
            if kind[j] == _LIMIT:
                continue
            row = sums[band[j]]
            f, e = flux[j] / scale[i], err[j] / scale[i]
            row[0] += kind[j] == _DETECTION
            row[1] += 1.0
            # An error inside the extremes: the largest of many noisy points is not the peak.
            row[2], row[3] = max(row[2], f - e), min(row[3], f + e)
            row[4] += f
            row[5] += f * f
            row[6] += e * e
        for b in range(n_bands):
            _band_row(sums[b], out[i, b])
        _skews(offsets[i], offsets[i + 1], flux, band, kind, scale[i], out[i])


@jit()
def _band_row(sums: Floats, out: Floats) -> None:
    n = sums[1]
    out[0], out[1] = _log1p(sums[0]), _log1p(n)
    if n > 0:
        mean = sums[4] / n
        out[2], out[3], out[4] = sums[2], sums[3], mean
        out[5] = np.sqrt(max(sums[5] / n - mean * mean - sums[6] / n, 0.0))


@jit()
def _skews(
    start: int,
    stop: int,
    flux: Floats,
    band: NDArray[np.int8],
    kind: NDArray[np.int8],
    scale: float,
    out: Floats,
) -> None:
    """Third moment per band over the cube of its standard deviation; needs three points."""
    for b in range(out.shape[0]):
        n, second, third = 0, 0.0, 0.0
        for j in range(start, stop):
            if band[j] == b and kind[j] != _LIMIT:
                d = flux[j] / scale - out[b, 4]
                n += 1
                second += d * d
                third += d * d * d
        if n >= 3 and second > 0.0:
            out[b, 6] = (third / n) / (second / n) ** 1.5
