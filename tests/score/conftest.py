"""Light curves of the scorers' tests, and an interpolation that shares nothing with the Gaussian process."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from broker.core.bands import SURVEYS
from broker.core.batch import Interpolated, Kind, LightCurves
from broker.score import GridRequest

Curves = Callable[..., LightCurves]
Smooth = Callable[[GridRequest, str], Interpolated]


@pytest.fixture(scope="session")
def make_curves() -> Curves:
    """Return a maker of n clean light curves: a rise and a decline in every band, noise, all three kinds of points."""

    def make(n: int, survey: str = "lsst", seed: int = 0, at_least: int = 8) -> LightCurves:
        rng = np.random.default_rng(seed)
        n_bands = len(SURVEYS[survey].bands)
        counts = rng.integers(at_least, at_least + 40, n)
        mjd = np.concatenate(
            [np.sort(rng.uniform(60000, 60000 + rng.uniform(5, 200), c)) for c in counts] + [np.zeros(0)]
        )
        band = rng.integers(0, n_bands, len(mjd)).astype(np.int8)
        alert = np.repeat(np.arange(n), counts)
        peak = 60000 + rng.uniform(0, 60, n)
        phase = (mjd - peak[alert]) / rng.uniform(5, 40, n)[alert]
        true = 10 ** rng.uniform(3, 5, n)[alert] * np.exp(-0.5 * phase**2) * (1 - 0.1 * band)
        err = np.full(len(mjd), 500.0)
        flux = true + err * rng.standard_normal(len(mjd))
        kind = np.where(flux > 5 * err, Kind.DETECTION, np.where(rng.random(len(mjd)) < 0.5, Kind.FORCED, Kind.LIMIT))
        flux = np.where(kind == Kind.LIMIT, 0.0, flux)
        offsets = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
        return LightCurves(offsets, mjd, flux, err, band, kind.astype(np.int8))

    return make


@pytest.fixture(scope="session")
def smooth() -> Smooth:
    """Return a kernel smoother in the place of the Gaussian process."""

    def interpolate(grid: GridRequest, survey: str) -> Interpolated:
        n_bands, (n, n_times) = len(SURVEYS[survey].bands), grid.times.shape
        flux, variance = np.zeros((n, n_bands, n_times)), np.zeros((n, n_bands, n_times))
        for i in range(n):
            points = slice(grid.curves.offsets[i], grid.curves.offsets[i + 1])
            near = np.exp(-np.abs(grid.curves.mjd[points] - grid.times[i][:, None]) / 10.0) + 1e-9
            for b in range(n_bands):
                w = near * np.where(grid.curves.band[points] == b, 1.0, 0.05)
                flux[i, b] = w @ grid.curves.flux_njy[points] / w.sum(axis=1)
                variance[i, b] = 1.0 / (w @ grid.curves.flux_err_njy[points] ** -2.0)
        ones = np.ones(n)
        return Interpolated(
            grid.times, flux.astype(np.float32), variance.astype(np.float32), 1e4 * ones, 20.0 * ones, -50.0 * ones
        )

    return interpolate
