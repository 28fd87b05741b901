"""Galaxies of universes with other matter and other feedback: rows as a hydrodynamical suite lists them.

A toy that stands for the CAMELS simulations. Haloes are those of Navarro, Frenk & White; a third are satellites
that tides cut, along the tracks of Peñarrubia et al. (2010). Gas turns into stars as a balance of inflow and wind
(Davé, Finlator & Oppenheimer 2012): a halo gives its share of baryons, Ωb / Ωm with Ωb fixed, a wind of mass
loading eta ~ A_SN V^-slope takes its part, and black holes stop massive haloes' gas from cooling. Stars and metals
are both what the wind left, so that a galaxy's stars, metals and depth together tell the share of baryons: this is
the imprint of Ωm that is in it. Stars draw their halo together (as Lovell et al. 2018 find).

Scatter: concentration 0.11 dex (Dutton & Macciò 2014), stars at one depth 0.12 dex (Matthee et al. 2017; other code
0.18), metals 0.1 dex (Torrey et al. 2019), gas 0.15 dex, sizes 0.2 dex about 0.015 R200 (Kravtsov 2013), black
holes 0.3 dex about Kormendy & Ho (2013), star formation 0.3 dex about Speagle et al. (2014), dispersions 0.02 dex
(Evrard et al. 2008). What has no paper here, and all that differs between the two codes, is a choice that brings
stellar masses near those of simulations, not a fit.

Prior: as CAMELS draws them (Villaescusa-Navarro et al. 2021), Ωm 0.1 to 0.5 and sigma_8 0.6 to 1 flat, A_SN and
A_AGN 1/4 to 4 flat in the logarithm; halo masses 10^10.3 to 10^13.5 M☉ as M^-0.5 per dex, in every universe alike:
no galaxy tells Ωm by how common it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from broker.models.simulators import halos
from broker.models.simulators.cosmology import age_gyr
from broker.models.simulators.halos import Floats, Rng

VERSION = "1.0"
PRIOR = "Ωm 0.1-0.5, sigma_8 0.6-1.0, A_SN and A_AGN 1/4-4; halo masses 10^10.3-10^13.5 as M^-0.5 per dex"
LOWEST, HIGHEST, STEEPNESS = 10.3, 13.5, -0.5
SATELLITES, MOST_STRIPPED = 0.33, -1.2
"""How many galaxies tides have cut, to shares of their mass that are flat in the logarithm down to 10^-1.2."""
SEED_MASS = 7e10
"""Haloes below have no black hole [M☉] (Weinberger et al. 2017)."""
DISC = 0.65
"""Peak of an exponential disc's V² in G M / r_half (Freeman 1970), at 1.3 r_half."""


@dataclass(frozen=True, slots=True)
class Code:
    """What one simulation code makes of feedback.

    Attributes
    ----------
    wind, slope : float
        Velocity [km/s] at which as much gas leaves as turns into stars, and how steeply less at deeper haloes.
    quench : float
        log10 halo mass [M☉] at which black holes stop half of the gas.
    yields : float
        Metals that stars make, in solar units.
    size : float
        Half-mass radius of the stars in R200.
    black_hole : float
        log10 mass [M☉] at 200 km/s.
    scatter : float
        Of stellar masses [dex].
    contraction : float
        How much more concentrated a halo is whose baryons all became stars.
    """

    wind: float
    slope: float
    quench: float
    yields: float
    size: float
    black_hole: float
    scatter: float
    contraction: float


CODES = {
    "kinetic": Code(300.0, 2.0, 12.3, 3.5, 0.015, 8.49, 0.12, 0.6),  # after IllustrisTNG: energy-driven winds
    "jet": Code(
        250.0, 1.5, 12.0, 2.6, 0.020, 8.20, 0.18, 0.3
    ),  # after SIMBA: shallower loading, earlier jets, larger sizes
}


@dataclass(frozen=True, slots=True)
class Universe:
    """Parameters of the universe and of the feedback of n galaxies, each (n,)."""

    z: Floats
    omega_m: Floats
    sigma_8: Floats
    a_sn: Floats
    a_agn: Floats


