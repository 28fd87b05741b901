"""Posteriors of any form, and what tells whether they can be trusted. numpy only.

n = records, m = points, s = samples, q = levels, d = targets. Forms are those of `broker.sidecar.answer.Output`; a
``value`` with its sigma is read as a Gaussian.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import numpy as np

from broker.models.survey import densities
from broker.sidecar.answer import Floats, Output

Estimate = Literal["mean", "median", "mode"]

CENTRAL = np.array([0.15865525, 0.5, 0.84134475])
BLOCK = 2048
"""Records at a time: what is worked on stays in the processor's cache."""


def of_bins(probabilities: Floats, low: float, high: float) -> dict[str, Floats]:
    """Return ``grid`` (b + 2,) and ``pdf`` (n, b + 2) of probabilities (n, b) of equal bins from low to high.

    The grid is the bins' centres and the two ends, which have the outer bins' density: its integral is 1.
    """
    bins = probabilities.shape[1]
    step = (high - low) / bins
    grid = np.concatenate(([low], low + (np.arange(bins) + 0.5) * step, [high])).astype(probabilities.dtype)
    pdf = np.empty((len(probabilities), bins + 2), dtype=probabilities.dtype)
    np.divide(probabilities, step, out=pdf[:, 1:-1])
    pdf[:, 0], pdf[:, -1] = pdf[:, 1], pdf[:, -2]
    return {"grid": grid, "pdf": pdf}


def summary(output: Output, estimate: Estimate = "mean") -> tuple[Floats, Floats]:
    """Return value and 1-sigma uncertainty (n,) of an output's own distribution.

    The uncertainty is the standard deviation beside the mean; beside median and mode it is half of the central 68.3 %,
    which tails do not move.
    """
    if estimate == "mean":
        return moments(output)
    low, middle, high = quantiles(output, CENTRAL).T
    return (middle if estimate == "median" else mode(output)), 0.5 * (high - low)


def moments(output: Output) -> tuple[Floats, Floats]:
    """Return mean and standard deviation (n,)."""
    if output.form == "samples":
        return output.parts["samples"].mean(axis=1), output.parts["samples"].std(axis=1)
    mean, sigma = _each(output, densities.grid_moments, densities.mixture_moments)
    return mean, sigma


def mode(output: Output) -> Floats:
    """Return where the density is highest (n,); of samples, that of `smoothed`."""
    found: Floats = _each(smoothed(output), densities.grid_mode, densities.mixture_mode)
    return found


def quantiles(output: Output, levels: Floats) -> Floats:
    """Return quantiles (n, q) at levels (q,) within 0 and 1."""
    if output.form == "samples":
        ordered: Floats = np.quantile(output.parts["samples"], levels, axis=1).T
        return ordered
    grid, mixture = (partial(f, levels=levels) for f in (densities.grid_quantiles, densities.mixture_quantiles))
    found: Floats = _each(output, grid, mixture)
    return found


def cdf(output: Output, x: Floats) -> Floats:
    """Return the cumulative distribution (n, m) at x (n, m), or (m,) for all records."""
    points = np.broadcast_to(x, (len(_first(output)), x.shape[-1]))
    if output.form == "samples":
        samples = output.parts["samples"]
        below = np.stack([np.sum(samples < column[:, None], axis=1) for column in points.T], axis=1)
        share: Floats = (below + 0.5) / (samples.shape[1] + 1)
        return share
    found: Floats = _each(output, densities.grid_cdf, densities.mixture_cdf, points)
    return found


def pdf(output: Output, x: Floats) -> Floats:
    """Return the density (n, m) at x (n, m), or (m,) for all records; of samples, that of `smoothed`."""
    points = np.broadcast_to(x, (len(_first(output)), x.shape[-1]))
    found: Floats = _each(smoothed(output), densities.grid_pdf, densities.mixture_pdf, points)
    return found


