from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from broker.core.batch import Floats, Kind, LightCurves
from broker.models.transients import salt
from broker.models.transients.salt import Grid
from broker.models.transients.sky.salt3 import EDGES_AA, Salt3
from broker.score.tensors import distance_gpc

ALPHA, BETA = salt.TRIPP
TRUE_X1, TRUE_C, PEAK = 0.8, 0.15, 60000.0


@pytest.fixture(scope="module")
def grid(salt3: Salt3) -> Grid:
    return Grid.of(salt3, salt.DES_AA)


def candle_x0(z: float) -> float:
    """x0 of a supernova that is exactly as bright as a standard candle of its x1 and c."""
    distance = 5.0 * np.log10(float(distance_gpc(np.array([z]))[0]) * 1e8)
    magnitude = salt.ABSOLUTE + distance - ALPHA * TRUE_X1 + BETA * TRUE_C
    return float(10.0 ** (0.4 * (salt.ZERO_B - magnitude)))


Shown = tuple[Floats, Floats, Floats]
"""Flux, mjd, band."""


def curves_of(parts: list[Shown], snr: float) -> LightCurves:
    """Return curves with one error for all points of a curve: its brightest over ``snr``."""
    rng = np.random.default_rng(3)
    flux, mjd, band = zip(*parts, strict=True)
    err = [np.full(len(f), np.abs(f).max(initial=1.0) / snr) for f in flux]
    noisy = [f + e * rng.standard_normal(len(f)) for f, e in zip(flux, err, strict=True)]
    offsets = np.cumsum([0, *(len(f) for f in flux)]).astype(np.int64)
    t, f, e, b = (np.concatenate(part) for part in (mjd, noisy, err, band))
    return LightCurves(offsets, t, f, e, b.astype(np.int8), np.full(len(t), Kind.FORCED, np.int8))


def supernova(model: Salt3, grid: Grid, k: int, bands: tuple[int, ...] = (1, 2, 3, 4)) -> Shown:
    """Return one at the k-th redshift, seen every four days."""
    z = float(grid.z[k])
    mjd, band = (part.ravel() for part in np.meshgrid(np.arange(PEAK - 30, PEAK + 70, 4.0), np.array(bands)))
    spectrum = (model.mean + TRUE_X1 * model.stretch) * 10.0 ** (-0.4 * TRUE_C * model.colour)
    flux = np.zeros(len(mjd))
    for b in bands:
        low, high = salt.DES_AA[b]
        seen = model.wave * (1.0 + z)
        inside = (seen >= low) & (seen <= high)
        # Flux density per Angstrom to nJy, photons counted.
        f = (spectrum * seen)[:, inside].sum(axis=1) / (2.99792458e18 / seen[inside]).sum() / (1.0 + z) * 1e-12 / 1e-32
        rows = band == b
        flux[rows] = np.interp((mjd[rows] - PEAK) / (1.0 + z), model.phase, f, left=0.0)
    return candle_x0(z) * flux, mjd, band


def test_a_simulated_supernova_is_found_again(grid: Grid, salt3: Salt3) -> None:
    picks = (6, 12, 18)
    parts = [supernova(salt3, grid, k) for k in picks]
    curves = curves_of(parts, snr=60.0)
    z = grid.z[list(picks)]
    found = salt.features(curves, z + 0.01, np.full(3, 0.02), grid)
    n = found.near.shape[1] // 2 - 2
    for own, error in ((found.near[:, :n], 0.02), (found.near[:, n : 2 * n], 0.02), (found.free[:, n : 2 * n], 0.04)):
        np.testing.assert_allclose(own[:, 0], z, atol=error)
    free_z = found.free[:, :n]
    np.testing.assert_allclose(free_z[:, 0], z, atol=0.06)
    near = found.near[:, :n]
    np.testing.assert_allclose(near[:, 1], np.log10([candle_x0(value) for value in z]), atol=0.06)
    np.testing.assert_allclose(near[:, 2], TRUE_X1, atol=0.5)
    np.testing.assert_allclose(near[:, 3], TRUE_C, atol=0.1)
    np.testing.assert_allclose(near[:, 4], 0.0, atol=0.35)
    assert (near[:, 5] < 1.3).all()


