"""What a batch promises: rows do not depend on each other, hard curves stay finite, bad ones hurt nobody."""

from __future__ import annotations

import numpy as np
import pytest

from broker import gp
from broker.core.bands import SURVEYS
from broker.core.batch import Interpolated, LightCurves
from broker.gp.grid import LIMIT
from broker.gp.model import LOG_AMPLITUDE_RANGE, start_amplitude
from tests.gp.curves import START, Curve, batch, supernova, supernovae

WAVES = SURVEYS["lsst"].wavelengths_aa
GRID = START + np.linspace(0.0, 120.0, 25)


def at_grid(curves: LightCurves) -> Interpolated:
    return gp.interpolate(curves, WAVES, np.tile(GRID, (len(curves), 1)))


def same(left: Interpolated, right: Interpolated, rows: list[int]) -> None:
    for name in ("flux", "variance", "amplitude", "time_scale_d", "log_likelihood"):
        np.testing.assert_array_equal(getattr(left, name)[rows], getattr(right, name))


def test_rows_do_not_depend_on_neighbours_or_order() -> None:
    curves = supernovae((3, 60, 1, 140, 25, 600, 2, 48), seed=1)
    together = at_grid(curves)
    for rows in ([5, 2, 0], [7, 6, 5, 4, 3, 2, 1, 0], [1]):
        same(together, at_grid(curves.take(np.array(rows))), rows)


@pytest.mark.parametrize("points", [1, 2, 3, 13, 1000])
def test_any_number_of_points_gives_finite_numbers(points: int) -> None:
    answer = at_grid(supernovae((points,), seed=points))
    assert np.isfinite(answer.flux).all()
    assert (answer.variance >= 0).all()
    assert 0 < answer.amplitude[0] < np.inf
    assert 1.0 <= answer.time_scale_d[0] <= 1000.0 + 1e-6


def test_curve_of_zeros_is_zero() -> None:
    error = np.full(12, 40.0)
    answer = at_grid(batch([(GRID[:12], np.arange(12) % 6, np.zeros(12), error)]))
    np.testing.assert_array_equal(answer.flux, 0.0)
    assert np.isfinite(answer.variance).all()


def test_tiny_noise_returns_the_data() -> None:
    rng = np.random.default_rng(4)
    mjd, band, flux, _ = supernova(30, rng)
    curves = batch([(mjd, band, flux, np.full(30, 1e-4 * np.abs(flux).max()))])
    answer = gp.interpolate(curves, WAVES, mjd[None])
    np.testing.assert_allclose(answer.flux[0, band, np.arange(30)], flux, atol=5e-4 * float(np.abs(flux).max()))


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4])
def test_fluxes_scale_out(scale: float) -> None:
    mjd, band, flux, error = supernova(50, np.random.default_rng(12))
    plain = at_grid(batch([(mjd, band, flux / 1e3, error / 1e3)]))
    scaled = at_grid(batch([(mjd, band, flux / 1e3 * scale, error / 1e3 * scale)]))
    np.testing.assert_allclose(scaled.flux / scale, plain.flux, rtol=1e-3, atol=1e-3 * float(np.abs(plain.flux).max()))
    np.testing.assert_allclose(scaled.time_scale_d, plain.time_scale_d, rtol=1e-2)


def test_points_at_one_time_are_no_trouble() -> None:
    mjd = np.repeat(START + np.arange(8.0) * 5, 6)
    rng = np.random.default_rng(3)
    flux = 1000 * np.exp(-(((mjd - mjd[20]) / 20) ** 2)) + rng.normal(0, 10, 48)
    one_band = batch([(mjd, np.zeros(48, np.int64), flux, np.full(48, 10.0))])
    six_bands = batch([(mjd, np.tile(np.arange(6), 8), flux, np.full(48, 10.0))])
    for curves in (one_band, six_bands):
        answer = at_grid(curves)
        dense = gp.interpolate(
            curves, WAVES, answer.times, solver="dense", at=gp.Fit(answer.amplitude, answer.time_scale_d, np.zeros(1))
        )
        np.testing.assert_allclose(answer.flux, dense.flux, atol=2e-3 * np.sqrt(dense.variance.max()))


def test_a_point_with_a_huge_error_says_nothing() -> None:
    mjd, band, flux, error = supernova(30, np.random.default_rng(7))
    wild_flux, wild_error = flux.copy(), error.copy()
    wild_flux[11], wild_error[11] = 1e9, 1e15
    keep = np.arange(30) != 11
    with_it = at_grid(batch([(mjd, band, wild_flux, wild_error)]))
    without = at_grid(batch([(mjd[keep], band[keep], flux[keep], error[keep])]))
    np.testing.assert_allclose(with_it.flux, without.flux, atol=0.02 * float(np.abs(without.flux).max()))


