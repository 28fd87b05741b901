"""When ZTF looks and how deep: visits drawn from statistics of its real pointings."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from broker.core.batch import Floats
from broker.models.transients.augment import Bools, Rng

NIGHTS = 140
"""Nights simulated per light curve."""
SLOTS = np.array([0, 1, 2, 0, 1], dtype=np.int8)
"""Band of each exposure that a night may have: g, r, i, and once more g and r."""
_HOURS = np.array([0.0, 0.03, 0.06, 0.10, 0.14])
"""Days into the night."""
_KNOTS = np.array([0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.97, 1.0])
YEAR = 365.25


@dataclass(frozen=True, slots=True)
class Visits:
    """Exposures of A fields: N nights of S slots; what was not taken is marked, not left out.

    Attributes
    ----------
    night : (A, N) float64
        Days from the first night, increasing.
    mjd : (A, N, S) float64
        Of each exposure, on the same scale.
    depth : (A, N, S) float64
        5-sigma magnitude.
    taken : (A, N, S) bool
    """

    night: Floats
    mjd: Floats
    depth: Floats
    taken: Bools

    def shifted(self, days: Floats) -> Visits:
        """Return the visits ``days`` (A,) later."""
        return Visits(self.night + days[:, None], self.mjd + days[:, None, None], self.depth, self.taken)


@cache
def seasons() -> dict[str, Floats]:
    """Return the columns of `seasons.json`, one entry per season of a field."""
    text = resources.files("broker.models.transients.sky").joinpath("seasons.json").read_text()
    found = json.loads(text)
    return dict(zip(found["columns"], np.array(found["rows"]).T, strict=True))


def draw(n: int, rng: Rng, stretch: Floats | None = None) -> Visits:
    """Return the visits of n random fields.

    Parameters
    ----------
    stretch : (n,) or None
        Factors on the gaps between nights: a history that lasts longer for as many points.
    """
    row = rng.integers(0, len(seasons()["length_d"]), n)
    night = _nights(row, rng, np.ones(n) if stretch is None else stretch)
    shape = (n, NIGHTS, len(SLOTS))
    mjd = np.floor(night)[:, :, None] + rng.normal(0.2, 0.08, (n, NIGHTS, 1)) + _HOURS
    night = mjd[:, :, 0]
    return Visits(night, mjd, _depth(row, night, rng), rng.random(shape) < _chances(row, rng)[:, None, :])


def _nights(row: NDArray[np.int64], rng: Rng, stretch: Floats) -> Floats:
    """Return (n, N) days: gaps from the season's quantiles, and half a year's pause when the season is over."""
    table = seasons()
    knots = np.stack([np.ones(len(row)), *(table[name][row] for name in table if name.startswith("gap_"))], axis=1)
    knots = np.concatenate((knots, 1.3 * knots[:, -1:]), axis=1)
    place = rng.random((len(row), NIGHTS))
    gaps = np.stack([np.interp(p, _KNOTS, k) for p, k in zip(place, knots, strict=True)])
    on_sky = np.cumsum(np.maximum(np.rint(gaps * stretch[:, None]), 1.0), axis=1)
    length = np.clip(table["length_d"][row], 60.0, 330.0)[:, None]
    return np.asarray(on_sky + np.floor(on_sky / length) * (YEAR - length))


def _depth(row: NDArray[np.int64], night: Floats, rng: Rng) -> Floats:
    """Return (n, N, S) 5-sigma magnitudes: moon and weather are the night's, the rest is the exposure's."""
    table = seasons()
    middle = np.stack([table[f"depth_{band}"] for band in "gri"])[SLOTS][:, row].T
    scatter = np.clip(np.stack([table[f"scatter_{band}"] for band in "gri"])[SLOTS][:, row].T, 0.2, 0.9)
    moon = np.cos(2.0 * np.pi * (night / 29.53 + rng.random((len(row), 1))))
    common = 0.8 * moon + 0.5 * rng.standard_normal(night.shape)
    own = 0.35 * rng.standard_normal((*night.shape, len(SLOTS)))
    return np.asarray(np.clip(middle[:, None, :] - scatter[:, None, :] * (common[:, :, None] + own), 17.5, 22.0))


def _chances(row: NDArray[np.int64], rng: Rng) -> Floats:
    """Return (n, S) the chance of each slot: i for one curve in four only, one band alone for one in twelve."""
    table = seasons()
    share = np.stack([table[f"share_{band}"][row] for band in "gri"], axis=1)
    again = np.clip(np.stack([table[f"visits_{band}"][row] - 1.0 for band in "gri"], axis=1), 0.0, 0.9)
    chance = np.concatenate((share, share[:, :2] * again[:, :2]), axis=1)
    # Partnership data: of the public stream a third band is rarely part.
    chance[rng.random(len(row)) >= 0.25, 2] = 0.0
    alone = rng.random(len(row))
    chance[np.ix_(alone < 0.03, SLOTS == 0)] = 0.0
    chance[np.ix_((alone >= 0.03) & (alone < 0.08), SLOTS == 1)] = 0.0
    # Now and then half of everything is lost: chips' edges, clouds, cuts on quality.
    thin = np.where(rng.random(len(row)) < 0.3, rng.uniform(0.3, 1.0, len(row)), 1.0)
    return np.asarray(chance * thin[:, None])
