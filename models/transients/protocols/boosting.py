"""Gradient boosting on features of the Gaussian process: the benchmark (Hložek et al. 2020; Boone 2019)."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from broker.core.batch import Floats
from broker.core.taxonomy import CLASSES
from broker.models.transients.examples import Examples
from broker.score.tensors import HOST, Tensors

TREES, RATE, LEAVES = 80, 0.1, 15
"""Chosen on fold 0 of seed 0. Classes are evened out half by weights, half by a correction of the answers."""
AROUND_PEAK = (-8, -4, -2, 2, 4, 8, 16)
"""Grid steps from the peak at which the bands' fluxes are features."""
_BANDS = 6


def features(tensors: Tensors, host: bool) -> Floats:
    """Return features (A, F) of tensors: the scalars, and of each band's curve its statistics and shape.

    Parameters
    ----------
    host : bool
        Whether the host's scalars are among them.
    """
    flux = tensors.series[..., :_BANDS]
    steps = _peak(tensors)[:, None] + np.array(AROUND_PEAK)
    inside = (steps >= 0) & (steps < flux.shape[1])
    around = np.take_along_axis(flux, np.clip(steps, 0, flux.shape[1] - 1)[:, :, None], axis=1)
    around = np.where(inside[:, :, None], around, np.nan).reshape(len(flux), -1)
    columns = (
        tensors.scalars if host else tensors.scalars[:, : -len(HOST)],
        *(flux.max(axis=1), flux.min(axis=1), flux.mean(axis=1), flux.std(axis=1), flux.argmax(axis=1)),
        around,
        tensors.series[:, 0, -1:],
    )
    return np.concatenate(columns, axis=1).astype(np.float64)


def logits(training: Examples, judged: Examples, host: bool, kept: Path) -> NDArray[np.float64]:
    """Return ln p (n, 1, K) for even classes of the examples ``judged``.

    Parameters
    ----------
    kept : Path
        Where the trees grown on the examples ``training`` lie, or will.
    """
    model, share = _grown(training, host, kept)
    p = np.full((len(judged), len(CLASSES)), 1e-9)
    p[:, model.classes_] = model.predict_proba(features(judged.tensors, host))
    return np.asarray(np.log(np.maximum(p, 1e-9)) - 0.5 * np.log(share))[:, None, :]


def _grown(training: Examples, host: bool, kept: Path) -> tuple[Any, Floats]:
    """Return the trees, and the classes' shares (K,) that they were grown with."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    if not kept.exists():
        counts = np.maximum(np.bincount(training.label, minlength=len(CLASSES)), 1)
        weight = 1.0 / np.sqrt(counts[training.label])
        model = HistGradientBoostingClassifier(
            learning_rate=RATE,
            max_iter=TREES,
            max_leaf_nodes=LEAVES,
            l2_regularization=1.0,
            max_features=0.3,
            early_stopping=False,
            random_state=0,
        ).fit(features(training.tensors, host), training.label, sample_weight=weight / weight.mean())
        kept.parent.mkdir(parents=True, exist_ok=True)
        part = kept.with_suffix(".part")
        part.write_bytes(pickle.dumps((model, counts / counts.sum())))
        part.replace(kept)
    found: tuple[Any, Floats] = pickle.loads(kept.read_bytes())
    return found


def _peak(tensors: Tensors) -> NDArray[np.int64]:
    """Return the grid step (A,) of the peak of all bands' curve, weighed by their errors."""
    flux, err = tensors.series[..., :_BANDS], 10.0 ** tensors.series[..., _BANDS : 2 * _BANDS]
    weight = 1.0 / (err**2 + 0.01)
    return np.asarray(((flux * weight).sum(axis=2) / weight.sum(axis=2)).argmax(axis=1))