def test_fit_stops_at_its_bounds() -> None:
    rng = np.random.default_rng(5)
    mjd = START + np.sort(rng.uniform(0, 400, 60))
    spikes = 5000 * rng.normal(size=60)
    fast = batch([(mjd, rng.integers(0, 6, 60), spikes, np.full(60, 1.0))])
    flat = batch([(mjd, rng.integers(0, 6, 60), np.full(60, 300.0), np.full(60, 30.0))])
    noise = batch([(mjd, rng.integers(0, 6, 60), rng.normal(0, 30, 60), np.full(60, 60.0))])
    assert gp.fit(fast, WAVES).time_scale_d[0] == pytest.approx(1.0)
    assert gp.fit(flat, WAVES).time_scale_d[0] > 300.0
    floor = start_amplitude(noise.flux_njy, noise.flux_err_njy) * np.exp(-0.5 * LOG_AMPLITUDE_RANGE)
    assert gp.fit(noise, WAVES).amplitude[0] == pytest.approx(floor, rel=0.2)


def bad_curves() -> dict[str, Curve]:
    mjd, band, flux, error = supernova(20, np.random.default_rng(6))

    def changed(column: int, value: float) -> Curve:
        columns = [mjd.copy(), band.copy(), flux.copy(), error.copy()]
        columns[column][19] = value
        return columns[0], columns[1], columns[2], columns[3]

    nothing = np.empty(0)
    return {
        "nan flux": changed(2, np.nan),
        "infinite time": changed(0, np.inf),
        "zero error": changed(3, 0.0),
        "nan error": changed(3, np.nan),
        "unknown band": changed(1, -1),
        "band out of range": changed(1, 6),
        "empty": (nothing, nothing.astype(np.int64), nothing, nothing),
    }


@pytest.mark.parametrize("solver", ["fast", "dense"])
def test_a_bad_curve_is_nan_and_its_neighbours_are_unhurt(solver: str) -> None:
    good = [supernova(n, np.random.default_rng(n)) for n in (20, 33)]
    expected = gp.interpolate(batch(good), WAVES, np.tile(GRID, (2, 1)), solver=solver)
    for bad in bad_curves().values():
        curves = batch([good[0], bad, good[1]])
        answer = gp.interpolate(curves, WAVES, np.tile(GRID, (3, 1)), solver=solver)
        same(answer, expected, [0, 2])
        assert np.isnan(answer.flux[1]).all()
        assert np.isnan(answer.variance[1]).all()
        assert np.isnan([answer.amplitude[1], answer.time_scale_d[1], answer.log_likelihood[1]]).all()


def test_empty_batches_and_grids() -> None:
    none = LightCurves(
        np.zeros(1, np.int64), np.empty(0), np.empty(0), np.empty(0), np.empty(0, np.int8), np.empty(0, np.int8)
    )
    assert at_grid(none).flux.shape == (0, 6, 25)
    answer = gp.interpolate(supernovae((5, 700), seed=1), WAVES, np.empty((2, 0)))
    assert answer.flux.shape == (2, 6, 0)
    assert np.isfinite(answer.amplitude).all()


def test_grid_times_in_any_order_and_not_finite() -> None:
    curves = supernovae((30, 800), seed=2)
    times = np.tile(GRID, (2, 1))
    shuffled = times[:, np.random.default_rng(0).permutation(25)]
    shuffled[0, 3], shuffled[1, 7] = np.nan, np.inf
    answer = gp.interpolate(curves, WAVES, shuffled)
    plain = gp.interpolate(curves, WAVES, times)
    for row in range(2):
        for column, time in enumerate(shuffled[row]):
            if np.isfinite(time):
                place = int(np.flatnonzero(times[row] == time)[0])
                np.testing.assert_allclose(answer.flux[row, :, column], plain.flux[row, :, place], rtol=1e-4, atol=0.1)
            else:
                assert np.isnan(answer.flux[row, :, column]).all()


def test_wrong_use_raises() -> None:
    curves = supernovae((5, 6), seed=1)
    with pytest.raises(ValueError, match="sorted"):
        gp.fit(
            LightCurves(curves.offsets, curves.mjd[::-1].copy(), *(curves.flux_njy,) * 2, curves.band, curves.kind),
            WAVES,
        )
    with pytest.raises(ValueError, match="times"):
        gp.interpolate(curves, WAVES, GRID[None])
    with pytest.raises(ValueError, match="hyper-parameters"):
        gp.interpolate(curves, WAVES, np.tile(GRID, (2, 1)), at=gp.Fit(*(np.ones(1),) * 3))


