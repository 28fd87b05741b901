"""What training does to light curves so that a network knows real alerts: cuts in time, lost points, more noise."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from broker.core.batch import Floats, Ints, Kind, LightCurves

Rng = np.random.Generator
Bools = NDArray[np.bool_]


def of_points(curves: LightCurves, per_curve: NDArray[Any]) -> NDArray[Any]:
    """Return a value per point (D,) of a value per curve (A,)."""
    return np.repeat(per_curve, curves.counts)


def detections(curves: LightCurves) -> Ints:
    """Return how many detections each curve has (A,)."""
    alert = np.repeat(np.arange(len(curves)), curves.counts)
    return np.bincount(alert[curves.kind == Kind.DETECTION], minlength=len(curves))


def chosen_detection(curves: LightCurves, rng: Rng) -> Floats:
    """Return the MJD (A,) of a random detection per curve, half of the time an early one; NaN without detections.

    Half is uniform over the detections, half uniform in the logarithm of their number: brokers live early.
    """
    detected = curves.kind == Kind.DETECTION
    rank = _rank(curves, detected)
    count = np.add.reduceat(np.append(detected, False).astype(np.int64), curves.offsets[:-1]) * (curves.counts > 0)
    uniform = rng.random(len(curves)) * count
    early = (count + 1.0) ** rng.random(len(curves)) - 1.0
    pick = np.minimum(np.where(rng.random(len(curves)) < 0.5, uniform, early).astype(np.int64), count - 1)
    hit = detected & (rank == of_points(curves, pick))
    out = np.full(len(curves), np.nan)
    out[np.repeat(np.arange(len(curves)), curves.counts)[hit]] = curves.mjd[hit]
    return out


def last_detection(curves: LightCurves) -> Floats:
    """Return the MJD (A,) of the last detection per curve; NaN without one."""
    out = np.full(len(curves), np.nan)
    detected = curves.kind == Kind.DETECTION
    # Points are sorted in time, so the last assignment to a row is the latest.
    out[np.repeat(np.arange(len(curves)), curves.counts)[detected]] = curves.mjd[detected]
    return out


def as_packet(curves: LightCurves, at: Floats, longest_d: float) -> LightCurves:
    """Return the history of the alert at MJD ``at`` (A,): points up to it, at most ``longest_d`` days back."""
    end = of_points(curves, at)
    return curves.keep(np.asarray((curves.mjd <= end) & (curves.mjd >= end - longest_d)))


def lose_points(curves: LightCurves, rng: Rng, longest: int = 150) -> LightCurves:
    """Return curves of which each lost up to half of its points; deep-field curves come down to ``longest``."""
    keep = np.minimum(rng.uniform(0.5, 1.0, len(curves)), longest / np.maximum(curves.counts, 1))
    return curves.keep(np.asarray(rng.random(len(curves.mjd)) < of_points(curves, keep)))


def lose_bands(curves: LightCurves, rng: Rng, n_bands: int, chance: float) -> LightCurves:
    """Return curves of which a fraction ``chance`` lost one or two bands."""
    lost = rng.integers(0, n_bands, (2, len(curves)))
    lost[:, rng.random(len(curves)) >= chance] = -1
    return curves.keep(
        np.asarray((curves.band != of_points(curves, lost[0])) & (curves.band != of_points(curves, lost[1])))
    )


def lose_forced(curves: LightCurves, rng: Rng, chance: float) -> LightCurves:
    """Return curves of which a fraction ``chance`` has detections only, as a packet before its forced photometry."""
    chosen = rng.random(len(curves)) < chance
    return curves.keep(np.asarray((curves.kind == Kind.DETECTION) | ~of_points(curves, chosen).astype(bool)))


def add_noise(curves: LightCurves, rng: Rng) -> LightCurves:
    """Return curves with up to twice their errors; a detection that drops below 5 sigma becomes forced."""
    factor = of_points(curves, np.where(rng.random(len(curves)) < 0.5, rng.uniform(0.0, 1.7, len(curves)), 0.0))
    extra = factor * curves.flux_err_njy
    flux = curves.flux_njy + extra * rng.standard_normal(len(extra))
    err = np.hypot(curves.flux_err_njy, extra)
    lost = (curves.kind == Kind.DETECTION) & (np.abs(flux) < 5.0 * err) & (factor > 0)
    kind = np.where(lost, np.int8(Kind.FORCED), curves.kind)
    return LightCurves(curves.offsets, curves.mjd, flux, err, curves.band, kind)


def any_epoch(curves: LightCurves, rng: Rng, n_bands: int, longest_d: float) -> LightCurves:
    """Return each curve as the packet of one of its alerts, noisier and with points and bands lost."""
    worse = add_noise(lose_bands(lose_points(curves, rng), rng, n_bands, 0.1), rng)
    # Where nothing is left of it, the curve stays as it was.
    detected = np.isfinite(last_detection(worse))
    worse = _either(worse, curves, detected)
    return lose_forced(as_packet(worse, chosen_detection(worse, rng), longest_d), rng, 0.15)


def _either(yes: LightCurves, no: LightCurves, which: Bools) -> LightCurves:
    both = LightCurves(
        np.concatenate((yes.offsets, no.offsets[1:] + yes.offsets[-1])),
        *(
            np.concatenate((getattr(yes, name), getattr(no, name)))
            for name in ("mjd", "flux_njy", "flux_err_njy", "band", "kind")
        ),
    )
    return both.take(np.where(which, np.arange(len(yes)), np.arange(len(yes)) + len(yes)))


def _rank(curves: LightCurves, flag: Bools) -> Ints:
    """Return per point (D,) how many flagged points of its curve come before it."""
    before = np.concatenate(([0], np.cumsum(flag)))
    return np.asarray(before[:-1] - of_points(curves, before[curves.offsets[:-1]]))
