"""Epochs for examples: the curves are made again, as `examples` made them, and no Gaussian process is asked."""

from __future__ import annotations

import hashlib
import inspect
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from broker.core.bands import SURVEYS
from broker.core.batch import Ints
from broker.models.transients import augment, examples
from broker.models.transients.data import Labelled
from broker.models.transients.examples import CHUNK, VERSION_OF, Examples, Progress, versions_of
from broker.score import epochs, features

Columns = tuple[Ints, Ints, NDArray[np.float32], NDArray[np.bool_]]


def with_epochs(
    made: Examples, survey: str, objects: Labelled, seed: int, cache: Path | None, progress: Progress
) -> Examples:
    """Return the examples with their epochs, which are kept in ``cache`` beside them.

    Parameters
    ----------
    made : Examples
        What `examples.cached` gave for this survey, these objects and this seed, or some of it.

    Raises
    ------
    ValueError
        An example has no epochs: it is of other objects or of another seed.
    """
    object_id, version, values, mask = _cached(survey, objects, seed, cache, progress)
    key, wanted = (np.stack(pair).astype(np.int64) for pair in ((object_id, version), (made.object_id, made.version)))
    place = _places(key, wanted)
    tensors = replace(made.tensors, epochs=values[place], epochs_mask=mask[place])
    return replace(made, tensors=tensors)


def make(survey: str, objects: Labelled, seed: int, progress: Progress) -> Columns:
    """Return object_id (N,), version (N,), epochs (N, E, C) and their mask (N, E) of all examples of a survey."""
    repeats = versions_of(objects.label)
    parts: list[Columns] = []
    for version in range(int(repeats.max(initial=0))):
        chosen = np.flatnonzero(repeats > version)
        rng = np.random.default_rng((seed, version, sorted(SURVEYS).index(survey)))
        for start in range(0, len(chosen), CHUNK):
            parts.append(_chunk(survey, objects.take(chosen[start : start + CHUNK]), version, rng))
        progress(f"epochs of version {version + 1} of {int(repeats.max())}", len(chosen), len(chosen))
    joined: Any = tuple(np.concatenate(columns) for columns in zip(*parts, strict=True))
    return joined  # type: ignore[no-any-return]


def _chunk(survey: str, objects: Labelled, version: int, rng: augment.Rng) -> Columns:
    curves = VERSION_OF[survey](objects, version, rng)[0]
    usable = np.flatnonzero(np.isfinite(augment.last_detection(curves)))
    curves, n_bands = curves.take(usable), len(SURVEYS[survey].bands)
    scale, _ = features.of_points(curves, n_bands)
    made = epochs.of_curves(curves, n_bands, scale)
    return objects.object_id[usable], np.full(len(usable), version, np.int64), *made


def _places(key: Ints, wanted: Ints) -> Ints:
    """Return where each column of wanted (2, n) stands in key (2, N)."""
    width = int(max(key[1].max(initial=0), wanted[1].max(initial=0))) + 1
    flat, sought = key[0] * width + key[1], wanted[0] * width + wanted[1]
    order = np.argsort(flat)
    place = np.minimum(np.searchsorted(flat[order], sought), len(order) - 1)
    if not np.array_equal(flat[order[place]], sought):
        raise ValueError("these examples are of other objects or of another seed than the epochs")
    return np.asarray(order[place])


def _cached(survey: str, objects: Labelled, seed: int, cache: Path | None, progress: Progress) -> Columns:
    if cache is None:
        return make(survey, objects, seed, progress)
    path = cache / "examples" / f"{survey}-{seed}-{len(objects)}-{_fingerprint(survey)}-epochs.npz"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        columns = make(survey, objects, seed, progress)
        np.savez(path.with_suffix(".part.npz"), *columns)
        path.with_suffix(".part.npz").replace(path)
    with np.load(path, allow_pickle=False) as saved:
        return saved["arr_0"], saved["arr_1"], saved["arr_2"], saved["arr_3"]


def _fingerprint(survey: str) -> str:
    """Return a hash of the code that makes the curves and the epochs of them."""
    text = inspect.getsource(epochs) + inspect.getsource(_chunk) + examples.fingerprint(survey)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
