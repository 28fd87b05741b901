"""The model that every solver shares: kernel constants, start and bounds of the fit, and the types.

Matern-3/2 jointly in time and wavelength, zero mean, white noise equal to the flux error (Boone 2019, Allam & McEwen
2021; george's ``Matern32Kernel``)::

    k = A² (1 + √3 r) exp(-√3 r),    r² = (Δt / τ)² + (Δλ / 6000 Å)²

Free are log A² (within ±10 of its start) and log τ² (0 to ln 1000²); the wavelength scale is frozen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from broker.core.batch import Floats, LightCurves

WAVELENGTH_SCALE_AA = 6000.0
LOG_AMPLITUDE_RANGE = 10.0
"""The fit keeps log A² within this of its start."""
LOG_TIME_SCALE_MAX = float(np.log(1000.0**2))
"""The fit keeps log τ² between 0 (τ = 1 d) and this (τ = 1000 d)."""
START_TIME_SCALE_D = 20.0


@dataclass(frozen=True, slots=True)
class Fit:
    """Hyper-parameters of A light curves at their maximum of the marginal likelihood.

    Attributes
    ----------
    amplitude : (A,) float64
        Kernel standard deviation A, nJy; NaN for a curve that no solver can use (see `usable`).
    time_scale_d : (A,) float64
        Matern time scale τ, days.
    log_likelihood : (A,) float64
        Log marginal likelihood there, of fluxes in nJy. The fast solver's is its block-Vecchia approximation.
    """

    amplitude: Floats
    time_scale_d: Floats
    log_likelihood: Floats


@dataclass(frozen=True, slots=True)
class Prediction:
    """Posterior on a grid: flux (A, B, T) nJy and variance (A, B, T) nJy², float64; log likelihood (A,)."""

    flux: Floats
    variance: Floats
    log_likelihood: Floats


class Solver(Protocol):
    """One way to compute the model. All solvers agree within their stated accuracy."""

    def fit(self, curves: LightCurves, wavelengths_aa: Floats) -> Fit:
        """Maximise the marginal likelihood of every curve; ``wavelengths_aa`` is (B,), Å."""
        ...

    def predict(
        self, curves: LightCurves, wavelengths_aa: Floats, times: Floats, fit: Fit, *, variance: bool
    ) -> Prediction:
        """Condition every curve on its points and evaluate at ``times`` (A, T), MJD, in all bands."""
        ...

    def log_likelihood(self, curves: LightCurves, wavelengths_aa: Floats, amplitude: Floats, tau_d: Floats) -> Floats:
        """Log marginal likelihood (A,) at given amplitudes (A,), nJy, and time scales (A,), days."""
        ...


def usable(curves: LightCurves, n_bands: int) -> NDArray[np.bool_]:
    """Say which curves (A,) have points at all, and only finite ones with a positive error and a known band."""
    good = (
        np.isfinite(curves.mjd)
        & np.isfinite(curves.flux_njy)
        & np.isfinite(curves.flux_err_njy)
        & (curves.flux_err_njy > 0)
        & (curves.band >= 0)
        & (curves.band < n_bands)
    )
    bad_before = np.concatenate(([0], np.cumsum(~good)))
    bad = bad_before[curves.offsets[1:]] - bad_before[curves.offsets[:-1]]
    return np.asarray((bad == 0) & (curves.counts > 0))


def check_sorted(curves: LightCurves) -> None:
    """Raise ValueError if a curve's points are not in time order: windows and conditioning rely on it."""
    backwards = np.diff(curves.mjd) < 0
    inside = np.ones(max(len(curves.mjd) - 1, 0), dtype=np.bool_)
    ends = curves.offsets[1:-1] - 1
    inside[ends[(ends >= 0) & (ends < len(inside))]] = False
    if np.any(backwards & inside):
        raise ValueError("light curves must be sorted in time (broker.lightcurve.merge does it)")


def start_amplitude(flux: Floats, error: Floats) -> float:
    """Return the start of the amplitude, nJy: half the flux of the point with the highest softened S/N.

    ``flux``, ``error`` are (n,), nJy. A curve of zeros starts at half its smallest error (the field takes log 0).
    Source: ``avocado``'s and ``astronet``'s Gaussian process.
    """
    signal_to_noise = np.abs(flux) / np.sqrt(error**2 + (0.01 * np.max(flux)) ** 2)
    peak = float(np.abs(flux[np.argmax(signal_to_noise)]))
    return 0.5 * (peak if peak > 0 else float(np.min(error)))
