"""Logits of an ensemble of heads to probabilities with an uncertainty, and the temperature that calibrates them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from broker.core.batch import Floats, Ints
from broker.score.card import Calibration

Float32s = NDArray[np.float32]


def heads(logits: NDArray[np.floating], calibration: Calibration) -> Floats:
    """Return each head's probabilities (A, H, K) for even classes, of logits (A, H, K), as a card calibrates them."""
    scaled = np.asarray(logits, dtype=np.float64) / calibration.temperature
    return _softmax(scaled + np.array(calibration.bias) if calibration.bias else scaled)


def mixed(p: NDArray[np.floating], prior: Floats) -> Floats:
    """Return probabilities (..., K) for classes as common as ``prior`` (K,), of those for even classes (..., K).

    Bayes' rule (Saerens, Latinne & Decaestecker 2002): p × prior, made to add up to 1.
    """
    weighed = p * prior
    return np.asarray(weighed / weighed.sum(axis=-1, keepdims=True))


def spread(each: NDArray[np.floating]) -> Floats:
    """Return the standard deviation (A, K) over heads (A, H, K); 0 for a single head."""
    return np.asarray(each.std(axis=1, ddof=1) if each.shape[1] > 1 else np.zeros_like(each[:, 0]))


def probabilities(
    logits: NDArray[np.floating], temperature: float, prior: Floats | None = None
) -> tuple[Float32s, Float32s]:
    """Return the mean over heads (A, K) of softmax(logits / T), and its standard deviation over heads (A, K).

    Parameters
    ----------
    logits : (A, H, K)
        Of a network trained with even classes.
    temperature : float
        Above 1 softens.
    prior : (K,), optional
        How common the classes are where the probabilities are used, see `mixed`: the mean, and each head, are weighed
        with it. None: even, as in training.
    """
    each = _softmax(np.asarray(logits, dtype=np.float64) / temperature)
    mean = each.mean(axis=1)
    if prior is not None:
        each, mean = mixed(each, prior), mixed(mean, prior)
    return mean.astype(np.float32), spread(each).astype(np.float32)


def _softmax(logits: Floats) -> Floats:
    exp = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(exp / exp.sum(axis=-1, keepdims=True))


def flat_log_loss(p: NDArray[np.floating], label: Ints, n_classes: int) -> float:
    """Return the mean over the classes present of the mean of -ln p of the true class (PLAsTiCC, weights 1).

    Parameters
    ----------
    p : (A, K)
        Clipped at 1e-15 as Kaggle did.
    label : (A,)
        Column of the true class.
    """
    loss = -np.log(np.clip(p[np.arange(len(label)), label].astype(np.float64), 1e-15, 1.0))
    present = [k for k in range(n_classes) if (label == k).any()]
    return float(np.mean([loss[label == k].mean() for k in present]))


def fit_temperature(logits: NDArray[np.floating], label: Ints) -> float:
    """Return the temperature that minimises the flat log loss of logits (A, H, K): golden section on its logarithm."""
    n_classes = logits.shape[2]

    def loss(log_t: float) -> float:
        return flat_log_loss(probabilities(logits, float(np.exp(log_t)))[0], label, n_classes)

    low, high, ratio = -1.5, 1.5, (np.sqrt(5.0) - 1.0) / 2.0
    a, b = high - ratio * (high - low), low + ratio * (high - low)
    left, right = loss(a), loss(b)
    for _ in range(18):  # to 3 · 0.618¹⁸ = 5e-4 of the logarithm
        if left < right:
            high, b, right = b, a, left
            a = high - ratio * (high - low)
            left = loss(a)
        else:
            low, a, left = a, b, right
            b = low + ratio * (high - low)
            right = loss(b)
    return float(np.exp(0.5 * (low + high)))


def calibration_error(p: NDArray[np.floating], label: Ints, weight: Floats, bins: int = 15) -> float:
    """Return the top-label expected calibration error in bins of equal mass of weight (A,)."""
    top, right = p.max(axis=1), p.argmax(axis=1) == label
    order = np.argsort(top)
    mass = np.cumsum(weight[order]) / weight.sum()
    bin_ = np.minimum((mass * bins).astype(np.int64), bins - 1)
    w, gap = weight[order], (right[order] - top[order]) * weight[order]
    return float(np.abs(np.bincount(bin_, gap, bins)).sum() / w.sum())