@dataclass(frozen=True, slots=True)
class Subhalo:
    """Haloes (n,).

    Attributes
    ----------
    mass, radius : float
        Before tides [M☉, kpc].
    loading, quench : float
        Gas that the wind takes for each star formed; gas that black holes stop for what is left.
    share : float
        What tides left of the mass.
    scale, edge : float
        NFW scale radius [kpc], and where the halo ends, in scale radii.
    v_peak : float
        Largest circular velocity of the dark matter now [km/s].
    """

    mass: Floats
    radius: Floats
    loading: Floats
    quench: Floats
    share: Floats
    scale: Floats
    edge: Floats
    v_peak: Floats


def galaxies(n: int, seed: int, code: str, redshifts: tuple[float, ...] = (0.0,)) -> dict[str, Floats]:
    """Return n galaxies of one code, each column (n,).

    Masses are log10 [M☉], radii log10 [kpc], velocities log10 [km/s], metallicities log10 solar.

    ``omega_m``, ``sigma_8``, ``log_a_sn``, ``log_a_agn``, ``redshift``: the universe and its feedback.
    ``log_subhalo_mass``, ``log_half_radius``, ``log_max_radius``, ``log_v_max``, ``log_dispersion``: all matter.
    ``log_stellar_mass``, ``log_stellar_radius``, ``stellar_metallicity``, ``gas_metallicity``, ``log_gas_mass``,
    ``log_black_hole_mass`` (NaN without one), ``log_sfr`` (log10 [M☉/yr]; NaN without any), ``g_r`` [mag].
    """
    rng = np.random.default_rng(seed)
    universe = _universes(n, redshifts, rng)
    halo = subhalos(universe, CODES[code], rng)
    return _rows(universe, halo, CODES[code], rng)


def subhalos(universe: Universe, code: Code, rng: Rng) -> Subhalo:
    """Return a halo for each galaxy of the universes (n,)."""
    n, u = len(universe.z), rng.random(len(universe.z))
    ends = 10.0 ** (STEEPNESS * np.array([LOWEST, HIGHEST]))
    mass = (ends[0] + u * (ends[1] - ends[0])) ** (1.0 / STEEPNESS)
    c = halos.concentration(mass, universe.z, universe.omega_m, universe.sigma_8)
    c = c * 10.0 ** rng.normal(0.0, halos.CONCENTRATION_DEX, n)
    radius = halos.radius_200(mass, universe.z, universe.omega_m)
    loading = universe.a_sn * (halos.peak_velocity(mass, radius, c) / code.wind) ** -code.slope
    quench = (universe.a_agn * mass / 10.0**code.quench) ** 0.9
    c = c * (1.0 + code.contraction / (1.0 + loading) / (1.0 + quench))
    before = halos.peak_velocity(mass, radius, c)
    share = np.where(rng.random(n) < SATELLITES, 10.0 ** rng.uniform(MOST_STRIPPED, 0.0, n), 1.0)
    v_peak, at = before * tidal_track(share, 0.4, 0.3), halos.PEAK * radius / c * tidal_track(share, -0.3, 0.4)
    unit = v_peak**2 * at / halos.G / halos.enclosed(halos.PEAK)
    edge = halos.radius_of(share * mass / unit)
    return Subhalo(mass, radius, loading, quench, share, at / halos.PEAK, edge, v_peak)


def tidal_track(share: Floats, mu: float, eta: float) -> Floats:
    """Return the factor of tides on a halo's peak velocity (mu 0.4, eta 0.3) or on its radius (-0.3, 0.4)."""
    return np.asarray(2.0**mu * share**eta / (1.0 + share) ** mu)


def _universes(n: int, redshifts: tuple[float, ...], rng: Rng) -> Universe:
    a_sn, a_agn = 4.0 ** rng.uniform(-1.0, 1.0, (2, n))
    return Universe(rng.choice(redshifts, n), rng.uniform(0.1, 0.5, n), rng.uniform(0.6, 1.0, n), a_sn, a_agn)


