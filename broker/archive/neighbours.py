"""The Pan-STARRS sources that ZTF's packets name near an alert: its host or its star, and what lies there by chance.

Made for tests of what reads them: colours and counts are right to a few tenths, not more. A host's r magnitude follows
from its redshift and a normal luminosity, its colours from straight lines in redshift for early and late types; a tenth
of the magnitudes is missing, as in real alerts, and so is what is fainter than the survey's depth.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from broker.archive.population import distance_mpc
from broker.core.batch import Floats

MISSING = -999.0
RADIUS_ARCSEC = 30.0
NAMED = 3
_FIELD = 4  # other sources within the radius, at most
_PER_FIELD = 0.7  # how likely each of them is there
_BANDS = "griz"
_DEPTH = np.array([23.0, 22.6, 22.4, 21.6])
_LOST = 0.1
_M_R, _M_R_SCATTER = -20.8, 1.1
_OFFSET_MPC = 0.003  # scale of a transient's offset from the host's centre
_EARLY = 0.35
# of g-r, r-i and i-z: at redshift 0, per unit of redshift, and scatter
_COLORS = {
    "early": ((0.68, 2.4, 0.05), (0.36, 0.6, 0.04), (0.26, 0.4, 0.05)),
    "late": ((0.42, 1.1, 0.12), (0.22, 0.4, 0.08), (0.14, 0.3, 0.08)),
    "star": ((0.65, 0.0, 0.35), (0.3, 0.0, 0.25), (0.15, 0.0, 0.12)),
}
_RADIAN_ARCSEC = 206265.0


def named(z: Floats, fixed: NDArray[np.bool_], rng: np.random.Generator) -> dict[str, NDArray[np.generic]]:
    """Return the columns ``sgmag1`` ... ``objectidps3`` of n objects, nearest source first, -999 for what is missing.

    Parameters
    ----------
    z : (n,) float64
        Redshift of the host; NaN for what has none.
    fixed : (n,) bool
        Whether the object has a place on the sky; solar-system objects and artefacts have field sources only.
    """
    n = len(z)
    sources = [_own(z, fixed, rng)]
    for _ in range(_FIELD):
        mag, score = _sources(rng.uniform(0.05, 0.6, n), rng.random(n) < 0.5, rng)
        distance = np.where(rng.random(n) < _PER_FIELD, RADIUS_ARCSEC * np.sqrt(rng.random(n)), np.inf)
        sources.append((mag, score, distance))
    mag, score, distance = (np.stack(parts, axis=1) for parts in zip(*sources, strict=True))
    distance[np.all(mag < 0, axis=2)] = np.inf
    number = rng.integers(70_000_000_000_000_000, 190_000_000_000_000_000, distance.shape)
    order = np.argsort(distance, axis=1)
    columns: dict[str, NDArray[np.generic]] = {"nmtchps": (distance < RADIUS_ARCSEC).sum(axis=1)}
    for k in range(NAMED):
        at = np.arange(n), order[:, k]
        there = distance[at] < RADIUS_ARCSEC
        values = {f"s{band}mag": mag[at][:, b] for b, band in enumerate(_BANDS)}
        values |= {"sgscore": score[at], "distpsnr": distance[at]}
        columns |= {f"{name}{k + 1}": np.where(there, value, MISSING) for name, value in values.items()}
        columns[f"objectidps{k + 1}"] = np.where(there, number[at], int(MISSING))
    return columns


def _own(z: Floats, fixed: NDArray[np.bool_], rng: np.random.Generator) -> tuple[Floats, Floats, Floats]:
    """Return magnitudes (n, 4), star scores and distances (n,) of the hosts, or of the stars that vary."""
    host = np.isfinite(z)
    near = np.where(host, z, 0.05)
    mag, score = _sources(near, ~host, rng)
    arcsec = _RADIAN_ARCSEC * rng.exponential(_OFFSET_MPC, len(z)) * (1 + near) ** 2 / distance_mpc(near)
    distance = np.where(host, arcsec, 0.15 * np.abs(rng.standard_normal(len(z))))
    return mag, score, np.where(fixed, distance, np.inf)


def _sources(z: Floats, star: NDArray[np.bool_], rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Return griz magnitudes (n, 4), -999 where missing, and star scores (n,) of n sources."""
    n = len(z)
    modulus = 5.0 * np.log10(distance_mpc(np.maximum(z, 0.001))) + 25.0
    mag_r = np.where(star, rng.uniform(13.5, 22.0, n), _M_R + _M_R_SCATTER * rng.standard_normal(n) + modulus)
    kind = np.where(star, "star", np.where(rng.random(n) < _EARLY, "early", "late"))
    steps = np.zeros((n, 3))
    for name, lines in _COLORS.items():
        zero, slope, scatter = np.array(lines).T
        colors = zero + slope * np.minimum(z, 0.4)[:, None] + scatter * rng.standard_normal((n, 3))
        steps = np.where((kind == name)[:, None], colors, steps)
    mag = mag_r[:, None] + np.stack([steps[:, 0], 0 * z, -steps[:, 1], -steps[:, 1] - steps[:, 2]], axis=1)
    lost = (mag > _DEPTH) | (rng.random((n, 4)) < _LOST)
    score = np.where(star, rng.beta(8, 0.4, n), rng.beta(0.6, 6, n))
    return np.where(lost, MISSING, mag), np.where(rng.random(n) < 0.05, 0.5, score)
