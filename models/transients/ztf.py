"""ZTF light curves made from PLAsTiCC objects: nearer, brighter, in ZTF's bands, cadence, depth and upper limits.

Transients and slow variables are moved in redshift and resampled with the two-dimensional Gaussian process, which knows
their flux at any time and wavelength. Variables faster than any cadence keep their own measured fluxes, in
a random order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from broker import gp
from broker.core.bands import SURVEYS
from broker.core.batch import Floats, Interpolated, Ints, Kind, LightCurves
from broker.core.taxonomy import CLASSES, ancestors
from broker.core.units import mag_to_njy
from broker.models.transients.augment import Rng, last_detection
from broker.models.transients.data import Labelled
from broker.score.window import GridRule, request

NIGHTS = 72
"""Nights simulated per light curve."""
SHUFFLED = np.array([c.slug in ("rrlyrae", "eclipsing", "mdwarf") for c in CLASSES])
"""Classes whose light changes within a night."""
RECURRING = np.array([2300 in ancestors(c.id) for c in CLASSES])
FLARING = np.array([c.slug == "mdwarf" for c in CLASSES])
RATIO_STEP = 1.0 / 24.0
"""Redshift moves are rounded to this, so that objects can share one call of the Gaussian process."""
_WIDE = GridRule(points=2, before_d=40.0, after_d=60.0, margin_d=40.0)


@dataclass(frozen=True, slots=True)
class Sky:
    """ZTF as it is seen from a packet (Bellm et al. 2019; Masci et al. 2019).

    Attributes
    ----------
    gap_d : float
        Median days between visits of a field.
    depth, depth_scatter : float
        5-sigma magnitude of a visit, median and night-to-night scatter.
    bright, faint : float
        Range of peak magnitudes, more at the faint end as 10^(0.25 m): variables are bright, transients are not.
    systematic : tuple of float
        Range of the error floor as a fraction of the flux.
    share_i : float
        Light curves with i-band visits: a partnership band, rare in public packets.
    share_limits : float
        Light curves whose non-detections are upper limits; the others have forced photometry.
    """

    gap_d: float = 2.6
    depth: float = 20.5
    depth_scatter: float = 0.5
    bright: float = 13.5
    faint: float = 20.3
    systematic: tuple[float, float] = (0.005, 0.03)
    share_i: float = 0.15
    share_limits: float = 0.7


def simulate(data: Labelled, rng: Rng, sky: Sky | None = None) -> tuple[LightCurves, Floats]:
    """Return one ZTF light curve (bands g, r, i; whole, not cut to a packet) per object, and its redshift (A,).

    Galactic objects keep redshift 0. A light curve without any detection is possible: callers drop it.
    """
    sky = sky or Sky()
    nights = _nights(data, rng, sky)
    moved, ratio = _move(data, rng)
    flux = _resampled(data, nights, ratio, rng)
    shuffled = SHUFFLED[data.label]
    flux[shuffled] = _reordered(data.take(np.flatnonzero(shuffled)), rng)
    flux *= _brightness(flux, rng, sky)[:, None, None]
    return _observe(nights, flux, rng, sky), moved


def _nights(data: Labelled, rng: Rng, sky: Sky) -> Floats:
    """Return (A, N) MJD of visits: gaps around the cadence, now and then bad weather; begins before the event."""
    shape = (len(data), NIGHTS)
    gaps = np.maximum(1.0, np.round(rng.lognormal(np.log(sky.gap_d), 0.5, shape)))
    gaps += np.where(rng.random(shape) < 0.06, rng.uniform(4.0, 14.0, shape), 0.0)
    window = request(data.curves, _WIDE)
    begin, end = window.times[:, 0], window.times[:, -1]
    first = begin + _WIDE.before_d
    early = rng.uniform(3.0, 40.0, len(data))
    start = np.where(RECURRING[data.label], rng.uniform(begin, np.maximum(begin, end - 100.0)), first - early)
    return np.asarray(start[:, None] + np.cumsum(gaps, axis=1) + rng.normal(0.0, 0.05, shape))


def _move(data: Labelled, rng: Rng) -> tuple[Floats, Floats]:
    """Return the new redshift (A,) and (1 + new) / (1 + old), rounded to `RATIO_STEP`."""
    z = data.moved_from_z
    ratio = (1.0 + z * rng.uniform(0.1, 0.7, len(data))) / (1.0 + z)
    ratio = np.where(z > 0, np.round(ratio / RATIO_STEP) * RATIO_STEP, 1.0)
    return np.maximum(ratio * (1.0 + z) - 1.0, np.where(z > 0, 0.003, 0.0)), ratio


def _resampled(data: Labelled, nights: Floats, ratio: Floats, rng: Rng) -> Floats:
    """Return flux (A, 3, N), nJy: the posterior's mean with a smooth deviation."""
    lsst, ztf = SURVEYS["lsst"].wavelengths_aa, SURVEYS["ztf"].wavelengths_aa
    window = request(data.curves, _WIDE)
    first = window.times[:, :1]
    out = np.zeros((len(data), 3, NIGHTS))
    for value in np.unique(ratio):
        rows = np.flatnonzero(ratio == value)
        source = first[rows] + (nights[rows] - first[rows]) / value
        waves = np.concatenate((lsst, ztf / value))
        answer = gp.interpolate(window.curves.take(rows), waves, source)
        wander = _wander(source, answer.time_scale_d, rng)[:, None, :]
        out[rows] = np.nan_to_num(answer.flux[:, -3:] + _spread(data.label[rows], answer) * wander)
    return out


