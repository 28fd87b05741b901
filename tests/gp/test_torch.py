"""The torch solver computes the oracle's model, on the CPU and, where there is one, on a GPU."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from broker import gp
from broker.core.bands import SURVEYS
from broker.core.batch import Floats, LightCurves
from broker.gp.model import Solver
from tests.gp.curves import START, batch, supernova, supernovae

torch = pytest.importorskip("torch")
WAVES = SURVEYS["lsst"].wavelengths_aa


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def torch_solver(request: pytest.FixtureRequest) -> Solver:
    from broker.gp.torch_solver import Torch

    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU")
    return Torch(request.param)


def grids(curves: LightCurves, count: int = 15) -> Floats:
    first, last = curves.mjd[curves.offsets[:-1]], curves.mjd[curves.offsets[1:] - 1]
    return np.ascontiguousarray(np.linspace(first - 3.0, last + 3.0, count, axis=1))


def test_posterior_and_likelihood_equal_dense(torch_solver: Solver) -> None:
    curves = supernovae((1, 2, 7, 8, 33, 90), seed=5)
    fit, times = gp.fit(curves, WAVES), grids(curves)
    ours = torch_solver.predict(curves, WAVES, times, fit, variance=True)
    dense = gp.solver("dense").predict(curves, WAVES, times, fit, variance=True)
    scale = np.abs(dense.flux).max(axis=(1, 2), keepdims=True)
    assert np.max(np.abs(ours.flux - dense.flux) / scale) < 1e-7
    np.testing.assert_allclose(ours.variance, dense.variance, rtol=1e-6)
    np.testing.assert_allclose(ours.log_likelihood, dense.log_likelihood, rtol=1e-9, atol=1e-9)
    values = torch_solver.log_likelihood(curves, WAVES, fit.amplitude, fit.time_scale_d)
    np.testing.assert_allclose(values, dense.log_likelihood, rtol=1e-9, atol=1e-9)


def test_fits_reach_the_oracle_s_likelihood(torch_solver: Solver) -> None:
    curves = supernovae(tuple(np.random.default_rng(3).integers(3, 40, 6).tolist()), seed=10)
    ours, best = torch_solver.fit(curves, WAVES), gp.fit(curves, WAVES, solver="dense")
    np.testing.assert_allclose(ours.log_likelihood, best.log_likelihood, atol=0.01)
    exact = gp.log_likelihood(curves, WAVES, ours.amplitude, ours.time_scale_d)
    np.testing.assert_allclose(ours.log_likelihood, exact, rtol=1e-8)


def test_bad_curves_are_nan_and_hurt_nobody(torch_solver: Solver) -> None:
    good = [supernova(n, np.random.default_rng(n)) for n in (12, 20)]
    mjd, band, flux, error = supernova(9, np.random.default_rng(1))
    flux[3] = np.nan
    nothing = np.empty(0)
    curves = batch([good[0], (mjd, band, flux, error), (nothing, nothing.astype(int), nothing, nothing), good[1]])
    times = np.tile(START + np.linspace(0, 100, 7), (4, 1))
    fit = torch_solver.fit(curves, WAVES)
    answer = torch_solver.predict(curves, WAVES, times, fit, variance=True)
    alone = torch_solver.predict(curves.take(np.array([0])), WAVES, times[:1], _row(fit, 0), variance=True)
    np.testing.assert_allclose(answer.flux[0], alone.flux[0], rtol=1e-9, atol=1e-9)
    assert np.isnan(fit.amplitude[1:3]).all()
    assert np.isnan(answer.flux[1:3]).all()
    assert np.isfinite(answer.flux[[0, 3]]).all()


def test_it_is_chosen_by_name() -> None:
    curves = supernovae((10, 25), seed=2)
    named = gp.interpolate(curves, WAVES, grids(curves), solver="torch")
    exact = gp.interpolate(
        curves, WAVES, grids(curves), solver="dense", at=gp.Fit(named.amplitude, named.time_scale_d, np.zeros(2))
    )
    np.testing.assert_allclose(named.flux, exact.flux, rtol=1e-4, atol=1e-4 * float(np.abs(exact.flux).max()))


def test_the_room_does_not_import_torch() -> None:
    code = "import sys, broker.gp; broker.gp.solver('fast'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def _row(fit: gp.Fit, row: int) -> gp.Fit:
    part = slice(row, row + 1)
    return gp.Fit(fit.amplitude[part], fit.time_scale_d[part], fit.log_likelihood[part])
