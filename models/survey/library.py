"""Fits of spectral energy distributions: means over a library of random galaxies, weighted by exp(-chi²/2).

So do MAGPHYS (da Cunha, Charlot & Elbaz 2008) and CIGALE (Boquien et al. 2019). The library's prior is flat and broad,
as theirs are, and none of those that rows are trained on (`broker.models.simulators.seds_priors`): who fits the sky
does not know how common what is. Part of what a network is ahead by is that it knows: most of all of metallicity, of
which bands tell little. The library's stars and the shapes of its histories and dust laws are the simulator's all the
same: on simulated galaxies it does better than a fit does on the sky.
n = records, b = bands, m = models, q = quantities.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np

from broker.models.simulators import cosmology, seds_light, seds_priors, seds_stars, seds_tables
from broker.models.survey.row import Baseline, Columns, Floats
from broker.models.survey.templates import Doubles, Read, chi2, resolution

QUANTITIES = ("redshift", "log_mass", "log_sfr", "log_dust", "log_metal")
GROWS = np.array([False, True, True, True, False])
"""Which of the quantities grow with a galaxy's brightness."""
AT_Z = 10_000
"""Models at each redshift, where that is known."""
OVER_Z = 50_000
"""Models over all redshifts, where it is not."""
SOFT = 0.05
"""Part of the flux that errors are widened by: models lie apart from each other, the more the fewer there are."""
LIBRARY_SEED = 8
CHUNK = 64
"""Records that are fitted to `OVER_Z` models at once."""


@dataclass(frozen=True, slots=True)
class Library:
    """Models: ``flux`` (m, b) [nJy] of one solar mass, ``values`` (m, q) of `QUANTITIES`."""

    flux: Floats
    values: Floats


def properties(
    bands: tuple[str, ...], read: Read, names: tuple[str, ...], known_z: str = "", z_max: float = 4.0
) -> Baseline:
    """Return means of quantities over a library of models, weighted by exp(-chi²/2).

    Parameters
    ----------
    names : tuple of str
        Of `QUANTITIES`, in the order of the truth's columns.
    known_z : str
        Column of redshifts; '' to fit those, too, up to ``z_max``.
    """
    pick = [QUANTITIES.index(name) for name in names]
    fit = partial(_at_z, known_z) if known_z else partial(_over_z, z_max)
    return lambda train, seed: lambda columns: fit(bands, *read(columns), columns)[:, pick]


@lru_cache(maxsize=128)
def library(bands: tuple[str, ...], n: int, low: float, high: float) -> Library:
    """Return n random galaxies at redshifts from ``low`` to ``high``, flat in ln(1 + z): the same ones for all."""
    rng = np.random.default_rng(LIBRARY_SEED)
    light = _light(np.expm1(rng.uniform(np.log1p(low), np.log1p(high), n)), rng)
    sfr = np.maximum(light.formed[:, seds_stars.EDGES[1:] <= 1e8].sum(axis=1) / 1e8, 10**-12.5)
    dust = np.maximum(seds_tables.dust_luminosity(light), 1e-6)
    values = np.stack([light.z, np.zeros(n), np.log10(sfr), np.log10(dust), light.log_metal], axis=1)
    return Library(seds_tables.fluxes(light, bands), values)


def _light(z: Doubles, rng: np.random.Generator) -> seds_tables.Light:
    """Return what shines in galaxies of one solar mass, each quantity apart from the others."""

    def flat(low: float, high: float) -> Doubles:
        return rng.uniform(low, high, len(z))

    began, log_ssfr, burst = cosmology.age_gyr(z) * flat(0.4, 1.0), flat(-13.0, -8.0), rng.normal(0.0, 0.4, len(z))
    formed = seds_priors.history(began, log_ssfr, burst)
    formed /= (formed @ seds_stars.surviving())[:, None]
    young = formed[:, : seds_tables.YOUNG].sum(axis=1) / seds_stars.EDGES[seds_tables.YOUNG]
    return seds_tables.Light(
        z=z,
        formed=formed,
        log_metal=flat(-1.3, 0.39),
        av=10 ** flat(-1.7, 0.6),
        slope=np.clip(rng.normal(0.0, 0.2, len(z)), -0.6, 0.4),
        halpha=seds_light.HALPHA_PER_SFR * young,
        excitation=rng.normal(0.0, 0.5, len(z)),
        cold=flat(15.0, 32.0),
        warm=flat(0.02, 0.4),
        aromatic=flat(0.005, 0.2),
    )


def _over_z(z_max: float, bands: tuple[str, ...], flux: Floats, err: Floats, columns: Columns) -> Floats:
    models = library(bands, OVER_Z, 0.01, z_max)
    parts = [_means(flux[a : a + CHUNK], err[a : a + CHUNK], models) for a in range(0, len(flux), CHUNK)]
    return np.concatenate([*parts, np.empty((0, len(QUANTITIES)))])


def _at_z(known_z: str, bands: tuple[str, ...], flux: Floats, err: Floats, columns: Columns) -> Floats:
    """Fit at the nearest of redshifts a `resolution` apart; what grows with brightness follows the distance between."""
    z, step = np.asarray(columns[known_z], np.float64), resolution(bands)
    steps = np.maximum(np.round(np.log1p(z) / step), 1.0)
    out = np.full((len(z), len(QUANTITIES)), np.nan)
    for k in np.unique(steps[np.isfinite(steps)]):
        rows, near = np.flatnonzero(steps == k), float(np.expm1(k * step))
        further = _log_dimming(z[rows]) - _log_dimming(np.array([near]))
        out[rows] = _means(flux[rows], err[rows], library(bands, AT_Z, near, near)) + further[:, None] * GROWS
    return out


def _log_dimming(z: Doubles) -> Doubles:
    """Return log10 of the luminosity over the flux density, but for a constant."""
    return np.asarray(2.0 * np.log10(cosmology.luminosity_distance_mpc(z)) - np.log10(1.0 + z))


def _means(flux: Floats, err: Floats, models: Library) -> Floats:
    """Return means (n, q) over models; those that grow with brightness have log10 of the scale added."""
    fit, scale = chi2(flux, np.hypot(err, SOFT * flux), models.flux)
    weight = np.exp(-0.5 * (fit - fit.min(axis=1, keepdims=True)))
    weight /= weight.sum(axis=1, keepdims=True)
    return np.asarray(weight @ models.values + np.sum(weight * np.log10(scale), axis=1)[:, None] * GROWS)
