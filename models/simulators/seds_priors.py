"""Which galaxies there are: redshifts, masses, histories of star formation, metals and dust, as priors with names.

Masses and luminosities in the Sun's, rates in solar masses per year, ages in Gyr unless a name says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from broker.models.simulators import cosmology, seds_light, seds_stars
from broker.models.simulators.seds_tables import Light

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Prior:
    """What is how common. Every number is a rough reading of the paper named with it, and a default may be another's.

    Attributes
    ----------
    about : str
        In a sentence: every answer that is trained on it is a posterior under this.
    z_low, z_high : float
    band, limit : str, float
        Galaxies are in it whose true AB magnitude in the band is brighter.
    log_mass : float
        The least mass that is drawn.
    sequence : tuple of float
        log SFR of the main sequence = a (log M - 10.5) + b + c ln(1 + z), and its scatter [dex] (after Speagle+2014).
    quenched : tuple of float
        log mass at which half of galaxies are quiescent at z = 0, its change with z, and the width [dex].
    start : tuple of float
        When stars began to form, in shares of the universe's age then: from, to.
    metals : tuple of float
        Mean log metallicity at log M = 10.5 and z = 0, its slope with log M and with z, and its scatter
        (after Gallazzi+2005, Maiolino+2008).
    dust : tuple of float
        Median A(V) of star-forming galaxies at log M = 10.2, the slope of its logarithm with log M, its scatter [dex].
    slope : tuple of float
        Mean and scatter of the attenuation law's slope.
    excitation : tuple of float
        Mean and scatter of the natural logarithm of forbidden lines over the usual.
    burst : float
        Scatter [dex] of the star formation of the last 100 Myr about the smooth history.
    """

    about: str
    z_low: float = 0.02
    z_high: float = 3.0
    band: str = "i"
    limit: float = 25.0
    log_mass: float = 7.0
    sequence: tuple[float, float, float, float] = (0.75, -0.05, 1.65, 0.25)
    quenched: tuple[float, float, float] = (10.35, 0.25, 0.35)
    start: tuple[float, float] = (0.7, 0.95)
    metals: tuple[float, float, float, float] = (0.0, 0.25, -0.10, 0.15)
    dust: tuple[float, float, float] = (0.80, 0.30, 0.25)
    slope: tuple[float, float] = (0.0, 0.1)
    excitation: tuple[float, float] = (0.0, 0.3)
    burst: float = 0.2


@dataclass(frozen=True, slots=True)
class Population:
    """n galaxies: what shines in them, and what one would like to know of them."""

    light: Light
    log_mass: Floats
    log_sfr: Floats
    log_age_gyr: Floats
    log_dust: Floats

    def take(self, rows: NDArray[np.int64]) -> Population:
        """Return some of the galaxies."""
        kept = (self.log_mass, self.log_sfr, self.log_age_gyr, self.log_dust)
        return Population(self.light.take(rows), *(values[rows] for values in kept))


def draw(n: int, prior: Prior, rng: np.random.Generator) -> Population:
    """Return n galaxies of a volume of space, without the cut in magnitude."""
    z, log_mass = _where(n, prior, rng)
    quiet = rng.random(n) < _sigmoid((log_mass - prior.quenched[0] - prior.quenched[1] * z) / prior.quenched[2])
    log_ssfr = _sequence(prior, log_mass, z) - log_mass + prior.sequence[3] * rng.standard_normal(n)
    log_ssfr = np.where(quiet, rng.normal(-12.0, 0.4, n), log_ssfr)
    age = cosmology.age_gyr(z) * rng.uniform(*prior.start, n)
    formed = history(age, log_ssfr, rng.normal(0.0, prior.burst, n))
    formed *= (10**log_mass / (formed @ seds_stars.surviving()))[:, None]
    light = _light(z, formed, log_mass, quiet, prior, rng)
    recent = seds_stars.EDGES[1:] <= 1e8
    sfr = formed[:, recent].sum(axis=1) / 1e8
    middles = 0.5 * (seds_stars.EDGES[1:] + seds_stars.EDGES[:-1]) / 1e9
    mean_age = formed @ middles / formed.sum(axis=1)
    return Population(light, log_mass, np.log10(np.maximum(sfr, 1e-5)), np.log10(mean_age), np.full(n, np.nan))


def _light(
    z: Floats, formed: Floats, log_mass: Floats, quiet: NDArray[np.bool_], prior: Prior, rng: np.random.Generator
) -> Light:
    n = len(z)
    mean, with_mass, with_z, scatter = prior.metals
    log_metal = np.clip(mean + with_mass * (log_mass - 10.5) + with_z * z + rng.normal(0, scatter, n), -1.3, 0.39)
    median = prior.dust[0] * 10 ** (prior.dust[1] * (log_mass - 10.2))
    av = np.where(quiet, 0.10, np.clip(median, 0.05, 2.0)) * 10 ** (prior.dust[2] * rng.standard_normal(n))
    young = formed[:, :2].sum(axis=1) / seds_stars.EDGES[2]
    heat = np.log10(np.maximum(young, 1e-6)) - log_mass + 10.0
    return Light(
        z=z,
        formed=formed,
        log_metal=log_metal,
        av=np.minimum(av, 4.0),
        slope=np.clip(rng.normal(*prior.slope, n), -0.6, 0.4),
        halpha=seds_light.HALPHA_PER_SFR * young,
        excitation=rng.normal(*prior.excitation, n),
        cold=np.clip(22.0 + 3.0 * heat + rng.normal(0, 2.0, n), 15.0, 36.0),
        warm=np.clip(0.15 + 0.06 * heat + rng.normal(0, 0.04, n), 0.02, 0.5),
        aromatic=np.clip(0.10 + 0.08 * log_metal + rng.normal(0, 0.03, n), 0.005, 0.2),
    )


def _sigmoid(x: Floats) -> Floats:
    return np.asarray(1.0 / (1.0 + np.exp(-x)))


def _sequence(prior: Prior, log_mass: Floats, z: Floats) -> Floats:
    slope, at, with_z, _ = prior.sequence
    return slope * (log_mass - 10.5) + at + with_z * np.log(1.0 + z)


# ---- histories


def history(age_gyr: Floats, log_ssfr: Floats, burst: Floats) -> Floats:
    """Return the mass formed in each bin of age (n, bins), in units of all that was formed.

    SFR ~ t exp(-t/τ) since ``age_gyr`` ago, τ such that the mean of the last 100 Myr over all mass formed is
    ``log_ssfr``; then the last 100 Myr are changed by ``burst`` dex.
    """
    x = np.interp(log_ssfr + np.log10(age_gyr * 1e9), *_specific())
    edges = np.minimum(seds_stars.EDGES / 1e9, age_gyr[:, None])
    since = (age_gyr[:, None] - edges) / age_gyr[:, None] * x[:, None]
    formed = -np.diff(_cumulative(since), axis=1) / _cumulative(x[:, None])
    formed[:, seds_stars.EDGES[1:] <= 1e8] *= 10 ** burst[:, None]
    return np.asarray(formed)


def _cumulative(x: Floats) -> Floats:
    """Return the integral of t exp(-t) up to x, without the cancellation near 0; x < 0: it still rises."""
    series = x**2 * (0.5 - x / 3.0 + x**2 / 8.0)
    return np.where(np.abs(x) < 1e-2, series, 1.0 - (1.0 + x) * np.exp(-x))


@lru_cache
def _specific() -> tuple[Floats, Floats]:
    """Return log10(sSFR × age) and the age in units of τ that has it: from rising (-8) to long dead (30)."""
    x = np.linspace(30.0, -8.0, 3001)
    x = x[np.abs(x) > 1e-6]
    return np.log10(x**2 * np.exp(-x) / _cumulative(x)), x


# ---- how many


def _where(n: int, prior: Prior, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Draw redshifts and masses from a mass function times the volume, above the mass that can pass the cut."""
    z = np.linspace(prior.z_low, prior.z_high, 200)
    mass = np.linspace(prior.log_mass, 12.3, 250)
    number = mass_function(mass[None, :], z[:, None]) * (mass >= _least(prior, z)[:, None])
    number *= cosmology.volume_mpc3(z)[:, None]
    along = np.cumsum(number.sum(axis=1))
    row = np.minimum(np.searchsorted(along, rng.random(n) * along[-1]), len(z) - 1)
    share = np.cumsum(number, axis=1)
    share /= share[:, -1:]
    column = np.minimum((rng.random(n)[:, None] > share[row]).sum(axis=1), len(mass) - 1)
    spread = rng.uniform(-0.5, 0.5, (2, n))
    found = z[row] + spread[0] * (z[1] - z[0])
    return np.clip(found, prior.z_low, prior.z_high), mass[column] + spread[1] * (mass[1] - mass[0])


