"""Classical photometric redshifts with posteriors: forests, neighbours and the training set itself. n = records.

Their point estimates are those of the rows' baselines of the same names (`broker.models.survey.photometry.BASELINES`),
by the same trees and neighbours: a posterior says more, not something else.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from broker.models.survey import posterior
from broker.models.survey.baselines import Frame, Neighbours, regression_forest, trees_median
from broker.models.survey.photometry import NEIGHBOURS, TREES, nearness, with_colours
from broker.models.survey.row import Columns, Examples, Floats
from broker.sidecar.answer import Form, Output

Posterior = Callable[[Columns], Output]
View = Callable[[Columns], Columns]
BINS = 200


def forest(train: Examples, seed: int) -> Posterior:
    """Return a random forest whose posterior has a Gaussian of the galaxies in each tree's leaf (after TPZ)."""
    view, z = _features(with_colours, train), train.truth[:, 0]
    features = view(train.columns)
    model = regression_forest(TREES, seed).fit(features, z)
    leaves = [_gaussians(leaf, z) for leaf in np.asarray(model.apply(features)).T]

    def answer(columns: Columns) -> Output:
        asked = view(columns)
        found = np.asarray(model.apply(asked)).T
        means, sigmas = np.stack([own[:, leaf] for own, leaf in zip(leaves, found, strict=True)], axis=2)
        parts = {"weights": np.full_like(means, 1.0 / TREES), "means": means, "sigmas": sigmas}
        return _output(trees_median(model, asked), "mixture", parts)

    return answer


def _gaussians(leaf: NDArray[np.int64], z: Floats) -> Floats:
    """Return mean and deviation (2, leaves) of the redshifts in each of a tree's leaves, given where each galaxy is.

    A few galaxies may lie together by chance: a leaf has one more, as far off as a galaxy is in the median.
    """
    count = np.maximum(np.bincount(leaf), 1)
    mean = np.bincount(leaf, z) / count
    off = (z - mean[leaf]) ** 2
    return np.stack([mean, np.sqrt((np.bincount(leaf, off) + np.median(off)) / count)])


def neighbours(train: Examples, seed: int) -> Posterior:
    """Return the redshifts of the nearest training galaxies, in standard units of colours and a magnitude.

    The nearest half is the point estimate's; of so few a density would be too narrow.
    """
    view = _features(nearness, train)
    model = Neighbours(2 * NEIGHBOURS).fit(view(train.columns), train.truth[:, 0])

    def answer(columns: Columns) -> Output:
        near = model.truths(view(columns))
        return _output(np.median(near[:, :NEIGHBOURS], axis=1), "samples", {"samples": near})

    return answer


def train_z(train: Examples, seed: int) -> Posterior:
    """Return the training set's own distribution for every galaxy (Schmidt et al. 2020)."""
    z = train.truth[:, 0]
    low, high = float(z.min()), float(z.max())
    share = np.histogram(z, BINS, (low, high))[0] / len(z)

    def answer(columns: Columns) -> Output:
        n = len(next(iter(columns.values())))
        return _output(np.full(n, np.median(z)), "grid", posterior.of_bins(np.tile(share, (n, 1)), low, high))

    return answer


def _features(view: View, train: Examples) -> Callable[[Columns], NDArray[np.float64]]:
    """Return how a view of columns becomes features, with a mask of what is missing."""
    frame = Frame.fit(view(train.columns))
    return lambda columns: frame.features(view(columns))


def _output(value: Floats, form: Form, parts: dict[str, Floats]) -> Output:
    """Return a point estimate with its posterior, and half of that's central 68.3 %."""
    blank = np.empty(0)
    _, sigma = posterior.summary(Output("redshift", "", form, blank, blank, parts), "median")
    return Output("redshift", "", form, value, sigma, parts)
