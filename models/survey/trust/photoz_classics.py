"""Classical photometric redshifts with posteriors: forests, neighbours and the training set itself. n = records."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from broker.models.survey import posterior
from broker.models.survey.baselines import Frame
from broker.models.survey.photometry import with_colours
from broker.models.survey.row import Columns, Examples, Floats
from broker.sidecar.answer import Form, Output

Posterior = Callable[[Columns], Output]
TREES = 100
NEIGHBOURS = 30
BINS = 200


def forest(train: Examples, seed: int) -> Posterior:
    """Return a random forest whose posterior is one training galaxy of each tree's leaf (after TPZ)."""
    from sklearn.ensemble import RandomForestRegressor

    view, z = _view(train), train.truth[:, 0]
    features = view(train.columns)
    model = RandomForestRegressor(TREES, min_samples_leaf=3, max_features=0.5, random_state=seed, n_jobs=1)
    model.fit(features, z)
    leaves = np.asarray(model.apply(features))  # (training galaxies, trees)
    order = np.argsort(leaves, axis=0, kind="stable")
    ranked = np.take_along_axis(leaves, order, axis=0)

    def answer(columns: Columns) -> Output:
        found = np.asarray(model.apply(view(columns)))
        draws = np.random.default_rng(seed).random(TREES)  # the same for all galaxies: an answer depends on its own
        samples = [z[order[_one_of(ranked[:, k], found[:, k], draws[k]), k]] for k in range(TREES)]
        return _output("samples", {"samples": np.stack(samples, axis=1)})

    return answer


def _one_of(ranked: NDArray[np.int64], wanted: NDArray[np.int64], draw: float) -> NDArray[np.int64]:
    """Return where in ``ranked``, which is sorted, one of the equals of each ``wanted`` is."""
    first, last = np.searchsorted(ranked, wanted, "left"), np.searchsorted(ranked, wanted, "right")
    return first + (draw * (last - first)).astype(np.int64)


def neighbours(train: Examples, seed: int) -> Posterior:
    """Return the redshifts of the nearest training galaxies, in standard units of magnitudes, colours and errors."""
    from sklearn.neighbors import NearestNeighbors
    from sklearn.preprocessing import StandardScaler

    view, z = _view(train), train.truth[:, 0]
    scaler = StandardScaler().fit(view(train.columns))
    index = NearestNeighbors(n_neighbors=NEIGHBOURS).fit(scaler.transform(view(train.columns)))

    def answer(columns: Columns) -> Output:
        near = index.kneighbors(scaler.transform(view(columns)), return_distance=False)
        return _output("samples", {"samples": z[near]})

    return answer


def train_z(train: Examples, seed: int) -> Posterior:
    """Return the training set's own distribution for every galaxy (Schmidt et al. 2020)."""
    z = train.truth[:, 0]
    low, high = float(z.min()), float(z.max())
    share = np.histogram(z, BINS, (low, high))[0] / len(z)

    def answer(columns: Columns) -> Output:
        n = len(next(iter(columns.values())))
        return _output("grid", posterior.of_bins(np.tile(share, (n, 1)), low, high))

    return answer


def _view(train: Examples) -> Callable[[Columns], NDArray[np.float64]]:
    """Return how columns become features: with colours, and a mask of what is missing."""
    frame = Frame.fit(with_colours(train.columns))
    return lambda columns: frame.features(with_colours(columns))


def _output(form: Form, parts: dict[str, Floats]) -> Output:
    """Return the posterior with its median."""
    blank = np.empty(0)
    value, sigma = posterior.summary(Output("redshift", "", form, blank, blank, parts), "median")
    return Output("redshift", "", form, value, sigma, parts)
