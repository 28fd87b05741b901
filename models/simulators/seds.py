"""Rows of galaxies as surveys would list them, from stellar populations with dust, lines and intergalactic hydrogen.

A galaxy is a history of star formation, a metallicity and dust, drawn from a prior with a name (`seds_priors`); its
light goes through a survey's bands and gets its errors (`seds_bands`). Nothing is read from files. It is rough, and
self-consistent: breaks, lines and what dust takes and gives back are where they belong; colours of single populations
in u to z are within some 0.2 mag of published libraries'. n = galaxies.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from broker.models.simulators import seds_tables
from broker.models.simulators.seds_bands import SURVEYS, UGRIZY, magnitudes
from broker.models.simulators.seds_priors import PRIORS, Population, Prior, draw

Floats = NDArray[np.float64]

ID = "sed-rows"
VERSION = "1.1"


@dataclass(frozen=True, slots=True)
class Galaxies:
    """What a survey lists, and the truth.

    Attributes
    ----------
    bands : tuple of str
    flux, flux_err : array, (n, bands)
        nJy; the flux with noise, its error as the survey states it.
    clean : array, (n, bands)
        The flux without noise [nJy].
    truth : dict of str to array, (n,)
        redshift; log_mass [solar], of living stars and remnants; log_sfr [solar masses / yr], mean of 100 Myr; log_dust
        [solar], the luminosity of dust; log_metal [the Sun's]; log_age [Gyr], the mean since stars formed, by mass.
    """

    bands: tuple[str, ...]
    flux: Floats
    flux_err: Floats
    clean: Floats
    truth: dict[str, Floats]

    def __len__(self) -> int:
        return len(self.flux)

    def pick(self, bands: tuple[str, ...]) -> tuple[Floats, Floats]:
        """Return flux and error (n, bands) of some bands."""
        at = [self.bands.index(band) for band in bands]
        return self.flux[:, at], self.flux_err[:, at]

    def fluxes(self, bands: tuple[str, ...]) -> dict[str, Floats]:
        """Return ``flux_u``, ``flux_err_u`` ... [nJy] of some bands."""
        flux, err = self.pick(bands)
        named = {f"flux_{band}": flux[:, k] for k, band in enumerate(bands)}
        return named | {f"flux_err_{band}": err[:, k] for k, band in enumerate(bands)}

    def magnitudes(self, bands: tuple[str, ...]) -> dict[str, Floats]:
        """Return ``mag_u``, ``mag_err_u`` ... [AB mag] of some bands; NaN where not detected."""
        mag, err = magnitudes(*self.pick(bands))
        named = {f"mag_{band}": mag[:, k] for k, band in enumerate(bands)}
        return named | {f"mag_err_{band}": err[:, k] for k, band in enumerate(bands)}


def rows(
    n: int,
    seed: int,
    *,
    bands: tuple[str, ...] = UGRIZY,
    prior: str = "field",
    survey: str = "lsst",
    offsets: Floats | None = None,
) -> Galaxies:
    """Return n galaxies of a prior as a survey lists them.

    Parameters
    ----------
    bands : tuple of str
        Keys of `seds_bands.BANDS` that the survey has a depth of.
    prior, survey : str
        Keys of `seds_priors.PRIORS` and `seds_bands.SURVEYS`.
    offsets : array, (bands,) or (n, bands), optional
        Errors of the zero points [mag].
    """
    rng = np.random.default_rng((seed, 707))
    population = selected(n, PRIORS[prior], rng)
    clean = seds_tables.fluxes(population.light, bands)
    seen = clean if offsets is None else clean * 10 ** (-0.4 * offsets)
    flux, err = SURVEYS[survey].observe(bands, seen, rng)
    return Galaxies(bands, flux, err, clean, truth(population))


def selected(n: int, prior: Prior, rng: np.random.Generator) -> Population:
    """Return n galaxies that are brighter than the prior's limit."""
    parts: list[Population] = []
    limit = 10 ** (-0.4 * (prior.limit - 31.4))
    while sum(len(part.log_mass) for part in parts) < n:
        drawn = draw(max(n, 256), prior, rng)
        bright = np.flatnonzero(seds_tables.fluxes(drawn.light, (prior.band,))[:, 0] > limit)
        parts.append(drawn.take(bright))
    whole = _joined(parts).take(np.arange(n))
    return replace(whole, log_dust=np.log10(np.maximum(seds_tables.dust_luminosity(whole.light), 1.0)))


def truth(population: Population) -> dict[str, Floats]:
    """Return what is to be found out, by name."""
    return {
        "redshift": population.light.z,
        "log_mass": population.log_mass,
        "log_sfr": population.log_sfr,
        "log_dust": population.log_dust,
        "log_metal": population.light.log_metal,
        "log_age": population.log_age_gyr,
    }


def hosts(n: int, seed: int) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """Return columns (``mag_u``, ``mag_err_u`` ...) and truths of galaxies as alerts tell of their hosts, in ugrizy.

    Every other one is as deep as Rubin, the others as shallow as Pan-STARRS: those have u in three of ten cases, no y
    in three of ten, lack a tenth of other bands at random, and of half of them no error is told. Missing is NaN.
    """
    deep, shallow = rows((n + 1) // 2, seed), rows(n // 2, seed + 1_000_003, prior="hosts", survey="shallow")
    rng = np.random.default_rng((seed, 708))
    found, sparse = deep.magnitudes(UGRIZY), shallow.magnitudes(UGRIZY)
    untold = rng.random(len(shallow)) < 0.5
    for band, missing in zip(UGRIZY, (0.7, 0.1, 0.1, 0.1, 0.1, 0.3), strict=True):
        lost = rng.random(len(shallow)) < missing
        sparse[f"mag_{band}"][lost] = np.nan
        sparse[f"mag_err_{band}"][lost | untold] = np.nan
    order = rng.permutation(n)
    columns = {name: np.concatenate([found[name], sparse[name]])[order] for name in found}
    return columns, {name: np.concatenate([deep.truth[name], shallow.truth[name]])[order] for name in deep.truth}


def _joined(parts: list[Population]) -> Population:
    light = seds_tables.Light(*(_each(parts, name) for name in seds_tables.Light.__dataclass_fields__))
    names = ("log_mass", "log_sfr", "log_age_gyr", "log_dust")
    return Population(light, *(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def _each(parts: list[Population], name: str) -> Floats:
    return np.concatenate([getattr(part.light, name) for part in parts])