def _spread(label: Ints, answer: Interpolated) -> Floats:
    """Return how far a draw may wander from the mean (n, 3, N), nJy.

    A transient is smooth: a third of the posterior's error, and none where the source was not observed, for there the
    prior knows nothing of its quiet before and after. A variable goes on varying.
    """
    spread = np.sqrt(np.maximum(answer.variance[:, -3:], 0.0))
    seen = spread < 0.5 * answer.amplitude[:, None, None]
    return np.where(RECURRING[label][:, None, None], spread, np.where(seen, 0.3 * spread, 0.0))


def _wander(times: Floats, scale_d: Floats, rng: Rng) -> Floats:
    """Return (n, N) unit-variance noise whose memory is the time scale (n,): one draw for all bands."""
    keep = np.exp(-np.diff(times, axis=1) / np.maximum(scale_d, 0.1)[:, None])
    out = rng.standard_normal(times.shape)
    for t in range(1, times.shape[1]):
        out[:, t] = keep[:, t - 1] * out[:, t - 1] + np.sqrt(1.0 - keep[:, t - 1] ** 2) * out[:, t]
    return np.asarray(np.nan_to_num(out))


def _reordered(data: Labelled, rng: Rng) -> Floats:
    """Return flux (A, 3, N) drawn from an object's own fluxes in g, r, i, the three bands from about the same time.

    Of flares only the detections, in the nights of a flare; no flux in others.
    """
    out = np.zeros((len(data), 3, NIGHTS))
    place = rng.random((len(data), NIGHTS))
    flares = _flare_nights(len(data), rng)
    for i in range(len(data)):
        points = slice(data.curves.offsets[i], data.curves.offsets[i + 1])
        flux, band = data.curves.flux_njy[points], data.curves.band[points]
        bright = data.curves.kind[points] == Kind.DETECTION
        nights = flares[i] if FLARING[data.label[i]] else np.ones(NIGHTS, dtype=bool)
        chosen = bright if FLARING[data.label[i]] else np.ones(len(flux), dtype=bool)
        for b in range(3):
            own = flux[chosen & (band == b + 1)]
            if len(own):
                out[i, b, nights] = own[(place[i, nights] * len(own)).astype(int)]
    return out


def _flare_nights(n: int, rng: Rng) -> Any:
    """Return (n, N): a flare lasts hours, so one night sees it; one star in six flares again while we look."""
    nights = np.zeros((n, NIGHTS), dtype=bool)
    rows = np.arange(n)
    # Within the first half: what follows the flare has to be seen too.
    nights[rows, rng.integers(2, NIGHTS // 2, n)] = True
    again = rows[rng.random(n) < 1.0 / 6.0]
    nights[again, rng.integers(2, NIGHTS, len(again))] = True
    return nights


def _brightness(flux: Floats, rng: Rng, sky: Sky) -> Floats:
    """Return the factor (A,) that brings each object's brightest g or r flux to a drawn magnitude."""
    low, high = 10.0 ** (0.25 * np.array([sky.bright, sky.faint]))
    mag = np.log10(rng.uniform(low, high, len(flux))) / 0.25
    peak = np.abs(flux[:, :2]).max(axis=(1, 2))
    return np.asarray(mag_to_njy(mag) / np.where(peak > 0, peak, 1.0))


def _observe(nights: Floats, flux: Floats, rng: Rng, sky: Sky) -> LightCurves:
    """Return noisy points: a detection from 5 sigma on; below, a forced point or, per light curve, an upper limit."""
    n = len(flux)
    shape = (n, NIGHTS, 3)
    bands = np.broadcast_to(np.arange(3, dtype=np.int8), shape)
    chance = np.array([0.75, 0.85, 0.3]) * np.ones((n, 3))
    chance[:, 2] *= rng.random(n) < sky.share_i
    # One in ten curves sees g or r only.
    chance[rng.random(n) < 0.05, 0] = 0.0
    chance[rng.random(n) < 0.05, 1] = 0.0
    depth = sky.depth + sky.depth_scatter * rng.standard_normal((n, NIGHTS, 1)) - np.array([0.0, 0.0, 0.5])
    true = flux.transpose(0, 2, 1)
    err = np.hypot(mag_to_njy(depth) / 5.0, rng.uniform(*sky.systematic, (n, 1, 1)) * true)
    seen = true + err * rng.standard_normal(shape)
    detected = np.abs(seen) >= 5.0 * err
    limits = rng.random((n, 1, 1)) < sky.share_limits
    kind = np.where(detected, Kind.DETECTION, np.where(limits, Kind.LIMIT, Kind.FORCED)).astype(np.int8)
    times = nights[:, :, None] + np.array([0.0, 0.03, 0.06])
    taken = rng.random(shape) < chance[:, None, :]
    counts = taken.sum(axis=(1, 2))
    columns: tuple[Any, ...] = (times, np.where(kind == Kind.LIMIT, 0.0, seen), err, bands, kind)
    offsets = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
    return LightCurves(offsets, *(np.ascontiguousarray(column[taken]) for column in columns))


def detected(curves: LightCurves) -> Any:
    """Return (A,), true where the light curve has a detection."""
    return np.isfinite(last_detection(curves))
