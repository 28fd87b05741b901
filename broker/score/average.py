"""The classification that Tocsin goes by where several classifiers answer: their average."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from broker.core.batch import ClassScores, Floats
from broker.core.taxonomy import over_branches
from broker.score.calibrate import mixed

VERSION = "1"
"""Of the rule below."""


def average(survey: str, members: Sequence[ClassScores]) -> ClassScores:
    """Return the average of M classifiers as a classifier of its own, called ``<survey>-average``.

    The members' probabilities are taken back to even classes, averaged there and weighed with the mean prior. The
    variance is that of a head drawn from a member drawn at random, sigma² = mean(sigma_m²) + sum((p_m - mean(p_m))²) /
    (M - 1): the heads' spread within the members, and the difference between them.

    Parameters
    ----------
    members : sequence of ClassScores
        Of the same A alerts and the same classes; an alert that one of them does not score has its reason.
    """
    p = np.stack([m.probabilities for m in members]).astype(np.float64)
    prior = np.asarray(np.mean([m.prior for m in members], axis=0, dtype=np.float64))
    even = np.mean([mixed(one, 1.0 / m.prior.astype(np.float64)) for one, m in zip(p, members, strict=True)], axis=0)
    reason = [next(filter(None, reasons), "") for reasons in zip(*(m.reason for m in members), strict=True)]
    ids = members[0].class_ids
    return ClassScores(
        f"{survey}-average",
        VERSION,
        params(members),
        ids,
        np.asarray(prior, np.float32),
        mixed(even, prior).astype(np.float32),
        _spread(np.stack([m.uncertainty for m in members]), p).astype(np.float32),
        _spread(np.stack([m.branch_uncertainty for m in members]), over_branches(p, ids)).astype(np.float32),
        reason,
    )


def params(members: Sequence[ClassScores]) -> str:
    """Return what an average is made of: name, version and the first 16 digits of the weights' hash of each member."""
    return "mean of " + ", ".join(f"{m.name} {m.version} {m.weights_hash[:16]}" for m in members)


def _spread(sigma: NDArray[np.floating], p: NDArray[np.floating]) -> Floats:
    """Return (A, X) of the members' standard deviations and probabilities, both (M, A, X)."""
    within = np.square(sigma, dtype=np.float64).mean(axis=0)
    return np.asarray(np.sqrt(within + p.var(axis=0, ddof=1)))
