from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from sklearn.metrics import log_loss

from broker.score.calibrate import calibration_error, fit_temperature, flat_log_loss, probabilities


def test_flat_log_loss_is_the_mean_of_scikit_learns_per_class() -> None:
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(4), 200)
    label = rng.integers(0, 3, 200)  # class 3 never occurs
    expected = [log_loss(label[label == k], p[label == k], labels=[0, 1, 2, 3]) for k in range(3)]
    assert flat_log_loss(p, label, 4) == pytest.approx(np.mean(expected), rel=1e-6)


def test_the_temperature_is_the_one_that_scipy_finds() -> None:
    rng = np.random.default_rng(1)
    logits = 3.0 * rng.standard_normal((2000, 2, 5))
    # Labels drawn from the same logits at temperature 2: that is what must be found.
    p = probabilities(logits, 2.0)[0].astype(np.float64)
    label = (rng.random((2000, 1)) > np.cumsum(p / p.sum(axis=1, keepdims=True), axis=1)).sum(axis=1).clip(max=4)
    found = minimize_scalar(lambda t: flat_log_loss(probabilities(logits, t)[0], label, 5), bounds=(0.3, 4.0))
    assert fit_temperature(logits, label) == pytest.approx(found.x, rel=0.01)
    assert fit_temperature(logits, label) == pytest.approx(2.0, rel=0.15)


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


def test_calibration_error_of_perfect_and_of_boastful_probabilities() -> None:
    rng = np.random.default_rng(0)
    top = rng.uniform(0.5, 1.0, 40_000)
    p = np.stack((top, 1 - top), axis=1)
    label = (rng.random(40_000) > top).astype(np.int64)
    assert calibration_error(p, label, np.ones(40_000)) < 0.01
    boast = np.tile([0.99, 0.01], (40_000, 1))
    assert calibration_error(boast, label, np.ones(40_000)) == pytest.approx(0.24, abs=0.02)
