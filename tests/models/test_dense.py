from __future__ import annotations

import numpy as np
import pytest

from broker.core.batch import Floats, Ints
from broker.models.transients.dense import Recipe, Scaling, fit


def two_moons(n: int, seed: int) -> tuple[Floats, Ints]:
    """Return two classes that no feature tells apart; one is useless, one the same, one often unknown."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 2, n)
    angle = rng.uniform(0.0, np.pi, n) + np.pi * label
    x = np.stack((np.cos(angle) + label, np.sin(angle) + 0.4 * label), axis=1) + 0.1 * rng.standard_normal((n, 2))
    sometimes = np.where(rng.random(n) < 0.5, label + 0.0, np.nan)
    return np.concatenate((np.exp(8.0 * x), rng.random((n, 1)), np.ones((n, 1)), sometimes[:, None]), axis=1), label


def test_a_curved_border_is_learnt_from_features_of_any_scale() -> None:
    (x, label), (other, answer) = two_moons(600, 1), two_moons(400, 2)
    x[:, 4], other[:, 4] = np.nan, np.nan
    p = fit(x, label, Recipe(epochs=40)).predict(other)
    assert p.shape == (400, 2)
    np.testing.assert_allclose(p.sum(axis=1), 1.0)
    assert (p.argmax(axis=1) == answer).mean() > 0.93


def test_unknown_features_are_told_from_known_ones() -> None:
    (x, label), (other, answer) = two_moons(400, 3), two_moons(400, 4)
    dense = fit(x[:, 2:], label, Recipe(epochs=20))
    p = dense.predict(other[:, 2:])
    known = np.isfinite(other[:, 4])
    assert (p.argmax(axis=1) == answer)[known].mean() > 0.98
    assert p[~known].max() < 0.9


def test_equal_seeds_give_equal_networks_and_other_seeds_others() -> None:
    x, label = two_moons(200, 5)
    first, again, other = (fit(x, label, Recipe(epochs=2, seed=s)).predict(x) for s in (7, 7, 8))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3


def test_scaling_reads_ranks_and_leaves_constants_out() -> None:
    x, _ = two_moons(500, 6)
    scaling = Scaling.of(x)
    assert scaling.used.tolist() == [True, True, True, False, True]
    assert scaling.unknown.tolist() == [False, False, False, False, True]
    seen = scaling(x).numpy()
    assert seen.shape == (500, 5)
    assert seen[:, 0].mean() == pytest.approx(0.0, abs=0.01)
    assert seen[:, 0].std() == pytest.approx(1.0, abs=0.05)
    # The same of a feature and of its logarithm; beyond all that was seen, the last rank.
    bent = x**3 + 1.0
    np.testing.assert_allclose(Scaling.of(bent)(bent)[:, 0], seen[:, 0], atol=1e-5)
    assert scaling(np.full((1, 5), 1e30)).numpy()[0, 0] == seen[:, 0].max()
