"""Template fitting: chi² over a grid of model galaxies and redshifts, the classical way to redshifts, masses and rates.

The grid is coarser than what simulated galaxies are drawn from, as in practice: exponentially falling star formation,
one dust law, lines of one strength, few ages and metallicities. Its stars are those of the simulator all the same
(`broker.models.simulators.seds_tables`): on simulated galaxies it does better than templates do on the sky.
n = records, b = bands, m = models, q = quantities.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
from numpy.typing import NDArray

from broker.models.simulators import cosmology, seds_light, seds_stars, seds_tables
from broker.models.simulators.seds_bands import BANDS, ZERO_POINT
from broker.models.survey.row import Baseline, Columns, Examples, Floats

Doubles = NDArray[np.float64]

CHUNK = 256
UNTOLD = 0.1
"""Error [mag] of a magnitude that comes without one."""
SOFT = 0.03
"""What templates are wrong by, as a share of the flux; beyond 5 µm ten times as much."""
QUANTITIES = ("redshift", "log_mass", "log_sfr", "log_dust", "log_metal")
GROWS = np.array([False, True, True, True, False])
"""Which of the quantities grow with a galaxy's brightness."""

Read = Callable[[Columns], tuple[Floats, Floats]]
"""From columns to fluxes and errors (n, b) [nJy]; NaN where a band is missing."""


def magnitudes(bands: tuple[str, ...]) -> Read:
    """Return a reader of ``mag_<band>`` and ``mag_err_<band>``."""
    return partial(_magnitudes, bands)


def together(*reads: Read) -> Read:
    """Return a reader of several readers' bands side by side."""
    return lambda columns: _side_by_side([read(columns) for read in reads])


def fluxes(bands: tuple[str, ...]) -> Read:
    """Return a reader of ``flux_<band>`` and ``flux_err_<band>``."""
    return lambda columns: (_columns("flux_", bands, columns), _columns("flux_err_", bands, columns))


def photo_z(bands: tuple[str, ...], read: Read | None = None, z_max: float = 3.0) -> Baseline:
    """Return redshifts by template fitting: the peak of p(z) (after BPZ, Benítez 2000, and EAZY, Brammer et al. 2008).

    As is done in practice, spectroscopic redshifts (the training examples) give the prior p(z | magnitude) and the
    offsets of zero points.
    """
    return partial(_fit_photo_z, bands, read or magnitudes(bands), z_max)


def properties(
    bands: tuple[str, ...], read: Read, names: tuple[str, ...], known_z: str = "", z_max: float = 4.0
) -> Baseline:
    """Return means of quantities over a grid of models, weighted by exp(-chi²/2).

    Parameters
    ----------
    names : tuple of str
        Of `QUANTITIES`, in the order of the truth's columns.
    known_z : str
        Column of redshifts; '' to fit those, too.
    """
    return lambda train, seed: partial(_properties, bands, read, names, known_z, z_max)


# ---- readers


def _magnitudes(bands: tuple[str, ...], columns: Columns) -> tuple[Floats, Floats]:
    mag, told = _columns("mag_", bands, columns), _columns("mag_err_", bands, columns)
    flux = 10 ** (-0.4 * (mag - ZERO_POINT))
    return flux, flux * np.where(np.isfinite(told), told, UNTOLD) * 0.4 * np.log(10.0)


def _columns(prefix: str, bands: tuple[str, ...], columns: Columns) -> Doubles:
    """Return columns (n, b) of some bands; NaN where one is missing."""
    lost = np.full(len(next(iter(columns.values()))), np.nan)
    return np.stack([np.asarray(columns.get(prefix + band, lost), np.float64) for band in bands], axis=1)


def _side_by_side(parts: list[tuple[Floats, Floats]]) -> tuple[Floats, Floats]:
    return np.concatenate([flux for flux, _ in parts], axis=1), np.concatenate([err for _, err in parts], axis=1)


# ---- models


@dataclass(frozen=True, slots=True)
class Grid:
    """Models: ``flux`` (m, b) [nJy] of one solar mass, ``values`` (m, q) of `QUANTITIES`, redshifts outermost."""

    flux: Floats
    values: Floats


