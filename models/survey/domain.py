"""How far a record is from the training set, as a rank. numpy only.

The distance is that of a trunk's features from the nearest of a few centres of the training set's.

n = records, w = features, c = centres. Features are whitened; directions that hardly vary count by a floor of the
variance. Centres of k-means follow gaps and bends of the training set, as one mean cannot, and separate shifted records
nearly as well as a thousand neighbours, at a tenth of the cost.
"""

from __future__ import annotations

import numpy as np

from broker.sidecar.answer import Floats

ARRAYS = ("mean", "whiten", "centres", "ranks")
"""What files of weights hold of the training set."""
CENTRES, ROUNDS = 128, 8
AT_MOST = 20_000
"""Training records that centres are made of."""
FLOOR = 1e-3
"""Smallest variance of a direction, as a share of the largest."""
RANKS = 512
"""Held-out distances that are kept."""
BLOCK = 2048


def fit(train_features: Floats, held_out_features: Floats) -> dict[str, Floats]:
    """Return what `rank` reads; the same for the same features.

    Parameters
    ----------
    train_features, held_out_features : array, (n, w)

    Returns
    -------
    dict of str to array
        ``mean`` (w,), ``whiten`` (w, w), ``centres`` (c, w) in whitened features, and ``ranks`` (r,): squared distances
        of held-out records, rising.
    """
    rng = np.random.default_rng(0)
    features = train_features[rng.permutation(len(train_features))[:AT_MOST]].astype(np.float64)
    mean = features.mean(axis=0)
    variance, axes = np.linalg.eigh(np.cov(features, rowvar=False).reshape(len(mean), len(mean)))
    whiten = axes / np.sqrt(np.maximum(variance, FLOOR * variance.max() + 1e-12))
    arrays = {
        "mean": mean.astype(np.float32),
        "whiten": whiten.astype(np.float16),
        "centres": _centres(((features - mean) @ whiten).astype(np.float32)).astype(np.float16),
    }
    levels = np.linspace(0.0, 1.0, RANKS)
    return {**arrays, "ranks": np.quantile(_distance(arrays, held_out_features), levels).astype(np.float32)}


def rank(arrays: dict[str, Floats], features: Floats) -> Floats:
    """Return the percentile rank (n,) [0 to 1] of features (n, w) among held-out records of the training set."""
    levels = np.linspace(0.0, 1.0, len(arrays["ranks"]))
    found: Floats = np.interp(_distance(arrays, features), arrays["ranks"], levels).astype(np.float32)
    return found


def _distance(arrays: dict[str, Floats], features: Floats) -> Floats:
    """Return the squared distance (n,) of each record from its nearest centre."""
    whiten, centres = (arrays[name].astype(np.float32) for name in ("whiten", "centres"))
    parts = [
        _nearest((features[start : start + BLOCK].astype(np.float32) - arrays["mean"]) @ whiten, centres)[1]
        for start in range(0, max(len(features), 1), BLOCK)
    ]
    return np.concatenate(parts)


def _nearest(points: Floats, centres: Floats) -> tuple[np.ndarray, Floats]:
    """Return the number of the nearest centre and the squared distance from it, of points (n, w)."""
    apart = np.einsum("cw,cw->c", centres, centres) - 2.0 * points @ centres.T
    nearest = apart.argmin(axis=1)
    square = np.einsum("nw,nw->n", points, points)
    return nearest, np.maximum(apart[np.arange(len(points)), nearest] + square, 0.0)


def _centres(points: Floats) -> Floats:
    """Return centres (c, w) of points (n, w) in no order, by Lloyd's k-means; a centre without points stays."""
    centres = points[:CENTRES].copy()
    for _ in range(ROUNDS):
        own, _ = _nearest(points, centres)
        count = np.bincount(own, minlength=len(centres))[:, None]
        total = np.stack([np.bincount(own, column, len(centres)) for column in points.T], axis=1)
        centres = np.where(count > 0, total / np.maximum(count, 1), centres).astype(np.float32)
    return centres
