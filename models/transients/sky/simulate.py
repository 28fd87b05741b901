"""Labelled ZTF light curves of all classes, whole: packets are cut out of them later."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from broker.core.batch import Floats, Ints, LightCurves
from broker.core.taxonomy import CLASSES
from broker.core.units import mag_to_njy
from broker.models.transients.augment import Bools, Rng, last_detection, of_points
from broker.models.transients.data import Labelled
from broker.models.transients.sky import bursts, moved, pointings
from broker.models.transients.sky.moved import Templates
from broker.models.transients.sky.observe import forms, observe
from broker.models.transients.sky.pointings import SLOTS, Visits
from broker.models.transients.sky.salt3 import Salt3
from broker.models.transients.sky.variables import STARS
from broker.tables.baseline import subtract

COLUMN = {c.slug: k for k, c in enumerate(CLASSES)}
COUNTS = {
    "salt3:snia": 2200,
    "moved:snia": 900,
    "burst:snibc": 1100,
    "moved:snibc": 500,
    "burst:snii": 1200,
    "burst:sniin": 400,
    "moved:snii": 700,
    "burst:sniax": 550,
    "moved:sniax": 250,
    "burst:sn91bg": 450,
    "moved:sn91bg": 300,
    "burst:kilonova": 600,
    "burst:slsn": 1200,
    "burst:tde": 1300,
    "star:mdwarf": 800,
    "star:microlensing": 900,
    "star:rrlyrae": 4000,
    "star:eclipsing": 3000,
    "star:mira": 1000,
    "star:agn": 1400,
}
"""Objects of each kind: where their light comes from, and what they are. As many as a short training bears."""
SUBCLASS = {"sniin": "snii"}
ABSOLUTE = {"snia": (-19.1, 0.35), **{slug: kind.absolute for slug, kind in bursts.BURSTS.items()}}
BRIGHT, FAINT = 14.5, 20.3
"""Range of peak magnitudes of transients; their number grows as 10^(0.2 m), slower than on the sky: classified
transients are the bright ones."""
_CHUNK = 400
_MAX_Z = 0.9


@dataclass(frozen=True, slots=True)
class Sources:
    """What the simulation reads: moved PLAsTiCC supernovae and SALT3."""

    templates: Templates
    salt3: Salt3


def sources(objects: Labelled, cache: Path) -> Sources:
    """Return the templates of PLAsTiCC's training set and SALT3, its package downloaded on first use."""
    labels = {COLUMN[kind.split(":")[1]] for kind in COUNTS if kind.startswith("moved")}
    return Sources(moved.templates(objects, tuple(sorted(labels))), Salt3.load(cache))


def simulate(found: Sources, seed: int, share: float = 1.0) -> Labelled:
    """Return the light curves of `COUNTS` times ``share`` objects, bands g, r, i; equal seeds give equal ones.

    Redshifts are the host's, with an error; NaN where the class is Galactic, and for hosts too faint to be seen.
    Objects made of the same template have the same id, so that no fold holds what another was trained on.
    """
    parts = []
    for k, (kind, count) in enumerate(COUNTS.items()):
        rng = np.random.default_rng((seed, k))
        for start in range(0, round(count * share), _CHUNK):
            n = min(_CHUNK, round(count * share) - start)
            parts.append(_group(kind, n, found, rng, 10**9 * (k + 1) + start))
    return _joined(parts)


def _group(kind: str, n: int, found: Sources, rng: Rng, first_id: int) -> Labelled:
    way, slug = kind.split(":")
    label = COLUMN[SUBCLASS.get(slug, slug)]
    ids = np.arange(first_id, first_id + n)
    if way == "star":
        curves, z = _stars(slug, n, rng), np.full(n, np.nan)
        if slug == "agn":
            z = rng.uniform(0.03, 1.5, n)
    else:
        row = rng.choice(found.templates.of(label), n) if way == "moved" else ids
        ids = found.templates.objects.object_id[row] if way == "moved" else ids
        curves, z = _transients(way, slug, row, found, rng)
    usable = np.flatnonzero(np.isfinite(last_detection(curves)))
    z = z[usable]
    host_z, host_z_err = _host(z, rng)
    return Labelled(curves.take(usable), ids[usable], np.full(len(usable), label), host_z, host_z_err, z)


