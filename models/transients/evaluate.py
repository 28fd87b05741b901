"""Held-out figures of classifiers and of the anomaly score: functions of predictions, no training."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from broker.core.batch import Floats, Ints
from broker.core.taxonomy import CLASSES
from broker.models.transients import calibrate
from broker.models.transients.examples import LAST_PACKET, WHOLE, Examples
from broker.score.calibrate import flat_log_loss, mixed

N_CLASSES = len(CLASSES)
MIX = {
    "snia": 0.30,
    "snibc": 0.05,
    "snii": 0.12,
    "sniax": 0.01,
    "sn91bg": 0.015,
    "kilonova": 0.005,
    "mdwarf": 0.03,
    "microlensing": 0.01,
    "slsn": 0.015,
    "tde": 0.015,
    "rrlyrae": 0.13,
    "eclipsing": 0.14,
    "mira": 0.06,
    "agn": 0.10,
}
"""The mix that published probabilities take for granted: rounded from magnitude-limited surveys (for transients the ZTF
Bright Transient Survey), rare classes raised to what a follow-up programme still wants to hear of. A choice, on every
card.
"""
PRIOR = np.array([MIX[c.slug] for c in CLASSES]) / sum(MIX.values())


def folds_of(examples: Examples, n_folds: int, seed: int) -> Ints:
    """Return the fold (N,) of each example: stratified by class, all versions of an object together."""
    from sklearn.model_selection import StratifiedKFold

    objects, first, place = np.unique(examples.object_id, return_index=True, return_inverse=True)
    fold = np.empty(len(objects), np.int64)
    split = StratifiedKFold(n_folds, shuffle=True, random_state=seed)
    for k, (_, held) in enumerate(split.split(objects, examples.label[first])):
        fold[held] = k
    return np.asarray(fold[place])


def groups(examples: Examples) -> dict[str, NDArray[np.bool_]]:
    """Return which examples (N,) each row of the report is about."""
    return {
        "whole_curve": examples.version == WHOLE,
        "packet_of_last_alert": examples.version == LAST_PACKET,
        "packet_of_any_alert": examples.version > LAST_PACKET,
    }


def classifier_metrics(examples: Examples, fold: Ints, logits: dict[str, NDArray[np.float32]]) -> dict[str, Any]:
    """Return the table of a classifier's out-of-fold predictions.

    Parameters
    ----------
    fold : (N,)
        Which fold held each example out; only examples with a prediction are given.
    logits : dict of str to (N, H, K)
        ``host_z`` and ``no_host_z``.

    Returns
    -------
    dict
        Per input and group: flat log loss, accuracy, mean one-vs-rest AUC, each mean over folds with standard
        deviation; and of all folds together the top-label reliability of what is published: the expected calibration
        error and its bins. A fold's calibrator comes from the other folds, one for all inputs and groups.
    """
    both, n = np.concatenate(list(logits.values())), len(logits)
    # With a single fold held out, its objects' two halves calibrate each other.
    apart = fold if len(np.unique(fold)) > 1 else np.unique(examples.object_id, return_inverse=True)[1] % 2
    every = calibrate.cross_fitted(both, np.tile(examples.label, n), np.tile(apart, n), PRIOR)
    out: dict[str, Any] = {}
    for inputs, each in zip(logits, np.split(every, n), strict=True):
        even, published = each.mean(axis=1), mixed(each.mean(axis=1), PRIOR)
        for group, member in groups(examples).items():
            held = [s for s in (member & (fold == k) for k in np.unique(fold)) if s.any()]
            rows = [_one(even[s], published[s], examples.label[s]) for s in held]
            figures: dict[str, Any] = {name: _mean_sd([row[name] for row in rows]) for name in rows[0]}
            bins = calibrate.at_mix(each[member], examples.label[member], PRIOR)
            out[f"{inputs}.{group}"] = figures | {
                "calibration_error_as_published": round(bins.error, 4),
                "reliability_as_published": [_digits(bins.confidence), _digits(bins.accuracy)],
            }
    return out


def area_under_curve(score: Floats, positive: NDArray[np.bool_]) -> float:
    """Return the area under the ROC curve: the chance that a positive (n,) scores above a negative, ties half."""
    order = np.argsort(score, kind="stable")
    _, place, counts = np.unique(score[order], return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    rank = (last - 0.5 * (counts - 1))[place]
    n_positive = int(positive.sum())
    n_negative = len(positive) - n_positive
    return float((rank[positive[order]].sum() - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative))


def recall_at(score: Floats, positive: NDArray[np.bool_], false_positive_rate: float) -> float:
    """Return the share of positives above the score that this share of negatives exceeds."""
    return float((score[positive] > np.quantile(score[~positive], 1.0 - false_positive_rate)).mean())


def loss_by_class(p: NDArray[np.floating], label: Ints) -> Floats:
    """Return the mean of -ln p of the true class, per class (K,), of probabilities (n, K); NaN for an absent class."""
    loss = -np.log(np.clip(p[np.arange(len(label)), label].astype(np.float64), 1e-15, 1.0))
    counts = np.bincount(label, minlength=p.shape[1])
    total = np.bincount(label, loss, p.shape[1])
    return np.where(counts > 0, total / np.maximum(counts, 1), np.nan)


def confusion(guess: Ints, label: Ints, n_classes: int) -> Ints:
    """Return counts (K, K): true classes down, guesses across."""
    return np.bincount(label * n_classes + guess, minlength=n_classes**2).reshape(n_classes, n_classes)


def spread_of_top(each: Floats) -> Floats:
    """Return the standard deviation (n,) over heads of the likeliest class, of the heads' probabilities (n, H, K)."""
    top = each.mean(axis=1).argmax(axis=1)
    column = np.take_along_axis(each, top[:, None, None], axis=2)[:, :, 0]
    return np.asarray(column.std(axis=1, ddof=1) if each.shape[1] > 1 else np.zeros(len(each)))


def share_by_quantile(flag: NDArray[np.bool_], value: Floats, parts: int) -> list[float]:
    """Return the share of flags (n,) in equal parts of the rows, ordered by value (n,)."""
    ordered = flag[np.argsort(value, kind="stable")]
    return [round(float(part.mean()), 4) for part in np.array_split(ordered, parts)]


def _one(even: Floats, published: Floats, label: Ints) -> dict[str, float]:
    """Return one fold's row: probabilities (n, K) for even classes and for the published mix."""
    counts = np.bincount(label, minlength=N_CLASSES)
    present = [k for k in range(N_CLASSES) if 0 < counts[k] < len(label)]
    return {
        "flat_log_loss": flat_log_loss(even, label, N_CLASSES),
        "flat_log_loss_as_published": flat_log_loss(published, label, N_CLASSES),
        "accuracy": float((even.argmax(axis=1) == label).mean()),
        "macro_auc": float(np.mean([area_under_curve(even[:, k], label == k) for k in present])),
    }


def _digits(values: Floats) -> list[float]:
    return [round(float(value), 4) for value in values]


def _mean_sd(values: list[float]) -> list[float]:
    """Return [mean, standard deviation] with four digits."""
    return [round(float(np.mean(values)), 4), round(float(np.std(values, ddof=1)) if len(values) > 1 else 0.0, 4)]
