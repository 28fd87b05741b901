"""Fluxes of stellar populations, lines and dust in bands, tabulated over redshift: what makes thousands a second."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from broker.models.simulators import cosmology, seds_light, seds_stars
from broker.models.simulators.seds_bands import BANDS

Floats = NDArray[np.float64]

STEP = 0.005
"""Step of the tables in ln(1 + z), a quarter of a narrow band."""
Z_MAX = 6.5
YOUNG = 2
"""So many bins of age (up to 10 Myr) still lie in the clouds of their birth."""
CLOUDS = 2.27
"""A(V) of young stars and of their lines over that of other stars (Calzetti et al. 2000: 1 / 0.44)."""
NJY = 3.828e33 / (4.0 * np.pi * 3.085_677_6e24**2) * 1e32
"""Flux density [nJy] at 1 Mpc of 1 solar luminosity per Hz."""
LIGHT_NM_HZ = 2.997_924_58e17


@dataclass(frozen=True, slots=True)
class Light:
    """What shines in n galaxies.

    Attributes
    ----------
    z : array, (n,)
    formed : array, (n, bins of age)
        Solar masses formed in each bin of `seds_stars.EDGES`.
    log_metal : array, (n,)
        log10 of metallicity, the Sun's = 0.
    av : array, (n,)
        Attenuation of stars older than 10 Myr in V [mag]; of the young ones and lines, `CLOUDS` times as much.
    slope : array, (n,)
        Of the attenuation law, see `seds_light.attenuation`.
    halpha : array, (n,)
        Luminosity of Hα before dust [solar].
    excitation : array, (n,)
        Natural logarithm by which forbidden lines are brighter than usual.
    cold : array, (n,)
        Temperature of cold dust [K].
    warm, aromatic : array, (n,)
        Shares of dust's luminosity that warm dust and aromatic molecules emit.
    """

    z: Floats
    formed: Floats
    log_metal: Floats
    av: Floats
    slope: Floats
    halpha: Floats
    excitation: Floats
    cold: Floats
    warm: Floats
    aromatic: Floats

    def take(self, rows: NDArray[np.int64] | slice) -> Light:
        """Return some of the galaxies."""
        return Light(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


def fluxes(light: Light, bands: tuple[str, ...]) -> Floats:
    """Return true fluxes (n, bands) [nJy]."""
    found = [_fluxes(light.take(slice(a, a + 2000)), bands) for a in range(0, len(light.z), 2000)]
    return np.concatenate(found) if found else np.empty((0, len(bands)))


def _fluxes(light: Light, bands: tuple[str, ...]) -> Floats:
    centres = np.array([BANDS[b].centre for b in bands])
    dim = attenuation(light, centres / (1.0 + light.z)[:, None])
    seen = np.zeros((len(light.z), len(bands)))
    for part, thick in ((slice(None, YOUNG), CLOUDS), (slice(YOUNG, None), 1.0)):
        seen += _stars(light, bands, part) * dim**thick
    seen += _dust(light, bands)
    scale = NJY * (1.0 + light.z) / cosmology.luminosity_distance_mpc(light.z) ** 2
    return (seen + _lines(light, bands)) * scale[:, None]


def attenuation(light: Light, rest: Floats) -> Floats:
    """Return the share of old stars' light that leaves at rest wavelengths (n, m) [nm]."""
    return np.asarray(10 ** (-0.4 * light.av[:, None] * seds_light.attenuation(rest, light.slope[:, None])))


