"""Groups and clusters of galaxies as a survey of redshifts finds them: haloes, their galaxies, what the search spoils.

A toy. Central galaxies follow the relation of Moster, Naab & White (2013) with a scatter of 0.16 dex (More et al.
2011). Satellites above the survey's limit are a Poisson number with the mean of a halo occupation distribution
(Zehavi et al. 2011, their sample M_r < -19), with stellar masses as Yang, Mo & van den Bosch (2009) find them and
an NFW profile. A group finder loses a tenth of the galaxies and takes in interlopers, 15 % of the satellites (after
Yang et al. 2007). Velocities are Gaussian with the dispersion of Evrard et al. (2008), which scatters by a tenth
from halo to halo (orientation and substructure: Saro et al. 2013), and are measured to 30 km/s.

Prior: the haloes of a volume today, 10^11.6 to 10^15.3 M☉ (Sheth & Tormen 1999), that show two galaxies or more.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from broker.models.simulators import halos
from broker.models.simulators.cosmology import H0
from broker.models.simulators.halos import Floats, Rng

VERSION = "1.0"
PRIOR = "haloes of a volume at redshift 0, by Sheth & Tormen's mass function, that show two galaxies or more"
LIMIT = 10.0
"""log10 stellar mass [M☉] above which the survey is complete."""
LOWEST, HIGHEST = 11.6, 15.3
CENTRAL_DEX, MASS_DEX = 0.16, 0.10
"""Scatter of central galaxies of one halo mass; error of a stellar mass."""
LOST, INTERLOPERS = 0.10, 0.15
DISPERSION_DEX, VELOCITY_ERR = 0.04, 30.0
FIRST, FULL, SLOPE = 9.77, 12.63, 1.02
"""Occupation: log10 M0 and M1' [M☉/h] and alpha of Zehavi et al.'s Table 3."""
FIELD, FIELD_HOST = 10.66, 12.0
"""log10 M* [M☉] of the field's mass function (Baldry et al. 2012), whose galaxies are the interlopers; their haloes."""


@dataclass(frozen=True, slots=True)
class Galaxies:
    """Galaxies of groups; every array (m,).

    Attributes
    ----------
    owner : int
        Number of the group.
    log_mass : float
        log10 stellar mass [M☉].
    x, y, velocity : float
        Projected position from the halo's centre [kpc], line-of-sight velocity [km/s].
    quiescent : bool
    """

    owner: NDArray[np.int64]
    log_mass: Floats
    x: Floats
    y: Floats
    velocity: Floats
    quiescent: NDArray[np.bool_]

    def take(self, rows: NDArray[np.generic]) -> Galaxies:
        """Return some of the galaxies."""
        return Galaxies(*(getattr(self, field.name)[rows] for field in fields(self)))


@dataclass(frozen=True, slots=True)
class _Hosts:
    """Haloes (n,): log10 mass, concentration, radius [kpc], dispersion [km/s], stellar mass of the central galaxy."""

    log_mass: Floats
    c: Floats
    radius: Floats
    dispersion: Floats
    central: Floats


def groups(n: int, seed: int) -> dict[str, Floats]:
    """Return n groups, each column (n,).

    ``log_halo_mass`` log10 [M☉]; ``log_richness`` log10 of the galaxies found; ``log_stellar_mass``,
    ``log_brightest_mass`` log10 stellar mass [M☉] of all and of the most massive; ``mass_gap`` [dex] from that to the
    second; ``log_dispersion`` log10 [km/s] along the line of sight, from the galaxies found, 10 km/s at least;
    ``log_radius`` log10 [kpc], their rms projected distance from their centre, 10 kpc at least; ``quiescent_share`` of
    them.
    """
    rng = np.random.default_rng(seed)
    parts: list[dict[str, Floats]] = []
    while sum(len(part["log_richness"]) for part in parts) < n:
        log_mass = halos.draw_log_mass(2 * n + 100, LOWEST, HIGHEST, rng)
        parts.append(observe(found(populate(log_mass, rng), rng), log_mass))
    return {name: np.concatenate([part[name] for part in parts])[:n] for name in parts[0]}


def satellites(log_mass: Floats) -> Floats:
    """Return the mean number of satellites above the limit in haloes of log10 mass [M☉]."""
    beyond = np.maximum(H0 / 100.0 * 10.0**log_mass - 10.0**FIRST, 0.0)
    return np.asarray((beyond / 10.0**FULL) ** SLOPE)


def populate(log_mass: Floats, rng: Rng) -> Galaxies:
    """Return the galaxies of haloes (n,) of log10 mass [M☉]: the n central ones, satellites, interlopers."""
    hosts, every = _hosts(log_mass, rng), np.arange(len(log_mass))
    inside, outside = (np.repeat(every, rng.poisson(share * satellites(log_mass))) for share in (1.0, INTERLOPERS))
    parts = (_centrals(hosts, rng), _satellites(hosts, inside, rng), _interlopers(hosts, outside, rng))
    return Galaxies(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Galaxies)))


def found(galaxies: Galaxies, rng: Rng) -> Galaxies:
    """Return the galaxies that the search finds, with masses and velocities as measured."""
    mass = galaxies.log_mass + rng.normal(0.0, MASS_DEX, len(galaxies.owner))
    velocity = galaxies.velocity + rng.normal(0.0, VELOCITY_ERR, len(galaxies.owner))
    seen = (mass > LIMIT) & (rng.random(len(galaxies.owner)) > LOST)
    return Galaxies(galaxies.owner, mass, galaxies.x, galaxies.y, velocity, galaxies.quiescent).take(seen)


