"""Classical methods on any numeric columns, to judge the survey models by; they need scikit-learn.

What is missing is the training set's median, and a feature of 0 and 1 says so.
n = records.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from broker.models.survey.row import Baseline, Columns, Examples, Floats

_Features = NDArray[np.float64]
_Predict = Callable[[Columns], Floats]
_Make = Callable[[bool, int], Any]  # (classifier, seed) -> an estimator of scikit-learn


def knn(k: int = 15, *, median: bool = False) -> Baseline:
    """Return the mean of the ``k`` nearest neighbours' truths, in standard units (after Beck et al. 2016).

    ``median``: of a regression, their median: better where outliers are not to count.
    """
    return partial(_fit, partial(_knn, k, median))


def linear() -> Baseline:
    """Return a linear (of classes: logistic) regression."""
    return partial(_fit, _linear)


def forest(trees: int = 200, *, median: bool = False) -> Baseline:
    """Return a random forest (TPZ, Carrasco Kind & Brunner 2013, gives its leaves as a posterior).

    ``median``: what it says is the trees' median, not their mean: better where outliers are not to count.
    """
    return partial(_fit, partial(_forest, trees, median))


def boosting(*, median: bool = False) -> Baseline:
    """Return gradient-boosted trees on histograms of the columns, for the least squares or (``median``) distances."""
    return partial(_fit, partial(_boosting, median))


def train_z() -> Baseline:
    """Return the training set's own distribution for every record: its median, or how common each class is.

    Schmidt et al. (2020): of no use for any galaxy, and yet hard to beat in some measures of posteriors.
    """
    return _train_z


def of(view: Callable[[Columns], Columns], baseline: Baseline) -> Baseline:
    """Return the baseline on another view of the columns, such as colours of magnitudes."""
    return partial(_viewed, view, baseline)


def _viewed(view: Callable[[Columns], Columns], baseline: Baseline, train: Examples, seed: int) -> _Predict:
    predict = baseline(replace(train, columns=view(train.columns)), seed)
    return lambda columns: predict(view(columns))


@dataclass(frozen=True, slots=True)
class Frame:
    """How columns become features: their names and sizes, medians, and which had something missing in training."""

    sizes: dict[str, int]
    median: NDArray[np.float64]
    gaps: NDArray[np.bool_]

    @classmethod
    def fit(cls, columns: Columns) -> Frame:
        """Return the frame of a training set's columns."""
        sizes = {name: int(np.prod(columns[name].shape[1:])) for name in sorted(columns)}
        raw = _stack(columns, sizes)
        there = np.isfinite(raw)
        median = [np.median(column[ok]) if ok.any() else 0.0 for column, ok in zip(raw.T, there.T, strict=True)]
        return cls(sizes, np.array(median), np.any(~there, axis=0))

    def features(self, columns: Columns) -> _Features:
        """Return features (n, columns and masks), finite everywhere."""
        raw = _stack(columns, self.sizes)
        there = np.isfinite(raw)
        return np.concatenate([np.where(there, raw, self.median), ~there[:, self.gaps]], axis=1)


def _stack(columns: Columns, sizes: dict[str, int]) -> _Features:
    """Return the columns side by side (n, sum of sizes); one that is not there is NaN."""
    n = len(next(iter(columns.values())))
    parts = [
        np.asarray(columns[name], np.float64).reshape(n, size) if name in columns else np.full((n, size), np.nan)
        for name, size in sizes.items()
    ]
    return np.concatenate(parts, axis=1)


def _fit(make: _Make, train: Examples, seed: int) -> _Predict:
    classifier = train.truth.ndim == 1
    frame = Frame.fit(train.columns)
    truth = train.truth if classifier or train.truth.shape[1] > 1 else train.truth[:, 0]
    with one_thread():
        model = make(classifier, seed).fit(frame.features(train.columns), truth)
    many = int(train.truth.max()) + 1 if classifier else train.truth.shape[1]

    def predict(columns: Columns) -> Floats:
        features = frame.features(columns)
        with one_thread():
            return _spread(model, features, many) if classifier else model.predict(features).reshape(-1, many)

    return predict


