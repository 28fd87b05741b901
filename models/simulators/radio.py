"""Radio galaxies as FIRST and NVSS would map them: Fanaroff & Riley's two classes, bent tails, compact sources.

A source is a sum of round Gaussians: a core, and a chain of them along each of its two arms. The chain of an FR I (its
jets flare near the core and fade) is bright inside and widens; that of an FR II is a lobe with a hot-spot at its end. A
beam is a Gaussian too, so that smoothing by it is exact. n = sources, k = their Gaussians, s = pixels on a side.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import log, pi, sqrt

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Rng = np.random.Generator

ID, VERSION = "radio-sources", "1.0"
PRIOR = (
    "both classes as common; 15 to 500 mJy (flat in the logarithm), largest size 115 arcsec (FR I) or 42 arcsec "
    "(FR II) within a factor of 1.7, any orientation; medians of concentration, M20, extent and peaks as MiraBest's"
)
KINDS = ("FR I", "FR II", "bent", "compact")
_NODES = 14  # Gaussians of an arm
_PER_SIGMA = sqrt(8.0 * log(2.0))
_FAR = np.float32(-25.0)  # logarithm of where a Gaussian ends


@dataclass(frozen=True, slots=True)
class Survey:
    """Beam (FWHM) and pixel [arcsec], and the thermal noise of a map [mJy/beam]."""

    beam: float
    pixel: float
    noise: float


FIRST = Survey(beam=5.0, pixel=1.8, noise=0.14)  # Becker, White & Helfand 1995
NVSS = Survey(beam=45.0, pixel=15.0, noise=0.45)  # Condon et al. 1998


@dataclass(frozen=True, slots=True)
class Sources:
    """What is in the sky, before a telescope looks.

    Attributes
    ----------
    kind : array of int, (n,)
        Numbers of `KINDS`.
    x, y, sigma : array, (n, k)
        Where each Gaussian is, from the stamp's centre, and how wide [arcsec]. The first is the core, the next half of
        the rest is one arm from inside to outside, the last half is the other.
    flux : array, (n, k)
        mJy.
    angle : array, (n,)
        Position angle of the first arm, from x towards y [radians].
    """

    kind: NDArray[np.int64]
    x: Floats
    y: Floats
    sigma: Floats
    flux: Floats
    angle: Floats

    def __len__(self) -> int:
        return len(self.kind)


def sources(kind: NDArray[np.int64], rng: Rng) -> Sources:
    """Return one source of each kind (n,), numbers of `KINDS`."""
    n = len(kind)
    angle = rng.uniform(0.0, 2.0 * pi, n)
    size = np.choose(kind, [115.0, 42.0, 115.0, 3.0]) * rng.lognormal(0.0, 0.55, n)
    share = np.clip(rng.normal(0.5, 0.07, n), 0.3, 0.7)
    arms = np.stack([share, 1.0 - share], axis=1) * size[:, None]
    path = _path(kind, angle, rng) * arms[..., None] / _NODES  # one step of each arm
    places = np.cumsum(path, axis=2) - 0.5 * path
    along = np.broadcast_to((np.arange(_NODES) + 0.5) / _NODES, (n, 2, _NODES))
    weight, width = _arms(kind, along, rng)
    flux = 10.0 ** rng.uniform(np.log10(15.0), np.log10(500.0), n)
    wander = rng.normal(0.0, 1.0, (n, 1)) + 1j * rng.normal(0.0, 1.0, (n, 1))  # of the catalogue's position
    place = np.concatenate([np.zeros((n, 1)), places.reshape(n, -1)], axis=1) + wander
    sigma = np.concatenate([np.full((n, 1), 0.1), (width * size[:, None, None]).reshape(n, -1)], axis=1)
    return Sources(kind, place.real, place.imag, sigma, _fluxes(kind, flux, weight, rng), angle)


def observe(sky: Sources, survey: Survey, size: int, rng: Rng) -> NDArray[np.float32]:
    """Return maps (n, size, size) of the sources [mJy/beam], with the noise that neighbouring pixels share."""
    clean = smooth(sky, survey, size)
    blur = _blur(survey, size)
    white = rng.standard_normal(clean.shape, dtype=np.float32)
    clean += np.float32(survey.noise) * (blur @ white @ blur.T)
    return clean


def smooth(sky: Sources, survey: Survey, size: int) -> NDArray[np.float32]:
    """Return maps (n, size, size) of the sources [mJy/beam] without noise; axis 1 is y."""
    beam = survey.beam / _PER_SIGMA
    variance = sky.sigma**2 + beam**2
    peak = sky.flux * beam**2 / variance
    pixels = (np.arange(size) - 0.5 * (size - 1)) * survey.pixel
    across, along = (_profile(pixels, centre, variance) for centre in (sky.x, sky.y))
    bright = peak[..., None].astype(np.float32) * along
    maps: NDArray[np.float32] = np.matmul(bright.transpose(0, 2, 1), across)
    return maps


def fr_classes(
    n: int, seed: int, *, survey: Survey = FIRST, size: int = 150
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return images (n, 1, size, size) of FR I (truth 0) and FR II (1) with strangers in the field, and truths (n,)."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, n)
    images = np.empty((n, 1, size, size), dtype=np.float32)
    for start in range(0, n, 256):  # a block's profiles stay in the cache
        rows = slice(start, start + 256)
        images[rows, 0] = observe(with_strangers(sources(truth[rows], rng), survey, size, rng), survey, size, rng)
    return images, truth


def with_strangers(sky: Sources, survey: Survey, size: int, rng: Rng, mean: float = 0.7) -> Sources:
    """Return the sources with unrelated compact ones in the field, at most three, ``mean`` of them on average."""
    n, half = len(sky), 0.5 * size * survey.pixel
    there = np.arange(3) < rng.poisson(mean, n)[:, None]
    place = rng.uniform(-half, half, (2, n, 3))
    flux = np.where(there, np.minimum(rng.pareto(1.0, (n, 3)) + 1.0, 100.0), 0.0)  # mJy; counts fall as 1/S
    added = Sources(sky.kind, place[0], place[1], rng.gamma(2.0, 0.5, (n, 3)), flux, sky.angle)
    joined = {name: np.concatenate([getattr(sky, name), getattr(added, name)], axis=1) for name in _PER_GAUSSIAN}
    return replace(sky, **joined)


_PER_GAUSSIAN = ("x", "y", "sigma", "flux")


def _path(kind: NDArray[np.int64], angle: Floats, rng: Rng) -> NDArray[np.complex128]:
    """Return the direction (n, 2, nodes) of both arms from the core outwards, x + iy.

    The second arm starts against the first; tails are swept back to one side, as by the gas of a cluster.
    """
    n = len(kind)
    bent = kind == KINDS.index("bent")
    loose = np.choose(kind, [0.25, 0.10, 0.25, 0.10])
    sweep = np.where(bent, rng.uniform(0.4, 1.2, n), np.abs(rng.normal(0.0, loose)))
    curl = np.where(bent, rng.uniform(0.2, 0.8, n), rng.normal(0.0, loose))
    twist = rng.normal(0.0, loose)  # turns both the same way: an S, where the curl makes a C
    inside = np.stack([angle + 0.5 * sweep, angle + pi - 0.5 * sweep], axis=1)
    turn = np.stack([curl + twist, twist - curl], axis=1)
    path: NDArray[np.complex128] = np.exp(1j * (inside[..., None] + turn[..., None] * np.linspace(0.0, 1.0, _NODES)))
    return path


def _arms(kind: NDArray[np.int64], along: Floats, rng: Rng) -> tuple[Floats, Floats]:
    """Return relative flux and width (n, 2, nodes) of the arms' Gaussians; widths in units of the source's size."""
    shape = (*along.shape[:2], 1)
    flare = rng.uniform(0.05, 0.45, shape)  # where an FR I's jet is brightest
    fading = np.minimum(along / flare, 1.0) * np.exp(-np.maximum(along - flare, 0.0) / rng.uniform(0.12, 0.4, shape))
    reach = rng.uniform(0.15, 0.8, shape)  # how far an FR II's lobe flows back
    lobe = np.exp(-(1.0 - along) / reach) + 0.02
    spot = rng.uniform(0.0, 0.8, shape) * (along == along.max())
    cone = 0.015 + rng.uniform(0.03, 0.1, shape) * along
    round_ = rng.uniform(0.05, 0.13, shape) * (1.0 - 0.7 * (along == along.max()))
    ended = (kind == KINDS.index("FR II"))[:, None, None]
    flux = np.where(ended, lobe / lobe.sum(axis=2, keepdims=True) + spot, fading)
    flux = flux * rng.lognormal(0.0, 0.5, along.shape)  # knots
    return flux / flux.sum(axis=2, keepdims=True), np.where(ended, round_, cone)


def _fluxes(kind: NDArray[np.int64], total: Floats, weight: Floats, rng: Rng) -> Floats:
    """Return the flux (n, k) of core and arms [mJy]; FR II have faint cores, compact sources nothing else."""
    n = len(kind)
    core = np.choose(kind, [rng.beta(0.7, 9.0, n), rng.beta(0.7, 9.0, n), rng.beta(0.7, 9.0, n), rng.beta(9.0, 1.0, n)])
    ratio = 1.0 / (1.0 + rng.lognormal(0.0, 0.5, n))
    arms = weight * np.stack([ratio, 1.0 - ratio], axis=1)[..., None]
    relative = np.concatenate([core[:, None], (1.0 - core)[:, None] * arms.reshape(n, -1)], axis=1)
    fluxes: Floats = total[:, None] * relative
    return fluxes


def _profile(pixels: Floats, centre: Floats, variance: Floats) -> NDArray[np.float32]:
    """Return exp(-d²/2σ²) (n, k, s)."""
    apart = (pixels - centre[..., None]).astype(np.float32)
    power = apart * apart * (-0.5 / variance)[..., None].astype(np.float32)
    # products of tiny numbers are denormal: a hundred times as slow
    profile: NDArray[np.float32] = np.where(power > _FAR, np.exp(power), np.float32(0.0))
    return profile


def _blur(survey: Survey, size: int) -> NDArray[np.float32]:
    """Return what makes noise of white noise (s, s): its variance is 1, its correlation is the beam, as of a map's."""
    pixels = np.arange(size) * survey.pixel
    kernel = _profile(pixels, pixels, np.full(size, 0.5 * (survey.beam / _PER_SIGMA) ** 2))
    normed: NDArray[np.float32] = kernel / np.sqrt((kernel**2).sum(axis=1, keepdims=True))
    return normed
