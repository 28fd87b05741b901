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
