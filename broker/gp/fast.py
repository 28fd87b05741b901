"""The fast solver: a vectorised likelihood search (`vecchia`, `search`), then prediction in registers (`banded`)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from broker.core.batch import Floats, Ints, LightCurves
from broker.gp import grid, search
from broker.gp.coalesce import Coalesced, coalesce
from broker.gp.model import WAVELENGTH_SCALE_AA, Fit, Prediction, usable

NOISE_MIN, NOISE_MAX = 1e-7, 1e18
"""Bounds of a squared error beside the squared start amplitude in the fit, which is in float32: a smaller one (a signal
to noise of 6,000) would drown in rounding, a larger one says nothing."""

FIT_AMPLITUDE, FIT_TIME_SCALE_D, FIT_SHARE = 3.0, 2.0, 0.02
"""What the fit joins points by, before it knows better: amplitude beside its start, a short time scale, and share of an
error (see `coalesce`)."""


MOST_JOIN = 0.02
"""Largest share of an error that longer runs may cost a curve that would have more than `grid.LIMIT` points."""


@dataclass(frozen=True, slots=True)
class Fast:
    """The fast solver as a `broker.gp.model.Solver`.

    Attributes
    ----------
    cut : float
        Prediction drops covariances below cut · min(error²), or cut · A · min(error) where that is less.
    tail : float
        It stops a variance where a tile of columns adds less than this share.
    single : float
        The mean is in float32 for curves with min(error²) / A² above this.
    single_variance : float
        The variance is in float32 for curves with min(error²) / A² above this.
    join : float
        It joins points while the process moves by less than this share of their error between them.
    """

    cut: float = 3e-4
    tail: float = 1e-5
    single: float = 1e-3
    single_variance: float = 4e-4
    join: float = 3e-4

    def fit(self, curves: LightCurves, wavelengths_aa: Floats) -> Fit:
        """Maximise the block-Vecchia likelihood of every curve."""
        found = np.full((3, len(curves)), np.nan)
        rows = np.flatnonzero(usable(curves, len(wavelengths_aa)))
        if len(rows):
            curves = curves if len(rows) == len(curves) else curves.take(rows)
            unit = start_amplitudes(curves)
            slow = np.full(len(curves), FIT_TIME_SCALE_D)
            few = coalesce(curves, FIT_AMPLITUDE * unit, slow, FIT_SHARE if self.join else 0.0)
            columns = _single_columns(few.curves, _scaled(wavelengths_aa), unit)
            log_power, log_scale, value = search.fit_curves(few.curves.offsets, few.curves.mjd, *columns)
            found[:, rows] = (
                unit * np.exp(0.5 * log_power),
                np.exp(0.5 * log_scale),
                value - few.curves.counts * np.log(unit) + few.log_likelihood,
            )
        return Fit(*found)

    def predict(
        self, curves: LightCurves, wavelengths_aa: Floats, times: Floats, fit: Fit, *, variance: bool
    ) -> Prediction:
        """Condition every curve; in windows of `grid.WINDOW` points where it has more than `grid.LIMIT`."""
        shape = (len(curves), len(wavelengths_aa), times.shape[1])
        answer = Prediction(np.full(shape, np.nan), np.full(shape, np.nan), np.full(len(curves), np.nan))
        rows = np.flatnonzero(usable(curves, shape[1]) & (fit.amplitude > 0) & (fit.time_scale_d > 0))
        if len(rows) == len(curves) > 0:
            self._predict(curves, _scaled(wavelengths_aa), np.ascontiguousarray(times), fit, variance, answer)
        elif len(rows):
            few = Fit(fit.amplitude[rows], fit.time_scale_d[rows], fit.log_likelihood[rows])
            part = self.predict(curves.take(rows), wavelengths_aa, times[rows], few, variance=variance)
            answer.flux[rows], answer.variance[rows] = part.flux, part.variance
            answer.log_likelihood[rows] = part.log_likelihood
        return answer

    def _predict(
        self, curves: LightCurves, waves: Floats, times: Floats, fit: Fit, variance: bool, answer: Prediction
    ) -> None:
        """Fill ``answer`` for curves that are all usable."""
        few = self._joined(curves, fit)
        curves = few.curves
        ordered = _ordered(times)
        size, cells = min(int(curves.counts.max()), grid.LIMIT), times.shape[1] * len(waves)
        for part, *kinds in self._precisions(curves, fit.amplitude):
            if len(part):
                grid.predict(
                    part, curves.offsets, curves.mjd, curves.flux_njy, curves.flux_err_njy, waves[curves.band],
                    fit.amplitude, fit.time_scale_d, ordered, waves, self.cut, self.tail, variance,
                    grid.scratch(size, cells, *kinds), answer.flux, answer.variance, answer.log_likelihood,
                )  # fmt: skip
        long = np.flatnonzero(curves.counts > grid.LIMIT)
        if len(long):
            answer.log_likelihood[long] = _vecchia(curves, waves, fit, long)
        answer.log_likelihood[:] += few.log_likelihood
        if ordered is not times:
            answer.flux[:], answer.variance[:] = _as_given(times, answer.flux), _as_given(times, answer.variance)

    def _joined(self, curves: LightCurves, fit: Fit) -> Coalesced:
        """Join points of runs; where too many are left for one factorisation, longer runs, if they leave few enough."""
        few = coalesce(curves, fit.amplitude, fit.time_scale_d, self.join)
        long = few.curves.counts > grid.LIMIT
        if self.join == 0.0 or not long.any():
            return few
        best = np.full(len(curves), self.join)
        for share in MOST_JOIN / 4.0, MOST_JOIN:
            tried = coalesce(curves, fit.amplitude, fit.time_scale_d, np.where(long, share, best))
            best = np.where(long & (tried.curves.counts <= grid.LIMIT), share, best)
            long &= tried.curves.counts > grid.LIMIT
        return coalesce(curves, fit.amplitude, fit.time_scale_d, best)

    def log_likelihood(self, curves: LightCurves, wavelengths_aa: Floats, amplitude: Floats, tau_d: Floats) -> Floats:
        """Log marginal likelihood (A,); block-Vecchia for curves that `predict` cuts into windows."""
        fit = Fit(amplitude, tau_d, tau_d)
        return self.predict(curves, wavelengths_aa, np.empty((len(curves), 0)), fit, variance=False).log_likelihood

    def _precisions(self, curves: LightCurves, amplitude: Floats) -> list[tuple[Ints, type, type]]:
        """Return rows of the curves (A,) with the precision of their mean and of their variance."""
        smallest = np.minimum.reduceat(curves.flux_err_njy, curves.offsets[:-1])
        largest = np.maximum.reduceat(np.abs(curves.flux_njy), curves.offsets[:-1])
        mean = (smallest > np.sqrt(self.single) * amplitude) & (largest < 1e15 * amplitude)
        both = mean | (smallest > np.sqrt(self.single_variance) * amplitude)
        return [
            (np.flatnonzero(mean), np.float32, np.float32),
            (np.flatnonzero(both & ~mean), np.float64, np.float32),
            (np.flatnonzero(~both), np.float64, np.float64),
        ]


def start_amplitudes(curves: LightCurves) -> Floats:
    """Return `broker.gp.model.start_amplitude` of every curve (A,); none may be empty."""
    starts, counts = curves.offsets[:-1], curves.counts
    top = np.repeat(np.maximum.reduceat(curves.flux_njy, starts), counts)
    size = np.abs(curves.flux_njy)
    ratio = size / np.sqrt(curves.flux_err_njy**2 + (0.01 * top) ** 2)
    is_best = ratio == np.repeat(np.maximum.reduceat(ratio, starts), counts)
    best = np.minimum.reduceat(np.where(is_best, np.arange(len(ratio)), len(ratio)), starts)
    return np.asarray(0.5 * np.where(size[best] > 0, size[best], np.minimum.reduceat(curves.flux_err_njy, starts)))


def _vecchia(curves: LightCurves, waves: Floats, fit: Fit, rows: Ints) -> Floats:
    """Return the block-Vecchia log likelihood of the curves ``rows``."""
    unit, found = start_amplitudes(curves), np.empty(len(curves))
    wave, flux, noise = _single_columns(curves, waves, unit)
    log_power, log_scale = 2.0 * np.log(fit.amplitude / unit), 2.0 * np.log(fit.time_scale_d)
    work = search.workspace()
    search.likelihoods(rows, curves.offsets, curves.mjd, wave, flux, noise, log_scale, log_power, work, found)
    return np.asarray((found - curves.counts * np.log(unit))[rows])


def _single_columns(curves: LightCurves, waves: Floats, unit: Floats) -> list[NDArray[np.float32]]:
    """Return wavelength, and flux and squared error in ``unit`` (A,): (D,) float32 each."""
    unit = np.repeat(unit, curves.counts)
    columns = (
        waves[curves.band],
        curves.flux_njy / unit,
        np.clip((curves.flux_err_njy / unit) ** 2, NOISE_MIN, NOISE_MAX),
    )
    return [column.astype(np.float32) for column in columns]


def _scaled(wavelengths_aa: Floats) -> Floats:
    """Return wavelengths in units of 6000 Å / √3, so that their squared differences add to 3 Δt² / τ²."""
    return np.asarray(wavelengths_aa * (np.sqrt(3.0) / WAVELENGTH_SCALE_AA))


def _ordered(times: Floats) -> Floats:
    """Return each curve's grid times (A, T) in order; those that are not finite come last, as the last finite one."""
    finite = np.isfinite(times)
    if finite.all() and np.all(times[:, 1:] >= times[:, :-1]):
        return times
    last = np.max(np.where(finite, times, -np.inf), axis=1, initial=-np.inf)
    last = np.where(np.isfinite(last), last, 0.0)
    return np.sort(np.where(finite, times, last[:, None]), axis=1)


def _as_given(times: Floats, values: Floats) -> Floats:
    """Bring values (A, B, T) of `_ordered` times back into the order of ``times``; NaN at times that are not finite."""
    finite = np.isfinite(times)
    order = np.argsort(np.where(finite, times, np.inf), axis=1, kind="stable")
    back = np.empty_like(order)
    np.put_along_axis(back, order, np.arange(times.shape[1])[None], axis=1)
    given = np.take_along_axis(values, back[:, None, :], axis=2)
    return np.where(finite[:, None, :], given, np.nan)
