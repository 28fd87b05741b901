from __future__ import annotations

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier, IsolationForest

from broker.core.errors import TocsinError
from broker.score.anomaly import LEVELS, PARTS, Ranks, pack, unpack
from broker.score.boosted import Boosted
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


def ranks_of(*columns: np.ndarray) -> tuple[Ranks, dict[str, np.ndarray]]:
    values = dict(zip(PARTS, columns, strict=True))
    return Ranks.of(values, dict.fromkeys(PARTS, 1.0)), values


def test_forest_judge_and_ranks_survive_packing_and_bad_nodes_are_refused() -> None:
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((100, 2))
    forest = Forest.from_sklearn(IsolationForest(n_estimators=3, max_samples=32, random_state=0).fit(inputs))
    trees = HistGradientBoostingClassifier(max_iter=4, random_state=0).fit(inputs, inputs[:, 0] > 0)
    ranks, _ = ranks_of(*rng.random((3, 100)))
    arrays = pack(forest, Boosted.from_sklearn(trees), ranks)
    again, judge, kept = unpack("x", arrays)
    np.testing.assert_array_equal(again.value, forest.value)
    np.testing.assert_allclose(judge.score(inputs.astype(np.float32)), trees.decision_function(inputs), atol=1e-5)
    np.testing.assert_array_equal(kept.combined, ranks.combined)
    for part in ("forest", "judge"):
        inner = arrays[f"{part}.feature"] >= 0
        for right in (np.where(inner, 10_000, 0).astype(np.int32), np.zeros(len(inner), np.int32)):
            with pytest.raises(TocsinError, match=f"{part} points outside"):
                unpack("x", {**arrays, f"{part}.right": right})
        with pytest.raises(TocsinError, match=rf"{part}\.value"):
            unpack("x", {key: value for key, value in arrays.items() if key != f"{part}.value"})


def test_ranks_of_the_reference_set_are_uniform_and_grow_with_every_part() -> None:
    rng = np.random.default_rng(0)
    ranks, values = ranks_of(rng.exponential(size=5000), rng.normal(size=5000), rng.random(5000))
    score = ranks.score(values)
    np.testing.assert_allclose(np.quantile(score, [0.1, 0.5, 0.9]), [0.1, 0.5, 0.9], atol=0.01)
    before = np.array([0.1])
    low = dict.fromkeys(PARTS, before)
    for part in PARTS:
        assert ranks.score(low) < ranks.score({**low, part: np.array([0.9])})
    assert ranks.score(dict.fromkeys(PARTS, np.array([1e9]))) == 1.0
    assert ranks.score(dict.fromkeys(PARTS, np.array([-99.0]))) == 0.0


def test_the_strangest_of_all_still_have_an_order() -> None:
    values = np.random.default_rng(0).normal(size=5000)
    ranks = Ranks.of(dict.fromkeys(PARTS, values), {"exposure": 1.0})
    far = np.array([4.0, 6.0, 9.0])
    score = ranks.score({**dict.fromkeys(PARTS, far), "forest": -far})
    assert (np.diff(score) > 1e-6).all()
    assert LEVELS[-1] < score[0]
    assert score[-1] <= 1.0
