from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import log_loss

from broker.score.calibrate import flat_log_loss, heads, probabilities
from broker.score.card import Calibration


def test_flat_log_loss_is_the_mean_of_scikit_learns_per_class() -> None:
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(4), 200)
    label = rng.integers(0, 3, 200)  # class 3 never occurs
    expected = [log_loss(label[label == k], p[label == k], labels=[0, 1, 2, 3]) for k in range(3)]
    assert flat_log_loss(p, label, 4) == pytest.approx(np.mean(expected), rel=1e-6)


def test_probabilities_of_equal_heads_have_no_spread() -> None:
    logits = np.repeat(np.random.default_rng(0).standard_normal((10, 1, 4)), 3, axis=1)
    p, spread = probabilities(logits, 1.0)
    np.testing.assert_allclose(p.sum(axis=1), 1.0, atol=1e-6)
    np.testing.assert_allclose(spread, 0.0, atol=1e-7)
    np.testing.assert_allclose(probabilities(logits, 1e6)[0], 0.25, atol=1e-4)


def test_the_prior_is_bayes_rule() -> None:
    """The heads' mean for even classes, times the prior, summed to one again: so it can be undone."""
    logits = np.random.default_rng(2).standard_normal((20, 4, 3))
    prior = np.array([0.7, 0.2, 0.1])
    even, _ = probabilities(logits, 1.3)
    expected = even * prior / (even * prior).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probabilities(logits, 1.3, prior)[0], expected, rtol=1e-5)


def test_heads_are_calibrated_as_the_card_says() -> None:
    logits = np.random.default_rng(3).standard_normal((20, 4, 3))
    bias = (0.5, -0.2, -0.3)
    z = np.exp(logits / 1.4 + bias)
    found = heads(logits, Calibration(method="temperature and bias", temperature=1.4, bias=bias, fitted_on=""))
    np.testing.assert_allclose(found, z / z.sum(axis=2, keepdims=True), rtol=1e-12)
    plain = heads(logits, Calibration(method="temperature", temperature=1.4, fitted_on=""))
    np.testing.assert_allclose(plain.mean(axis=1), probabilities(logits, 1.4)[0], rtol=1e-6)
