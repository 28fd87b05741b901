"""What is said of answers when the truth is known: figures with intervals, for a row and for its baselines.

n = records. A judge takes an answer of any form and gives the figures that this form allows: of point estimates
without uncertainty there is no calibration. Records without an answer count in ``answered``, and nowhere else.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import log, nan, sqrt
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from broker.models.survey import posterior
from broker.models.survey.row import Columns
from broker.sidecar.answer import Answer, Floats, Output

Better = Literal["less", "more"]
Statistic = Callable[[Floats], Floats]
"""Scores (..., n), or (..., n, columns), to numbers (...)."""
Bounds = Callable[[Floats, Statistic, int], tuple[float, float]]
"""The 95 % interval of a statistic of scores, by a seed."""

OUTLIER = 0.15
"""|dz| / (1 + z) of an outlier where the set's ``extra["outlier"]`` (n,) says nothing else."""

RESAMPLES = 200
BLOCK = 2_000_000
"""Numbers that a bootstrap holds at a time."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure: its value and unit, and whether "less" or "more" is better (of ``bias``, of its magnitude).

    ``statistic`` of ``scores``, one of each record, is the value; ``bounds`` of the two give its interval.
    """

    value: float
    unit: str
    better: Better
    scores: Floats = field(repr=False)
    statistic: Statistic = field(repr=False)
    bounds: Bounds = field(repr=False)

    def interval(self, seed: int = 0) -> tuple[float, float]:
        """Return the 95 % interval."""
        return self.bounds(self.scores, self.statistic, seed)


Judge = Callable[[Answer, NDArray[Any], Columns], dict[str, Figure]]
"""``judge(answer, truth, extra)``: the truth as in `broker.models.survey.row.Examples`, and its ``extra``."""


def sigma_nmad(errors: Floats) -> Floats:
    """Return 1.4826 times the median distance of errors (..., n) from their median."""
    middle = np.median(errors, axis=-1, keepdims=True)
    spread: Floats = 1.4826 * np.median(np.abs(errors - middle), axis=-1)
    return spread


def auroc(score: Floats, positive: NDArray[np.bool_]) -> float:
    """Return the area under the ROC curve: how often a positive's score (n,) is above a negative's; ties are halves."""
    _, at, count = np.unique(score, return_inverse=True, return_counts=True)
    rank = (np.cumsum(count) - 0.5 * (count - 1))[at]
    n = int(positive.sum())
    return float((rank[positive].sum() - 0.5 * n * (n + 1)) / (n * (len(score) - n)))