def _transients(way: str, slug: str, row: Ints, found: Sources, rng: Rng) -> tuple[LightCurves, Floats]:
    n = len(row)
    low, high = 10.0 ** (0.2 * np.array([BRIGHT, FAINT]))
    peak_mag = np.log10(rng.uniform(low, high, n)) / 0.2
    mean, scatter = ABSOLUTE[slug]
    z = _redshift(peak_mag - rng.normal(mean, scatter, n))
    if way == "moved":
        # A template knows its own rest frame only so far into the blue and the red.
        z = np.minimum(z, found.templates.objects.moved_from_z[row] + 0.15)
    visits = pointings.draw(n, rng)
    # The season's first night is up to five months before the peak, or it begins after it; some have years of silence.
    lead = np.where(rng.random(n) < 0.12, rng.uniform(150.0, 450.0, n), rng.uniform(-10.0, 150.0, n))
    visits = visits.shifted(-lead - visits.night[:, 0])
    light = _light(way, slug, row, z, visits, found, rng)
    milky_way = rng.exponential(0.06, n)[:, None, None] * bursts.DUST[SLOTS]
    light = light * 10.0 ** (-0.4 * (milky_way - milky_way[:, :, :2].min(axis=2, keepdims=True)))
    flux = light * _wander(visits.night, rng) * mag_to_njy(peak_mag)[:, None, None]
    return observe(visits, flux, np.zeros((n, len(SLOTS))), forms(n, rng, total=0.0), rng), z


def _light(way: str, slug: str, row: Ints, z: Floats, visits: Visits, found: Sources, rng: Rng) -> Floats:
    """Return flux (A, N, S), about 1 at the peak."""
    if way == "burst":
        return bursts.curve(bursts.BURSTS[slug], z, visits.mjd, rng)
    if way == "moved":
        return moved.curves(found.templates, row, z, visits.night, rng)[:, SLOTS].transpose(0, 2, 1)
    n = len(row)
    fast = rng.random(n) < 0.35
    x1 = np.where(fast, rng.normal(-1.2, 0.8, n), rng.normal(0.4, 0.8, n)).clip(-3.5, 3.0)
    c = (rng.normal(-0.06, 0.05, n) + rng.exponential(0.09, n)).clip(-0.25, 0.8)
    phase, flux = found.salt3.curves(z, x1, c)
    rest = visits.mjd / (1.0 + z)[:, None, None]
    bands = [[np.interp(rest[a, :, s], phase, flux[a, b], left=0.0) for s, b in enumerate(SLOTS)] for a in range(n)]
    tint = 10.0 ** (-0.4 * rng.normal(0.0, 0.05, (n, 1, 3)))[:, :, SLOTS]
    return np.asarray(np.array(bands).transpose(0, 2, 1) * tint)


def _stars(slug: str, n: int, rng: Rng) -> LightCurves:
    form = forms(n, rng, total=0.5)
    # Data releases and catalogues have years of a star.
    years = form.total & (rng.random(n) < 0.6)
    visits = pointings.draw(n, rng, np.where(years, rng.uniform(1.0, 5.0, n), 1.0))
    if slug in ("mdwarf", "microlensing"):
        visits = _around(slug, visits, rng)
    else:
        visits = visits.shifted(rng.uniform(0.0, 1000.0, n))
    total, reference = STARS[slug](visits.mjd, rng)
    low, high = 10.0 ** (0.15 * np.array([12.5, 21.0]))
    scale = mag_to_njy(np.log10(rng.uniform(low, high, n)) / 0.15)
    curves = observe(visits, total * scale[:, None, None], reference * scale[:, None], form, rng)
    return _from_tables(curves, form.total, rng)


