"""Transients from a few numbers: a shape in r with the half-times of its class, a temperature that falls.

Half-times, peak magnitudes and their scatter are those of ZTF's Bright Transient Survey (Perley et al. 2020); colours
are a black body's, dimmed in the blue by lines. Wide on purpose: a network must not learn a narrow simulation by heart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from broker.core.bands import SURVEYS
from broker.core.batch import Floats
from broker.models.transients.augment import Rng
from broker.models.transients.sky.pointings import SLOTS

WAVE_AA = np.array(SURVEYS["ztf"].wavelengths)
DUST = np.array([3.7, 2.6, 1.9])
"""Extinction in g, r, i per unit of E(B-V) (Fitzpatrick 1999, R_V 3.1)."""
_KELVIN_AA = 1.4388e8
_Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Burst:
    """A class of transients.

    Attributes
    ----------
    absolute : (float, float)
        Peak absolute magnitude, mean and standard deviation.
    rise, fade : (float, float)
        Rest-frame days from half of the peak to it and back, median and scatter in ln.
    hot, cool : (float, float)
        Range of the temperature at peak and long after, 1000 K.
    cooling : (float, float)
        Range of the e-folding time of the fall, days.
    curve : (float, float)
        Range of the power of the fade: 1 falls exponentially, below 1 with a long tail, above with a shoulder.
    tail : (float, float)
        Range of the share of the peak in a slow tail.
    plateau : float
        Share of objects that stay bright and then drop.
    blanket : float
        Largest dimming in the blue, in e-folds at 4000 Angstrom.
    host_dust : float
        Mean of the host's E(B-V).
    """

    absolute: _Range
    rise: _Range
    fade: _Range
    hot: _Range
    cool: _Range
    cooling: _Range
    curve: _Range = (0.8, 1.4)
    tail: _Range = (0.01, 0.12)
    plateau: float = 0.0
    blanket: float = 0.5
    host_dust: float = 0.08


BURSTS = {
    "snibc": Burst((-17.7, 0.8), (11.5, 0.35), (13.5, 0.33), (6.0, 9.5), (3.8, 5.0), (10.0, 25.0), host_dust=0.15),
    "snii": Burst(
        (-17.5, 1.0), (9.0, 0.55), (26.0, 0.45), (8.5, 15.0), (4.6, 6.2), (12.0, 35.0), (0.8, 1.6), plateau=0.55
    ),
    "sniin": Burst((-18.9, 1.0), (19.0, 0.5), (32.0, 0.5), (8.5, 14.0), (5.5, 8.0), (30.0, 80.0), (0.8, 1.3)),
    "sniax": Burst((-17.3, 1.0), (10.0, 0.3), (11.0, 0.3), (7.5, 10.5), (3.8, 5.2), (8.0, 18.0), blanket=1.0),
    "sn91bg": Burst((-18.0, 0.5), (8.5, 0.2), (10.0, 0.25), (5.5, 7.2), (3.6, 4.8), (8.0, 14.0), blanket=1.2),
    "slsn": Burst(
        (-21.2, 0.7), (27.0, 0.45), (29.0, 0.42), (9.0, 17.0), (5.0, 8.0), (25.0, 80.0), (0.8, 1.4), (0.0, 0.12),
        host_dust=0.03,
    ),
    "tde": Burst(
        (-19.8, 0.9), (14.0, 0.45), (33.0, 0.5), (12.0, 40.0), (12.0, 40.0), (50.0, 200.0), (0.6, 1.0), (0.03, 0.2),
        blanket=0.0, host_dust=0.05,
    ),
    "kilonova": Burst(
        (-15.8, 0.8), (0.5, 0.4), (1.5, 0.4), (5.5, 11.0), (2.0, 3.2), (0.8, 2.5), (0.8, 1.2), (0.0, 0.02), blanket=0.3
    ),
}  # fmt: skip


def curve(kind: Burst, z: Floats, time_d: Floats, rng: Rng) -> Floats:
    """Return flux (A, N, S) at ``time_d`` (A, N, S) observed days from the peak, the brighter of g and r about 1.

    S are the slots of a night; every object draws its own half-times, temperatures and dust.
    """
    n = len(z)
    rest = time_d / (1.0 + z)[:, None, None]
    shape = _shape(kind, rest, rng)
    hot, cool = (low * (high / low) ** rng.random(n) * 1000.0 for low, high in (kind.hot, kind.cool))
    # Where hot and cool may be anything, a transient keeps its temperature within a factor.
    cool = hot * rng.uniform(0.85, 1.3, n) if kind.hot == kind.cool else np.minimum(cool, 0.9 * hot)
    cooling = rng.uniform(*kind.cooling, n)
    blanket = kind.blanket * rng.random(n)
    dust = rng.exponential(kind.host_dust, n)

    def colour(band: Floats, days: Floats) -> Floats:
        kelvin = cool + (hot - cool) * np.exp(np.clip(-days / cooling, -50.0, 0.7))
        return _colour(band, kelvin, z, blanket, dust)

    bands = SLOTS.astype(np.float64)[:, None, None]
    # Axes turned around, so that what each object drew lies on the last one.
    light = shape * colour(bands, rest.T).T
    top = np.maximum(1.0, colour(np.zeros(1), np.zeros(n)))
    return np.asarray(light / top[:, None, None])


def _colour(band: Floats, kelvin: Floats, z: Floats, blanket: Floats, dust: Floats) -> Floats:
    """Return the flux in ``band`` over that in r; the last axis is the objects'."""
    index = band.astype(np.int64)

    def light(k: Floats) -> Floats:
        rest = WAVE_AA[k.astype(np.int64)] / (1.0 + z)
        planck = rest**-3.0 / np.expm1(np.clip(_KELVIN_AA / (rest * kelvin), 1e-3, 60.0))
        return np.asarray(planck * np.exp(-blanket * np.maximum(4500.0 - rest, 0.0) / 500.0))

    reddened = 10.0 ** (-0.4 * dust * (DUST[index] - DUST[1]))
    return np.asarray(light(band) / light(np.ones_like(band)) * reddened)