def bootstrap(scores: Floats, statistic: Statistic, seed: int, resamples: int = RESAMPLES) -> tuple[float, float]:
    """Return the 95 % interval of a statistic of scores (n,) or (n, columns), by drawing records again."""
    rng = np.random.default_rng(seed)
    at_once = max(BLOCK // max(scores.size, 1), 1)
    drawn = [
        statistic(scores[rng.integers(0, len(scores), (min(at_once, resamples - done), len(scores)))])
        for done in range(0, resamples, at_once)
    ]
    low, high = np.quantile(np.concatenate(drawn), [0.025, 0.975])
    return float(low), float(high)


def band(ranks: Floats, statistic: Statistic, seed: int) -> tuple[float, float]:
    """Return an interval that holds the true distance of ranks (n,) from uniform in 95 % of cases or more.

    It is as wide as the band that holds the true distribution (Dvoretzky, Kiefer & Wolfowitz; Massart 1990). Drawing
    records again would not do: it adds to a distance, so that the interval would lie above it.
    """
    middle, half = float(statistic(ranks)), sqrt(log(2.0 / 0.05) / (2.0 * len(ranks)))
    return max(middle - half, 0.0), min(middle + half, 1.0)


def photo_z(answer: Answer, truth: NDArray[Any], extra: Columns) -> dict[str, Figure]:
    """Judge redshifts, the first output: scatter, outliers, bias, and the posterior if there is one.

    Errors are dz / (1 + z); the bias is their median. ``extra["faint"]`` (n,) bool asks for the scatter of those alone.
    """
    output, z = answer.outputs[0], truth[:, 0]
    good = np.isfinite(output.value)
    errors = ((output.value - z) / (1.0 + z))[good]
    limit = np.asarray(extra.get("outlier", np.full(len(z), OUTLIER)))[good]
    figures = {
        "sigma_nmad": figure(errors, sigma_nmad, "", "less"),
        "outliers": figure(100.0 * (np.abs(errors) > limit), mean, "%", "less"),
        "bias": figure(errors, median, "", "less"),
    }
    if "faint" in extra:
        figures["faint sigma_nmad"] = figure(errors[extra["faint"][good]], sigma_nmad, "", "less")
    return figures | _calibration(take(output, good), z[good]) | _answered(good)


def posteriors(answer: Answer, truth: NDArray[Any], extra: Columns) -> dict[str, Figure]:
    """Judge every output by itself, and joint samples together."""
    figures: dict[str, Figure] = {}
    good = np.all([np.isfinite(output.value) for output in answer.outputs], axis=0)
    outputs = [take(output, good) for output in answer.outputs]
    for output, true in zip(outputs, truth[good].T, strict=True):
        own = {"rmse": figure((output.value - true) ** 2, root_mean, output.unit, "less")}
        own |= {"bias": figure(output.value - true, mean, output.unit, "less")} | _calibration(output, true)
        figures |= {f"{output.name} {name}" if len(outputs) > 1 else name: one for name, one in own.items()}
    if len(outputs) > 1 and all(output.form == "samples" for output in outputs):
        samples = np.stack([output.parts["samples"] for output in outputs], axis=2)
        figures["tarp"] = uniform(posterior.tarp(samples, truth[good], 0))
    return figures | _answered(good)


def classes(answer: Answer, truth: NDArray[Any], extra: Columns) -> dict[str, Figure]:
    """Judge a classifier; the area under the ROC curve is the mean over classes of each against the rest."""
    output = answer.outputs[0]
    good = np.isfinite(output.value)
    probabilities, number = output.parts["probabilities"][good], truth[good].astype(np.int64)
    right = 100.0 * (output.value[good].astype(np.int64) == number)
    loss = -np.log(np.maximum(probabilities[np.arange(len(number)), number], 1e-7))
    each = [number == k for k in range(probabilities.shape[1]) if 0 < (number == k).sum() < len(number)]
    share = np.mean(each, axis=1)
    weight = np.sum([one / (part * len(each)) for one, part in zip(each, share, strict=True)], axis=0)
    return {
        "accuracy": figure(right, mean, "%", "more"),
        "balanced_accuracy": figure(right * weight, mean, "%", "more"),
        "auroc": figure(np.column_stack((number, probabilities)), _mean_auroc, "", "more"),
        "log_loss": figure(loss, mean, "nat", "less"),
    } | _answered(good)


JUDGES: dict[str, Judge] = {"photo-z": photo_z, "posterior": posteriors, "classes": classes}


@dataclass(frozen=True, slots=True)
class Bin:
    """Photo-z figures of the records whose quantity lies from ``low`` to ``high``; their number is ``n``."""

    low: float
    high: float
    n: int
    bias: float
    sigma_nmad: float
    outliers: float


def by_bin(output: Output, z: Floats, by: Floats, edges: Sequence[float], outlier: float = OUTLIER) -> list[Bin]:
    """Return a line for each bin of ``by`` (n,), such as the true redshift or a magnitude; NaN where it is empty.

    Parameters
    ----------
    z : array, (n,)
        The truth.
    edges : sequence of float
        Of the bins, rising.
    """
    good = np.isfinite(output.value) & np.isfinite(by)
    errors = ((output.value - z) / (1.0 + z))[good]
    number = np.digitize(by[good], edges) - 1
    return [_bin(low, high, errors[number == k], outlier) for k, (low, high) in enumerate(itertools.pairwise(edges))]


def _bin(low: float, high: float, errors: Floats, outlier: float) -> Bin:
    if not len(errors):
        return Bin(low, high, 0, nan, nan, nan)
    outliers = 100.0 * float(np.mean(np.abs(errors) > outlier))
    return Bin(low, high, len(errors), float(np.median(errors)), float(sigma_nmad(errors)), outliers)


def figure(scores: Floats, statistic: Statistic, unit: str, better: Better) -> Figure:
    """Return the figure that is a statistic of the records' scores (n,)."""
    return Figure(float(statistic(scores)), unit, better, scores, statistic, bootstrap)


def uniform(ranks: Floats) -> Figure:
    """Return how far ranks (n,), such as `posterior.pit`'s, are from uniform on 0 to 1."""
    return Figure(float(posterior.deviation(ranks)), "", "less", ranks, posterior.deviation, band)


def take(output: Output, rows: NDArray[np.bool_]) -> Output:
    """Return an output of some of its records."""
    parts = {name: part if name == "grid" else part[rows] for name, part in output.parts.items()}
    return replace(output, value=output.value[rows], sigma=output.sigma[rows], parts=parts)


def _calibration(output: Output, truth: Floats) -> dict[str, Figure]:
    """Return the figures of a posterior; none of point estimates without uncertainty."""
    if not np.isfinite(output.sigma).all():
        return {}
    ranks = posterior.pit(output, truth)
    return {
        "pit": uniform(ranks),
        "cde_loss": figure(posterior.cde_loss(output, truth), mean, "", "less"),
        "coverage_68_error": figure(ranks, partial(_coverage_error, mass=0.6827), "%", "less"),
        "coverage_90_error": figure(ranks, partial(_coverage_error, mass=0.9), "%", "less"),
    }


def _answered(good: NDArray[np.bool_]) -> dict[str, Figure]:
    return {"answered": figure(100.0 * good, mean, "%", "more")}


def mean(scores: Floats) -> Floats:
    """Return the mean of scores (..., n)."""
    found: Floats = np.mean(scores, axis=-1)
    return found


def median(scores: Floats) -> Floats:
    """Return the median of scores (..., n)."""
    middle: Floats = np.median(scores, axis=-1)
    return middle


def root_mean(squares: Floats) -> Floats:
    """Return the root of the mean of squares (..., n)."""
    root: Floats = np.sqrt(np.mean(squares, axis=-1))
    return root


def _coverage_error(ranks: Floats, mass: float) -> Floats:
    """Return how far the share of truths in the central ``mass`` is from it [%], of ranks (..., n)."""
    within = np.mean(2.0 * np.abs(ranks - 0.5) <= mass, axis=-1)
    error: Floats = 100.0 * np.abs(within - mass)
    return error


def _mean_auroc(numbered: Floats) -> Floats:
    """Return the mean area under the ROC curves of each class against the rest.

    ``numbered`` (..., n, 1 + classes): the true class's number, and the probabilities. A class that all or no records
    have does not count.
    """
    if numbered.ndim == 3:
        return np.array([_mean_auroc(one) for one in numbered])
    number, probabilities = numbered[:, 0], numbered[:, 1:]
    mixed = [k for k in range(probabilities.shape[1]) if 0 < (number == k).sum() < len(number)]
    return np.asarray(np.mean([auroc(probabilities[:, k], number == k) for k in mixed]))