def one_thread() -> AbstractContextManager[Any]:
    """Hold scikit-learn and numpy's BLAS to one thread, as all that is timed side by side."""
    from threadpoolctl import threadpool_limits  # comes with scikit-learn

    return cast("AbstractContextManager[Any]", threadpool_limits(1))


def _spread(model: Any, features: _Features, classes: int) -> Floats:
    """Return probabilities (n, classes) also of classes that the training set lacks."""
    out = np.zeros((len(features), classes))
    out[:, model.classes_] = model.predict_proba(features)
    return out


def _knn(k: int, median: bool, classifier: bool, seed: int) -> Any:
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), KNeighborsClassifier(k)) if classifier else Neighbours(k, median)


def _linear(classifier: bool, seed: int) -> Any:
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=500) if classifier else Ridge(1e-3))


def _forest(trees: int, median: bool, classifier: bool, seed: int) -> Any:
    from sklearn.ensemble import RandomForestClassifier

    if classifier:
        return RandomForestClassifier(trees, min_samples_leaf=2, random_state=seed, n_jobs=1)
    found = regression_forest(trees, seed)
    return _Median(found) if median else found


def regression_forest(trees: int, seed: int) -> Any:
    """Return the regressor of `forest`, not fitted yet: scikit-learn's, whose leaves tell more than its estimate."""
    from sklearn.ensemble import RandomForestRegressor

    return RandomForestRegressor(trees, min_samples_leaf=2, max_features=0.5, random_state=seed, n_jobs=1)


def trees_median(forest: Any, features: _Features) -> Floats:
    """Return the median of what a fitted forest's trees say."""
    told: Floats = np.median([tree.predict(features) for tree in forest.estimators_], axis=0)
    return told


def _boosting(median: bool, classifier: bool, seed: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    if classifier:
        return HistGradientBoostingClassifier(random_state=seed)
    loss = "absolute_error" if median else "squared_error"
    make = partial(HistGradientBoostingRegressor, loss=loss, max_iter=300, learning_rate=0.05, random_state=seed)
    return _PerTarget(make)


class _Median:
    """A forest that says the median of its trees."""

    def __init__(self, forest: Any) -> None:
        self.forest = forest

    def fit(self, features: _Features, truth: NDArray[Any]) -> _Median:
        self.forest.fit(features, truth)
        return self

    def predict(self, features: _Features) -> Floats:
        return trees_median(self.forest, features)


class Neighbours:
    """What the nearest training examples, in standard units of the features, tell of others: mean or median."""

    def __init__(self, k: int, median: bool = False) -> None:
        self.k = k
        self.estimate = np.median if median else np.mean

    def fit(self, features: _Features, truth: NDArray[Any]) -> Neighbours:
        """Take features (n, f) and truths (n, ...) of the training set."""
        from sklearn.neighbors import NearestNeighbors
        from sklearn.preprocessing import StandardScaler

        self.scaler, self.truth = StandardScaler().fit(features), truth
        self.index = NearestNeighbors(n_neighbors=self.k).fit(self.scaler.transform(features))
        return self

    def truths(self, features: _Features) -> Floats:
        """Return the truths (n, k, ...) of the nearest, in order of distance."""
        near: Floats = self.truth[self.index.kneighbors(self.scaler.transform(features), return_distance=False)]
        return near

    def predict(self, features: _Features) -> Floats:
        """Return the estimates (n, ...)."""
        told: Floats = self.estimate(self.truths(features), axis=1)
        return told


class _PerTarget:
    """One regression for each target, where scikit-learn's takes one only."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make
        self.models: list[Any] = []

    def fit(self, features: _Features, truth: NDArray[Any]) -> _PerTarget:
        self.models = [self.make().fit(features, target) for target in truth.reshape(len(features), -1).T]
        return self

    def predict(self, features: _Features) -> Floats:
        return np.stack([model.predict(features) for model in self.models], axis=1)


def _train_z(train: Examples, seed: int) -> _Predict:
    always = np.bincount(train.truth) / len(train) if train.truth.ndim == 1 else np.median(train.truth, axis=0)
    return lambda columns: np.tile(always, (len(next(iter(columns.values()))), 1))
