"""Light of stars of one age: black bodies with breaks and bands, an initial mass function, the fuel of giants.

Rough on purpose, so that it ships without files: a main sequence of power laws, and behind the turn-off as much light
as the fuel consumption theorem allows (Renzini & Buzzoni 1986; Maraston 1998). What is empirical (strengths of bands,
shares of fuel) was set by hand so that colours and luminosities come near those of Bruzual & Charlot (2003).
Wavelengths in nm, ages in years, masses and luminosities in the Sun's; Z in units of the Sun's metallicity.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

WAVE = np.exp(np.linspace(np.log(91.2), np.log(8000.0), 2200))
"""Wavelengths of spectra [nm]: from the Lyman limit, behind which gas absorbs all, steps of 0.2 %."""
METALS = np.array([0.05, 0.2, 0.5, 1.0, 2.5])
"""Metallicities of the populations; in between, spectra are interpolated in log Z."""
EDGES = np.array([0.0, 3e6, 1e7, 3e7, 1e8, 2.5e8, 6e8, 1.2e9, 2.2e9, 3.8e9, 6e9, 9e9, 1.38e10])
"""Edges of the bins of age [yr]; within a bin stars formed at a constant rate."""
FUEL = 9.75e10
"""Energy of one solar mass of hydrogen burnt [solar luminosities × yr]."""
TEMPERATURES = np.geomspace(2600.0, 55_000.0, 90)

# centre [nm], width (1 sigma) [nm], optical depth at solar metallicity, hottest star that shows it [K]
BANDS = (
    (393.4, 1.2, 0.55, 6500.0),  # calcium K and H
    (396.8, 1.2, 0.45, 6500.0),
    (430.0, 2.2, 0.25, 6000.0),  # CH
    (517.5, 4.5, 0.30, 5400.0),  # magnesium, MgH
    (589.2, 1.5, 0.25, 4800.0),  # sodium
    (620.0, 9.0, 0.35, 3900.0),  # TiO, and water in the infrared
    (680.0, 12.0, 0.50, 3900.0),
    (714.0, 10.0, 0.70, 3900.0),
    (768.0, 12.0, 0.60, 3900.0),
    (855.0, 12.0, 0.30, 3700.0),
    (935.0, 14.0, 0.30, 3600.0),
    (1400.0, 60.0, 0.25, 3600.0),
    (1900.0, 70.0, 0.25, 3600.0),
    (1220.0, 130.0, 0.15, 4500.0),
)
BALMER = (656.3, 486.1, 434.0, 410.2, 397.0, 388.9, 383.5)


def populations() -> Floats:
    """Return spectra (metals, bins of age, wavelengths): luminosity per nm of one solar mass that was formed."""
    return _made()[0]


def surviving() -> Floats:
    """Return the mass in stars and remnants (bins of age,) that is left of one solar mass that was formed."""
    return _made()[1]


@lru_cache
def _made() -> tuple[Floats, Floats]:
    ages = [np.linspace(a, b, 17)[1::2] if a > 1e6 else np.geomspace(1e5, b, 8) for a, b in pairwise(EDGES)]
    library = np.array([spectra(z) for z in METALS])
    light = [[np.mean([by_temperature(t, z) for t in bin_], axis=0) for bin_ in ages] for z in METALS]
    mass = [np.mean([_left(t) for t in bin_]) for bin_ in ages]
    return np.einsum("zat,ztw->zaw", np.array(light), library), np.array(mass)


def simple(age_yr: float, metal: float) -> Floats:
    """Return the spectrum (wavelengths,) of stars of one age, per solar mass formed."""
    return by_temperature(age_yr, metal) @ spectra(metal)


# ---- stars: mass function, main sequence, giants


@lru_cache
def _masses() -> tuple[Floats, Floats]:
    """Return masses and how many stars of each are born per solar mass of stars (Chabrier 2003)."""
    mass = np.geomspace(0.1, 100.0, 700)
    low = 0.158 * np.exp(-((np.log10(mass / 0.08)) ** 2) / (2 * 0.69**2))
    per_dex = np.where(mass < 1.0, low, 0.0443 * mass**-1.3)
    return mass, per_dex / np.sum(per_dex * mass)


def _luminosity(mass: Floats) -> Floats:
    """Return the luminosity of the young main sequence."""
    pieces = [0.23 * mass**2.3, mass**4.0, 1.4 * mass**3.5, 50_000.0 * (mass / 20.0) ** 2.2]
    return np.select([mass < 0.43, mass < 2.0, mass < 20.0], pieces[:3], pieces[3])


def _lifetime(mass: Floats, metal: float) -> Floats:
    return np.asarray((1.05e10 * mass / _luminosity(mass) + 3.5e6) * metal**0.06)


def _temperature(mass: Floats, metal: float) -> Floats:
    radius = np.where(mass < 1.0, mass**0.8, mass**0.57)
    return np.asarray(5772.0 * (_luminosity(mass) / radius**2) ** 0.25 * metal**-0.035)


def by_temperature(age_yr: float, metal: float) -> Floats:
    """Return the luminosity (temperatures,) per solar mass formed that stars of each temperature emit."""
    mass, born = _masses()
    share = age_yr / _lifetime(mass, metal)
    light = born * _luminosity(mass) * (0.75 + share**2) * (share < 1.0)
    hot = _temperature(mass, metal) * (1.0 - 0.12 * np.clip(mass - 1.0, 0.0, 1.0) * np.minimum(share, 1.0) ** 2)
    found = _binned(np.clip(hot, TEMPERATURES[0], TEMPERATURES[-1]), light)
    for fuel, temperature in giants(age_yr, metal):
        found += _binned(np.array([temperature]), np.array([FUEL * fuel * _deaths(age_yr, metal)]))
    return found


def _binned(temperature: Floats, light: Floats) -> Floats:
    """Share light between the two neighbouring temperatures of the library."""
    place = np.interp(np.log(temperature), np.log(TEMPERATURES), np.arange(len(TEMPERATURES)))
    low = np.minimum(place.astype(int), len(TEMPERATURES) - 2)
    upper = np.bincount(low + 1, (place - low) * light, len(TEMPERATURES))
    return np.asarray(np.bincount(low, (1.0 - place + low) * light, len(TEMPERATURES)) + upper, dtype=np.float64)


def _deaths(age_yr: float, metal: float) -> float:
    """Return how many stars leave the main sequence per year and solar mass formed."""
    mass, born = _masses()
    life = _lifetime(mass, metal)
    rate = born / -np.gradient(life)
    return float(np.interp(age_yr, life[::-1], rate[::-1], left=0.0))


def giants(age_yr: float, metal: float) -> list[tuple[float, float]]:
    """Return (fuel [solar masses], temperature [K]) of the phases after the main sequence, of stars that die now."""
    cool = metal**-0.05
    age = np.log10(age_yr)
    old, middle = _ramp(age, 8.9, 9.4), _ramp(age, 8.0, 8.6) * (1 - _ramp(age, 9.0, 9.5))
    young = 1.0 - _ramp(age, 8.0, 8.6)
    horizontal = np.clip(4900.0 * metal**-0.10, 4700.0, 9000.0)
    return [
        (0.045 * old, 5300.0 * cool),
        (0.060 * old, 4750.0 * cool),
        (0.070 * old, 4250.0 * cool),
        (0.055 * old, 3700.0 * cool),
        (0.040 * old, horizontal),
        (0.050 * old, 3250.0 * cool),
        (0.001 * old, 20_000.0),
        (0.070 * middle, 5200.0 * cool),
        (0.060 * middle, 4300.0 * cool),
        (0.060 * middle, 3100.0 * cool),
        (0.45 * young, float(np.clip(24_000.0 * (age_yr / 1e7) ** -0.35, 9000.0, 40_000.0))),
        (0.35 * young * _ramp(age, 6.7, 7.0), 3900.0 * cool),
    ]


def _ramp(x: float, low: float, high: float) -> float:
    return float(np.clip((x - low) / (high - low), 0.0, 1.0))


def _left(age_yr: float) -> float:
    """Return the mass left: living stars, white dwarfs, neutron stars and black holes."""
    mass, born = _masses()
    remnant = np.select([mass < 8.0, mass < 25.0], [0.48 + 0.077 * mass, np.full_like(mass, 1.4)], 0.24 * mass)
    return float(np.sum(born * np.where(_lifetime(mass, 1.0) > age_yr, mass, np.minimum(remnant, mass))))


# ---- atmospheres


@lru_cache
def spectra(metal: float) -> Floats:
    """Return what a star of each temperature emits (temperatures, wavelengths) [1/nm], with an integral of 1."""
    kelvin = TEMPERATURES[:, None]
    planck = 1.0 / (WAVE**5 * np.expm1(np.minimum(1.438_777e7 / (WAVE * kelvin), 600.0)))
    shape = planck * np.exp(-_depth(kelvin, metal)) * _hydrogen(kelvin)
    whole = np.asarray(np.trapezoid(shape, WAVE, axis=1))
    return np.asarray(shape / whole[:, None])


def _depth(kelvin: Floats, metal: float) -> Floats:
    """Return the optical depth of metals: crowded lines in the blue, from 400 nm downwards, and some bands."""
    strength = metal**0.4
    cold = _below(kelvin, 7000.0, 700.0)
    crowd = 0.42 * _below(WAVE, 399.0, 3.0) + 0.18 * _below(WAVE, 450.0, 12.0) + 0.5 * _below(WAVE, 320.0, 20.0)
    far = 1.5 * _below(WAVE, 260.0, 12.0) * _below(kelvin, 8500.0, 900.0) + 0.05 * _below(WAVE, 200.0, 15.0)
    depth = strength * (crowd * cold * (7000.0 / kelvin) ** 0.5 + far)
    for centre, width, tau, hottest in BANDS:
        shown = _below(kelvin, hottest, 0.06 * hottest)
        depth = depth + strength * tau * shown * np.exp(-0.5 * ((WAVE - centre) / width) ** 2)
    return np.asarray(depth)


def _hydrogen(kelvin: Floats) -> Floats:
    """Return what hydrogen makes: Balmer's jump and lines, strongest at 9,500 K, blue far ultraviolet, H- at 1.6 µm."""
    balmer = np.exp(-((np.log(kelvin / 9500.0) / 0.42) ** 2))
    jump = 1.0 - 0.62 * balmer * _below(WAVE, 372.0, 3.0)
    lines = sum(np.exp(-0.5 * ((WAVE - line) / 0.9) ** 2) for line in BALMER)
    lyman = 1.0 - 0.7 * np.exp(-0.5 * ((WAVE - 121.6) / 2.0) ** 2) * _below(kelvin, 20_000.0, 4000.0)
    blue = np.maximum(300.0 / WAVE, 1.0) ** (1.1 * np.exp(-((np.log(kelvin / 15_000.0) / 0.5) ** 2)))
    bump = 1.0 + 0.35 * np.exp(-0.5 * (np.log(WAVE / 1850.0) / 0.3) ** 2) * _below(kelvin, 5000.0, 500.0)
    return np.asarray(jump * blue * (1.0 - 0.45 * balmer * lines) * lyman * bump)


def _below(x: Floats, edge: float, width: float) -> Floats:
    """Return 1 well below an edge and 0 well above."""
    return np.asarray(1.0 / (1.0 + np.exp(np.clip((x - edge) / width, -60.0, 60.0))))
