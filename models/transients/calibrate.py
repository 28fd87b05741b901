"""Fitting the calibrator of a card, cross-fitting it, and the bins that judge it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from broker.core.batch import Floats, Ints
from broker.score.calibrate import heads, mixed
from broker.score.card import Calibration

RIDGE = 0.1
"""Weight of the mean square of the biases in the loss; chosen on seed 0 of protocol D's folds."""
BINS = 15


@dataclass(frozen=True, slots=True)
class Reliability:
    """Top-label reliability in bins of equal mass.

    Attributes
    ----------
    confidence, accuracy, mass : (B,)
        Mean probability of the likeliest class, share that is right, share of all weight.
    """

    confidence: Floats
    accuracy: Floats
    mass: Floats

    @classmethod
    def of(cls, p: NDArray[np.floating], label: Ints, weight: Floats, bins: int = BINS) -> Reliability:
        """Return the bins of probabilities (n, K), each row counted with its weight (n,)."""
        top, right = p.max(axis=1).astype(np.float64), p.argmax(axis=1) == label
        order = np.argsort(top, kind="stable")
        w = np.asarray(weight[order] / weight.sum(), dtype=np.float64)
        place = np.minimum((np.cumsum(w) * bins).astype(np.int64), bins - 1)
        mass, sure, hits = (np.bincount(place, w * part, bins) for part in (np.ones(len(w)), top[order], right[order]))
        share = np.maximum(mass, 1e-300)
        return cls(sure / share, hits / share, np.asarray(mass, dtype=np.float64))

    @property
    def error(self) -> float:
        """The expected calibration error: mean of |accuracy - confidence|, weighed by mass."""
        return float((np.abs(self.accuracy - self.confidence) * self.mass).sum())


def fit(logits: NDArray[np.floating], label: Ints, prior: Floats, fitted_on: str, ridge: float = RIDGE) -> Calibration:
    """Return temperature and biases that minimise the log loss at a class mix.

    A logit z becomes z / T + b: temperature scaling with a bias per class, the simplest part of vector scaling (Guo et
    al. 2017) that can move a class that is answered too often.

    Parameters
    ----------
    logits : (N, H, K)
        Out-of-fold predictions.
    label : (N,)
    prior : (K,)
        The mix: rows are weighed to it, and probabilities corrected to it, before the loss is taken.
    ridge : float
        Pulls the biases to 0: rare classes have few rows to fit one on.
    """
    weight = weights(label, prior)
    z, w = torch.from_numpy(logits.astype(np.float64)), torch.from_numpy(weight / weight.sum())
    y, shift = torch.from_numpy(label)[:, None], torch.from_numpy(np.log(prior))
    log_t = torch.zeros((), dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(logits.shape[2], dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([log_t, bias], max_iter=60, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        even = torch.softmax(z * torch.exp(-log_t) + bias, dim=2).mean(dim=1)
        at_mix = torch.log_softmax(torch.log(even.clamp(min=1e-30)) + shift, dim=1)
        value = -(w * at_mix.gather(1, y)[:, 0]).sum() + ridge * (bias**2).mean()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    moved = bias.detach() - bias.detach().mean()
    temperature = float(torch.exp(log_t.detach()))
    return Calibration(
        method="temperature and bias",
        temperature=round(temperature, 4),
        bias=tuple(round(float(b), 4) for b in moved),
        fitted_on=fitted_on,
    )


def cross_fitted(logits: NDArray[np.floating], label: Ints, fold: Ints, prior: Floats) -> Floats:
    """Return each head's probabilities (N, H, K) for even classes, calibrated by what fits the other folds.

    With a single fold there is nothing to fit on: the logits are taken as they are.
    """
    out = np.empty(logits.shape)
    for k in np.unique(fold):
        other = fold != k
        found = fit(logits[other], label[other], prior, "") if other.any() else UNCALIBRATED
        out[~other] = heads(logits[~other], found)
    return out


def at_mix(each: Floats, label: Ints, prior: Floats) -> Reliability:
    """Return the reliability at a class mix (K,) of heads' probabilities (N, H, K) for even classes."""
    return Reliability.of(mixed(each.mean(axis=1), prior), label, weights(label, prior))


def weights(label: Ints, prior: Floats) -> Floats:
    """Return the weight (N,) of each row that gives the classes the shares ``prior`` (K,)."""
    counts = np.bincount(label, minlength=len(prior))
    return np.asarray((prior / np.maximum(counts, 1))[label])


def mix_of(label: Ints, n_classes: int) -> Floats:
    """Return the set's own class mix (K,); an absent class counts as one object."""
    counts = np.maximum(np.bincount(label, minlength=n_classes), 1).astype(np.float64)
    return np.asarray(counts / counts.sum())


UNCALIBRATED = Calibration(method="none", temperature=1.0, bias=(), fitted_on="")
