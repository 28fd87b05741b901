"""A SALT3 fit to every light curve: how well an ordinary Ia explains it, at the host's redshift or at any.

What Lochner et al. (2016) made of SALT2: the fit's parameters are features of a classifier. The fit is made at each
of a grid of redshifts; the host's redshift, and how bright a standard candle should be there, choose between them.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from broker.core.batch import Floats, Ints, LightCurves
from broker.models.transients import salt_kernels as kernels
from broker.models.transients.sky.salt3 import Salt3
from broker.score.tensors import distance_gpc

Boxes = tuple[tuple[float, float], ...]
"""First and last Angstrom of each band."""
DES_AA = ((3200.0, 4000.0), (3980.0, 5480.0), (5680.0, 7160.0), (7050.0, 8530.0), (8420.0, 10000.0), (9500.0, 10500.0))
LSST_AA = ((3240.0, 4050.0), (4020.0, 5510.0), (5500.0, 6910.0), (6910.0, 8180.0), (8180.0, 9230.0), (9230.0, 10500.0))
"""Boxes for u, g, r, i, z, y: of the filters' mean wavelengths and widths. DES has neither u nor y."""
REDSHIFTS = np.expm1(np.linspace(np.log(1.02), np.log(2.3), 36))
LAST_D = 150.0
SURE_AA = (3300.0, 8000.0)
"""Rest-frame wavelengths where the model is good to `FLOOR`; it is good to `POOR` where no spectra constrain it."""
FLOOR, POOR, LATE = 0.05, 0.25, 0.3
SPANS_D = np.array([kernels.FIRST_D, -8.0, 2.0, 12.0, 25.0, 50.0, LAST_D])
"""Rest-frame days between which residuals are summed up."""
TRIPP = (0.14, 3.1)
ABSOLUTE, ZERO_B = -19.36, 10.5
"""Magnitude of an ordinary Ia with H0 = 70, and of x0 = 1 (Guy et al. 2010; Scolnic et al. 2018)."""
CANDLE_MAG, MOST = 0.25, 100.0
"""Scatter of candles; chi² beyond which a redshift is just excluded."""
_LIGHT_AA, _NJY, _SALT_UNIT = 2.99792458e18, 1e-32, 1e-12


@dataclass(frozen=True, slots=True)
class Grid:
    """SALT3 in the bands of a survey, at each redshift of a grid.

    Attributes
    ----------
    z : (Z,) float64
    table : (Z, B, P, 2) float64
        Flux in nJy of M0 and M1 for x0 = 1, c = 0, each rest-frame day from -20.
    law : (Z, B) float64
        Magnitudes per unit of c.
    floor : (Z, B, P) float64
        The model's relative error.
    """

    z: Floats
    table: Floats
    law: Floats
    floor: Floats

    @classmethod
    def of(cls, model: Salt3, edges_aa: Boxes, z: Floats = REDSHIFTS) -> Grid:
        """Return the model in boxes ``edges_aa`` (B)."""
        each = [_at_redshift(model, edges_aa, float(value)) for value in z]
        table, law, floor = (np.ascontiguousarray(np.stack(part)) for part in zip(*each, strict=True))
        return cls(np.asarray(z), table, law, floor)


@dataclass(frozen=True, slots=True)
class Features:
    """Features of A fits, NaN where a curve tells nothing.

    Attributes
    ----------
    near : (A, F) float64
        Of the fits that the host's redshift chose.
    free : (A, G) float64
        Of those that know nothing of it.
    """

    near: Floats
    free: Floats

    @property
    def all(self) -> Floats:
        """Return both, (A, F + G)."""
        return np.concatenate((self.near, self.free), axis=1)


def features(curves: LightCurves, host_z: Floats, host_z_err: Floats, grid: Grid) -> Features:
    """Return what the fits say of A light curves.

    Parameters
    ----------
    curves : LightCurves
        Points of all kinds are read: an upper limit as its flux and error.
    host_z, host_z_err : (A,) float64
        NaN, zero or negative: unknown, and the host's redshift chooses nothing.
    """
    points = kernels.Points(curves.mjd, curves.flux_njy, curves.flux_err_njy, curves.band.astype(np.int64))
    models = kernels.Model(grid.table, grid.law, grid.floor, 1.0 + grid.z)
    fits = kernels.profiles(curves.offsets, points, models)
    candle = _hubble(fits, grid.z)
    known = np.isfinite(host_z) & (host_z > 0)
    off = (grid.z - np.where(known, host_z, np.nan)[:, None]) / np.maximum(host_z_err, 0.01)[:, None]
    dear, bare = (candle / CANDLE_MAG) ** 2, fits[..., 0]
    near = bare + np.where(known[:, None], off**2, 0.0)
    costs = (near, near + dear, bare, bare + dear)
    rows, told = np.arange(len(curves)), []
    for cost in costs:
        pick = _cheapest(cost)
        found = np.ascontiguousarray(fits[rows, pick])
        sums = kernels.residuals(curves.offsets, points, models, pick, found[:, 1:].copy(), SPANS_D)
        told.append(_told(_refined(cost, grid.z, pick), found, candle[rows, pick], sums))
    least = [cost[rows, _cheapest(cost)] for cost in costs]
    # How much dearer a redshift near the host's is, and that of a standard candle.
    tension = (least[0] - least[2], least[1] - least[0], least[1] - least[2], told[3][:, 0] - told[0][:, 0])
    shapes = (_of_profile(cost, fits, candle, grid.z) for cost in costs[2:])
    free = np.concatenate((*told[2:], (least[3] - least[2])[:, None], *shapes), axis=1)
    return Features(np.concatenate((*told[:2], np.stack(tension, axis=1)), axis=1), free)


