"""From true flux to what is measured, and to what an alert stream, a service or a table passes on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from broker.core.batch import Floats, Ints, Kind, LightCurves
from broker.core.units import mag_to_njy
from broker.models.transients.augment import Bools, Rng, of_points
from broker.models.transients.sky.pointings import SLOTS, Visits

_POISSON_NJY = 19.4
"""Variance over flux: 11,800 electrons in 30 s at magnitude 18 (zero point 26.2, gain 6.2; Masci et al. 2019)."""


@dataclass(frozen=True, slots=True)
class Form:
    """How each of A light curves is told, every entry (A,).

    Attributes
    ----------
    total : bool
        Flux of the star itself, as in a data release or a table of magnitudes; else what is left after a reference.
    unsigned : bool
        Differences without their sign, as a table of an alert's magnitudes has them.
    upward : bool
        Only what is brighter than the reference is a detection: so is a table of fluxes read that does not say.
    silence : int
        What becomes of non-detections: 0 upper limits, 1 forced points, 2 nothing.
    from_alert, to_alert : bool
        Begins a month before the first detection; ends with the last.
    """

    total: Bools
    unsigned: Bools
    upward: Bools
    silence: Ints
    from_alert: Bools
    to_alert: Bools


def forms(n: int, rng: Rng, total: float) -> Form:
    """Return forms drawn at random, a share ``total`` of them of total flux."""
    whole = rng.random(n) < total
    # Limits are of differences: a table of total magnitudes has none.
    silence = np.where(whole, rng.choice(3, n, p=(0.0, 0.3, 0.7)), rng.choice(3, n, p=(0.45, 0.33, 0.22)))
    unsigned = ~whole & (total > 0) & (rng.random(n) < 0.12)
    upward = (silence == 1) & (rng.random(n) < 0.4)
    return Form(whole, unsigned, upward, silence, rng.random(n) < 0.5, rng.random(n) < 0.4)


def observe(visits: Visits, total: Floats, reference: Floats, form: Form, rng: Rng) -> LightCurves:
    """Return noisy light curves; of some nothing is detected.

    Parameters
    ----------
    total : (A, N, S) float64
        Flux of the source in nJy, with what does not vary.
    reference : (A, S) float64
        Flux in the reference image that is subtracted, in nJy.
    """
    true = np.where(form.total[:, None, None], total, total - reference[:, None, :])
    err, real = _errors(visits.depth, total, rng)
    flux = true + real * _noise(visits, rng)
    detected = np.where(form.upward[:, None, None], flux, np.abs(flux)) >= _threshold(len(flux), rng) * err
    flux = np.where(form.unsigned[:, None, None] & detected, np.abs(flux), flux)
    silence = np.array([Kind.LIMIT, Kind.FORCED, Kind.LIMIT])[form.silence][:, None, None]
    kind = np.where(detected, Kind.DETECTION, silence).astype(np.int8)
    kept = visits.taken & (detected | (form.silence != 2)[:, None, None])
    limit = kind == Kind.LIMIT
    # A limit is told in tenths of a magnitude, for the whole quadrant.
    err = np.where(limit, mag_to_njy(np.round(visits.depth, 1)) / 5.0, err)
    return _cut(_ragged(visits.mjd, np.where(limit, 0.0, flux), err, kind, kept), form)


def _errors(depth: Floats, total: Floats, rng: Rng) -> tuple[Floats, Floats]:
    """Return the error that is told and the one that is real, (A, N, S): seldom the same."""
    n = (len(depth), 1, 1)
    variance = (mag_to_njy(depth) / 5.0) ** 2 + _POISSON_NJY * np.maximum(total, 0.0)
    floor = rng.uniform(0.005, 0.025, n) * total
    told = np.where(rng.random(n) < 0.6, rng.uniform(0.3, 1.3, n), 0.0) * floor
    worse = np.where(rng.random(n) < 0.4, rng.uniform(0.9, 1.6, n), 1.0)
    return np.sqrt(variance + told**2), worse * np.sqrt(variance + floor**2)


def _noise(visits: Visits, rng: Rng) -> Floats:
    """Return (A, N, S): Gaussian, with outliers in one curve of four, an offset of the baseline in one of five."""
    shape = visits.depth.shape
    n = (len(visits.depth), 1, 1)
    wild = rng.random(shape) < np.where(rng.random(n) < 0.25, 0.02, 0.0)
    offset = np.where(rng.random(n) < 0.2, 0.5, 0.0) * rng.standard_normal((shape[0], 1, 3))[:, :, SLOTS]
    return np.asarray(rng.standard_normal(shape) * np.where(wild, rng.uniform(4.0, 12.0, shape), 1.0) + offset)


def _threshold(n: int, rng: Rng) -> Floats:
    """Return the signal to noise that makes a detection (A, 1, 1): 5, or what a table's author took for one."""
    return np.where(rng.random(n) < 0.75, 5.0, rng.uniform(3.0, 5.0, n))[:, None, None]


def _ragged(mjd: Floats, flux: Floats, err: Floats, kind: NDArray[np.int8], kept: Bools) -> LightCurves:
    counts = kept.sum(axis=(1, 2))
    band = np.broadcast_to(SLOTS, mjd.shape)
    offsets = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
    return LightCurves(offsets, mjd[kept], flux[kept], err[kept], band[kept], kind[kept])


def _cut(curves: LightCurves, form: Form) -> LightCurves:
    """Return the curves that begin or end with their alerts, cut so."""
    row = np.repeat(np.arange(len(curves)), curves.counts)
    seen = curves.kind == Kind.DETECTION
    first, last = np.full(len(curves), np.inf), np.full(len(curves), -np.inf)
    np.minimum.at(first, row[seen], curves.mjd[seen])
    np.maximum.at(last, row[seen], curves.mjd[seen])
    begin = np.where(form.from_alert & np.isfinite(first), first - 30.0, -np.inf)
    end = np.where(form.to_alert & np.isfinite(last), last, np.inf)
    return curves.keep(np.asarray((curves.mjd >= of_points(curves, begin)) & (curves.mjd <= of_points(curves, end))))
