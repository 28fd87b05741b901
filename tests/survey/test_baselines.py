"""The classical methods on sets whose answer is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from broker.models.survey.baselines import boosting, forest, knn, linear, of, train_z
from broker.models.survey.row import Baseline, Columns, Data, Examples

DATA = Data("plane", "1", "uniform")
N = 400


def regression(targets: int = 1) -> Examples:
    """Return a plane y = 2 a - b (and its negative); a tenth of b is missing, where a alone tells."""
    rng = np.random.default_rng(1)
    a, b = rng.random(N), rng.random(N)
    truth = np.stack([2 * a - b, b - 2 * a], axis=1)[:, :targets]
    columns: Columns = {"a": a, "b": np.where(rng.random(N) < 0.1, np.nan, b)}
    return Examples(columns, truth, DATA)


def classes() -> Examples:
    rng = np.random.default_rng(2)
    a = rng.random(N)
    return Examples({"a": a, "b": rng.random(N)}, np.where(a > 0.5, 2, 0), DATA)


@pytest.mark.parametrize("targets", [1, 2])
@pytest.mark.parametrize("baseline", [linear(), knn(5), forest(20), boosting()])
def test_a_plane_is_learnt_where_everything_is_known(baseline: Baseline, targets: int) -> None:
    examples = regression(targets)
    train, rest = examples.take(np.arange(N // 2)), examples.take(np.arange(N // 2, N))
    known = np.isfinite(rest.columns["b"])
    found = baseline(train, 0)(rest.columns)
    assert found.shape == rest.truth.shape
    assert np.isfinite(found).all()
    assert np.sqrt(np.mean((found - rest.truth)[known] ** 2)) < 0.15  # the truth's deviation is 0.65


@pytest.mark.parametrize("baseline", [linear(), knn(5), forest(20), boosting(), train_z()])
def test_probabilities_are_of_all_classes(baseline: Baseline) -> None:
    found = baseline(classes(), 0)(classes().columns)
    assert found.shape == (N, 3)
    np.testing.assert_allclose(found.sum(axis=1), 1.0)
    assert np.all(found[:, 1] == 0)


def test_classes_are_told_apart() -> None:
    examples = classes()
    for baseline in (linear(), forest(20), boosting()):
        assert np.mean(baseline(examples, 0)(examples.columns).argmax(axis=1) == examples.truth) > 0.95


@pytest.mark.parametrize("make", [forest, boosting, partial(knn, 9)])
def test_medians_care_little_for_outliers(make: Callable[..., Baseline]) -> None:
    examples = regression(1)
    wild = np.random.default_rng(3).random((N, 1)) < 0.1
    train = replace(examples, truth=np.where(wild, 30.0, examples.truth))
    mean, median = (np.median(make(median=by)(train, 0)(examples.columns) - examples.truth) for by in (False, True))
    assert mean > 0.5
    assert abs(median) < 0.1


def test_a_column_that_was_never_missing_in_training_may_be_later() -> None:
    found = linear()(classes(), 0)({"a": np.array([0.9, np.nan])})
    assert np.isfinite(found).all()


def test_a_column_of_several_numbers_is_several_features() -> None:
    wide = np.random.default_rng(0).random((N, 2, 2))
    examples = Examples({"wide": wide}, wide.sum(axis=(1, 2))[:, None], DATA)
    np.testing.assert_allclose(linear()(examples, 0)(examples.columns), examples.truth, atol=1e-3)


def test_the_training_set_answers_everything_alike() -> None:
    examples = regression()
    found = train_z()(examples, 0)(examples.columns)
    assert np.unique(found).tolist() == [np.median(examples.truth)]


def test_a_baseline_reads_another_view_of_the_columns() -> None:
    ratio = of(lambda columns: {"ratio": columns["a"] / columns["b"]}, linear())
    rng = np.random.default_rng(0)
    columns: Columns = {"a": rng.random(N) + 1, "b": rng.random(N) + 1}
    examples = Examples(columns, (columns["a"] / columns["b"])[:, None], DATA)
    np.testing.assert_allclose(ratio(examples, 0)(columns), examples.truth, atol=1e-3)