def kept(curves: LightCurves, host_z: Floats, host_z_err: Floats, edges_aa: Boxes, cache: Path) -> Features:
    """Return `features` in float32, each object's made once and kept in ``cache``; SALT3 is downloaded on first use."""
    keys = _keys(curves, host_z, host_z_err)
    path = cache / "salt" / f"{_made_how(edges_aa)}.npz"
    saved, near, free = _load(path)
    new = np.flatnonzero(~np.isin(keys, saved))
    if len(new) > 0 or len(keys) == 0:
        grid = Grid.of(Salt3.load(cache / "data"), edges_aa)
        made = features(curves.take(new), host_z[new], host_z_err[new], grid)
        saved, first = np.unique(np.append(saved, keys[new]), return_index=True)
        near, free = (_joined(*pair)[first] for pair in ((near, made.near), (free, made.free)))
        _save(path, saved, near, free)
    rows = np.searchsorted(saved, keys)
    return Features(near[rows].astype(np.float64), free[rows].astype(np.float64))


def _joined(old: NDArray[np.float32], new: Floats) -> NDArray[np.float32]:
    return np.concatenate((old.reshape(-1, new.shape[1]), new.astype(np.float32)))


def _made_how(edges_aa: Boxes) -> str:
    """Return a digest of bands and code: other code, another file."""
    digest = hashlib.sha256(repr(edges_aa).encode())
    for module in (__file__, kernels.__file__):
        digest.update(Path(module).read_bytes())
    return digest.hexdigest()[:12]


def _keys(curves: LightCurves, host_z: Floats, host_z_err: Floats) -> NDArray[np.bytes_]:
    """Return a digest (A,) of all that a fit reads of each object."""
    keys = []
    for i in range(len(curves)):
        rows = slice(curves.offsets[i], curves.offsets[i + 1])
        digest = hashlib.blake2b(np.array([host_z[i], host_z_err[i]]).tobytes(), digest_size=16)
        for column in (curves.mjd, curves.flux_njy, curves.flux_err_njy, curves.band):
            digest.update(column[rows].tobytes())
        keys.append(digest.hexdigest().encode())
    return np.array(keys, dtype="S32")


def _load(path: Path) -> tuple[NDArray[np.bytes_], NDArray[np.float32], NDArray[np.float32]]:
    if not path.exists():
        return np.zeros(0, "S32"), np.zeros((0, 0), np.float32), np.zeros((0, 0), np.float32)
    with np.load(path, allow_pickle=False) as saved:
        return saved["keys"], saved["near"], saved["free"]