def test_another_shape_fits_worse_and_another_brightness_is_told(grid: Grid, salt3: Salt3) -> None:
    flux, mjd, band = supernova(salt3, grid, 12)
    plateau = np.where((mjd > PEAK - 12) & (mjd < PEAK + 60), 0.8 * flux.max(), 0.0)
    curves = curves_of([(f, mjd, band) for f in (flux, plateau, 0.2 * flux)], snr=50.0)
    z = np.full(3, grid.z[12])
    found = salt.features(curves, z, np.full(3, 0.02), grid).near
    assert found[1, 5] > 3.0 * found[0, 5]
    assert found[2, 4] - found[0, 4] == pytest.approx(2.5 * np.log10(5.0), abs=0.3)


def test_missing_bands_and_missing_points(grid: Grid, salt3: Salt3) -> None:
    flux, mjd, band = supernova(salt3, grid, 12)
    one_band = band == 2
    nothing = np.zeros(0)
    parts = [
        (flux, mjd, band),
        (flux[one_band], mjd[one_band], band[one_band]),
        (nothing, nothing, nothing),
        (flux[:1], mjd[:1], band[:1]),
    ]
    curves = curves_of(parts, snr=30.0)
    found = salt.features(curves, np.full(4, grid.z[12]), np.full(4, 0.03), grid)
    assert np.isnan(found.near[2]).all()
    assert np.isnan(found.free[2]).all()
    heads = found.near[[0, 1, 3], :7]
    assert np.isfinite(heads).all()
    assert not np.isinf(found.near).any()
    # One band tells brightness: chi² of the others is of no points.
    assert np.isfinite(found.near[1]).sum() < np.isfinite(found.near[0]).sum()


def test_an_unknown_host_changes_nothing(grid: Grid, salt3: Salt3) -> None:
    flux, mjd, band = supernova(salt3, grid, 12)
    curves = curves_of([(flux, mjd, band)] * 3, snr=30.0)
    curves = replace(curves, flux_njy=np.tile(curves.flux_njy[: len(flux)], 3))
    found = salt.features(curves, np.array([np.nan, 0.0, 0.9]), np.full(3, 0.03), grid)
    np.testing.assert_array_equal(found.free[1], found.free[0])
    np.testing.assert_array_equal(found.free[2], found.free[0])
    n = found.near.shape[1] // 2 - 2
    np.testing.assert_array_equal(found.near[:2, :n], found.free[:2, :n])
    assert found.near[2, 5] > found.near[0, 5]


def test_the_table_is_the_models_spectrum_in_the_bands(salt3: Salt3) -> None:
    # Salt3.curves integrates for the simulation of ZTF: same bands, same shape.
    model, z = salt3, np.array([0.1])
    phase, flux = model.curves(z, np.array([0.5]), np.array([0.2]))
    made = Grid.of(model, EDGES_AA, z)
    own = (made.table[0, :, :, 0] + 0.5 * made.table[0, :, :, 1]) * 10.0 ** (-0.4 * 0.2 * made.law[0][:, None])
    early = phase <= 50
    ratio = own[:, :71] / np.maximum(flux[0][:, early], 1e-3 * flux[0].max())
    bright = flux[0][:, early] > 0.1 * flux[0].max()
    # One colour law per band: a percent.
    np.testing.assert_allclose(ratio[bright] / np.median(ratio[bright]), 1.0, atol=0.02)
    assert (np.diff(made.table[0, :, 71:, 0], axis=1) < 0).all()


def test_fits_are_kept(grid: Grid, salt3: Salt3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flux, mjd, band = supernova(salt3, grid, 12)
    curves = curves_of([(flux, mjd, band)], snr=30.0)
    host = (np.array([grid.z[12]]), np.array([0.03]))
    monkeypatch.setattr(Salt3, "load", classmethod(lambda cls, cache: salt3))
    made = salt.kept(curves, *host, salt.DES_AA, tmp_path)
    monkeypatch.setattr(Salt3, "load", None)
    again = salt.kept(curves, *host, salt.DES_AA, tmp_path)
    np.testing.assert_array_equal(again.near, made.near)
    np.testing.assert_array_equal(made.free, salt.features(curves, *host, grid).free.astype(np.float32))
    with pytest.raises(TypeError):
        salt.kept(curves, *host, salt.LSST_AA, tmp_path)
