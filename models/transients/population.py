"""A survey's supernovae out of the few that have spectra: moved to where volumetric rates put them, kept if seen.

A spectroscopic sample is near and bright, and half of it is Ia. Each of its objects stands here for all like it in the
volume in which it could have got a spectrum (1 / V_max, Schmidt 1968), is put at redshifts drawn from rates, looked at
with the survey's noise, and dropped if it is not detected. What is left has the survey's mix of classes and brightness.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from broker.core.batch import Floats, Ints, LightCurves
from broker.models.transients import redshift
from broker.models.transients.augment import Bools, Rng
from broker.models.transients.data import Labelled
from broker.models.transients.redshift import Move, moved, noise_of, volumetric
from broker.models.transients.vary import joined
from broker.score.tensors import distance_gpc

RATES = {0: (2.6e-5, 1.5), 1: (6.8e-5 * 0.29, 3.6), 2: (6.8e-5 * 0.71, 3.6)}
"""Column of `broker.core.taxonomy.CLASSES` (Ia, Ib/c, II) to rate at z = 0, per year and Mpc³, and power of (1 + z):
Dilday et al. 2008, Bazin et al. 2009, the mix of Smartt et al. 2009."""
_GRID = np.linspace(0.02, 2.0, 397)
_CHUNK = 3000


@dataclass(frozen=True, slots=True)
class Survey:
    """What is known of a survey beforehand.

    Attributes
    ----------
    farthest : float
        Redshift to which objects are put.
    snr : float
        A point is a detection from this signal to noise on.
    bands_seen : int
        An object is seen when it has a detection in so many bands.
    reach : float
        How far (standard deviation in ln(1 + z)) the process is trusted to move an object: nearer ones are preferred.
    most_points : int
        Visits are taken from objects with at most this many points: PLAsTiCC's deep fields have more.
    """

    farthest: float = 1.2
    snr: float = 5.0
    bands_seen: int = 2
    reach: float = 0.2
    most_points: int = 10**6


def draw(objects: Labelled, count: int, survey: Survey, rng: Rng) -> Labelled:
    """Return ``count`` objects as the survey would see them, made of nothing but ``objects``."""
    noise = noise_of(objects.curves)
    chooser = _Chooser.of(objects, survey)
    parts: list[Labelled] = []
    while sum(len(part) for part in parts) < count:
        made = moved(objects, chooser.moves(min(_CHUNK, 4 * count), rng), noise, survey.snr, rng)
        parts.append(made.take(np.flatnonzero(seen(made.curves, survey))))
    return concatenated(parts).take(np.arange(count))


def again(objects: Labelled, count: int, survey: Survey, rng: Rng) -> Labelled:
    """Return ``count`` objects of an unbiased sample, seen again: other visits, a little farther, none weighed."""
    noise = noise_of(objects.curves)
    parts: list[Labelled] = []
    chunk = min(_CHUNK, 2 * count)
    while sum(len(part) for part in parts) < count:
        source, donor = rng.integers(0, len(objects), (2, chunk))
        z = objects.moved_from_z[source] + np.abs(rng.normal(0.0, 0.06, chunk))
        made = moved(objects, Move(source, donor, z), noise, survey.snr, rng)
        parts.append(made.take(np.flatnonzero(seen(made.curves, survey))))
    return concatenated(parts).take(np.arange(count))


def kept(name: str, make: Callable[[], Labelled], cache: Path) -> Labelled:
    """Return what ``make`` returns, made once and kept in ``cache``, and again when the code that moves changes.

    Parameters
    ----------
    name : str
        Tells what is made from all else that is: survey, objects, number and seed.
    """
    code = "".join(inspect.getsource(part) for part in (redshift, _Chooser, _largest_volume, draw))
    path = cache / "populations" / f"{hashlib.sha256((name + code).encode()).hexdigest()[:16]}.npz"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        made = make()
        arrays: dict[str, Any] = {f.name: getattr(made.curves, f.name) for f in fields(LightCurves)}
        arrays |= {f.name: getattr(made, f.name) for f in fields(Labelled)[1:]}
        np.savez(path.with_suffix(".part.npz"), **arrays)
        path.with_suffix(".part.npz").replace(path)
    with np.load(path, allow_pickle=False) as saved:
        curves = LightCurves(*(saved[f.name] for f in fields(LightCurves)))
        return Labelled(curves, *(saved[f.name] for f in fields(Labelled)[1:]))


def seen(curves: LightCurves, survey: Survey) -> Bools:
    """Return (A,), true where detections lie in enough bands."""
    hit = curves.flux_njy >= survey.snr * curves.flux_err_njy
    owner = np.repeat(np.arange(len(curves)), curves.counts)
    bands = np.zeros((len(curves), 6), dtype=bool)
    bands[owner[hit], curves.band[hit]] = True
    return np.asarray(bands.sum(axis=1) >= survey.bands_seen)


def concatenated(parts: list[Labelled]) -> Labelled:
    """Return the objects of all parts."""
    columns: Any = (np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Labelled)[1:])
    return Labelled(joined(*(part.curves for part in parts)), *columns)


def brightness(curves: LightCurves) -> Floats:
    """Return the flux (A,), nJy, of the most significant point in any band: what a spectroscopic sample is cut in."""
    snr = curves.flux_njy / curves.flux_err_njy
    return np.array(
        [
            curves.flux_njy[a + int(np.argmax(snr[a:b]))] if b > a else np.nan
            for a, b in zip(curves.offsets[:-1], curves.offsets[1:], strict=True)
        ]
    )


@dataclass(frozen=True, slots=True)
class _Chooser:
    """How likely each source is, beside its redshift, and where to put it."""

    objects: Labelled
    survey: Survey
    weight: Floats
    donors: Ints

    @classmethod
    def of(cls, objects: Labelled, survey: Survey) -> _Chooser:
        donors = np.flatnonzero(objects.curves.counts <= survey.most_points)
        return cls(objects, survey, 1.0 / _largest_volume(objects, survey.farthest), donors)

    def moves(self, count: int, rng: Rng) -> Move:
        z, label = self._places(count, rng)
        source = np.empty(count, np.int64)
        for k in np.unique(label):
            mine, members = np.flatnonzero(label == k), np.flatnonzero(self.objects.label == k)
            far = np.log1p(z[mine])[:, None] - np.log1p(self.objects.moved_from_z[members])
            # Hardly ever nearer: a source's noise would become light.
            odd = np.where(far > -0.03, np.exp(-0.5 * (far / self.survey.reach) ** 2), 1e-9)
            total = np.cumsum(odd * self.weight[members], axis=1)
            pick = (rng.random((len(mine), 1)) * total[:, -1:] > total).sum(axis=1)
            source[mine] = members[np.minimum(pick, len(members) - 1)]
        near = 1.05 * self.objects.moved_from_z[source] > z
        z = np.where(near, self.objects.moved_from_z[source], z)
        return Move(source, rng.choice(self.donors, count), z)

    def _places(self, count: int, rng: Rng) -> tuple[Floats, Ints]:
        grid = _GRID[self.survey.farthest >= _GRID]
        classes = np.array(sorted(RATES))
        rates = np.stack([volumetric(grid, *RATES[k]) for k in classes])
        cell = rng.choice(rates.size, count, p=rates.ravel() / rates.sum())
        return grid[cell % len(grid)] + rng.uniform(-0.0025, 0.0025, count), classes[cell // len(grid)]


def _largest_volume(objects: Labelled, farthest: float) -> Floats:
    """Return the comoving volume (A,), Gpc³, in which each object is above the sample's faint edge."""
    flux = brightness(objects.curves)
    edge = np.nanquantile(flux, 0.05)
    reach = distance_gpc(objects.moved_from_z) * np.sqrt(np.maximum(flux / edge, 1.0))
    z = np.interp(reach, distance_gpc(_GRID), _GRID)
    z = np.minimum(z, farthest)
    volume = (distance_gpc(z) / (1.0 + z)) ** 3
    # The few that stand for a large volume are weighed down: their luck is not a law.
    return np.asarray(np.maximum(volume, np.quantile(volume, 0.05)))