def _from_tables(curves: LightCurves, total: Bools, rng: Rng) -> LightCurves:
    """Return curves of which those of total flux (A,) are, here and there, what `tocsin score` makes of a table.

    One in four has a single band, and most have the medians taken away that the command takes from magnitudes.
    """
    n = len(curves)
    alone = np.where(total & (rng.random(n) < 0.25), rng.integers(0, 2, n), -1)
    only = of_points(curves, alone)
    curves = curves.keep(np.asarray((only < 0) | (curves.band == only)))
    less, _ = subtract(curves, 3, "auto")
    taken = of_points(curves, total & (rng.random(n) < 0.6))
    flux, kind = np.where(taken, less.flux_njy, curves.flux_njy), np.where(taken, less.kind, curves.kind)
    return replace(curves, flux_njy=flux, kind=kind)


def _around(slug: str, visits: Visits, rng: Rng) -> Visits:
    """Return the visits with day 0 at the event: within the history, for a flare minutes before an exposure."""
    n = len(visits.night)
    night = rng.integers(5, 80, n)
    at = visits.mjd[np.arange(n), night, visits.taken[np.arange(n), night].argmax(axis=1)]
    return visits.shifted(-at + (rng.uniform(-0.002, 0.02, n) if slug == "mdwarf" else rng.uniform(-15.0, 15.0, n)))


def _wander(night: Floats, rng: Rng) -> Floats:
    """Return (A, N, S) factors near 1: no supernova is its model, and its bands err together and each by itself."""
    steps = np.exp(-np.diff(night, axis=1) / 12.0)
    noise = rng.standard_normal((*night.shape, 4))
    for t in range(1, night.shape[1]):
        keep = steps[:, t - 1, None]
        noise[:, t] = keep * noise[:, t - 1] + np.sqrt(1.0 - keep**2) * noise[:, t]
    size = rng.uniform(0.01, 0.08, (len(night), 1, 1))
    return np.asarray(np.exp(size * (0.7 * noise[:, :, 3:] + 0.7 * noise[:, :, SLOTS])))


def _redshift(modulus: Floats) -> Floats:
    """Return the redshift of a distance modulus (n,), H0 = 70, matter 0.3, within 0.002 and `_MAX_Z`."""
    z = np.geomspace(0.002, _MAX_Z, 200)
    fine = np.linspace(0.0, _MAX_Z, 2000)
    distance = np.concatenate(([0.0], np.cumsum(np.diff(fine) / np.sqrt(0.3 * (1.0 + fine[1:]) ** 3 + 0.7))))
    mpc = (1.0 + z) * np.interp(z, fine, distance) * 299792.458 / 70.0
    return np.asarray(np.interp(modulus, 5.0 * np.log10(mpc) + 25.0, z))


def _host(z: Floats, rng: Rng) -> tuple[Floats, Floats]:
    """Return what a catalogue says of the host: a spectrum's or a picture's redshift, now and then another galaxy's."""
    n = len(z)
    err = np.where(rng.random(n) < 0.4, 0.001, rng.uniform(0.01, 0.06, n) * (1.0 + z))
    other = rng.random(n) < np.where(np.isfinite(z), 0.03, 0.02)
    told = np.where(other, rng.uniform(0.02, 0.8, n), np.abs(z + err * rng.standard_normal(n)))
    known = np.isfinite(told)
    return np.where(known, np.maximum(told, 1e-3), np.nan), np.where(known, np.nan_to_num(err, nan=0.05), np.nan)


def _joined(parts: list[Labelled]) -> Labelled:
    curves = [part.curves for part in parts]
    offsets = np.concatenate(([0], np.cumsum(np.concatenate([c.counts for c in curves])))).astype(np.int64)
    points = (
        np.concatenate([getattr(c, n) for c in curves]) for n in ("mjd", "flux_njy", "flux_err_njy", "band", "kind")
    )
    columns = ("object_id", "label", "host_z", "host_z_err", "moved_from_z")
    return Labelled(LightCurves(offsets, *points), *(np.concatenate([getattr(p, c) for p in parts]) for c in columns))