def _rows(universe: Universe, halo: Subhalo, code: Code, rng: Rng) -> dict[str, Floats]:
    n = len(universe.z)
    baryons = halos.OMEGA_B / universe.omega_m * halo.mass
    stars = baryons / (1.0 + halo.loading) / (1.0 + halo.quench) * 10.0 ** rng.normal(0.0, code.scatter, n)
    gas = baryons / (1.0 + 0.1 * halo.loading) / (1.0 + 0.5 * halo.quench**0.5) * halo.share**1.5
    log_z = np.log10(code.yields / (1.0 + halo.loading))
    size = code.size * halo.radius * 10.0 ** rng.normal(0.0, 0.2, n)
    dark = _dark(halo, stars, size)
    dispersion = dark.pop("dispersion") * 10.0 ** rng.normal(0.0, 0.02, n)
    metals = log_z + rng.normal(0.0, 0.1, n)
    hole = code.black_hole + 4.38 * np.log10(dispersion / 200.0) + rng.normal(0.0, 0.3, n)
    quiescent = rng.random(n) < 1.0 - (1.0 - 0.5 * (1.0 - halo.share)) / (1.0 + halo.quench**2)
    return {
        "omega_m": universe.omega_m,
        "sigma_8": universe.sigma_8,
        "log_a_sn": np.log10(universe.a_sn),
        "log_a_agn": np.log10(universe.a_agn),
        "redshift": universe.z,
        **dark,
        "log_dispersion": np.log10(dispersion),
        "log_stellar_mass": np.log10(stars),
        "log_stellar_radius": np.log10(size),
        "stellar_metallicity": metals,
        "gas_metallicity": log_z + 0.1 + rng.normal(0.0, 0.1, n),
        "log_gas_mass": np.log10(gas) + rng.normal(0.0, 0.15, n),
        "log_black_hole_mass": np.where(halo.mass > SEED_MASS, np.maximum(hole, 6.0), np.nan),
        "log_sfr": np.where(quiescent, np.nan, _main_sequence(stars, universe.z) + rng.normal(0.0, 0.3, n)),
        "g_r": _colour(np.log10(stars), metals, quiescent, rng),
    }


def _dark(halo: Subhalo, stars: Floats, size: Floats) -> dict[str, Floats]:
    """Return what is known of all matter; a compact disc can lift the peak of the circular velocity."""
    bound, edge = halo.share * halo.mass, halo.edge * halo.scale
    half = halos.radius_of(0.5 * halos.enclosed(halo.edge)) * halo.scale
    inner = 1.3 * size
    inside = bound * halos.enclosed(np.minimum(inner / halo.scale, halo.edge)) / halos.enclosed(halo.edge)
    lifted = np.sqrt(halos.G * (inside / inner + DISC * stars / size))
    return {
        "log_subhalo_mass": np.log10(bound),
        "log_half_radius": np.log10(half),
        "log_max_radius": np.log10(np.where(lifted > halo.v_peak, inner, halos.PEAK * halo.scale)),
        "log_v_max": np.log10(np.maximum(lifted, halo.v_peak)),
        "dispersion": halos.virial_dispersion(bound, edge, halo.edge),
    }


def _main_sequence(stars: Floats, z: Floats) -> Floats:
    """Return the mean log10 star-formation rate [M☉/yr] of galaxies that form stars (Speagle et al. 2014)."""
    age = age_gyr(z)
    return (0.84 - 0.026 * age) * np.log10(stars) - (6.51 - 0.11 * age)


def _colour(log_stars: Floats, metals: Floats, quiescent: NDArray[np.bool_], rng: Rng) -> Floats:
    """Return g - r [mag]: a blue and a red sequence, each redder with mass and metals."""
    blue = 0.40 + 0.06 * (log_stars - 10.0) + 0.05 * metals
    return blue + np.where(quiescent, 0.28, 0.0) + rng.normal(0.0, 0.05, len(metals))
