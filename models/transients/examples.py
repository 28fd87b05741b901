"""Training examples: every object in several versions, as the tensors that serving would make of them, kept on disk."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from broker import gp
from broker.core.bands import SURVEYS
from broker.core.batch import Floats, Ints, LightCurves
from broker.models.transients import augment, data
from broker.models.transients.data import Labelled
from broker.models.transients.sky import bursts, moved, observe, pointings, salt3, simulate, variables
from broker.score import features, tensors, window
from broker.score.tensors import Tensors, build
from broker.score.window import GridRule, request
from broker.tables import baseline

WHOLE, LAST_PACKET = 0, 1
"""Versions of every object: its whole light curve; the packet of its last alert. Later ones are any alert's packet."""
HISTORY_D = {"lsst": 365.0, "ztf": 30.0}
"""Days that a packet holds."""
CHUNK = 1024
_COLUMNS = ("label", "object_id", "version", "n_detections")

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Examples:
    """N tensors with their labels.

    Attributes
    ----------
    tensors : Tensors
        With the host's redshift.
    label : (N,) int64
        Column of `broker.core.taxonomy.CLASSES`.
    object_id, version : (N,) int64
        Which object, in which version.
    n_detections : (N,) int64
        Detections in this version.
    """

    tensors: Tensors
    label: Ints
    object_id: Ints
    version: Ints
    n_detections: Ints

    def __len__(self) -> int:
        return len(self.label)

    def take(self, index: Ints) -> Examples:
        """Return the examples at ``index`` (n,)."""
        columns = (self.label, self.object_id, self.version, self.n_detections)
        return Examples(self.tensors.take(index), *(column[index] for column in columns))


def versions_of(label: Ints, at_least: int = 5, at_most: int = 18, aim: int = 3000) -> Ints:
    """Return how many versions each object gets (A,): more in small classes."""
    counts = np.bincount(label)[label]
    return np.clip(np.ceil(aim / counts), at_least, at_most).astype(np.int64)


def make(survey: str, objects: Labelled, seed: int, progress: Progress, rule: GridRule | None = None) -> Examples:
    """Return the examples of one survey; equal seeds give equal examples."""
    rule = rule or GridRule()
    parts = []
    repeats = versions_of(objects.label)
    for version in range(int(repeats.max(initial=0))):
        chosen = np.flatnonzero(repeats > version)
        rng = np.random.default_rng((seed, version, sorted(SURVEYS).index(survey)))
        for done, rows in _chunks(chosen):
            parts.append(_chunk(survey, objects.take(rows), version, rng, rule))
            progress(f"version {version + 1} of {int(repeats.max())}", done, len(chosen))
    return _joined(parts)


def cached(survey: str, objects: Labelled, seed: int, cache: Path, progress: Progress) -> Examples:
    """Return `make`'s examples from ``cache``, made on first use and again when the code that makes them changes."""
    path = cache / "examples" / f"{survey}-{seed}-{len(objects)}-{fingerprint(survey)}.npz"
    return kept(path, lambda: make(survey, objects, seed, progress))


def kept(path: Path, made: Callable[[], Examples]) -> Examples:
    """Return the examples at ``path``, without epochs; where it is not there, they are made and written in one move."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        new = made()
        arrays: dict[str, Any] = {name: getattr(new.tensors, name) for name in tensors.ALWAYS}
        arrays |= {name: getattr(new, name) for name in _COLUMNS}
        np.savez(path.with_suffix(".part.npz"), **arrays)
        path.with_suffix(".part.npz").replace(path)
    with np.load(path, allow_pickle=False) as saved:
        parts = Tensors(*(saved[name] for name in tensors.ALWAYS))
        return Examples(parts, *(saved[name] for name in _COLUMNS))


def to_examples(
    curves: LightCurves, survey: str, rule: GridRule, host_z: Floats | None, host_z_err: Floats | None
) -> Tensors:
    """Return tensors of clean curves: the three calls that the pipeline makes."""
    grid = request(curves, rule)
    answer = gp.interpolate(grid.curves, SURVEYS[survey].wavelengths_aa, grid.times)
    return build(grid, answer, host_z=host_z, host_z_err=host_z_err)


def _chunk(survey: str, objects: Labelled, version: int, rng: augment.Rng, rule: GridRule) -> Examples:
    curves, host_z, host_z_err = VERSION_OF[survey](objects, version, rng)
    usable = np.flatnonzero(np.isfinite(augment.last_detection(curves)))
    made = to_examples(curves.take(usable), survey, rule, host_z[usable], host_z_err[usable])
    objects = objects.take(usable)
    detections = augment.detections(curves)[usable]
    examples = Examples(made, objects.label, objects.object_id, np.full(len(objects), version, np.int64), detections)
    return examples.take(np.flatnonzero(made.finite))


def _ztf_version(objects: Labelled, version: int, rng: augment.Rng) -> tuple[LightCurves, Floats, Floats]:
    curves = objects.curves
    if version != WHOLE:
        at = augment.last_detection(curves) if version == LAST_PACKET else augment.chosen_detection(curves, rng)
        # Most later versions are packets; some are longer histories up to any of their alerts.
        curves = augment.as_packet(curves, at, HISTORY_D["ztf"] if version % 5 != 4 else 400.0)
    return curves, objects.host_z, objects.host_z_err


def _lsst_version(objects: Labelled, version: int, rng: augment.Rng) -> tuple[LightCurves, Floats, Floats]:
    return _rubin(objects.curves, version, rng), objects.host_z, objects.host_z_err


def _rubin(curves: LightCurves, version: int, rng: augment.Rng) -> LightCurves:
    if version == WHOLE:
        return curves
    if version == LAST_PACKET:
        return augment.as_packet(curves, augment.last_detection(curves), HISTORY_D["lsst"])
    if version % 5 == 4:
        # Whole curves too, with points and bands lost: the network must know them in more than one version.
        return augment.add_noise(augment.lose_bands(augment.lose_points(curves, rng), rng, 6, 0.1), rng)
    return augment.any_epoch(curves, rng, 6, HISTORY_D["lsst"])


VERSION_OF = {"lsst": _lsst_version, "ztf": _ztf_version}
"""Survey to what makes one version of each object, with the redshift of the host and its error."""
_CODE = {"lsst": (), "ztf": (baseline, bursts, moved, observe, pointings, salt3, simulate, variables)}
"""Modules that a survey's examples depend on, beside those that all do."""


def _chunks(rows: Ints) -> Iterator[tuple[int, Ints]]:
    for start in range(0, len(rows), CHUNK):
        yield min(start + CHUNK, len(rows)), rows[start : start + CHUNK]


def _joined(parts: list[Examples]) -> Examples:
    def column(get: Callable[[Examples], NDArray[Any]]) -> NDArray[Any]:
        return np.concatenate([get(part) for part in parts])

    joined = Tensors(*(column(lambda e, n=name: getattr(e.tensors, n)) for name in tensors.ALWAYS))  # type: ignore[misc]
    return Examples(joined, *(column(lambda e, n=name: getattr(e, n)) for name in _COLUMNS))  # type: ignore[misc]


def fingerprint(survey: str) -> str:
    """Return a hash of the code that makes examples, the Gaussian process apart (its solvers agree by test)."""
    modules = (augment, data, features, tensors, window, *_CODE[survey])
    functions = (_chunk, _rubin if survey == "lsst" else _ztf_version)
    text = "".join(inspect.getsource(part) for part in (*modules, *functions))
    return hashlib.sha256(text.encode()).hexdigest()[:12]
