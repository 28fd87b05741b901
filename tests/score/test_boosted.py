from __future__ import annotations

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier

from broker.score.boosted import Boosted


@pytest.mark.parametrize(("trees", "leaves"), [(1, 2), (30, 20)])
def test_the_arrays_score_as_scikit_learn_does(trees: int, leaves: int) -> None:
    rng = np.random.default_rng(trees)
    train = rng.standard_normal((900, 6)).astype(np.float32)
    train[:, 2] = np.round(train[:, 2])  # ties with thresholds
    train[rng.random(train.shape) < 0.1] = np.nan
    label = np.nan_to_num(train[:, 0] * train[:, 1]) + np.isnan(train[:, 3]) > 0.2
    fitted = HistGradientBoostingClassifier(max_iter=trees, max_leaf_nodes=leaves, random_state=0).fit(train, label)
    probe = np.concatenate((train, 4 * rng.standard_normal((500, 6)).astype(np.float32)))
    probe[rng.random(probe.shape) < 0.2] = np.nan  # unknown where it was always known, too
    ours = Boosted.from_sklearn(fitted).score(probe)
    np.testing.assert_allclose(ours, fitted.decision_function(probe), rtol=1e-5, atol=1e-5)
    assert len(np.unique(ours)) > 1


def test_inputs_at_a_threshold_fall_on_scikit_learns_side() -> None:
    rng = np.random.default_rng(0)
    train = rng.standard_normal((400, 2)).astype(np.float32)
    fitted = HistGradientBoostingClassifier(max_iter=8, random_state=0).fit(train, train[:, 0] > train[:, 1])
    nodes = np.concatenate([tree.nodes for (tree,) in fitted._predictors])
    cuts = nodes["num_threshold"][nodes["is_leaf"] == 0].astype(np.float32)
    probe = np.stack((cuts, np.nextafter(cuts, np.float32(np.inf))), axis=1)
    np.testing.assert_allclose(Boosted.from_sklearn(fitted).score(probe), fitted.decision_function(probe), atol=1e-5)
