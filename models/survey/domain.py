"""How far a record is from the training set: Mahalanobis distance of a trunk's features, as a rank. numpy only.

n = records, w = features. Features that hardly vary over the training set count by a floor of the variance, so that
noise in them is no distance.
"""

from __future__ import annotations

import numpy as np

from broker.sidecar.answer import Floats

FLOOR = 1e-3
"""Smallest variance of a direction, as a share of the largest."""

RANKS = 512
"""Held-out distances that are kept."""


def fit(train_features: Floats, held_out_features: Floats) -> dict[str, Floats]:
    """Return ``mean`` (w,), ``whiten`` (w, w) and ``ranks`` (r,), sorted distances of held-out records.

    Parameters
    ----------
    train_features, held_out_features : array, (n, w)
    """
    features = train_features.astype(np.float64)
    mean = features.mean(axis=0)
    variance, axes = np.linalg.eigh(np.cov(features, rowvar=False).reshape(len(mean), len(mean)))
    whiten = axes / np.sqrt(np.maximum(variance, FLOOR * variance.max() + 1e-12))
    arrays = {"mean": mean.astype(np.float32), "whiten": whiten.astype(np.float32)}
    levels = np.linspace(0.0, 1.0, RANKS)
    return {**arrays, "ranks": np.quantile(_distance(arrays, held_out_features), levels).astype(np.float32)}


def rank(arrays: dict[str, Floats], features: Floats) -> Floats:
    """Return the percentile rank (n,) [0 to 1] of features (n, w) among held-out records of the training set."""
    levels = np.linspace(0.0, 1.0, len(arrays["ranks"]))
    found: Floats = np.interp(_distance(arrays, features), arrays["ranks"], levels).astype(np.float32)
    return found


def _distance(arrays: dict[str, Floats], features: Floats) -> Floats:
    away = (features.astype(np.float32) - arrays["mean"]) @ arrays["whiten"]
    squares: Floats = np.einsum("nw,nw->n", away, away)
    return squares
