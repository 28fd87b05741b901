"""Template fitting: chi² over a grid of model galaxies and redshifts, the classical way to redshifts.

The templates are simpler than what simulated galaxies are drawn from, as in practice: exponentially falling star
formation, one dust law, lines of one strength, one metallicity. Their stars are those of the simulator all the same
(`broker.models.simulators.seds_tables`): on simulated galaxies they do better than templates do on the sky.
n = records, b = bands, m = models.
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
STEP = 1.0
"""Step of the grid in ln(1 + z), in units of `resolution`; half of it changes no figure."""

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


def photo_z(bands: tuple[str, ...], read: Read | None = None, z_max: float = 3.0, soft: float = 0.03) -> Baseline:
    """Return redshifts by template fitting: the peak of p(z) (after BPZ, Benítez 2000, and EAZY, Brammer et al. 2008).

    As is done in practice, spectroscopic redshifts (the training examples) give the prior p(z | magnitude) and the
    offsets of zero points.

    Parameters
    ----------
    soft : float
        What templates are wrong by, as a share of the flux: more in narrow bands, where lines stand out.
    """
    return partial(_fit_photo_z, _Setting(bands, read or magnitudes(bands), z_max, soft))


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


@lru_cache(maxsize=8)
def grid(bands: tuple[str, ...], redshifts: tuple[float, ...]) -> Floats:
    """Return fluxes (m, b) [nJy] of one solar mass: 48 templates at each redshift, redshifts outermost."""
    axes = np.meshgrid(redshifts, (0.15, 1.0, 3.0, 9.0), (0.5, 2.0, 50.0), (0.0, 0.3, 0.8, 1.6), indexing="ij")
    z, age, tau, av = (axis.ravel() for axis in axes)
    formed = _exponential(np.minimum(age, cosmology.age_gyr(z)), tau)
    formed /= (formed @ seds_stars.surviving())[:, None]
    return seds_tables.fluxes(_light(z, formed, av), bands)


def _exponential(age: Doubles, tau: Doubles) -> Doubles:
    """Return the mass formed in bins of age by SFR ~ exp(-t/τ) that began ``age`` [Gyr] ago."""
    edges = np.minimum(seds_stars.EDGES / 1e9, age[:, None])
    return np.asarray(-np.diff(1.0 - np.exp(-(age[:, None] - edges) / tau[:, None]), axis=1))


def _light(z: Doubles, formed: Doubles, av: Doubles) -> seds_tables.Light:
    same = np.ones_like(z)
    young = formed[:, : seds_tables.YOUNG].sum(axis=1) / seds_stars.EDGES[seds_tables.YOUNG]
    return seds_tables.Light(
        z=z,
        formed=formed,
        log_metal=-0.3 * same,
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


def resolution(bands: tuple[str, ...]) -> float:
    """Return what redshifts are told apart by, in ln(1 + z): a sixth of the narrowest band's width."""
    return min(BANDS[band].width / BANDS[band].centre for band in bands) / 6.0


# ---- redshifts


@dataclass(frozen=True, slots=True)
class _Setting:
    """What is fitted how."""

    bands: tuple[str, ...]
    read: Read
    z_max: float
    soft: float

    @property
    def redshifts(self) -> tuple[float, ...]:
        step = STEP * resolution(self.bands)
        return tuple(float(z) for z in np.expm1(np.arange(np.log(1.01), np.log1p(self.z_max), step)))

    def chi2(self, flux: Floats, err: Floats, models: Floats) -> tuple[Floats, Floats]:
        """Return `chi2` with errors that also hold what templates are wrong by."""
        return chi2(flux, np.hypot(err, self.soft * flux), models)


@dataclass(frozen=True, slots=True)
class _Calibration:
    """What spectroscopic redshifts teach: offsets (b,) to multiply fluxes by, and log p(z | magnitude) (bins, z)."""

    offsets: Floats
    edges: Floats
    prior: Floats


def _fit_photo_z(use: _Setting, train: Examples, seed: int) -> Callable[[Columns], Floats]:
    known = train.take(np.random.default_rng(seed).permutation(len(train))[:2000])
    learnt = _calibrated(use, *use.read(known.columns), known.truth[:, 0])
    return lambda columns: _photo_z(use, learnt, columns)


def _photo_z(use: _Setting, learnt: _Calibration, columns: Columns) -> Floats:
    flux, err = use.read(columns)
    z = np.array(use.redshifts)
    bins = np.digitize(_brightness(use.bands, flux), learnt.edges)
    flux, err = flux * learnt.offsets, err * learnt.offsets
    parts = [slice(a, a + CHUNK) for a in range(0, len(flux), CHUNK)]
    found = [_log_likelihood(use, flux[part], err[part]) + learnt.prior[bins[part]] for part in parts]
    return np.concatenate([*(_peak(each, z, resolution(use.bands)) for each in found), np.empty(0)])[:, None]


def _log_likelihood(use: _Setting, flux: Floats, err: Floats) -> Floats:
    """Return ln of the mean over templates of exp(-chi²/2), at each redshift (n, z)."""
    fit, _ = use.chi2(flux, err, grid(use.bands, use.redshifts))
    fit = fit.reshape(len(flux), len(use.redshifts), -1)
    least = fit.min(axis=2)
    return np.asarray(np.log(np.mean(np.exp(-0.5 * (fit - least[..., None])), axis=2)) - 0.5 * least)


def _peak(log_posterior: Floats, z: Floats, width: float) -> Floats:
    """Return the peak of p(z) (n, z) by the parabola through its highest three points.

    It is looked for in p(z) smoothed by ``width`` in ln(1 + z): few templates leave it rougher than it is.
    """
    x = np.log1p(z)
    kernel = np.exp(-0.5 * ((x[:, None] - x) / width) ** 2)
    posterior = np.exp(log_posterior - log_posterior.max(axis=1, keepdims=True))
    smooth = np.log(posterior @ kernel + 1e-300)
    top = np.clip(np.argmax(smooth, axis=1), 1, len(z) - 2)
    low, middle, high = (smooth[np.arange(len(top)), top + k] for k in (-1, 0, 1))
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


def _calibrated(use: _Setting, flux: Floats, err: Floats, truth: Floats) -> _Calibration:
    z = np.array(use.redshifts)
    at = np.clip(np.searchsorted(z, truth), 0, len(z) - 1)
    models = grid(use.bands, use.redshifts).reshape(len(z), -1, len(use.bands))
    ratio = np.full(flux.shape, np.nan)
    for i in np.unique(at):
        rows = np.flatnonzero(at == i)
        fit, scale = use.chi2(flux[rows], err[rows], models[i])
        best = np.argmin(fit, axis=1)
        seen = flux[rows] > 3.0 * err[rows]
        expected = scale[np.arange(len(rows)), best][:, None] * models[i][best]
        ratio[rows] = np.where(seen, expected / np.where(seen, flux[rows], 1.0), np.nan)
    offsets = np.array([np.median(r[np.isfinite(r)]) if np.isfinite(r).sum() > 20 else 1.0 for r in ratio.T])
    bright = _brightness(use.bands, flux)
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
