"""Stars and galaxies that vary: magnitudes about their mean, from periods and amplitudes that are catalogued.

Every function takes times (A, N, S) in days and returns total flux (A, N, S) over a mean magnitude drawn by the caller,
and the flux (A, S) that a reference image holds.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from broker.core.batch import Floats
from broker.models.transients.augment import Rng
from broker.models.transients.sky.pointings import SLOTS

Star = Callable[[Floats, Rng], tuple[Floats, Floats]]


def rr_lyrae(time_d: Floats, rng: Rng) -> tuple[Floats, Floats]:
    """Fourier series with the periods, amplitudes and phases of OGLE-III's types ab and c (Soszynski et al. 2009).

    Amplitudes in g, r and i are as 1.4 : 1 : 0.8 (Sesar et al. 2010); type c is the hotter one.
    """
    n = (len(time_d), 1, 1)
    c_type = rng.random(n) < 0.25
    period = np.where(c_type, rng.normal(0.322, 0.04, n), rng.normal(0.567, 0.075, n)).clip(0.2, 1.0)
    # Amplitudes are given in I, peak to peak.
    size = np.where(c_type, rng.normal(0.26, 0.05, n), rng.normal(0.54, 0.19, n)).clip(0.08, 1.0)
    ratio = np.where(c_type, rng.normal(0.12, 0.06, n), rng.normal(0.47, 0.05, n)).clip(0.0, 0.6)
    third = np.where(c_type, 0.3 * ratio, rng.normal(0.31, 0.05, n)).clip(0.0, 0.45)
    phases = (rng.normal(4.4, 0.25, n), rng.normal(2.6, 0.4, n), rng.normal(1.1, 0.6, n))
    angle = 2.0 * np.pi * (time_d / period + rng.random(n))
    wave = np.cos(angle) + ratio * np.cos(2.0 * angle + phases[0]) + third * np.cos(3.0 * angle + phases[1])
    wave += 0.5 * third * np.cos(4.0 * angle + phases[2])
    # Blazhko's effect: one in four changes its amplitude.
    blazhko = np.where(rng.random(n) < 0.25, rng.uniform(0.1, 0.4, n), 0.0)
    size = size * (1.0 + blazhko * np.sin(2.0 * np.pi * (time_d / rng.uniform(20.0, 120.0, n) + rng.random(n))))
    red = rng.uniform(0.95, 1.1, n)
    middle = red * rng.normal(1.26, 0.08, n)
    bands = np.stack((middle * rng.normal(1.41, 0.08, n), middle, red))
    swing = 0.5 * size * wave * _of_slot(bands)
    colour = np.where(c_type, rng.normal(0.1, 0.08, n), rng.normal(0.25, 0.1, n)) + rng.exponential(0.1, n)
    return _flux(swing, colour, 0.4 * colour), _reference(swing, colour, 0.4 * colour, rng)


def eclipsing(time_d: Floats, rng: Rng) -> tuple[Floats, Floats]:
    """Two eclipses a period, and the bulge of close pairs; the same in all bands but for the secondary.

    Pairs in contact are shallower than a magnitude, and of types F to K (Rucinski 1997; Chen et al. 2020).
    """
    n = (len(time_d), 1, 1)
    period = 10.0 ** rng.uniform(-0.6, 1.5, n)
    phase = time_d / period + rng.random(n)
    deep, width = np.exp(rng.uniform(np.log(0.1), np.log(1.6), n)), rng.uniform(0.02, 0.14, n)
    contact = (period < 1.0) & (rng.random(n) < 0.7)
    deep = np.where(contact, np.minimum(deep, rng.uniform(0.3, 0.9, n)), deep)
    second = np.where(contact, rng.uniform(0.6, 1.0, n), rng.random(n)) * deep
    width = np.where(contact, rng.uniform(0.08, 0.13, n), width / np.maximum(period, 1.0) ** 0.3)

    def eclipse(at: float) -> Floats:
        return np.asarray(np.exp(-0.5 * (((phase - at + 0.5) % 1.0 - 0.5) / width) ** 2))

    bulge = np.where(period < 3.0, rng.uniform(0.0, 0.15, n), 0.0) * (1.0 - np.cos(4.0 * np.pi * phase))
    blue = np.where(contact, rng.uniform(0.97, 1.1, n), rng.uniform(0.95, 1.15, n))
    tint = _of_slot(np.stack((blue, np.ones(n), rng.uniform(0.9, 1.02, n))))
    swing = (deep * eclipse(0.0) + second * eclipse(0.5) + bulge) * tint
    colour = np.where(contact, rng.normal(0.6, 0.22, n).clip(0.1, 1.3), rng.uniform(-0.2, 1.5, n))
    colour = colour + rng.exponential(0.08, n)
    return _flux(swing, colour, 0.5 * colour), _reference(swing, colour, 0.5 * colour, rng)


def mira(time_d: Floats, rng: Rng) -> tuple[Floats, Floats]:
    """Miras and semi-regulars: hundreds of days, larger in the blue, every cycle a little different."""
    n = (len(time_d), 1, 1)
    regular = rng.random(n) < 0.6
    period = np.where(regular, rng.normal(330.0, 95.0, n), np.exp(rng.normal(np.log(95.0), 0.45, n))).clip(30.0, 700.0)
    size = np.where(regular, rng.normal(1.9, 0.55, n), np.exp(rng.normal(np.log(0.25), 0.5, n))).clip(0.08, 4.0)
    angle = 2.0 * np.pi * (time_d / period + rng.random(n))
    wave = np.cos(angle) + 0.25 * np.cos(2.0 * angle + 2.0 * np.pi * rng.random(n))
    wave *= 1.0 + 0.2 * _walk(time_d, 1.5 * period, rng)
    wander = np.where(regular, 0.1, 0.6) * size * _walk(time_d, 0.5 * period, rng)
    bands = np.stack((rng.uniform(1.8, 2.6, n), rng.uniform(1.4, 2.0, n), rng.uniform(0.95, 1.15, n)))
    swing = (0.5 * size * wave + 0.5 * wander) * _of_slot(bands)
    colour = rng.uniform(1.2, 3.0, n)
    red = rng.uniform(0.8, 2.2, n)
    return _flux(swing, colour, red), _reference(swing, colour, red, rng)


def agn(time_d: Floats, rng: Rng) -> tuple[Floats, Floats]:
    """Damped random walk in magnitudes (MacLeod et al. 2010) of a nucleus in a host that does not vary."""
    n = (len(time_d), 1, 1)
    tau = np.exp(rng.normal(np.log(200.0), 0.9, n)).clip(10.0, 3000.0)
    size = np.exp(rng.normal(np.log(0.22), 0.55, n)).clip(0.04, 0.9)
    bands = np.stack((rng.uniform(1.0, 1.25, n), np.ones(n), rng.uniform(0.8, 1.0, n)))
    swing = size * _walk(time_d, tau, rng) * _of_slot(bands)
    colour = rng.normal(0.35, 0.25, n)
    host = np.where(rng.random(n) < 0.5, rng.uniform(0.0, 2.0, n), 0.0) * np.array([0.5, 1.0, 1.3])[SLOTS]
    reference = _reference(swing, colour, 0.4 * colour, rng) + host[:, 0]
    return _flux(swing, colour, 0.4 * colour) + host, reference


def microlensing(time_d: Floats, rng: Rng) -> tuple[Floats, Floats]:
    """A point source behind a point lens (Paczynski 1986), blended with light that is not magnified."""
    n = (len(time_d), 1, 1)
    u0, einstein = rng.uniform(0.01, 0.9, n), np.exp(rng.normal(np.log(22.0), 0.8, n)).clip(1.0, 300.0)
    u = np.hypot(u0, time_d / einstein)
    magnified = (u**2 + 2.0) / (u * np.sqrt(u**2 + 4.0))
    # What is blended has another colour.
    share = rng.uniform(0.1, 1.0, n) * (1.0 + 0.15 * rng.standard_normal((len(time_d), 1, 3)))
    share = np.clip(share, 0.02, 1.0)[:, :, SLOTS]
    colour = rng.uniform(0.2, 2.2, n)
    star = _flux(np.zeros_like(time_d), colour, 0.5 * colour)
    return star * (1.0 + share * (magnified - 1.0)), star[:, 0]


def flare(time_d: Floats, rng: Rng) -> tuple[Floats, Floats]:
    """A red dwarf's flare (Davenport et al. 2014), hot and over within hours; ``time_d`` from its peak."""
    n = (len(time_d), 1, 1)
    width = np.exp(rng.normal(np.log(12.0), 0.9, n)).clip(1.0, 120.0) / 1440.0
    x = time_d / width
    before = np.clip(x, -1.0, 0.0)
    up = 1.0 + 1.94053 * before - 0.175084 * before**2 - 2.24588 * before**3 - 1.12498 * before**4
    after = np.clip(x, 0.0, 400.0)
    down = 0.689008 * np.exp(-1.60053 * after) + 0.302963 * np.exp(-0.278318 * after)
    light = np.where(x < 0.0, np.where(x > -1.0, np.maximum(up, 0.0), 0.0), down)
    colour, red = rng.uniform(1.2, 1.7, n), rng.uniform(0.8, 2.2, n)
    star = _flux(np.zeros_like(time_d), colour, red)
    strength = 10.0 ** rng.uniform(-0.3, 1.3, n) * np.array([1.25, 1.0, 0.85])[SLOTS]
    return star + strength * light, star[:, 0]