@lru_cache(maxsize=32)
def grid(bands: tuple[str, ...], redshifts: tuple[float, ...], *, fine: bool) -> Grid:
    """Return the models at all redshifts: 48 of each, or with ``fine`` 450 (ages, metals and dust of their own)."""
    ages = (0.1, 0.4, 1.0, 2.5, 5.0, 10.0) if fine else (0.15, 1.0, 3.0, 9.0)
    taus = (0.3, 1.0, 3.0, 10.0, 100.0) if fine else (0.5, 2.0, 50.0)
    dusts = (0.03, 0.2, 0.5, 1.0, 1.8) if fine else (0.0, 0.3, 0.8, 1.6)
    metals = (-0.7, -0.3, 0.1) if fine else (-0.3,)
    axes = np.meshgrid(redshifts, metals, ages, taus, dusts, indexing="ij")
    z, metal, age, tau, av = (axis.ravel() for axis in axes)
    age = np.minimum(age, cosmology.age_gyr(z))
    formed = _exponential(age, tau)
    formed /= (formed @ seds_stars.surviving())[:, None]
    sfr = np.maximum(formed[:, seds_stars.EDGES[1:] <= 1e8].sum(axis=1) / 1e8, 10**-12.5)
    light = _light(z, formed, metal, av)
    dust = np.maximum(seds_tables.dust_luminosity(light), 1e-6)
    values = np.stack([z, np.zeros_like(z), np.log10(sfr), np.log10(dust), metal], axis=1)
    return Grid(seds_tables.fluxes(light, bands), values)


def _exponential(age: Doubles, tau: Doubles) -> Doubles:
    """Return the mass formed in bins of age by SFR ~ exp(-t/τ) that began ``age`` [Gyr] ago."""
    edges = np.minimum(seds_stars.EDGES / 1e9, age[:, None])
    return np.asarray(-np.diff(1.0 - np.exp(-(age[:, None] - edges) / tau[:, None]), axis=1))


def _light(z: Doubles, formed: Doubles, metal: Doubles, av: Doubles) -> seds_tables.Light:
    same = np.ones_like(z)
    young = formed[:, : seds_tables.YOUNG].sum(axis=1) / seds_stars.EDGES[seds_tables.YOUNG]
    return seds_tables.Light(
        z=z,
        formed=formed,
        log_metal=metal,
        av=av,
        slope=0.0 * same,
        halpha=seds_light.HALPHA_PER_SFR * young,
        excitation=0.0 * same,
        cold=22.0 * same,
        warm=0.12 * same,
        aromatic=0.08 * same,
    )


# ---- chi²


def chi2(flux: Floats, err: Floats, models: Floats) -> tuple[Floats, Floats]:
    """Return chi² (n, m) of fluxes with errors (n, b), each model (m, b) at its best scale > 0, and that scale."""
    known = np.isfinite(flux) & np.isfinite(err)
    weight = np.where(known, 1.0 / np.where(known, err, 1.0) ** 2, 0.0)
    weighted = weight * np.where(known, flux, 0.0)
    cross, square = weighted @ models.T, weight @ (models**2).T
    scale = np.maximum(cross, 1e-30) / np.maximum(square, 1e-300)
    total = np.sum(weighted * np.where(known, flux, 0.0), axis=1)[:, None]
    return total - 2.0 * scale * cross + scale**2 * square, scale


def _softened(bands: tuple[str, ...], flux: Floats, err: Floats) -> Floats:
    """Return errors that also hold what templates are wrong by."""
    far = np.array([BANDS[band].centre > 5000.0 for band in bands])
    return np.asarray(np.sqrt(err**2 + (np.where(far, 10.0 * SOFT, SOFT) * np.abs(flux)) ** 2))


def _steps(z_max: float) -> tuple[float, ...]:
    """Return redshifts from 0.01 on, a hundredth of 1 + z apart."""
    return tuple(float(z) for z in np.expm1(np.arange(np.log(1.01), np.log1p(z_max), 0.01)))


# ---- redshifts


@dataclass(frozen=True, slots=True)
class _Calibration:
    """What spectroscopic redshifts teach: offsets (b,) to multiply fluxes by, and log p(z | magnitude) (bins, z)."""

    offsets: Floats
    edges: Floats
    prior: Floats


def _fit_photo_z(
    bands: tuple[str, ...], read: Read, z_max: float, train: Examples, seed: int
) -> Callable[[Columns], Floats]:
    known = train.take(np.random.default_rng(seed).permutation(len(train))[:2000])
    flux, err = read(known.columns)
    learnt = _calibrated(bands, flux, err, known.truth[:, 0], z_max)
    return lambda columns: _photo_z(bands, read, z_max, learnt, columns)


def _photo_z(bands: tuple[str, ...], read: Read, z_max: float, learnt: _Calibration, columns: Columns) -> Floats:
    flux, err = read(columns)
    z = np.array(_steps(z_max))
    bins = np.digitize(_brightness(bands, flux), learnt.edges)
    flux, err = flux * learnt.offsets, err * learnt.offsets
    peaks = [
        _peak(
            _log_likelihood(bands, flux[a : a + CHUNK], err[a : a + CHUNK], z_max) + learnt.prior[bins[a : a + CHUNK]],
            z,
        )
        for a in range(0, len(flux), CHUNK)
    ]
    return np.concatenate([*peaks, np.empty(0)])[:, None]