def _shape(kind: Burst, rest: Floats, rng: Rng) -> Floats:
    """Return (A, N, S): 1 at the peak, a half at the half-times, 0 before the beginning."""
    n = (len(rest), 1, 1)
    rise, fade = (median * np.exp(scatter * rng.standard_normal(n)) for median, scatter in (kind.rise, kind.fade))
    power = rng.uniform(1.1, 2.4, n)
    begin = rise * 2.0 ** (1.0 / power)
    up = 1.0 - np.minimum(np.maximum(-rest, 0.0) / begin, 1.0) ** power
    after = np.maximum(rest, 0.0)
    down = np.exp(-np.log(2.0) * (after / fade) ** rng.uniform(*kind.curve, n))
    tail = rng.uniform(*kind.tail, n)
    down = (1.0 - tail) * down + tail * np.exp(-after / rng.uniform(60.0, 130.0, n))
    flat = rng.random(n) < kind.plateau
    return np.asarray(up * np.where(flat, _plateau(after, rng), down))


def _plateau(after: Floats, rng: Rng) -> Floats:
    """Return a type IIP's fade: a slow decline, a drop after 50 to 110 days, the tail of nickel's daughter."""
    n = (len(after), 1, 1)
    end, drop, slope = rng.uniform(45.0, 105.0, n), rng.uniform(3.0, 9.0, n), rng.uniform(0.0, 0.015, n)
    tail = rng.uniform(0.03, 0.15, n)
    step = 1.0 / (1.0 + np.exp(np.clip((after - end) / drop, -50.0, 50.0)))
    return np.asarray(
        ((1.0 - tail) * step + tail) * np.exp(-slope * np.minimum(after, end) - after / 111.0 * (1 - step))
    )
