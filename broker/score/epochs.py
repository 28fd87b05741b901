"""Light curves as the telescope saw them: one row per night, for networks that read no interpolation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from broker.core.bands import SURVEYS
from broker.core.batch import Floats, Ints, Kind, LightCurves
from broker.core.jit import jit

_DETECTION, _LIMIT = int(Kind.DETECTION), int(Kind.LIMIT)


@dataclass(frozen=True, slots=True)
class EpochRule:
    """How points become epochs.

    Attributes
    ----------
    most : int
        Epochs E of a curve. Of more, those with a detection come first, the latest first; then those without,
        the nearest to a detection first.
    days : float
        An epoch holds the points up to this long after its first.
    """

    most: int = 96
    days: float = 0.5


def names(survey: str) -> tuple[str, ...]:
    """Return the channels' names.

    ``flux_b``: mean of the epoch's points of the band by inverse variance, over the flux scale, clipped to ±4; 0 where
    there is none. ``log_err_b``: log10 of its error over the flux scale; of a limit its 1-sigma depth; 0 where there
    is none. ``seen_b``: 1 measured, -1 only limits, 0 nothing. ``since_detection_d``: days since the first detection
    (negative before it; since the last point where there is none). ``gap_d``: days since the epoch before.
    """
    bands = SURVEYS[survey].bands
    per_band = (f"{name}_{band}" for name in ("flux", "log_err", "seen") for band in bands)
    return (*per_band, "since_detection_d", "gap_d")


def of_curves(
    curves: LightCurves, n_bands: int, scale: Floats, rule: EpochRule | None = None
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return epochs (A, E, 3 B + 2) float32 in the order of time and which of them hold data (A, E).

    Parameters
    ----------
    curves : LightCurves
        A clean curves, history up to the alert.
    scale : (A,) float64
        Flux scale in nJy (`broker.score.features.of_points`).
    """
    rule = rule or EpochRule()
    out = np.zeros((len(curves), rule.most, 3 * n_bands + 2), np.float32)
    mask = np.zeros(out.shape[:2], np.bool_)
    columns = (curves.mjd, curves.flux_njy, curves.flux_err_njy, curves.band, curves.kind)
    _sweep(curves.offsets, *columns, scale, rule.days, out, mask)
    return out, mask


@jit()
def _sweep(
    offsets: Ints,
    mjd: Floats,
    flux: Floats,
    err: Floats,
    band: NDArray[np.int8],
    kind: NDArray[np.int8],
    scale: Floats,
    days: float,
    out: NDArray[np.float32],
    mask: NDArray[np.bool_],
) -> None:
    n_bands = (out.shape[2] - 2) // 3
    sums = np.empty((n_bands, 3))
    for i in range(len(offsets) - 1):
        starts, detected = _epochs(offsets[i], offsets[i + 1], mjd, kind, days)
        zero = _zero(offsets[i], offsets[i + 1], mjd, kind)
        before = np.inf
        for place, k in enumerate(_kept(starts, detected, mjd, out.shape[1])):
            a, b = starts[k], starts[k + 1]
            _sum(a, b, flux, err, band, kind, scale[i], sums)
            _row(sums, out[i, place])
            out[i, place, -2] = mjd[a] - zero
            out[i, place, -1] = max(mjd[a] - before, 0.0)  # the first has no gap
            before = mjd[a]
            mask[i, place] = True


@jit()
def _epochs(start: int, stop: int, mjd: Floats, kind: NDArray[np.int8], days: float) -> tuple[Ints, NDArray[np.bool_]]:
    """Return where epochs begin (N + 1,), the end last, and which hold a detection (N,)."""
    starts, detected = np.empty(stop - start + 1, np.int64), np.zeros(stop - start, np.bool_)
    n = 0
    for j in range(start, stop):
        if n == 0 or mjd[j] - mjd[starts[n - 1]] > days:
            starts[n] = j
            n += 1
        detected[n - 1] |= kind[j] == _DETECTION
    starts[n] = stop
    return starts[: n + 1], detected[:n]


@jit()
def _zero(start: int, stop: int, mjd: Floats, kind: NDArray[np.int8]) -> float:
    """Return the MJD of the first detection, of the last point where there is none."""
    for j in range(start, stop):
        if kind[j] == _DETECTION:
            return float(mjd[j])
    return float(mjd[stop - 1]) if stop > start else 0.0


@jit()
def _kept(starts: Ints, detected: NDArray[np.bool_], mjd: Floats, most: int) -> Ints:
    """Return which epochs are kept, in the order of time (see `EpochRule.most`)."""
    n = len(detected)
    if n <= most:
        return np.arange(n)
    when = mjd[starts[:-1]]
    away = np.full(n, np.inf)
    for forth in range(2):
        last = np.inf
        for step in range(n):
            k = n - 1 - step if forth else step
            last = when[k] if detected[k] else last
            away[k] = min(away[k], abs(when[k] - last))
    age = when[-1] - when
    away = np.where(np.isinf(away), age, away)
    # Detections by their age, and all of them before any other epoch; of equals the later.
    away = np.where(detected, age - age[0] - 1.0, away)
    order = np.argsort(away[::-1], kind="mergesort")
    return np.sort(n - 1 - order[:most])


@jit()
def _sum(
    start: int,
    stop: int,
    flux: Floats,
    err: Floats,
    band: NDArray[np.int8],
    kind: NDArray[np.int8],
    scale: float,
    sums: Floats,
) -> None:
    """Fill sums (B, 3): weight, weighted flux, and the deepest limit's weight, over the flux scale."""
    sums[:] = 0.0
    for j in range(start, stop):
        weight = (scale / err[j]) ** 2
        if kind[j] == _LIMIT:
            sums[band[j], 2] = max(sums[band[j], 2], weight)
        else:
            sums[band[j], 0] += weight
            sums[band[j], 1] += weight * (flux[j] / scale)


@jit()
def _row(sums: Floats, out: NDArray[np.float32]) -> None:
    n_bands = len(sums)
    for b in range(n_bands):
        measured = sums[b, 0] > 0.0
        weight = sums[b, 0] if measured else sums[b, 2]
        if measured:
            out[b] = min(max(sums[b, 1] / weight, -4.0), 4.0)
        if weight > 0.0:
            out[n_bands + b] = min(max(-0.5 * np.log10(weight), -4.0), 2.0)
            out[2 * n_bands + b] = 1.0 if measured else -1.0