def night_points(nights: int, each: int, rng: np.random.Generator, noise: float) -> Curve:
    """Draw nights of so many points in four bands, in no order, of a process of τ = 3 d: no run of them is long."""
    mjd = np.concatenate([START + night + np.sort(rng.uniform(0.0, 0.3, each)) for night in 9.0 * np.arange(nights)])
    band = rng.integers(0, 4, len(mjd))
    r = np.sqrt(3.0) * np.hypot((mjd[:, None] - mjd) / 3.0, (WAVES[band][:, None] - WAVES[band]) / 6000.0)
    root = np.linalg.cholesky((1.0 + r) * np.exp(-r) + 1e-7 * np.eye(len(mjd)))
    error = 1000.0 * noise * rng.uniform(0.6, 1.6, len(mjd))
    return mjd, band, 1000.0 * root @ rng.standard_normal(len(mjd)) + rng.normal(0.0, error), error


def long_histories() -> dict[str, Curve]:
    rng = np.random.default_rng(8)
    return {
        "1,000 points": supernova(1000, rng, span=900.0),
        "windows": supernova(LIMIT + 300, rng, span=900.0),
        "three nights": night_points(3, 450, rng, 0.02),
        "nights that cannot be joined": night_points(7, 190, rng, 1e-3),
    }


@pytest.mark.parametrize("name", long_histories())
def test_a_long_history_keeps_the_mean(name: str) -> None:
    """In windows or with longer runs, the mean stays within 0.1 error bars of the whole curve's Gaussian process."""
    curves = batch([long_histories()[name]])
    times = np.linspace(curves.mjd[0], curves.mjd[-1], 40)[None]
    fit = gp.fit(curves, WAVES)
    ours = gp.solver("fast").predict(curves, WAVES, times, fit, variance=True)
    whole = gp.solver("dense").predict(curves, WAVES, times, fit, variance=True)
    off = np.abs(ours.flux - whole.flux) / np.sqrt(whole.variance)
    assert np.mean(off < 0.1) >= 0.95
    assert off.max() < 0.5
    assert np.all(np.abs(np.sqrt(ours.variance / whole.variance) - 1.0) < 0.2)
    np.testing.assert_allclose(ours.log_likelihood, whole.log_likelihood, rtol=1e-2)


@pytest.mark.parametrize("solver", ["fast", "fast64"])
def test_any_truncation_equals_the_dense_answer(solver: str) -> None:
    """A partial light curve is a light curve: cut after any point, at the same hyper-parameters."""
    whole = supernovae((70,), seed=13)
    cuts = range(1, 71, 3)
    parts = batch([tuple(c[:n] for c in (whole.mjd, whole.band, whole.flux_njy, whole.flux_err_njy)) for n in cuts])  # type: ignore[misc]
    fit, times = gp.fit(parts, WAVES), np.tile(GRID, (len(parts), 1))
    ours = gp.solver(solver).predict(parts, WAVES, times, fit, variance=True)
    dense = gp.solver("dense").predict(parts, WAVES, times, fit, variance=True)
    bar = np.sqrt(dense.variance)
    assert np.max(np.abs(ours.flux - dense.flux) / bar) < {"fast": 1.5e-3, "fast64": 1e-6}[solver]
    assert np.max(np.abs(np.sqrt(ours.variance) / bar - 1.0)) < {"fast": 1.5e-3, "fast64": 1e-6}[solver]
    best = gp.fit(parts, WAVES, solver="dense")
    found = gp.log_likelihood(parts, WAVES, fit.amplitude, fit.time_scale_d)
    assert np.mean(found > best.log_likelihood - 0.5) >= 0.97


def test_float32_overflow_is_nan() -> None:
    mjd, band, flux, error = supernova(20, np.random.default_rng(1))
    answer = at_grid(batch([(mjd, band, flux * 1e36, error * 1e36)]))
    assert not np.isinf(answer.flux).any()
    assert not np.isinf(answer.variance).any()


@pytest.mark.parametrize("relative", [1e-3, 1e-5, 1e-9])
def test_extreme_signal_to_noise_still_fits(relative: float) -> None:
    rng = np.random.default_rng(21)
    mjd, band, _, _ = supernova(120, rng)
    flux = 1e4 * np.exp(-0.5 * ((mjd - START - 50) / 30) ** 2) * (1 + 0.1 * band)
    error = np.full(120, 1e4 * relative)
    curves = batch([(mjd, band, flux + rng.normal(0, error), error)])
    fit, best = gp.fit(curves, WAVES), gp.fit(curves, WAVES, solver="dense")
    found = gp.log_likelihood(curves, WAVES, fit.amplitude, fit.time_scale_d)
    assert found[0] > best.log_likelihood[0] - 3.0
    answer = at_grid(curves)
    assert np.isfinite(answer.flux).all()
    assert np.isfinite(answer.variance).all()