def observe(galaxies: Galaxies, log_mass: Floats) -> dict[str, Floats]:
    """Return what `groups` describes of those haloes (n,) of which two galaxies or more were found."""
    order = np.lexsort((-galaxies.log_mass, galaxies.owner))
    number = np.bincount(galaxies.owner, minlength=len(log_mass))
    kept = np.flatnonzero(number >= 2)
    first = (np.cumsum(number) - number)[kept]
    brightest, second = (galaxies.log_mass[order][first + rank] for rank in (0, 1))

    def total(values: Floats) -> Floats:
        return np.asarray(np.bincount(galaxies.owner, values, len(log_mass)), dtype=np.float64)[kept]

    def scatter(values: Floats) -> Floats:
        """Return the sum of squares about the mean."""
        return np.maximum(total(values**2) - total(values) ** 2 / number[kept], 0.0)

    freedom = number[kept] - 1.0
    dispersion = np.sqrt(np.maximum(scatter(galaxies.velocity) / freedom - VELOCITY_ERR**2, 100.0))
    return {
        "log_halo_mass": log_mass[kept],
        "log_richness": np.log10(number[kept]),
        "log_stellar_mass": np.log10(total(10.0**galaxies.log_mass)),
        "log_brightest_mass": brightest,
        "mass_gap": brightest - second,
        "log_dispersion": np.log10(dispersion),
        "log_radius": 0.5 * np.log10(np.maximum((scatter(galaxies.x) + scatter(galaxies.y)) / freedom, 100.0)),
        "quiescent_share": total(galaxies.quiescent.astype(np.float64)) / number[kept],
    }


def _hosts(log_mass: Floats, rng: Rng) -> _Hosts:
    mass, size = 10.0**log_mass, len(log_mass)
    c = halos.concentration(mass) * 10.0 ** rng.normal(0.0, halos.CONCENTRATION_DEX, size)
    dispersion = halos.cluster_dispersion(mass) * 10.0 ** rng.normal(0.0, DISPERSION_DEX, size)
    central = np.log10(halos.stellar_mass(mass)) + rng.normal(0.0, CENTRAL_DEX, size)
    return _Hosts(log_mass, c, halos.radius_200(mass), dispersion, central)


def _centrals(hosts: _Hosts, rng: Rng) -> Galaxies:
    still = np.zeros(len(hosts.c))
    quiescent = rng.random(len(still)) < _quiescent(hosts.central, hosts.log_mass)
    return Galaxies(np.arange(len(still)), hosts.central, still, still, still, quiescent)


def _satellites(hosts: _Hosts, owner: NDArray[np.int64], rng: Rng) -> Galaxies:
    """Follow the matter; masses end at a fraction of the central galaxy's (Yang et al. 2009)."""
    mass = _schechter(hosts.central[owner] - 0.25, 2.0, -1.1, rng)
    c = hosts.c[owner]
    radius = halos.radius_of((1e-6 + rng.random(len(owner))) * halos.enclosed(c)) / c * hosts.radius[owner]
    across = radius * np.sqrt(1.0 - rng.uniform(-1.0, 1.0, len(owner)) ** 2)
    velocity = rng.normal(size=len(owner)) * hosts.dispersion[owner]
    quiescent = rng.random(len(owner)) < _quiescent(mass, hosts.log_mass[owner])
    return Galaxies(owner, mass, *_turn(across, rng), velocity, quiescent)


def _interlopers(hosts: _Hosts, owner: NDArray[np.int64], rng: Rng) -> Galaxies:
    """Lie anywhere before the halo, at any velocity that the search allows (three dispersions)."""
    mass = _schechter(np.full(len(owner), FIELD), 1.0, -1.2, rng)
    across = np.sqrt(rng.random(len(owner))) * hosts.radius[owner]
    velocity = rng.uniform(-3.0, 3.0, len(owner)) * hosts.dispersion[owner]
    quiescent = rng.random(len(owner)) < _quiescent(mass, np.full(len(owner), FIELD_HOST))
    return Galaxies(owner, mass, *_turn(across, rng), velocity, quiescent)


def _turn(across: Floats, rng: Rng) -> tuple[Floats, Floats]:
    angle = rng.uniform(0.0, 2.0 * np.pi, len(across))
    return across * np.cos(angle), across * np.sin(angle)


def _quiescent(log_mass: Floats, log_halo: Floats) -> Floats:
    """Return the share without star formation: more in massive galaxies and haloes (as in Wetzel et al. 2012)."""
    return np.asarray(1.0 / (1.0 + np.exp(-2.5 * (log_mass - 10.6) - 0.9 * (log_halo - 12.5))))


def _schechter(log_knee: Floats, power: float, alpha: float, rng: Rng) -> Floats:
    """Return log10 masses above the limit from m^alpha exp(-m^power) dm, m in units of each galaxy's knee (m,)."""
    grid = np.linspace(-3.0, 1.5, 2_000)
    m = 10.0**grid
    share = np.cumsum(m ** (alpha + 1.0) * np.exp(-(m**power)))
    share /= share[-1]
    below = np.interp(LIMIT - log_knee, grid, share)
    return log_knee + np.interp(below + rng.random(len(log_knee)) * (1.0 - below), share, grid)