def _log_likelihood(bands: tuple[str, ...], flux: Floats, err: Floats, z_max: float) -> Floats:
    """Return ln of the mean over templates of exp(-chi²/2), at each redshift (n, z)."""
    steps = _steps(z_max)
    fit, _ = chi2(flux, _softened(bands, flux, err), grid(bands, steps, fine=False).flux)
    fit = fit.reshape(len(flux), len(steps), -1)
    least = fit.min(axis=2)
    return np.asarray(np.log(np.mean(np.exp(-0.5 * (fit - least[..., None])), axis=2)) - 0.5 * least)


def _peak(log_posterior: Floats, z: Floats) -> Floats:
    """Return the peak of p(z) (n, z), by the parabola through its highest three points."""
    top = np.clip(np.argmax(log_posterior, axis=1), 1, len(z) - 2)
    rows = np.arange(len(top))
    low, middle, high = (log_posterior[rows, top + k] for k in (-1, 0, 1))
    curve = np.minimum(low - 2.0 * middle + high, -1e-9)
    return np.asarray(z[top] + np.clip(0.5 * (low - high) / curve, -0.5, 0.5) * np.gradient(z)[top])


def _brightness(bands: tuple[str, ...], flux: Floats) -> Floats:
    """Return the magnitude (n,) in i, or the mean of the others where there is none."""
    with np.errstate(invalid="ignore", divide="ignore"):
        mag = ZERO_POINT - 2.5 * np.log10(np.where(flux > 0, flux, np.nan))
    known = np.isfinite(mag)
    mean = np.where(known, mag, 0.0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    at = mag[:, bands.index("i")] if "i" in bands else mean
    return np.where(np.isfinite(at), at, mean)


def _calibrated(bands: tuple[str, ...], flux: Floats, err: Floats, truth: Floats, z_max: float) -> _Calibration:
    z = np.array(_steps(z_max))
    at = np.clip(np.searchsorted(z, truth), 0, len(z) - 1)
    models = grid(bands, _steps(z_max), fine=False).flux.reshape(len(z), -1, len(bands))
    ratio = np.full(flux.shape, np.nan)
    for i in np.unique(at):
        rows = np.flatnonzero(at == i)
        fit, scale = chi2(flux[rows], _softened(bands, flux[rows], err[rows]), models[i])
        best = np.argmin(fit, axis=1)
        seen = flux[rows] > 3.0 * err[rows]
        expected = scale[np.arange(len(rows)), best][:, None] * models[i][best]
        ratio[rows] = np.where(seen, expected / np.where(seen, flux[rows], 1.0), np.nan)
    offsets = np.array([np.median(r[np.isfinite(r)]) if np.isfinite(r).sum() > 20 else 1.0 for r in ratio.T])
    bright = _brightness(bands, flux)
    edges = np.quantile(bright, np.linspace(0.0, 1.0, 11)[1:-1])
    return _Calibration(offsets, edges, _prior(np.digitize(bright, edges), truth, z))


def _prior(bins: NDArray[np.int64], truth: Floats, z: Floats) -> Floats:
    """Return ln p(z | bin of magnitude) (bins, z): counts smoothed by 0.05 (1 + z), and a tenth of a flat floor."""
    out = np.empty((10, len(z)))
    for k in range(10):
        known = truth[bins == k][:, None]
        smooth = np.exp(-0.5 * ((z - known) / (0.05 * (1.0 + known))) ** 2).sum(axis=0) + 1e-3
        out[k] = np.log(0.9 * smooth / smooth.sum() + 0.1 / len(z))
    return out


# ---- masses, rates, dust


def _properties(
    bands: tuple[str, ...], read: Read, names: tuple[str, ...], known_z: str, z_max: float, columns: Columns
) -> Floats:
    flux, err = read(columns)
    soft = _softened(bands, flux, err)
    pick = [QUANTITIES.index(name) for name in names]
    if known_z:
        steps = np.round(np.log1p(np.asarray(columns[known_z], np.float64)) / 0.005).astype(int)
        groups = [(np.flatnonzero(steps == k), _just(0.005 * max(k, 1))) for k in np.unique(steps)]
    else:
        coarse = _steps(z_max)[::3]
        groups = [(np.arange(a, min(a + 64, len(flux))), coarse) for a in range(0, len(flux), 64)]
    out = np.full((len(flux), len(QUANTITIES)), np.nan)
    for rows, redshifts in groups:
        out[rows] = _mean_values(flux[rows], soft[rows], grid(bands, redshifts, fine=True))
    return out[:, pick]


def _just(log_stretch: float) -> tuple[float, ...]:
    return (float(np.expm1(log_stretch)),)


def _mean_values(flux: Floats, err: Floats, models: Grid) -> Floats:
    """Return means (n, q) over models; those that grow with brightness have log10 of the scale added."""
    fit, scale = chi2(flux, err, models.flux)
    weight = np.exp(-0.5 * (fit - fit.min(axis=1, keepdims=True)))
    weight /= weight.sum(axis=1, keepdims=True)
    return np.asarray(weight @ models.values + np.sum(weight * np.log10(scale), axis=1)[:, None] * GROWS)
