from __future__ import annotations

import numpy as np
import pytest
from sklearn.ensemble import IsolationForest

from broker.core.errors import TocsinError
from broker.score.anomaly import Ranks, pack, unpack
from broker.score.forest import Forest


@pytest.mark.parametrize(("trees", "samples"), [(1, 2), (20, 64), (100, 256)])
def test_the_arrays_score_as_scikit_learn_does(trees: int, samples: int) -> None:
    rng = np.random.default_rng(trees)
    train = rng.standard_normal((800, 7)).astype(np.float32)
    train[:, 3] = np.round(train[:, 3])  # ties with thresholds
    fitted = IsolationForest(n_estimators=trees, max_samples=samples, random_state=0).fit(train)
    probe = np.concatenate((train, 4 * rng.standard_normal((500, 7)).astype(np.float32)))
    np.testing.assert_allclose(Forest.from_sklearn(fitted).score(probe), -fitted.score_samples(probe), rtol=1e-6)


def test_inputs_at_a_threshold_fall_on_scikit_learns_side() -> None:
    rng = np.random.default_rng(0)
    train = rng.standard_normal((300, 2)).astype(np.float32)
    fitted = IsolationForest(n_estimators=5, max_samples=64, random_state=0).fit(train)
    cuts = np.concatenate([tree.tree_.threshold for tree in fitted.estimators_]).astype(np.float32)
    probe = np.stack((cuts, np.nextafter(cuts, np.float32(np.inf))), axis=1)
    np.testing.assert_allclose(Forest.from_sklearn(fitted).score(probe), -fitted.score_samples(probe), rtol=1e-6)


def test_forest_and_ranks_survive_packing_and_bad_nodes_are_refused() -> None:
    rng = np.random.default_rng(0)
    fitted = IsolationForest(n_estimators=3, max_samples=32, random_state=0).fit(rng.standard_normal((100, 2)))
    forest = Forest.from_sklearn(fitted)
    ranks = Ranks.of(rng.random(100), rng.random(100))
    arrays = pack(forest, ranks)
    again, _ = unpack("x", arrays)
    np.testing.assert_array_equal(again.value, forest.value)
    wild = {**arrays, "forest.right": np.where(forest.feature >= 0, 10_000, 0).astype(np.int32)}
    with pytest.raises(TocsinError, match="outside"):
        unpack("x", wild)
    loop = {**arrays, "forest.right": np.zeros_like(forest.right)}
    with pytest.raises(TocsinError, match="outside"):
        unpack("x", loop)
    with pytest.raises(TocsinError, match=r"forest\.value"):
        unpack("x", {key: value for key, value in arrays.items() if key != "forest.value"})


def test_ranks_of_the_reference_set_are_uniform_and_grow_with_either_part() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.exponential(size=5000), rng.normal(size=5000)
    ranks = Ranks.of(a, b)
    score = ranks.score(a, b)
    np.testing.assert_allclose(np.quantile(score, [0.1, 0.5, 0.9]), [0.1, 0.5, 0.9], atol=0.01)
    low, high = np.array([0.1]), np.array([3.0])
    assert ranks.score(low, low) < ranks.score(high, low) < ranks.score(high, high)
    assert ranks.score(np.array([1e9]), np.array([1e9])) == 1.0
    assert ranks.score(np.array([-1.0]), np.array([-99.0])) == 0.0