def _save(path: Path, keys: NDArray[np.bytes_], near: NDArray[np.float32], free: NDArray[np.float32]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Others may write at the same time: the last one's table is whole.
    part = path.with_suffix(f".{os.getpid()}.npz")
    np.savez(part, keys=keys, near=near, free=free)
    part.replace(path)


def _cheapest(cost: Floats) -> Ints:
    """Return the redshift (A,) of least ``cost`` (A, Z); -1 for a curve without a fit."""
    best = np.where(np.isfinite(cost), cost, np.inf)
    return np.asarray(np.where(np.isfinite(best).any(axis=1), best.argmin(axis=1), -1))


def _hubble(fits: Floats, z: Floats) -> Floats:
    """Return how much fainter than a standard candle each fit is, (A, Z) in magnitudes."""
    x0, x1, colour = fits[..., 1], fits[..., 2] / fits[..., 1], fits[..., 4]
    alpha, beta = TRIPP
    distance = 5.0 * np.log10(distance_gpc(z) * 1e8)
    seen = ZERO_B - 2.5 * np.log10(np.maximum(x0, 1e-15))
    return np.asarray(seen + alpha * x1 - beta * colour - ABSOLUTE - distance)


def _told(z: Floats, found: Floats, candle: Floats, sums: Floats) -> Floats:
    """Return features (A, F), the first z: the fit's parameters, chi² per point, points, pulls, relative residuals."""
    count, chi2, cross, square = (sums[..., k] for k in range(4))
    own = (z, np.log10(np.maximum(found[:, 1], 1e-15)), found[:, 2] / found[:, 1], found[:, 4], candle)
    with np.errstate(invalid="ignore", divide="ignore"):
        per_band, per_span = chi2.sum(axis=2) / count.sum(axis=2), chi2.sum(axis=1) / count.sum(axis=1)
        whole = chi2.sum(axis=(1, 2)) / count.sum(axis=(1, 2))
        pull = np.where(square > 0, cross / np.sqrt(square), np.nan)[:, :, 1:]
        part = np.where(square > 4, cross / square, np.nan)[:, :, 1:]
    heads = np.stack((*own, whole, np.log10(1.0 + square.sum(axis=(1, 2)))), axis=1)
    cells = (per_band, per_span, count.sum(axis=1), pull.reshape(len(z), -1), part.reshape(len(z), -1))
    out = np.concatenate((heads, *cells), axis=1)
    out[np.isnan(found[:, 0])] = np.nan
    return out


def _of_profile(cost: Floats, fits: Floats, candle: Floats, z: Floats) -> Floats:
    """Return how much dearer other redshifts are, (A, Z / 3), and means over all, weighed by exp(-cost / 2), (A, 5)."""
    above = cost - cost.min(axis=1, keepdims=True)
    weight = np.exp(-0.5 * above)
    weight /= weight.sum(axis=1, keepdims=True)
    mean = (weight * z).sum(axis=1)
    spread = np.sqrt(np.maximum((weight * z**2).sum(axis=1) - mean**2, 0.0))
    told = (candle, fits[..., 4], fits[..., 2] / fits[..., 1])
    means = (mean, spread, *((weight * each).sum(axis=1) for each in told))
    return np.concatenate((np.minimum(above, MOST)[:, ::3], np.stack(means, axis=1)), axis=1)


def _refined(cost: Floats, z: Floats, pick: Ints) -> Floats:
    """Return the redshift (A,) at the lowest point of the parabola through the best of the grid and its neighbours."""
    middle, rows = np.clip(pick, 1, len(z) - 2), np.arange(len(pick))
    low, here, high = (cost[rows, middle + d] for d in (-1, 0, 1))
    with np.errstate(invalid="ignore", divide="ignore"):
        shift = 0.5 * (low - high) / (low - 2.0 * here + high)
    shift = np.where(np.isfinite(shift) & (np.abs(shift) < 0.5) & (pick == middle), shift, 0.0)
    ratio = (1.0 + z[-1]) / (1.0 + z[0])
    return np.asarray((1.0 + z[pick]) * ratio ** (shift / (len(z) - 1)) - 1.0)


def _at_redshift(model: Salt3, edges_aa: Boxes, z: float) -> tuple[Floats, Floats, Floats]:
    """Return table (B, P, 2), law (B,) and floor (B, P) at one redshift."""
    observed = model.wave * (1.0 + z)
    inside = np.stack([(observed >= low) & (observed <= high) for low, high in edges_aa], axis=1)
    # AB: photons counted in the box, over those of a source of constant flux per frequency.
    norm = np.maximum((inside / observed[:, None]).sum(axis=0), 1e-9) * _LIGHT_AA * _NJY
    weight = inside * observed[:, None] * (_SALT_UNIT / (1.0 + z)) / norm
    early = np.stack((model.mean @ weight, model.stretch @ weight), axis=2)  # (P, B, 2)
    red = model.mean[int(-model.phase[0])] * 10.0 ** (-0.04 * model.colour)
    peak = np.maximum(model.mean[int(-model.phase[0])] @ weight, 1e-12)
    law = -25.0 * np.log10(np.maximum(red @ weight, 1e-12) / peak)
    table = np.concatenate((early, _fading(early, int(LAST_D - model.phase[-1]))), axis=0)
    middle = np.array([0.5 * (low + high) for low, high in edges_aa]) / (1.0 + z)
    beyond = np.maximum(SURE_AA[0] - middle, 0.0) / 500.0 + np.maximum(middle - SURE_AA[1], 0.0) / 1000.0
    floor = np.minimum(FLOOR + (POOR - FLOOR) * beyond, POOR)
    late = model.phase[0] + np.arange(len(table)) > model.phase[-1]
    return table.transpose(1, 0, 2), law, np.maximum(floor[:, None], np.where(late, LATE, 0.0))


def _fading(early: Floats, days: int) -> Floats:
    """Return both components after the model's last phase: an exponential with the slope of the last ten days."""
    mean = np.maximum(early[:, :, 0], 1e-12 * early[:, :, 0].max())
    slope = np.clip(np.log(mean[-11] / mean[-1]) / 10.0, 0.01, 0.04)
    fade = np.exp(-slope * np.arange(1, days + 1)[:, None])
    return np.asarray(fade[:, :, None] * early[-1])
