"""Runs of close points become two points, and neither the posterior nor the likelihood notices."""

from __future__ import annotations

import numpy as np
import pytest

from broker.core.bands import SURVEYS
from broker.core.batch import LightCurves
from broker.gp.api import log_likelihood, solver
from broker.gp.coalesce import coalesce
from broker.gp.fast import Fast
from broker.gp.model import Fit

from .curves import START, Curve, batch, supernovae

WAVES = SURVEYS["lsst"].wavelengths_aa
SHARE = Fast().join


def deep(rng: np.random.Generator, nights: int = 8, tau: float = 20.0, noise: float = 0.03) -> Curve:
    """Draw nights of runs of 8 to 24 exposures in a band, 75 s apart, of a process that the model knows."""
    time, band = [], []
    for night in np.sort(rng.choice(60, nights, replace=False)):
        start = START + night
        for run in range(4):
            count = int(rng.integers(8, 25))
            time.append(start + np.arange(count) * 75.0 / 86400.0)
            band.append(np.full(count, (run + night) % 6))
            start = time[-1][-1] + 200.0 / 86400.0
    mjd, bands = np.concatenate(time), np.concatenate(band)
    r = np.hypot((mjd[:, None] - mjd) / tau, (WAVES[bands][:, None] - WAVES[bands]) / 6000.0) * np.sqrt(3.0)
    covariance = (1 + r) * np.exp(-r) + 1e-10 * np.eye(len(mjd))
    error = 1000.0 * noise * rng.uniform(0.7, 1.4, len(mjd))
    flux = 1000.0 * np.linalg.cholesky(covariance) @ rng.standard_normal(len(mjd)) + rng.normal(0.0, error)
    return mjd, bands, flux, error


def fields(seed: int, tau: float = 20.0) -> LightCurves:
    rng = np.random.default_rng(seed)
    return batch([deep(rng, tau=tau) for _ in range(4)])


@pytest.mark.parametrize("tau", [3.0, 20.0, 200.0])
def test_posterior_and_likelihood_are_those_of_all_points(tau: float) -> None:
    curves = fields(1, tau=tau)
    fit = Fit(np.full(len(curves), 1000.0), np.full(len(curves), tau), np.zeros(len(curves)))
    few = coalesce(curves, fit.amplitude, fit.time_scale_d, SHARE)
    assert np.all(few.curves.counts < curves.counts / 2)
    times = np.linspace(START - 5, START + 65, 40) + np.zeros((len(curves), 1))
    dense = solver("dense")
    whole = dense.predict(curves, WAVES, times, fit, variance=True)
    less = dense.predict(few.curves, WAVES, times, fit, variance=True)
    error = np.sqrt(whole.variance)
    assert np.max(np.abs(less.flux - whole.flux) / error) < 3e-3
    assert np.max(np.abs(np.sqrt(less.variance) / error - 1.0)) < 1e-3
    np.testing.assert_allclose(less.log_likelihood + few.log_likelihood, whole.log_likelihood, atol=0.05)


def test_a_run_is_cut_where_its_process_bends() -> None:
    curves = fields(2)
    amplitude = np.full(len(curves), 1000.0)
    left = [
        int(coalesce(curves, amplitude, np.full(len(curves), tau), SHARE).curves.offsets[-1]) for tau in (50, 2, 0.1)
    ]
    assert left[0] < left[1] < left[2] <= curves.offsets[-1]
    assert int(coalesce(curves, amplitude, amplitude, 0.0).curves.offsets[-1]) == curves.offsets[-1]


def test_a_sparse_light_curve_is_left_alone() -> None:
    curves = supernovae((1, 2, 40, 80), 3)
    few = coalesce(curves, np.full(4, 1000.0), np.full(4, 20.0), SHARE)
    np.testing.assert_array_equal(few.curves.mjd, curves.mjd)
    np.testing.assert_array_equal(few.curves.flux_njy, curves.flux_njy)
    assert not few.log_likelihood.any()


def test_points_of_one_instant_become_their_mean() -> None:
    curves = batch([(np.full(65, START), np.zeros(65, int), np.arange(65.0), np.full(65, 2.0))])
    few = coalesce(curves, np.array([100.0]), np.array([20.0]), SHARE)
    np.testing.assert_allclose(few.curves.flux_njy, [32.0, 32.0])
    np.testing.assert_allclose(few.curves.flux_err_njy, np.sqrt(2 * 4.0 / 65))
    at = np.array([100.0]), np.array([20.0])
    whole, less = (log_likelihood(c, WAVES, *at) for c in (curves, few.curves))
    np.testing.assert_allclose(less + few.log_likelihood, whole, atol=1e-6)


def test_the_fit_of_a_deep_field_reaches_the_oracle_s_likelihood() -> None:
    rng = np.random.default_rng(4)
    curves = batch([deep(rng, nights=4) for _ in range(2)])
    fits = {name: solver(name).fit(curves, WAVES) for name in ("fast", "dense")}
    found = {name: log_likelihood(curves, WAVES, f.amplitude, f.time_scale_d) for name, f in fits.items()}
    assert np.all(found["fast"] > found["dense"] - 0.5)


def test_curves_stay_sorted_whatever_the_bands_do() -> None:
    rng = np.random.default_rng(5)
    mjd = START + np.sort(rng.uniform(0.0, 0.2, 300))
    curves = batch([(mjd, rng.integers(0, 6, 300), rng.normal(0, 50, 300), np.full(300, 50.0))] * 2)
    few = coalesce(curves, np.full(2, 100.0), np.full(2, 30.0), SHARE).curves
    assert all(np.all(np.diff(few.mjd[few.offsets[i] : few.offsets[i + 1]]) >= 0) for i in range(2))
    assert few.counts.max() < 100