def dust_luminosity(light: Light) -> Floats:
    """Return the luminosity (n,) [solar] that dust takes from stars and lines, and so emits: energy is kept."""
    depth, slopes, table = _absorbed()
    found = np.zeros(len(light.z))
    i, low = _between(seds_stars.METALS, 10**light.log_metal, log=True)
    k, right = _between(slopes, light.slope)
    for part, thick in ((slice(None, YOUNG), CLOUDS), (slice(YOUNG, None), 1.0)):
        j, up = _between(depth, light.av * thick)
        for a, wa in ((i, 1 - low), (i + 1, low)):
            for b, wb in ((j, 1 - up), (j + 1, up)):
                for c, wc in ((k, 1 - right), (k + 1, right)):
                    found += wa * wb * wc * np.sum(table[a, b, c, part] * light.formed[:, part], axis=1)
    lost = 1.0 - attenuation(light, seds_light.LINE_WAVE[None, :]) ** CLOUDS
    return np.asarray(found + np.sum(_line_luminosity(light) * lost, axis=1))


def _line_luminosity(light: Light) -> Floats:
    ratios = seds_light.line_ratios(light.log_metal)
    return np.asarray(light.halpha[:, None] * ratios * np.exp(light.excitation[:, None] * seds_light.FORBIDDEN))


def _lines(light: Light, bands: tuple[str, ...]) -> Floats:
    """Return the lines' mean L_ν (n, bands) [solar / Hz at rest], exact wherever they fall in a band."""
    leaving = _line_luminosity(light) * attenuation(light, seds_light.LINE_WAVE[None, :]) ** CLOUDS
    at = seds_light.LINE_WAVE * (1.0 + light.z)[:, None]
    leaving = leaving * seds_light.transmission(at, light.z[:, None]) / LIGHT_NM_HZ * seds_light.LINE_WAVE
    seen = [np.sum(leaving * BANDS[b].response(at), axis=1) / _log_width(b) for b in bands]
    return np.stack(seen, axis=1)


@lru_cache(maxsize=256)
def _log_width(band: str) -> float:
    """Return the integral of a band's response over ln λ."""
    edges = np.geomspace(*BANDS[band].span, 400)
    return float(np.trapezoid(BANDS[band].response(edges), np.log(edges)))


def _stars(light: Light, bands: tuple[str, ...], part: slice) -> Floats:
    table = star_table(bands)
    place = np.log1p(light.z) / STEP
    at = np.minimum(place.astype(int), table.shape[1] - 2)
    metal, high = _between(seds_stars.METALS, 10**light.log_metal, log=True)
    seen = np.zeros((len(at), len(bands)))
    for a, wa in ((metal, 1 - high), (metal + 1, high)):
        for b, wb in ((at, 1 - place + at), (at + 1, place - at)):
            weights = (light.formed[:, part] * (wa * wb)[:, None]).astype(np.float32)
            seen += np.matmul(weights[:, None, :], table[a, b, part])[:, 0]
    return seen


def _dust(light: Light, bands: tuple[str, ...]) -> Floats:
    """Return dust's own mean L_ν (n, bands) [solar / Hz]; only bands that look beyond 2.5 µm at rest see any."""
    if max(BANDS[b].span[1] for b in bands) < seds_light.DUST_WAVE[0]:
        return np.zeros((len(light.z), len(bands)))
    table = dust_table(bands)
    cold, high = _between(seds_light.COLD, light.cold)
    shares = np.zeros((len(light.z), table.shape[0]))
    rows = np.arange(len(light.z))
    rest = 1.0 - light.warm - light.aromatic
    shares[rows, cold], shares[rows, cold + 1] = rest * (1 - high), rest * high
    shares[:, -2], shares[:, -1] = light.warm, light.aromatic
    place = np.log1p(light.z) / STEP
    at = np.minimum(place.astype(int), table.shape[1] - 2)
    share = (place - at)[:, None]
    seen = [np.einsum("nc,cnb->nb", shares, table[:, at + k]) for k in (0, 1)]
    return np.asarray((seen[0] * (1 - share) + seen[1] * share) * dust_luminosity(light)[:, None])


def _between(grid: Floats, values: Floats, *, log: bool = False) -> tuple[NDArray[np.int64], Floats]:
    """Return the lower neighbour's index on a grid and the share of the upper one; ends are held."""
    x = np.log(grid) if log else grid
    v = np.clip(np.log(values) if log else values, x[0], x[-1])
    low = np.clip(np.searchsorted(x, v, side="right") - 1, 0, len(x) - 2)
    return low, (v - x[low]) / (x[low + 1] - x[low])