STARS: dict[str, Star] = {
    "rrlyrae": rr_lyrae,
    "eclipsing": eclipsing,
    "mira": mira,
    "agn": agn,
    "microlensing": microlensing,
    "mdwarf": flare,
}


def _of_slot(bands: Floats) -> Floats:
    """Return (A, 1, S) of values (3, A, 1, 1) for g, r, i."""
    return np.asarray(np.moveaxis(bands[:, :, 0, 0], 0, 1)[:, None, SLOTS])


def _flux(swing: Floats, g_r: Floats, r_i: Floats) -> Floats:
    """Return flux (A, N, S) over that of r magnitude 0, of magnitudes about the mean and colours (A, 1, 1)."""
    mean = _of_slot(np.stack((g_r, np.zeros_like(g_r), -r_i)))
    return np.asarray(10.0 ** (-0.4 * (swing + mean)))


def _reference(swing: Floats, g_r: Floats, r_i: Floats, rng: Rng) -> Floats:
    """Return the flux (A, S) of an image made of a few nights: the mean of some epochs, the same for a band's slots."""
    nights = rng.integers(0, swing.shape[1], (len(swing), 8))
    some = np.take_along_axis(_flux(swing, g_r, r_i), nights[:, :, None], axis=1)
    return np.asarray(some.mean(axis=1)[:, SLOTS])


def _walk(time_d: Floats, tau: Floats, rng: Rng) -> Floats:
    """Return (A, N, S) damped random walk of unit variance, one value a night."""
    keep = np.exp(-np.diff(time_d[:, :, 0], axis=1) / tau[:, 0])
    out = rng.standard_normal(time_d.shape[:2])
    for t in range(1, out.shape[1]):
        out[:, t] = keep[:, t - 1] * out[:, t - 1] + np.sqrt(1.0 - keep[:, t - 1] ** 2) * out[:, t]
    return np.asarray(out[:, :, None] * np.ones(time_d.shape[2]))
