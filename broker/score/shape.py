"""What a light curve looks like around its peak, from the tensors alone: colours, levels, how long it takes."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from broker.core.batch import Floats, Ints
from broker.score.tensors import Tensors

PHASES_D = (-15, 0, 15, 30, 60)
"""Days from the peak at which colours and levels are read."""
HEIGHTS = (0.25, 0.75)
"""Fractions of the peak between which rise and fall are timed, beside the half that the scalars have."""
_FAINT = 0.01


def names(bands: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of the columns of `of_tensors`."""
    out: list[str] = []
    for phase in PHASES_D:
        out += [f"colour_{a}{b}_{phase}d" for a, b in pairwise(bands)]
        out += [f"level_{phase}d"] if phase else []
    for height in HEIGHTS:
        out += [f"{name}_{height}" for name in ("log_rise_d", "log_fall_d", "rises_before", "falls_after")]
    return tuple(out)


def of_tensors(tensors: Tensors) -> NDArray[np.float32]:
    """Return the columns of `names` (A, F); NaN where no data are near.

    The peak is that of the mean over the bands, weighted by how well each is known, where data are near. A colour is
    log10 of the ratio of two neighbouring bands' fluxes, each at least its error; a level log10 of the mean over the
    peak's.
    """
    curve = _Curve.of(tensors)
    columns = []
    for phase in PHASES_D:
        known, logs, level = curve.at(phase)
        columns.append(np.where(known[:, None], logs[:, :-1] - logs[:, 1:], np.nan))
        if phase:
            columns.append(np.where(known, level, np.nan)[:, None])
    columns += [column[:, None] for height in HEIGHTS for column in curve.times(height)]
    return np.concatenate(columns, axis=1).astype(np.float32)


@dataclass(frozen=True, slots=True)
class _Curve:
    """Flux and error (A, T, B), their mean (A, T), the mask, the peak's place and value (A,), and days per step."""

    flux: NDArray[np.float32]
    err: NDArray[np.float32]
    mean: NDArray[np.float32]
    mask: NDArray[np.bool_]
    peak: Ints
    top: NDArray[np.float32]
    step: Floats

    @classmethod
    def of(cls, tensors: Tensors) -> _Curve:
        bands = (tensors.series.shape[2] - 2) // 2
        flux, err = tensors.series[..., :bands], 10.0 ** tensors.series[..., bands : 2 * bands]
        weight = 1.0 / (err**2 + 0.01)
        mean = (flux * weight).sum(axis=2) / weight.sum(axis=2)
        peak = np.where(tensors.mask, mean, -np.inf).argmax(axis=1)
        top = np.maximum(mean[np.arange(len(mean)), peak], 1e-3)
        span = 10.0 ** tensors.series[:, 0, -2].astype(np.float64) - 1.0
        return cls(flux, err, mean, tensors.mask, peak, top, np.maximum(span / (mean.shape[1] - 1), 1e-3))

    def at(self, phase: float) -> tuple[NDArray[np.bool_], Floats, Floats]:
        """Return whether data are near (A,), log10 of the fluxes (A, B) and of the level (A,), days from the peak."""
        rows, last = np.arange(len(self.mean)), self.mean.shape[1] - 1
        place = self.peak + phase / self.step
        inside = np.clip(place, 0.0, last - 1e-3)
        left = inside.astype(np.int64)
        part = inside - left
        flux = self.flux[rows, left] * (1.0 - part)[:, None] + self.flux[rows, left + 1] * part[:, None]
        err = np.minimum(self.err[rows, left], self.err[rows, left + 1])
        level = (self.mean[rows, left] * (1.0 - part) + self.mean[rows, left + 1] * part) / self.top
        near = self.mask[rows, left] | self.mask[rows, left + 1]
        known = (place >= 0.0) & (place <= last) & near
        return known, np.log10(np.maximum(flux, np.maximum(err, _FAINT))), np.log10(np.maximum(level, _FAINT))

    def times(self, height: float) -> tuple[Floats, Floats, Floats, Floats]:
        """Return log10 of 1 + days of rise and fall (A,), and 1 where the window ends before it is that faint."""
        steps, last = np.arange(self.mean.shape[1]), self.mean.shape[1]
        faint, peak = self.mean <= height * self.top[:, None], self.peak[:, None]
        rise = np.where(faint & (steps < peak), steps, -1).max(axis=1)
        fall = np.where(faint & (steps > peak), steps, last).min(axis=1)
        log_rise = np.log10(1.0 + (self.peak - rise) * self.step)
        log_fall = np.log10(1.0 + (fall - self.peak) * self.step)
        return log_rise, log_fall, (rise < 0).astype(np.float64), (fall == last).astype(np.float64)
