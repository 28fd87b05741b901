from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from broker.core.batch import Interpolated, Kind, LightCurves
from broker.score import GridRequest, GridRule, features
from broker.score.tensors import HOST, build, channel_names, hide_host, scalar_names, without_host
from broker.score.window import request

Curves = Callable[..., LightCurves]
Smooth = Callable[[GridRequest, str], Interpolated]


def curve(mjd: list[float], kind: list[Kind]) -> LightCurves:
    n = len(mjd)
    flux = np.linspace(1000.0, 2000.0, n)
    offsets = np.array([0, n], np.int64)
    return LightCurves(offsets, np.array(mjd), flux, np.full(n, 100.0), np.zeros(n, np.int8), np.array(kind, np.int8))


D, F, L = Kind.DETECTION, Kind.FORCED, Kind.LIMIT


@pytest.mark.parametrize(
    ("mjd", "kind", "start", "end"),
    [
        ([100.0], [D], 80.0, 100.0),
        ([50.0, 100.0, 110.0], [F, D, F], 80.0, 110.0),
        ([50.0, 100.0, 300.0], [F, D, F], 80.0, 150.0),  # at most 50 d after the last detection
        ([100.0, 900.0], [D, D], 535.0, 900.0),  # at most 365 d
        ([100.0, 120.0], [F, L], 100.0, 120.0),  # no detection: around the last point
    ],
)
def test_the_window_rule(mjd: list[float], kind: list[Kind], start: float, end: float) -> None:
    grid = request(curve(mjd, kind), GridRule())
    assert grid.times[0, 0] == start
    assert grid.times[0, -1] == end
    assert grid.n_detections[0] == kind.count(D)
    np.testing.assert_allclose(np.diff(grid.times[0]), (end - start) / 39)
    kept = [t for t in mjd if start - 15.0 <= t <= end]
    assert grid.curves.mjd.tolist() == kept
    assert len(kept) >= 1


def test_the_mask_is_the_brute_force_one(make_curves: Curves) -> None:
    rule = GridRule()
    grid = request(make_curves(50), rule)
    for i in range(50):
        own = grid.curves.mjd[grid.curves.offsets[i] : grid.curves.offsets[i + 1]]
        near = max(rule.near_d, (grid.times[i, -1] - grid.times[i, 0]) / (rule.points - 1))
        expected = (np.abs(own - grid.times[i][:, None]) <= near).any(axis=1)
        np.testing.assert_array_equal(grid.mask[i], expected)


def test_points_features_are_what_numpy_says(make_curves: Curves) -> None:
    curves = make_curves(30)
    scale, values = features.of_points(curves, 6)
    table = dict(zip(features.names(tuple("ugrizy")), values.T, strict=True))
    for i in range(30):
        points = slice(curves.offsets[i], curves.offsets[i + 1])
        t, f, e = curves.mjd[points], curves.flux_njy[points], curves.flux_err_njy[points]
        band, kind = curves.band[points], curves.kind[points]
        measured, detected = kind != L, kind == D
        snr = np.abs(f) / np.sqrt(e**2 + (0.01 * np.abs(f[measured]).max()) ** 2)
        peak = np.flatnonzero(measured)[snr[measured].argmax()]
        assert scale[i] == abs(f[peak])
        assert table["log_points"][i] == pytest.approx(np.log10(len(t)))
        assert table["log_detections"][i] == pytest.approx(np.log10(1 + detected.sum()))
        assert table["limit_fraction"][i] == pytest.approx((kind == L).mean())
        assert table["log_chi2"][i] == pytest.approx(np.log10(1 + np.mean((f / e) ** 2)))
        if detected.any():
            first, last = t[detected][[0, -1]]
            assert table["log_detected_d"][i] == pytest.approx(np.log10(1 + last - first))
            assert table["log_quiet_d"][i] == pytest.approx(np.log10(1 + first - t[0]))
            assert table["log_longest_gap_d"][i] == pytest.approx(np.log10(1 + np.diff(t[detected]).max(initial=0.0)))
        for b, name in enumerate("ugrizy"):
            own = f[(band == b) & measured] / scale[i]
            if len(own) == 0:
                assert np.isnan(table[f"mean_{name}"][i])
                continue
            assert table[f"mean_{name}"][i] == pytest.approx(own.mean())
            assert table[f"max_{name}"][i] == pytest.approx(own.max() - 500.0 / scale[i])
            spread = max(own.var() - (500.0 / scale[i]) ** 2, 0.0) ** 0.5
            assert table[f"spread_{name}"][i] == pytest.approx(spread, abs=1e-6)
            if len(own) >= 3:
                centred = own - own.mean()
                assert table[f"skew_{name}"][i] == pytest.approx((centred**3).mean() / (centred**2).mean() ** 1.5)


