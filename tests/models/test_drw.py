from __future__ import annotations

import numpy as np

from broker.core.batch import Kind, LightCurves
from broker.models.transients import drw


def cadence(n: int) -> LightCurves:
    mjd = np.tile(np.repeat(60000.0 + 5.0 * np.arange(200), 2), n)
    band = np.tile(np.tile([1, 3], 200), n).astype(np.int8)
    zero = np.zeros(len(mjd))
    return LightCurves(np.arange(n + 1) * 400, mjd, zero, zero + 50.0, band, np.zeros(len(mjd), np.int8))


def test_the_walk_has_unit_variance_and_forgets_in_tau() -> None:
    rng = np.random.default_rng(0)
    mjd = np.cumsum(rng.exponential(10.0, 4000))
    drawn = np.stack([drw.walk(mjd, 100.0, rng) for _ in range(40)])
    np.testing.assert_allclose(drawn.std(), 1.0, rtol=0.05)
    near, far = 10, 60
    for lag in (near, far):
        expected = np.exp(-(mjd[lag:] - mjd[:-lag]) / 100.0).mean()
        np.testing.assert_allclose((drawn[:, lag:] * drawn[:, :-lag]).mean(), expected, atol=0.04)
    assert drw.walk(np.zeros(0), 10.0, rng).shape == (0,)


def test_amplitudes_and_time_scales_are_those_of_the_paper() -> None:
    drawn = drw.galaxies(5000, np.random.default_rng(0))
    # At M_i = -24 and 10^8.5 solar masses: 10^(-0.476 - 0.118 - 0.059) mag, 10^(2.597 - 0.035 - 0.07) d at rest.
    np.testing.assert_allclose(np.median(drawn.sf_mag), 10**-0.653, rtol=0.03)
    np.testing.assert_allclose(np.median(drawn.tau_d * drawn.wave_ratio), 10**2.4915, rtol=0.03)


def test_a_change_of_state_moves_the_mean_and_stays() -> None:
    n = 60
    curves, mean = cadence(n), drw.galaxies(n, np.random.default_rng(2)).mean_njy
    calm, changed = (
        drw.observe(curves, "lsst", np.full(n, which), np.random.default_rng(2)) for which in (False, True)
    )

    def jump(made: LightCurves) -> np.ndarray:
        blue = made.flux_njy.reshape(n, 400)[:, ::2]
        return np.asarray(np.abs(blue[:, -20:].mean(axis=1) - blue[:, :20].mean(axis=1)) / mean)

    assert np.median(jump(changed)) > 1.5 * np.median(jump(calm))
    assert (calm.kind == Kind.DETECTION).any()
    assert np.isfinite(changed.flux_njy).all()
