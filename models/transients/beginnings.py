"""Examples of the first weeks: objects as alerts show them soon after the first detection."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from pathlib import Path

import numpy as np

from broker.core.batch import Floats, Kind, LightCurves
from broker.models.transients import augment
from broker.models.transients.data import Labelled
from broker.models.transients.examples import HISTORY_D, Examples, fingerprint, kept, to_examples
from broker.score.tensors import ALWAYS, Tensors
from broker.score.window import GridRule

VERSION = 100
"""Versions from here on are beginnings."""
LONGEST_D = 62.0


def first_detection(curves: LightCurves) -> Floats:
    """Return the MJD (A,) of the first detection of each curve; NaN without one."""
    out = np.full(len(curves), np.nan)
    rows = np.flatnonzero(curves.kind == Kind.DETECTION)[::-1]
    # Points are sorted in time, so from the end the last assignment to a curve is the earliest.
    out[np.repeat(np.arange(len(curves)), curves.counts)[rows]] = curves.mjd[rows]
    return out


def added(made: Examples, objects: Labelled, times: int, seed: int, cache: Path) -> Examples:
    """Return the examples with ``times`` beginnings of every Rubin object that they are of behind them.

    Parameters
    ----------
    objects : Labelled
        All objects: what one is made of does not hang on which others are asked for.
    cache : Path
        Where the beginnings of all are kept.
    """
    every = cached(objects, times, seed, cache)
    return _joined([made, every.take(np.flatnonzero(np.isin(every.object_id, made.object_id)))])


def cached(objects: Labelled, times: int, seed: int, cache: Path) -> Examples:
    """Return `make`'s examples from ``cache``, made on first use and again when the code that makes them changes."""
    path = cache / "examples" / f"beginnings-{times}-{seed}-{len(objects)}-{digest(_one)}.npz"
    return kept(path, lambda: make(objects, times, seed))


def digest(made_by: Callable[..., object]) -> str:
    """Return a hash of the code that makes examples out of `packets`."""
    code = "".join(inspect.getsource(part) for part in (made_by, packets, first_detection))
    return hashlib.sha256((code + fingerprint("lsst")).encode()).hexdigest()[:12]


def make(objects: Labelled, times: int, seed: int) -> Examples:
    """Return ``times`` beginnings of every Rubin object.

    Each is a noisier curve with points and bands lost, cut uniformly in the logarithm of the days since its first
    detection; one in seven at the first detection itself.
    """
    rng = np.random.default_rng((seed, VERSION))
    return _joined([_one(objects, VERSION + k, rng) for k in range(times)])


def packets(objects: Labelled, at: Floats, version: int | np.ndarray[tuple[int], np.dtype[np.int64]]) -> Examples:
    """Return examples of what an alert at MJD ``at`` (A,) holds; points up to then must be there."""
    curves = augment.as_packet(objects.curves, at, HISTORY_D["lsst"])
    made = to_examples(curves, "lsst", GridRule(), objects.host_z, objects.host_z_err)
    detected = augment.detections(curves)
    versions = np.broadcast_to(np.asarray(version, np.int64), len(objects)).copy()
    return Examples(made, objects.label, objects.object_id, versions, detected)


def _one(objects: Labelled, version: int, rng: augment.Rng) -> Examples:
    curves = augment.lose_bands(augment.lose_points(objects.curves, rng), rng, 6, 0.1)
    curves = augment.add_noise(curves, rng)
    first = first_detection(curves)
    seen = np.flatnonzero(np.isfinite(first))
    days = (1.0 + LONGEST_D) ** rng.random(len(seen)) - 1.0
    days[rng.random(len(seen)) < 1.0 / 7.0] = 0.0
    rest = objects.take(seen)
    worse = Labelled(curves.take(seen), rest.object_id, rest.label, rest.host_z, rest.host_z_err, rest.moved_from_z)
    made = packets(worse, first[seen] + days, version)
    return made.take(np.flatnonzero(made.tensors.finite))


def _joined(parts: list[Examples]) -> Examples:
    arrays = (np.concatenate([getattr(part.tensors, name) for part in parts]) for name in ALWAYS)
    columns = ("label", "object_id", "version", "n_detections")
    return Examples(Tensors(*arrays), *(np.concatenate([getattr(part, name) for part in parts]) for name in columns))
