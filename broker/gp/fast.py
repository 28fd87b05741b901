"""The fast solver: vectorised likelihood search (`vecchia`, `search`), then prediction (`banded`)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from broker.core.batch import Floats, Ints, LightCurves
from broker.core.jit import jit
from broker.gp import grid, search, vecchia
from broker.gp.model import (
    LOG_AMPLITUDE_RANGE,
    LOG_TIME_SCALE_MAX,
    WAVELENGTH_SCALE_AA,
    Fit,
    Prediction,
    usable,
)

SIZES = np.array([[24, 12], [24, 12], [24, 12], [40, 20]])
"""Points of a Vecchia block with its conditioning points, and of the block, in each stage of the search."""


@jit()
def start(flux: Floats, error: Floats) -> float:
    """Return the start of the amplitude: as `broker.gp.model.start_amplitude`."""
    top, best, peak = np.max(flux), -1.0, 0.0
    for i in range(len(flux)):
        ratio = np.abs(flux[i]) / np.sqrt(error[i] ** 2 + (0.01 * top) ** 2)
        if ratio > best:
            best, peak = ratio, np.abs(flux[i])
    return 0.5 * (peak if peak > 0 else np.min(error))


@jit()
def _evaluate(
    n: int,
    reach: int,
    step: int,
    s: Floats,
    a: Floats,
    flux: NDArray[np.float32],
    noise: NDArray[np.float32],
    work: tuple[NDArray[np.float32], ...],
    values: Floats,
) -> None:
    """Write the 16 log likelihoods at log τ² ``s`` (4,) and log A² ``a`` (16,) to ``values`` (16,)."""
    apart_time, apart_wave, correlations, factor, pivots, rates, power, out = work
    for i in range(4):
        rates[i] = 3.0 * np.exp(-s[i])
    for lane in range(16):
        power[lane] = np.exp(a[lane])
    vecchia.fill_correlations(apart_time, apart_wave, n, reach, rates, correlations)
    vecchia.lanes(n, reach, step, flux, noise, correlations, power, factor, pivots, out)
    for lane in range(16):
        values[lane] = out[lane]


@jit()
def _fit_one(
    n: int, flux: NDArray[np.float32], noise: NDArray[np.float32], work: tuple[NDArray[np.float32], ...]
) -> tuple[float, float, float]:
    """Return log A², log τ² and log likelihood at the maximum, for fluxes in units of the start amplitude."""
    s, a, values, centre = np.empty(4), np.empty(16), np.empty(16), np.empty(5)
    search.coarse(0.0, s, a)
    _evaluate(n, SIZES[0, 0], SIZES[0, 1], s, a, flux, noise, work, values)
    best = int(np.argmax(values))
    centre[0], centre[1], centre[2], centre[3], centre[4] = s[best % 4], a[best], 2.0, 1.2, 0.3
    for stage in range(1, 4):
        search.stencil(centre, s, a, -LOG_AMPLITUDE_RANGE, LOG_AMPLITUDE_RANGE, LOG_TIME_SCALE_MAX)
        _evaluate(n, SIZES[stage, 0], SIZES[stage, 1], s, a, flux, noise, work, values)
        search.recentre(centre, s, a, values, 1.5, -LOG_AMPLITUDE_RANGE, LOG_AMPLITUDE_RANGE, LOG_TIME_SCALE_MAX)
    best = int(np.argmax(values))
    return (
        min(max(centre[1], -LOG_AMPLITUDE_RANGE), LOG_AMPLITUDE_RANGE),
        min(max(centre[0], 0.0), LOG_TIME_SCALE_MAX),
        values[best],
    )


@jit()
def _workspace(longest: int) -> tuple[NDArray[np.float32], ...]:
    reach = vecchia.REACH
    pairs = longest * reach
    return (
        np.zeros(pairs + 4, dtype=np.float32),
        np.zeros(pairs + 4, dtype=np.float32),
        np.zeros(4 * pairs + 16, dtype=np.float32),
        np.zeros((reach + 1) * reach * 16, dtype=np.float32),
        np.zeros(reach * 16, dtype=np.float32),
        np.zeros(4, dtype=np.float32),
        np.zeros(16, dtype=np.float32),
        np.zeros(16, dtype=np.float32),
    )


@jit()
def fit_curves(
    offsets: Ints,
    mjd: Floats,
    flux: Floats,
    error: Floats,
    wave: Floats,
    good: NDArray[np.bool_],
    longest: int,
    found: Floats,
) -> None:
    """Fit every good curve; ``wave`` (D,) in units of 6000 Å / √3. Writes A, τ, log likelihood to ``found`` (3, A)."""
    work = _workspace(longest)
    time32, wave32 = np.zeros(longest, dtype=np.float32), np.zeros(longest, dtype=np.float32)
    flux32, noise32 = np.zeros(longest, dtype=np.float32), np.zeros(longest, dtype=np.float32)
    for row in range(len(offsets) - 1):
        if not good[row]:
            continue
        first, n = offsets[row], offsets[row + 1] - offsets[row]
        unit = start(flux[first : first + n], error[first : first + n])
        for i in range(n):
            time32[i] = mjd[first + i] - mjd[first]
            wave32[i] = wave[first + i]
            flux32[i] = flux[first + i] / unit
            noise32[i] = min((error[first + i] / unit) ** 2, 1e18)
        vecchia.fill_pairs(time32, wave32, n, work[0], work[1])
        log_power, log_scale, value = _fit_one(n, flux32, noise32, work)
        found[0, row] = unit * np.exp(0.5 * log_power)
        found[1, row] = np.exp(0.5 * log_scale)
        found[2, row] = value - n * np.log(unit)


class Fast:
    """The fast solver as a `broker.gp.model.Solver`.

    Parameters
    ----------
    exact : bool
        Predict in float64 without dropping anything (equal to the dense solver's to 1e-6 relative); else within 1.5e-3
        of the error bar.
    """

    def __init__(self, *, exact: bool = False) -> None:
        self.rules = np.array([0.0, 0.0, np.inf] if exact else [1e-3, 1e-6, 1e-3])

    def fit(self, curves: LightCurves, wavelengths_aa: Floats) -> Fit:
        """Maximise the block-Vecchia likelihood of every curve."""
        found = np.full((3, len(curves)), np.nan)
        good = usable(curves, len(wavelengths_aa))
        if good.any():
            wave, longest = _scaled(wavelengths_aa)[curves.band], int(curves.counts.max())
            fit_curves(curves.offsets, curves.mjd, curves.flux_njy, curves.flux_err_njy, wave, good, longest, found)
        return Fit(*found)

    def predict(
        self, curves: LightCurves, wavelengths_aa: Floats, times: Floats, fit: Fit, *, variance: bool
    ) -> Prediction:
        """Condition every curve; in windows of `grid.WINDOW` points where it has more than `grid.LIMIT`."""
        shape = (len(curves), len(wavelengths_aa), times.shape[1])
        flux, spread, value = np.full(shape, np.nan), np.full(shape, np.nan), np.full(len(curves), np.nan)
        good = usable(curves, shape[1]) & np.isfinite(fit.amplitude) & np.isfinite(fit.time_scale_d)
        if good.any():
            waves = _scaled(wavelengths_aa)
            ordered = _ordered(times, curves.mjd[np.minimum(curves.offsets[:-1], len(curves.mjd) - 1)])
            grid.predict_curves(
                curves.offsets, curves.mjd, curves.flux_njy, curves.flux_err_njy, waves[curves.band], good,
                int(curves.counts.max()), fit.amplitude, fit.time_scale_d, ordered, waves, self.rules, variance,
                flux, spread, value,
            )  # fmt: skip
            if ordered is not times:
                flux, spread = _as_given(times, flux), _as_given(times, spread)
        return Prediction(flux, spread, value)

    def log_likelihood(self, curves: LightCurves, wavelengths_aa: Floats, amplitude: Floats, tau_d: Floats) -> Floats:
        """Log marginal likelihood (A,)."""
        fit = Fit(amplitude, tau_d, tau_d)
        return self.predict(curves, wavelengths_aa, np.empty((len(curves), 0)), fit, variance=False).log_likelihood


def _scaled(wavelengths_aa: Floats) -> Floats:
    """Return wavelengths in units of 6000 Å / √3, so that their squared differences add to 3 Δt² / τ²."""
    return wavelengths_aa * (np.sqrt(3.0) / WAVELENGTH_SCALE_AA)


def _ordered(times: Floats, first: Floats) -> Floats:
    """Return each curve's grid times (A, T) in order; not finite ones come last, as the last one or ``first`` (A,)."""
    finite = np.isfinite(times)
    if finite.all() and np.all(times[:, 1:] >= times[:, :-1]):
        return times
    last = np.max(np.where(finite, times, -np.inf), axis=1, initial=-np.inf)
    last = np.where(np.isfinite(last), last, np.where(np.isfinite(first), first, 0.0))
    return np.sort(np.where(finite, times, last[:, None]), axis=1)


def _as_given(times: Floats, values: Floats) -> Floats:
    """Bring values (A, B, T) of `_ordered` times back into the order of ``times``; NaN at times that are not finite."""
    finite = np.isfinite(times)
    order = np.argsort(np.where(finite, times, np.inf), axis=1, kind="stable")
    back = np.empty_like(order)
    np.put_along_axis(back, order, np.arange(times.shape[1])[None], axis=1)
    given = np.take_along_axis(values, back[:, None, :], axis=2)
    return np.where(finite[:, None, :], given, np.nan)