def smoothed(output: Output) -> Output:
    """Return samples as a mixture of as many Gaussians; another output as it is.

    Their width is Silverman's (1986), for the densest quarter of the samples: peaks far apart make none of them wide.
    """
    if output.form != "samples":
        return output
    samples = output.parts["samples"]
    ordered, quarter = np.sort(samples, axis=1), max(samples.shape[1] // 4, 1)
    densest = np.min(ordered[:, quarter:] - ordered[:, :-quarter], axis=1) / 0.637  # in deviations of a Gaussian
    spread = np.minimum(samples.std(axis=1), densest)
    width = np.maximum(0.9 * spread * samples.shape[1] ** -0.2, 1e-12)[:, None]
    parts = {
        "weights": np.full_like(samples, 1.0 / samples.shape[1]),
        "means": samples,
        "sigmas": np.broadcast_to(width, samples.shape).astype(samples.dtype),
    }
    return Output(output.name, output.unit, "mixture", output.value, output.sigma, parts)


def pit(output: Output, truth: Floats) -> Floats:
    """Return the cumulative distribution at each record's truth (n,): uniform if the posteriors are right."""
    return cdf(output, truth[:, None])[:, 0]


def cde_loss(output: Output, truth: Floats) -> Floats:
    """Return each record's share (n,) of the conditional density loss (Izbicki & Lee 2017; Schmidt+2020).

    Its mean estimates the integrated squared distance to the true conditional density, up to a constant: less is
    better, and only differences have a meaning.
    """
    plain = smoothed(output)
    square: Floats = _each(plain, densities.grid_square, densities.mixture_square)
    return square - 2.0 * pdf(plain, truth[:, None])[:, 0]


def deviation(ranks: Floats) -> Floats:
    """Return how far ranks (..., n) are from uniform on 0 to 1: the Kolmogorov-Smirnov distance (...)."""
    ordered = np.sort(ranks, axis=-1)
    n = ordered.shape[-1]
    above, below = np.arange(1, n + 1) / n - ordered, ordered - np.arange(n) / n
    furthest: Floats = np.maximum(above, below).max(axis=-1)
    return furthest


def tarp(samples: Floats, truth: Floats, seed: int) -> Floats:
    """Return ranks (n,) that are uniform if joint posteriors are right: tests of accuracy with random points.

    Each record has a random reference point; its rank is the share of samples that are nearer to it than the truth is
    (Lemos+2023). Unlike `pit` it sees how targets depend on each other.

    Parameters
    ----------
    samples : array, (n, s, d)
    truth : array, (n, d)
    seed : int
        Of the reference points, uniform in the box of all truths, and of how ties are broken.
    """
    rng = np.random.default_rng(seed)
    scale = np.maximum(truth.std(axis=0), 1e-12)
    reference = rng.uniform(truth.min(axis=0), truth.max(axis=0), truth.shape) / scale
    far = np.sum((truth / scale - reference) ** 2, axis=1)
    nearer = np.sum(np.sum((samples / scale - reference[:, None]) ** 2, axis=2) < far[:, None], axis=1)
    ranks: Floats = (nearer + rng.random(len(truth))) / (samples.shape[1] + 1)
    return ranks


def _first(output: Output) -> Floats:
    """Return a part whose first axis is the record."""
    named = {"grid": "pdf", "mixture": "means", "samples": "samples"}
    return output.parts[named[output.form]] if output.form in named else output.value


def _each(output: Output, grid: Callable[..., Any], mixture: Callable[..., Any], *rows: Floats) -> Any:
    """Return what a kernel of `densities` makes of an output and of arrays with a row per record, block by block."""
    kernel = partial(grid, output.parts["grid"]) if output.form == "grid" else mixture
    parts = _densities(output)
    found = [
        kernel(*(array[start : start + BLOCK] for array in (*parts, *rows)))
        for start in range(0, max(len(parts[0]), 1), BLOCK)
    ]
    if isinstance(found[0], tuple):
        return tuple(np.concatenate(each) for each in zip(*found, strict=True))
    return np.concatenate(found)


def _densities(output: Output) -> list[Floats]:
    """Return what describes the density of each record: a grid's, or a mixture's."""
    if output.form == "grid":
        return [output.parts["pdf"]]
    if output.form == "mixture":
        return [output.parts[name] for name in ("weights", "means", "sigmas")]
    value = output.value[:, None]
    return [np.ones_like(value), value, np.maximum(output.sigma, 1e-12)[:, None].astype(value.dtype)]
