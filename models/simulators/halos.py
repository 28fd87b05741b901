"""Laws of dark-matter haloes: how common they are, how dense, how fast things move in them. Closed forms, any shape.

Masses in M☉ within 200 times the critical density, radii in kpc, velocities in km/s; flat universes of H0 = 70
km/s/Mpc. A halo's profile is that of Navarro, Frenk & White (1997); x = r / r_s counts its scale radii.
"""

from __future__ import annotations

from functools import lru_cache
from math import gamma, pi, sqrt

import numpy as np
from numpy.typing import NDArray

from broker.models.simulators.cosmology import H0, OMEGA_M

Floats = NDArray[np.float64]
Real = Floats | float
Rng = np.random.Generator

G = 4.300_917e-6
"""kpc (km/s)² / M☉."""
OMEGA_B = 0.049
SIGMA_8 = 0.8
SPECTRAL_INDEX = 0.965
COLLAPSE = 1.686
"""Linear overdensity of a sphere that collapses now."""
PEAK = 2.162_58
"""Scale radii at which the circular velocity has its maximum."""
CONCENTRATION_DEX = 0.11
"""Scatter of concentrations of haloes of one mass (Dutton & Macciò 2014)."""
_MPC = 1_000.0
_CRITICAL = 3.0 * (H0 / _MPC) ** 2 / (8.0 * np.pi * G) * _MPC**3  # M☉ / Mpc³


def expansion(z: Real, omega_m: Real = OMEGA_M) -> Floats:
    """Return H(z) / H0."""
    return np.asarray(np.sqrt(omega_m * (1.0 + np.asarray(z)) ** 3 + 1.0 - omega_m))


def growth(z: Real, omega_m: Real = OMEGA_M) -> Floats:
    """Return the linear growth of structure, 1 today; within 3 % (Carroll, Press & Turner 1992)."""
    return _suppression(z, omega_m) / _suppression(0.0, omega_m) / (1.0 + np.asarray(z))


def _suppression(z: Real, omega_m: Real) -> Floats:
    squared = expansion(z, omega_m) ** 2
    matter, dark = omega_m * (1.0 + np.asarray(z)) ** 3 / squared, (1.0 - omega_m) / squared
    return np.asarray(2.5 * matter / (matter ** (4 / 7) - dark + (1.0 + matter / 2.0) * (1.0 + dark / 70.0)))


def fluctuation(mass: Real, omega_m: float = OMEGA_M, index: float = SPECTRAL_INDEX) -> Floats:
    """Return the rms of the linear density today in spheres that hold a mass, for a sigma_8 of `SIGMA_8`.

    Cold dark matter's transfer function of Bardeen et al. (1986) with baryons as Sugiyama (1995) puts them in. With a
    transfer function of 1 it would go as M^(-(index + 3) / 6).
    """
    scale = np.exp(-OMEGA_B * (1.0 + np.sqrt(2.0 * H0 / 100.0) / omega_m))
    shape = omega_m * (H0 / 100.0) ** 2 * scale
    radius = np.cbrt(3.0 * np.asarray(mass) / (4.0 * np.pi * omega_m * _CRITICAL))  # Mpc
    eight = top_hat(np.array([8.0 / (H0 / 100.0)]), shape, index)
    grid = np.linspace(np.log(radius).min() - 0.01, np.log(radius).max() + 0.01, 100)
    return np.exp(np.interp(np.log(radius), grid, np.log(SIGMA_8 * top_hat(np.exp(grid), shape, index) / eight)))


def top_hat(radius: Floats, shape: float, index: float) -> Floats:
    """Return the rms of density in spheres of radii [Mpc] (r,), not normalised; ``shape`` 0 is a pure power law."""
    k = np.exp(np.linspace(np.log(1e-5), np.log(3e3), 2_000))
    power = k**index * (_transfer(k / shape) if shape else 1.0) ** 2
    kr = k * radius[:, None]
    window = 3.0 * (np.sin(kr) - kr * np.cos(kr)) / kr**3
    return np.asarray(np.sqrt(np.trapezoid(power * window**2 * k**3, np.log(k), axis=1)))


def _transfer(q: Floats) -> Floats:
    tail = 1.0 + 3.89 * q + (16.1 * q) ** 2 + (5.46 * q) ** 3 + (6.71 * q) ** 4
    return np.log1p(2.34 * q) / (2.34 * q) * tail**-0.25


def multiplicity(nu: Real, a: float = 0.707, p: float = 0.3) -> Floats:
    """Return the share of mass in haloes per ln(nu) of peak height nu = 1.686 / rms (Sheth & Tormen 1999).

    ``a = 1, p = 0`` is Press & Schechter (1974). Over all ln(nu) it adds up to 1: all matter is in haloes.
    """
    x = a * np.asarray(nu) ** 2
    norm = 1.0 if p == 0.0 else 1.0 / (1.0 + 2.0**-p * gamma(0.5 - p) / sqrt(pi))
    boost = 1.0 if p == 0.0 else 1.0 + x**-p
    return norm * boost * np.sqrt(2.0 * x / np.pi) * np.exp(-x / 2.0)


def mass_function(mass: Floats, z: float = 0.0) -> Floats:
    """Return dn / dlnM [1/Mpc³] of sorted masses (m,), in the default universe."""
    nu = COLLAPSE / (fluctuation(mass) * growth(z))
    slope = np.gradient(np.log(nu), np.log(mass))
    return np.asarray(multiplicity(nu) * slope * OMEGA_M * _CRITICAL / mass)