def mass_function(log_mass: Floats, z: Floats) -> Floats:
    """Return galaxies per Mpc³ and dex: Baldry+2012's at z = 0, fewer and steeper with z (after Davidzon+2017)."""
    x = 10 ** (log_mass - 10.66)
    faint = -1.47 - 0.08 * z
    both = 3.96e-3 * (1.0 + z) ** -2.0 * x**0.65 + 0.79e-3 * (1.0 + z) ** -0.8 * x ** (1.0 + faint)
    return np.asarray(np.log(10.0) * np.exp(-x) * both)


def _least(prior: Prior, z: Floats) -> Floats:
    """Return the log mass (z,) below which hardly any galaxy passes: mass over light of 0.08."""
    absolute = prior.limit - cosmology.distance_modulus(z) + 2.5 * np.log10(1.0 + z)
    return np.maximum(-0.4 * (absolute - 4.6) - 1.1, prior.log_mass)


PRIORS = {
    "field": Prior("volume-weighted mass functions to z = 3, cut at i < 25; star-forming main sequence and quiescents"),
    "hosts": Prior("as field, cut at i < 22.5 and z < 1.5: hosts that shallow surveys see", z_high=1.5, limit=22.5),
    "paus": Prior("as field, cut at i < 22.5 and z < 1.2", z_high=1.2, limit=22.5),
    "paus-sky": Prior(
        "another sky than paus: steeper dust law, brighter and more varied lines, other main sequence, more metals",
        z_high=1.2,
        limit=22.5,
        sequence=(0.80, 0.0, 1.85, 0.35),
        quenched=(10.65, 0.30, 0.3),
        start=(0.6, 0.95),
        metals=(0.08, 0.22, -0.08, 0.2),
        dust=(1.05, 0.22, 0.35),
        slope=(-0.25, 0.15),
        excitation=(0.25, 0.45),
        burst=0.35,
    ),
    "gama": Prior("as field, cut at r < 19.8 and z < 0.5", z_low=0.01, z_high=0.5, band="r", limit=19.8, log_mass=7.5),
    "sam": Prior(
        "like a semi-analytic model's mock of CANDELS: steep main sequence, bursts, dust and metals by mass",
        z_low=0.1,
        z_high=4.0,
        band="H",
        limit=25.5,
        log_mass=8.0,
        sequence=(0.90, 0.0, 1.75, 0.30),
        quenched=(10.6, 0.40, 0.35),
        start=(0.4, 0.9),
        metals=(-0.05, 0.35, -0.12, 0.12),
        dust=(0.90, 0.45, 0.30),
        burst=0.45,
    ),
    "candels": Prior("as field, cut at H < 25.5 and z < 4", z_low=0.1, z_high=4.0, band="H", limit=25.5, log_mass=8.0),
}
"""Priors by name."""
