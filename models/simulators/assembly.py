"""Histories of galaxies: how they grew, what they swallowed, and what of it is left to see.

A toy that stands for IllustrisTNG. A halo grows exponentially in redshift, the earlier the more concentrated it is
(Wechsler et al. 2002; scatter 0.11 dex); mergers are a Poisson process with the rate of Fakhouri, Ma &
Boylan-Kolchin (2010). Stars form from the baryons that fall in with the efficiency of Moster, Naab & White (2018;
scatter 0.15 dex). Each merger, after dynamical friction (Boylan-Kolchin, Ma & Quataert 2008), brings the stars that
abundance matching (Moster et al. 2013; scatter 0.2 dex) gives its halo. What is seen: stellar mass; size, a share
of R200 (scatter 0.2 dex: Kravtsov 2013) that mergers puff up (Naab, Johansson & Ostriker 2009); metals of both
parts, each by its own mass (slope after Gallazzi et al. 2005; scatter 0.1 dex); age; colour; and how much of the
stars are a disc, of which a merger destroys as much as its mass ratio (Hopkins et al. 2009).

Prior: haloes of 10^11.3 to 10^14 M☉, flat in the logarithm, seen at redshift 0 to 1; stellar masses of 10^9.5 M☉
and more, of which 0.1 % or more came from elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from broker.models.simulators import halos
from broker.models.simulators.cosmology import H0, OMEGA_M, age_gyr
from broker.models.simulators.halos import Floats, Rng

VERSION = "1.0"
PRIOR = (
    "haloes of 10^11.3-10^14 M☉, flat in the logarithm, redshift 0-1; "
    "galaxies of 10^9.5 M☉ and more that got 0.1 % or more of their stars from elsewhere"
)
LOWEST, HIGHEST, LEAST_STARS = 11.3, 14.0, 9.5
START, STEPS = 6.0, 80
"""Redshift at which histories begin, and how many points they have, evenly in ln(1 + z)."""
LEAST_RATIO, MAJOR, LEAST_BROUGHT = 0.01, 0.25, 0.001
"""Of halo masses, to count at all; of stellar masses, to be a major merger; of the stars, from elsewhere."""
FORMED_DEX, BROUGHT_DEX, SIZE_DEX, METAL_DEX, AGE_DEX, MASS_DEX = 0.15, 0.20, 0.20, 0.10, 0.05, 0.10
RETURNED = 0.43
"""Share of the stars' mass that goes back to gas (Chabrier's initial mass function)."""
UNPUFFED = 0.010
"""Half-mass radius in R200 without mergers."""


@dataclass(frozen=True, slots=True)
class Branch:
    """Main branches of n histories, from the beginning to when the galaxies are seen; arrays (n, STEPS).

    Attributes
    ----------
    z, time, halo : float
        Redshift, age of the universe [Gyr], halo mass [M☉].
    formed : float
        Stars [M☉] that formed since the step before and live.
    """

    z: Floats
    time: Floats
    halo: Floats
    formed: Floats


@dataclass(frozen=True, slots=True)
class Mergers:
    """Mergers that were over when the galaxies are seen, each (m,).

    Attributes
    ----------
    owner, step : int
        Number of the galaxy, and the step in which the stars arrived.
    time, left : float
        Age of the universe [Gyr] at which the stars arrived, and at which they had fallen in.
    stars, ratio : float
        What arrived [M☉], and relative to what was there.
    """

    owner: NDArray[np.int64]
    step: NDArray[np.int64]
    time: Floats
    left: Floats
    stars: Floats
    ratio: Floats


def histories(n: int, seed: int) -> dict[str, Floats]:
    """Return n galaxies, each column (n,).

    Seen: ``redshift``, ``log_stellar_mass`` log10 [M☉], measured to 0.1 dex, ``log_half_radius`` log10 [kpc],
    ``metallicity`` log10 solar, ``age`` [Gyr] mean of the stars, ``g_r`` [mag], ``disc_share`` of the stars.
    Not seen: ``exsitu_share`` of the stars; ``merger_lookback`` [Gyr] and ``log_merger_ratio`` of the last major
    merger, or where there was none of the one that brought most stars; ``accretion_lookback`` [Gyr], when stars from
    elsewhere came, on average; ``major``, 1 where there was a major merger.
    """
    rng = np.random.default_rng(seed)
    parts: list[dict[str, Floats]] = []
    while sum(len(part["age"]) for part in parts) < n:
        branch = grow(rng.uniform(LOWEST, HIGHEST, min(n, 5_000) + 50), rng)
        merged = merge(branch, rng)
        rows = {**_seen(branch, merged, rng), **_truth(branch, merged)}
        kept = (rows["log_stellar_mass"] > LEAST_STARS) & (rows["exsitu_share"] > LEAST_BROUGHT)
        parts.append({name: column[kept] for name, column in rows.items()})
    return {name: np.concatenate([part[name] for part in parts])[:n] for name in parts[0]}


def grow(log_mass: Floats, rng: Rng) -> Branch:
    """Return main branches of haloes (n,) of log10 mass [M☉] when they are seen, at redshifts 0 to 1."""
    n = len(log_mass)
    z0 = rng.uniform(0.0, 1.0, n)[:, None]
    z = np.expm1(np.log1p(START) + np.linspace(0.0, 1.0, STEPS) * (np.log1p(z0) - np.log1p(START)))
    c = halos.concentration(10.0**log_mass, z0[:, 0]) * 10.0 ** rng.normal(0.0, halos.CONCENTRATION_DEX, n)
    halo = 10.0 ** log_mass[:, None] * np.exp(-6.0 / c[:, None] * (z - z0) / (1.0 + z0))
    share = halos.OMEGA_B / OMEGA_M * (1.0 - RETURNED) * 10.0 ** rng.normal(0.0, FORMED_DEX, (n, 1))
    formed = share * efficiency(halo, z) * np.diff(halo, axis=1, prepend=0.0)
    return Branch(z, age_gyr(z), halo, formed)


def efficiency(halo: Floats, z: Floats) -> Floats:
    """Return the share of infalling baryons that forms stars (Moster, Naab & White 2018)."""
    past = z / (1.0 + z)
    ratio = halo / 10.0 ** (11.339 + 0.692 * past)
    return 2.0 * (0.005 + 0.689 * past) / (ratio ** -(3.344 - 2.079 * past) + ratio**0.966)


def merger_rate(halo: Floats, z: Floats) -> Floats:
    """Return mergers above `LEAST_RATIO` per halo and unit of redshift (Fakhouri, Ma & Boylan-Kolchin 2010)."""
    ratio = np.geomspace(LEAST_RATIO, 1.0, 1_000)
    return 0.0104 * (halo / 1e12) ** 0.133 * (1.0 + z) ** 0.0993 * np.trapezoid(_per_ratio(ratio), ratio)


def _per_ratio(ratio: Floats) -> Floats:
    return ratio**-1.995 * np.exp((ratio / 9.72e-3) ** 0.263)


def merge(branch: Branch, rng: Rng) -> Mergers:
    """Return the mergers of main branches."""
    expected = merger_rate(branch.halo, branch.z) * -np.diff(branch.z, axis=1, prepend=branch.z[:, :1])
    owner, fell = np.nonzero(np.ones_like(expected))
    which = np.repeat(np.arange(expected.size), rng.poisson(expected).ravel())
    owner, fell = owner[which], fell[which]
    grid = np.geomspace(LEAST_RATIO, 1.0, 1_000)
    share = np.cumsum(_per_ratio(grid) * grid)
    ratio = np.interp(rng.random(len(owner)), share / share[-1], grid)
    halo, z, left = (values[owner, fell] for values in (branch.halo, branch.z, branch.time))
    stars = halos.stellar_mass(ratio * halo, z) * 10.0 ** rng.normal(0.0, BROUGHT_DEX, len(owner))
    time = left + friction_gyr(ratio, z, rng.uniform(0.2, 0.8, len(owner)))
    over = time < branch.time[owner, -1]
    return _arrived(branch, owner[over], time[over], left[over], stars[over])


def friction_gyr(ratio: Floats, z: Floats, circularity: Floats) -> Floats:
    """Return the time [Gyr] from falling in to merging (Boylan-Kolchin, Ma & Quataert 2008, from the virial radius)."""
    crossing = 0.1 * 977.8 / (H0 * halos.expansion(z))
    return 0.216 * ratio**-1.3 / np.log1p(1.0 / ratio) * np.exp(1.9 * circularity) * crossing


def _arrived(branch: Branch, owner: NDArray[np.int64], time: Floats, left: Floats, stars: Floats) -> Mergers:
    """Put mergers on their steps; none brings more than formed in the galaxy, else it would be the main branch."""
    step = (branch.time[owner] < time[:, None]).sum(axis=1)
    formed = np.cumsum(branch.formed, axis=1)
    stars = np.minimum(stars, formed[owner, step - 1])
    there = formed + np.cumsum(_binned(owner, step, stars, branch.z.shape), axis=1)
    return Mergers(owner, step, time, left, stars, stars / there[owner, step - 1])


def _binned(owner: NDArray[np.int64], step: NDArray[np.int64], values: Floats, shape: tuple[int, ...]) -> Floats:
    """Return sums (n, STEPS) of values by galaxy and step."""
    flat = np.bincount(owner * shape[1] + step, values, shape[0] * shape[1])
    return np.asarray(flat, dtype=np.float64).reshape(shape)


def _truth(branch: Branch, merged: Mergers) -> dict[str, Floats]:
    """Return what `histories` says is not seen; NaN for galaxies without a merger."""
    n, now = len(branch.z), branch.time[:, -1]
    number = np.bincount(merged.owner, minlength=n)
    brought = np.bincount(merged.owner, merged.stars, n)
    major = merged.ratio > MAJOR
    order = np.lexsort((np.where(major, merged.time, merged.stars), major, merged.owner))
    last = np.append(order, -1)[np.maximum(np.cumsum(number) - 1, 0)]
    none = number == 0
    with np.errstate(invalid="ignore"):
        accreted = now - np.bincount(merged.owner, merged.stars * merged.time, n) / brought
    return {
        "exsitu_share": brought / (brought + branch.formed.sum(axis=1)),
        "merger_lookback": np.where(none, np.nan, now - merged.time[last]),
        "log_merger_ratio": np.where(none, np.nan, np.log10(merged.ratio[last])),
        "accretion_lookback": accreted,
        "major": np.where(none, 0.0, major[last]),
    }


def _seen(branch: Branch, merged: Mergers, rng: Rng) -> dict[str, Floats]:
    """Return what `histories` says is seen."""
    n, now, shape = len(branch.z), branch.time[:, -1], branch.z.shape
    inside = branch.formed.sum(axis=1)
    brought = np.bincount(merged.owner, merged.stars, n)
    stars = inside + brought
    born = (branch.formed * branch.time).sum(axis=1) + np.bincount(merged.owner, 0.6 * merged.left * merged.stars, n)
    age = (now - born / stars) * 10.0 ** rng.normal(0.0, AGE_DEX, n)
    foreign = np.bincount(merged.owner, merged.stars * _metals(merged.stars), n)
    metals = np.log10((inside * _metals(inside) + foreign) / stars) + rng.normal(0.0, METAL_DEX, n)
    puffed = np.bincount(merged.owner, np.log10((1.0 + merged.ratio) ** 2 / (1.0 + merged.ratio**1.5)), n)
    radius = UNPUFFED * halos.radius_200(branch.halo[:, -1], branch.z[:, -1])
    lost = _binned(merged.owner, merged.step, np.log1p(-np.minimum(merged.ratio, 0.99)), shape)
    survives = np.exp(lost.sum(axis=1, keepdims=True) - np.cumsum(lost, axis=1) + lost)
    disc = 0.9 * (branch.formed * survives).sum(axis=1) / stars + rng.normal(0.0, 0.05, n)
    recent = (branch.formed * (branch.time > now[:, None] - 1.0)).sum(axis=1) / stars
    return {
        "redshift": branch.z[:, -1],
        "log_stellar_mass": np.log10(stars) + rng.normal(0.0, MASS_DEX, n),
        "log_half_radius": np.log10(radius) + puffed + rng.normal(0.0, SIZE_DEX, n),
        "metallicity": metals,
        "age": age,
        "g_r": _colour(recent, metals, rng),
        "disc_share": np.clip(disc, 0.0, 1.0),
    }


def _metals(stars: Floats) -> Floats:
    """Return the mean metallicity, in solar units, of galaxies of a stellar mass [M☉]."""
    return 10.0 ** (0.1 + 0.3 * (np.log10(np.maximum(stars, 1.0)) - 11.0))


def _colour(recent: Floats, metals: Floats, rng: Rng) -> Floats:
    """Return g - r [mag]: bluer the more of the stars formed in the last Gyr, redder with metals."""
    return 0.75 + 0.08 * metals - 0.4 * recent / (recent + 0.03) + rng.normal(0.0, 0.03, len(recent))
