"""The oracle: the textbook Gaussian process (Rasmussen & Williams 2006, algorithm 2.1), one curve at a time, float64.

It is written to be read, not to be fast: n³ per likelihood, no windows, no approximation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from broker.core.batch import Floats, LightCurves
from broker.gp.model import (
    LOG_AMPLITUDE_RANGE,
    LOG_TIME_SCALE_MAX,
    WAVELENGTH_SCALE_AA,
    Fit,
    Prediction,
    start_amplitude,
    usable,
)


@dataclass(frozen=True, slots=True)
class Curve:
    """One light curve: time (n,) days from its first point, wavelength (n,) Å, flux and error (n,) nJy."""

    time: Floats
    wavelength: Floats
    flux: Floats
    error: Floats


def matern(time: Floats, wavelength: Floats, time_2: Floats, wavelength_2: Floats, tau_d: float) -> Floats:
    """Return the correlation k / A² between points (n,) and (m,): (n, m)."""
    r2 = ((time[:, None] - time_2) / tau_d) ** 2 + ((wavelength[:, None] - wavelength_2) / WAVELENGTH_SCALE_AA) ** 2
    root = np.sqrt(3.0 * r2)
    return np.asarray((1.0 + root) * np.exp(-root))


def log_likelihood(curve: Curve, amplitude: float, tau_d: float) -> float:
    """Return log N(flux | 0, K + diag(error²)); -inf where the matrix is not positive definite."""
    correlation = matern(curve.time, curve.wavelength, curve.time, curve.wavelength, tau_d)
    covariance = amplitude**2 * correlation + np.diag(curve.error**2)
    try:
        cholesky = np.linalg.cholesky(covariance)
    except np.linalg.LinAlgError:
        return -np.inf
    white = np.linalg.solve(cholesky, curve.flux)
    return float(-0.5 * white @ white - np.log(np.diag(cholesky)).sum() - 0.5 * len(white) * np.log(2 * np.pi))


def condition(
    curve: Curve, amplitude: float, tau_d: float, grid_time: Floats, grid_wavelength: Floats
) -> tuple[Floats, Floats]:
    """Return posterior mean (m,), nJy, and variance (m,), nJy², at grid points given by time and wavelength (m,)."""
    correlation = matern(curve.time, curve.wavelength, curve.time, curve.wavelength, tau_d)
    cross = amplitude**2 * matern(curve.time, curve.wavelength, grid_time, grid_wavelength, tau_d)
    cholesky = np.linalg.cholesky(amplitude**2 * correlation + np.diag(curve.error**2))
    white, half = np.linalg.solve(cholesky, curve.flux), np.linalg.solve(cholesky, cross)
    return np.asarray(white @ half), np.asarray(amplitude**2 - np.sum(half**2, axis=0))


def derivatives(curve: Curve, amplitude: float, tau_d: float) -> tuple[Floats, Floats]:
    """Return gradient (2,) and average information (2, 2) of the log likelihood in (log A², log τ²).

    d ll / dθ = (αᵀ K' α - tr K⁻¹ K') / 2 with α = K⁻¹ y. The average information αᵀ K'ᵢ K⁻¹ K'ⱼ α / 2 (Gilmour,
    Thompson & Cullis 1995) stands for the curvature: it is positive definite, so a step along it goes uphill.
    """
    times = (curve.time[:, None] - curve.time) / tau_d
    waves = (curve.wavelength[:, None] - curve.wavelength) / WAVELENGTH_SCALE_AA
    root = np.sqrt(3.0 * (times**2 + waves**2))
    kernel = amplitude**2 * (1.0 + root) * np.exp(-root)
    slopes = (kernel, 1.5 * amplitude**2 * times**2 * np.exp(-root))
    inverse = np.linalg.inv(kernel + np.diag(curve.error**2))
    alpha = inverse @ curve.flux
    gradient = np.array([0.5 * (alpha @ slope @ alpha - np.sum(inverse * slope)) for slope in slopes])
    pulls = [slope @ alpha for slope in slopes]
    return gradient, np.array([[0.5 * left @ inverse @ right for right in pulls] for left in pulls])


def maximise(curve: Curve) -> tuple[float, float, float]:
    """Return amplitude (nJy), time scale (days) and log likelihood at the best of several climbs within the bounds."""
    start = 2.0 * np.log(start_amplitude(curve.flux, curve.error))
    low = np.array([start - LOG_AMPLITUDE_RANGE, 0.0])
    high = np.array([start + LOG_AMPLITUDE_RANGE, LOG_TIME_SCALE_MAX])
    grid = [np.array([start + a, t]) for a in (-4.0, -2.0, 0.0, 2.0) for t in (0.5, 2.5, 4.5, 6.0, 8.0, 10.0)]
    ranked = sorted(grid, key=lambda theta: -_at(curve, theta))
    climbs = [_climb(curve, theta, low, high) for theta in ranked[:3]]
    best, value = max(climbs, key=lambda climb: climb[1])
    return float(np.exp(0.5 * best[0])), float(np.exp(0.5 * best[1])), value


def _at(curve: Curve, theta: Floats) -> float:
    return log_likelihood(curve, float(np.exp(0.5 * theta[0])), float(np.exp(0.5 * theta[1])))


def _climb(curve: Curve, theta: Floats, low: Floats, high: Floats) -> tuple[Floats, float]:
    """Climb by damped Newton steps, clipped to the bounds, until a step is below 1e-5."""
    value, damping = _at(curve, theta), 0.1
    for _ in range(60):
        gradient, information = derivatives(curve, float(np.exp(0.5 * theta[0])), float(np.exp(0.5 * theta[1])))
        free = ~(((theta <= low) & (gradient < 0)) | ((theta >= high) & (gradient > 0)))
        while damping < 1e8:
            damped = information + np.diag(damping * np.diag(information) + 1e-12)
            step = np.zeros(2)
            step[free] = np.linalg.solve(damped[np.ix_(free, free)], gradient[free])
            trial = np.clip(theta + np.clip(step, -2.0, 2.0), low, high)
            trial_value = _at(curve, trial)
            if trial_value >= value:
                break
            damping *= 5.0
        else:
            return theta, value
        moved = float(np.max(np.abs(trial - theta)))
        theta, value, damping = trial, trial_value, max(damping / 10.0, 1e-6)
        if moved < 1e-5:
            break
    return theta, value


def curve_at(curves: LightCurves, wavelengths_aa: Floats, row: int) -> Curve:
    """Return curve ``row`` of a batch, its times counted from its first point."""
    points = slice(int(curves.offsets[row]), int(curves.offsets[row + 1]))
    time = curves.mjd[points] - curves.mjd[points.start]
    return Curve(time, wavelengths_aa[curves.band[points]], curves.flux_njy[points], curves.flux_err_njy[points])


class Dense:
    """The oracle as a `broker.gp.model.Solver`."""

    def fit(self, curves: LightCurves, wavelengths_aa: Floats) -> Fit:
        """Maximise the marginal likelihood of every curve."""
        found = np.full((3, len(curves)), np.nan)
        for row in np.flatnonzero(usable(curves, len(wavelengths_aa))).tolist():
            found[:, row] = maximise(curve_at(curves, wavelengths_aa, row))
        return Fit(*found)

    def predict(
        self, curves: LightCurves, wavelengths_aa: Floats, times: Floats, fit: Fit, *, variance: bool
    ) -> Prediction:
        """Condition every curve; ``variance`` is always computed here, it costs nothing that matters to an oracle."""
        shape = (len(curves), len(wavelengths_aa), times.shape[1])
        flux, spread = np.full(shape, np.nan), np.full(shape, np.nan)
        waves = np.repeat(wavelengths_aa, shape[2])
        for row in np.flatnonzero(usable(curves, shape[1]) & np.isfinite(fit.amplitude)).tolist():
            grid = np.tile(times[row] - curves.mjd[curves.offsets[row]], shape[1])
            curve = curve_at(curves, wavelengths_aa, row)
            answer = condition(curve, float(fit.amplitude[row]), float(fit.time_scale_d[row]), grid, waves)
            flux[row], spread[row] = (part.reshape(shape[1:]) for part in answer)
        value = self.log_likelihood(curves, wavelengths_aa, fit.amplitude, fit.time_scale_d)
        return Prediction(flux, spread, value)

    def log_likelihood(self, curves: LightCurves, wavelengths_aa: Floats, amplitude: Floats, tau_d: Floats) -> Floats:
        """Log marginal likelihood (A,)."""
        value = np.full(len(curves), np.nan)
        for row in np.flatnonzero(usable(curves, len(wavelengths_aa)) & np.isfinite(amplitude)).tolist():
            value[row] = log_likelihood(curve_at(curves, wavelengths_aa, row), float(amplitude[row]), float(tau_d[row]))
        return value