def draw_log_mass(n: int, low: float, high: float, rng: Rng) -> Floats:
    """Return log10 masses (n,) of a volume's haloes today between two limits."""
    grid, share = _cumulative(low, high)
    return np.interp(rng.random(n), share, grid)


@lru_cache
def _cumulative(low: float, high: float) -> tuple[Floats, Floats]:
    grid = np.linspace(low, high, 1_001)
    density = mass_function(10.0**grid)
    share = np.concatenate([[0.0], np.cumsum(density[1:] + density[:-1])])
    return grid, share / share[-1]


def peak_height(mass: Real, z: Real = 0.0, omega_m: Real = OMEGA_M, sigma_8: Real = SIGMA_8) -> Floats:
    """Return nu of haloes in universes of their own; interpolated in a table, within 1 % (Ωm 0.1 to 0.5)."""
    log_mass, omegas, table = _rms_table()
    row = np.clip(np.interp(omega_m, omegas, np.arange(len(omegas))), 0.0, len(omegas) - 1.001)
    column = np.clip(np.interp(np.log10(mass), log_mass, np.arange(len(log_mass))), 0.0, len(log_mass) - 1.001)
    i, j = row.astype(int), column.astype(int)
    u, v = row - i, column - j
    left, right = ((1.0 - v) * table[k, j] + v * table[k, j + 1] for k in (i, i + 1))
    rms = (1.0 - u) * left + u * right
    return np.asarray(COLLAPSE / (np.exp(rms) * sigma_8 / SIGMA_8 * growth(z, omega_m)))


@lru_cache
def _rms_table() -> tuple[Floats, Floats, Floats]:
    """Return log10 masses (m,), values of Ωm (o,) and ln of the rms (o, m)."""
    log_mass, omegas = np.linspace(7.0, 16.0, 91), np.geomspace(0.08, 0.55, 25)
    return log_mass, omegas, np.log([fluctuation(10.0**log_mass, omega) for omega in omegas])


def concentration(mass: Real, z: Real = 0.0, omega_m: Real = OMEGA_M, sigma_8: Real = SIGMA_8) -> Floats:
    """Return the median concentration r_200 / r_s (Bhattacharya et al. 2013), between 2 and 30."""
    nu = peak_height(mass, z, omega_m, sigma_8)
    return np.clip(5.9 * growth(z, omega_m) ** 0.54 * nu**-0.35, 2.0, 30.0)


def radius_200(mass: Real, z: Real = 0.0, omega_m: Real = OMEGA_M) -> Floats:
    """Return the radius [kpc] within which the mean density is 200 times the critical one."""
    return np.cbrt(G * np.asarray(mass) / (100.0 * (H0 / _MPC * expansion(z, omega_m)) ** 2))


def enclosed(x: Real) -> Floats:
    """Return the mass within x scale radii, in units of 4 pi rho_s r_s³."""
    return np.log1p(x) - np.asarray(x) / (1.0 + np.asarray(x))


def radius_of(mass: Real) -> Floats:
    """Return the scale radii that enclose a mass: the inverse of `enclosed`, between 1e-4 and 1e3."""
    grid = _log_radii()
    return np.exp(np.interp(np.log(mass), np.log(enclosed(np.exp(grid))), grid))


@lru_cache
def _log_radii() -> Floats:
    return np.linspace(np.log(1e-4), np.log(1e3), 4_000)


def peak_velocity(mass: Real, radius: Real, c: Real) -> Floats:
    """Return the largest circular velocity [km/s] of haloes of a mass, an outer radius [kpc] and a concentration."""
    return np.sqrt(G * np.asarray(mass) / radius * enclosed(PEAK) / PEAK * c / enclosed(c))


def virial_dispersion(mass: Real, radius: Real, c: Real) -> Floats:
    """Return the 1-D velocity dispersion [km/s] by the virial theorem, 3 sigma² M = |W|, of haloes cut at a radius.

    The potential energy W is Łokas & Mamon's (2001).
    """
    c = np.asarray(c)
    shape = c / 2.0 * (1.0 - (1.0 + c) ** -2 - 2.0 * np.log1p(c) / (1.0 + c)) / enclosed(c) ** 2
    return np.sqrt(G * np.asarray(mass) / radius * shape / 3.0)


def cluster_dispersion(mass: Real, z: Real = 0.0) -> Floats:
    """Return the 1-D velocity dispersion [km/s] of dark matter in simulated haloes (Evrard et al. 2008)."""
    return np.asarray(1082.9 * (H0 / 100.0 * expansion(z) * np.asarray(mass) / 1e15) ** 0.3361)


def stellar_mass(mass: Real, z: Real = 0.0) -> Floats:
    """Return the mean stellar mass [M☉] of a halo's central galaxy (Moster, Naab & White 2013)."""
    past = np.asarray(z) / (1.0 + np.asarray(z))
    ratio = np.asarray(mass) / 10.0 ** (11.590 + 1.195 * past)
    share = 2.0 * (0.0351 - 0.0247 * past) / (ratio ** -(1.376 - 0.826 * past) + ratio ** (0.608 + 0.329 * past))
    return np.asarray(mass) * share
