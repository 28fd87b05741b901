"""Distances, volumes and ages of a flat universe of matter and a cosmological constant: H0 = 70 km/s/Mpc, Ωm = 0.3."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

H0 = 70.0
OMEGA_M = 0.3
HUBBLE_MPC = 299_792.458 / H0
HUBBLE_GYR = 977.792_22 / H0
REACH = 20.0
"""The redshift up to which distances are tabulated."""


def comoving_mpc(z: Floats) -> Floats:
    """Return the comoving distance [Mpc] at redshifts of any shape; within 1e-5 up to a redshift of 20."""
    grid, distance = _distances()
    return np.interp(np.log1p(z), grid, distance)


def luminosity_distance_mpc(z: Floats) -> Floats:
    """Return the luminosity distance [Mpc] at redshifts of any shape."""
    return comoving_mpc(z) * (1.0 + np.asarray(z))


def distance_modulus(z: Floats) -> Floats:
    """Return m - M [mag] without a K-correction."""
    return 5.0 * np.log10(luminosity_distance_mpc(z)) + 25.0


def volume_mpc3(z: Floats) -> Floats:
    """Return the comoving volume of the whole sky per unit of redshift [Mpc³]."""
    return 4.0 * np.pi * HUBBLE_MPC * comoving_mpc(z) ** 2 / _expansion(np.asarray(z))


def age_gyr(z: Floats) -> Floats:
    """Return the age of the universe [Gyr]; exact for matter and a cosmological constant."""
    dark = 1.0 - OMEGA_M
    root = np.sqrt(dark / OMEGA_M) * (1.0 + np.asarray(z)) ** -1.5
    return np.asarray(2.0 / (3.0 * np.sqrt(dark)) * HUBBLE_GYR * np.arcsinh(root))


def _expansion(z: Floats) -> Floats:
    return np.sqrt(OMEGA_M * (1.0 + z) ** 3 + 1.0 - OMEGA_M)


@lru_cache
def _distances() -> tuple[Floats, Floats]:
    """Return ln(1 + z) and the comoving distance there, by the trapezium rule."""
    grid = np.linspace(0.0, np.log1p(REACH), 20_001)
    slope = HUBBLE_MPC * np.exp(grid) / _expansion(np.expm1(grid))
    steps = 0.5 * (slope[1:] + slope[:-1]) * np.diff(grid)
    return grid, np.concatenate([[0.0], np.cumsum(steps)])