# ---- tables


@lru_cache(maxsize=16)
def star_table(bands: tuple[str, ...]) -> NDArray[np.float32]:
    """Return mean L_ν (metals, redshifts, bins of age, bands) [solar / Hz] per solar mass formed, without dust."""
    found = _table(seds_stars.WAVE, seds_stars.populations().reshape(-1, len(seds_stars.WAVE)), bands, absorbed=True)
    shape = (len(seds_stars.METALS), len(seds_stars.EDGES) - 1, *found.shape[1:])
    return np.ascontiguousarray(found.reshape(shape).transpose(0, 2, 1, 3))


@lru_cache(maxsize=16)
def dust_table(bands: tuple[str, ...]) -> NDArray[np.float32]:
    """Return mean L_ν (components, redshifts, bands) [1 / Hz] per unit of dust's luminosity."""
    return _table(seds_light.DUST_WAVE, seds_light.dust_emission(), bands, absorbed=False)


def _table(wave: Floats, spectra: Floats, bands: tuple[str, ...], *, absorbed: bool) -> NDArray[np.float32]:
    """Return the mean L_ν of spectra (s, wavelengths) in bands at all redshifts, (s, redshifts, bands)."""
    z = np.expm1(np.arange(int(np.log1p(Z_MAX) / STEP) + 2) * STEP)
    out = np.empty((len(spectra), len(z), len(bands)), dtype=np.float32)
    total = cumulative(wave, spectra)
    for k, name in enumerate(bands):
        edges, weights = BANDS[name].nodes()
        middle = np.sqrt(edges[1:] * edges[:-1])
        if absorbed:
            weights = weights * seds_light.transmission(middle, z[:, None])
        means = cell_means(wave, total, edges / (1.0 + z)[:, None])
        out[:, :, k] = np.sum(means * weights, axis=-1)
    return out


def cumulative(wave: Floats, spectra: Floats) -> Floats:
    """Return the integral of L_ν over ln λ (s, wavelengths), from L_λ per nm on wavelengths equal in ln λ."""
    per_hz = spectra * wave**2 / LIGHT_NM_HZ
    steps = 0.5 * (per_hz[:, 1:] + per_hz[:, :-1]) * np.diff(np.log(wave))
    return np.concatenate([np.zeros((len(spectra), 1)), np.cumsum(steps, axis=1)], axis=1)


def cell_means(wave: Floats, total: Floats, edges: Floats) -> Floats:
    """Return the mean L_ν (s, z, cells) between edges (z, cells + 1) that are equal in ln λ; 0 outside the spectrum."""
    step = np.log(wave[1] / wave[0])
    place = np.clip(np.log(edges / wave[0]) / step, 0.0, len(wave) - 1.0)
    low = np.minimum(place.astype(int), len(wave) - 2)
    at = total[:, low] + (place - low) * (total[:, low + 1] - total[:, low])
    return np.asarray(np.diff(at, axis=-1) / np.log(edges[0, 1] / edges[0, 0]))


@lru_cache
def _absorbed() -> tuple[Floats, Floats, Floats]:
    """Return A(V), slopes, and the luminosity absorbed (metals, A(V), slopes, bins of age) per solar mass formed."""
    depth = np.array([0.0, 0.05, 0.1, 0.2, 0.35, 0.6, 1.0, 1.6, 2.5, 4.0, 6.0, 10.0])
    slopes = np.linspace(-0.6, 0.4, 6)
    curves = seds_light.attenuation(seds_stars.WAVE, slopes[:, None])
    lost = 1.0 - 10 ** (-0.4 * depth[:, None, None] * curves)
    spectra = seds_stars.populations() * np.gradient(seds_stars.WAVE)
    return depth, slopes, np.einsum("zaw,dsw->zdsa", spectra, lost, optimize=True)