def test_pairs_are_the_brute_force_ones(make_curves: Curves) -> None:
    curves = make_curves(10, at_least=30)
    _, values = features.of_points(curves, 6)
    table = dict(zip(features.names(tuple("ugrizy")), values.T, strict=True))
    for i in range(10):
        points = slice(curves.offsets[i], curves.offsets[i + 1])
        chi2: dict[str, list[float]] = {name: [] for name in features.PAIRS}
        for b in range(6):
            own = np.flatnonzero((curves.band[points] == b) & (curves.kind[points] != L)) + points.start
            for j, k in zip(own[1:], own[:-1], strict=True):
                days = curves.mjd[j] - curves.mjd[k]
                bin_ = next((n for n, edge in zip(features.PAIRS, (1, 4, 15, 50), strict=True) if days <= edge), None)
                if bin_:
                    chi2[bin_].append((curves.flux_njy[j] - curves.flux_njy[k]) ** 2 / (2 * 500.0**2))
        for name, parts in chi2.items():
            expected = np.log10(1 + np.mean(parts)) if parts else np.nan
            assert table[name][i] == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize("survey", ["ztf", "lsst"])
def test_names_and_columns_agree(survey: str, make_curves: Curves, smooth: Smooth) -> None:
    grid = request(make_curves(5, survey), GridRule())
    made = build(grid, smooth(grid, survey))
    assert made.series.shape == (5, 40, len(channel_names(survey)))
    assert made.scalars.shape == (5, len(scalar_names(survey, host=True)))
    assert without_host(made).scalars.shape == (5, len(scalar_names(survey, host=False)))
    assert len(set(scalar_names(survey, host=True))) == made.scalars.shape[1]
    assert made.series.dtype == made.scalars.dtype == np.float32


def test_fluxes_in_another_unit_change_only_the_scale(make_curves: Curves, smooth: Smooth) -> None:
    """Scale-free: 7 times the flux and error gives the same tensors but for the logarithm of the scale."""
    curves = make_curves(8)
    seven = LightCurves(
        curves.offsets, curves.mjd, 7 * curves.flux_njy, 7 * curves.flux_err_njy, curves.band, curves.kind
    )
    names = scalar_names("lsst", host=True)
    made = []
    for factor, these in ((1.0, curves), (7.0, seven)):
        grid = request(these, GridRule())
        answer = smooth(grid, "lsst")
        # What a likelihood of densities per flux does when the unit changes, and the kernel's amplitude.
        likelihood = answer.log_likelihood - np.log(factor) * grid.curves.counts
        answer = Interpolated(
            answer.times, answer.flux, answer.variance, factor * answer.amplitude, answer.time_scale_d, likelihood
        )
        made.append(build(grid, answer))
    np.testing.assert_allclose(made[0].series, made[1].series, atol=1e-4)
    same = [k for k, name in enumerate(names) if name != "log_scale"]
    np.testing.assert_allclose(made[0].scalars[:, same], made[1].scalars[:, same], atol=1e-4)
    difference = made[1].scalars[:, names.index("log_scale")] - made[0].scalars[:, names.index("log_scale")]
    np.testing.assert_allclose(difference, np.log10(7.0), atol=1e-5)


def test_the_host_is_unknown_galactic_or_at_a_distance(make_curves: Curves, smooth: Smooth) -> None:
    grid = request(make_curves(3), GridRule())
    z, err = np.array([np.nan, 0.0, 0.5]), np.array([np.nan, 0.0, 0.05])
    answer = smooth(grid, "lsst")
    scalars = build(grid, answer, host_z=z, host_z_err=err).scalars
    host = dict(zip(HOST, scalars[:, -len(HOST) :].T, strict=True))
    np.testing.assert_array_equal(host["has_host_z"], [0, 1, 1])
    np.testing.assert_array_equal(host["host_zero"], [np.nan, 1, 0])
    assert np.isnan(host["log_luminosity"][:2]).all()
    # astropy.cosmology.FlatLambdaCDM(70, 0.3).luminosity_distance(0.5) = 2832.94 Mpc
    brightness = scalars[2, 0] + 2 * np.log10(2.83294)
    assert host["log_luminosity"][2] == pytest.approx(brightness, abs=1e-4)
    hidden = hide_host(scalars, np.array([True, True, True]))
    np.testing.assert_array_equal(hidden, build(grid, answer).scalars)


def test_a_curve_without_points_is_no_crash_and_not_finite() -> None:
    empty = curve([], [])
    grid = request(empty, GridRule())
    nothing = np.full((1, 6, 40), np.nan, np.float32)
    nan = np.full(1, np.nan)
    made = build(grid, Interpolated(grid.times, nothing, nothing, nan, nan, nan))
    assert not made.finite[0]
    assert grid.n_detections[0] == 0
    assert np.isfinite(made.series).all()


def test_ten_thousand_points_are_windowed(make_curves: Curves) -> None:
    rng = np.random.default_rng(0)
    mjd = np.sort(rng.uniform(59000, 61000, 10_000))
    points = (rng.normal(0, 1e4, 10_000), np.full(10_000, 500.0), rng.integers(0, 6, 10_000).astype(np.int8))
    long = LightCurves(np.array([0, 10_000]), mjd, *points, np.zeros(10_000, np.int8))
    grid = request(long, GridRule())
    assert 1_700 < grid.curves.counts[0] < 2_100
    assert grid.times[0, -1] - grid.times[0, 0] == pytest.approx(365.0)
