"""The tree of classes, and probabilities that add up over it."""

import numpy as np
import pytest

from broker.core.taxonomy import (
    BRANCH_IDS,
    BRANCHES,
    BY_PLASTICC,
    CLASS_IDS,
    CLASSES,
    COMMON,
    RARE,
    ancestors,
    over_branches,
)


def test_the_tree_of_classes_is_elasticcs() -> None:
    assert len(CLASSES) == len(BY_PLASTICC) == len(set(CLASS_IDS)) == 14
    assert ancestors(BY_PLASTICC[90].id) == (2220, 2200)
    assert ancestors(BY_PLASTICC[64].id) == (2230, 2200)
    assert ancestors(BY_PLASTICC[88].id) == (2330, 2300)
    assert all(c.parent in BRANCHES for c in CLASSES)
    assert len({c.slug for c in CLASSES}) == 14
    assert set(CLASS_IDS) >= COMMON | RARE
    assert not COMMON & RARE


def test_probabilities_add_up_over_the_tree() -> None:
    p = np.random.default_rng(0).dirichlet(np.ones(14), (5, 3))
    columns = np.moveaxis(np.concatenate((p, over_branches(p)), axis=-1), -1, 0)
    node = dict(zip((*CLASS_IDS, *BRANCH_IDS), columns, strict=True))
    for branch in BRANCHES:
        below = [i for i in node if i // 10 * 10 == branch or (i in BRANCHES and i // 100 * 100 == branch)]
        np.testing.assert_allclose(sum(node[i] for i in below if i != branch), node[branch], rtol=1e-12)
    np.testing.assert_allclose(node[2200] + node[2300], 1.0, rtol=1e-12)


def test_branches_of_some_classes_in_their_order() -> None:
    sums = over_branches(np.array([0.5, 0.2, 0.3], np.float32), (2332, 2242, 2222))
    assert sums.dtype == np.float32
    found = dict(zip(BRANCH_IDS, sums.tolist(), strict=True))
    assert found == pytest.approx({2200: 0.5, 2220: 0.3, 2230: 0, 2240: 0.2, 2300: 0.5, 2320: 0, 2330: 0.5})
    with pytest.raises(KeyError):
        over_branches(np.ones(1), (7,))
