from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from broker.core.batch import Floats, Ints
from broker.models.transients import calibrate
from broker.models.transients.calibrate import Reliability
from broker.score.calibrate import heads, mixed

PRIOR = np.array([0.6, 0.3, 0.1])


def drawn(
    temperature: float, bias: tuple[float, ...], prior: Floats, n: int = 6000
) -> tuple[NDArray[np.float64], Ints]:
    """Return logits (n, 1, 3), and labels at a class mix of which ``logits / temperature + bias`` is the truth."""
    rng = np.random.default_rng(0)
    label = rng.choice(3, n, p=prior)
    # For normal evidence around the true class, its log likelihoods are linear in it.
    truth = 2.0 * (2.0 * np.eye(3)[label] + rng.standard_normal((n, 3)))
    return temperature * (truth - np.array(bias))[:, None], label


def test_temperature_and_bias_are_found_again() -> None:
    logits, label = drawn(1.7, (0.8, -0.3, -0.5), PRIOR)
    found = calibrate.fit(logits, label, PRIOR, "a test", ridge=0.0)
    assert found.temperature == pytest.approx(1.7, rel=0.08)
    assert found.bias == pytest.approx((0.8, -0.3, -0.5), abs=0.1)
    assert found.fitted_on == "a test"
    at = calibrate.at_mix(heads(logits, found), label, PRIOR)
    before = calibrate.at_mix(heads(logits, calibrate.UNCALIBRATED), label, PRIOR)
    assert at.error < 0.5 * before.error


def test_the_mix_that_is_fitted_at_is_not_the_samples() -> None:
    """Rows are weighed to the prior: a sample with other shares gives the same calibrator, but for noise."""
    even = np.full(3, 1.0 / 3.0)
    one, other = (calibrate.fit(*drawn(1.3, (0.4, 0.0, -0.4), mix), PRIOR, "") for mix in (PRIOR, even))
    assert one.temperature == pytest.approx(other.temperature, rel=0.1)
    assert one.bias == pytest.approx(other.bias, abs=0.2)


def test_a_folds_calibrator_comes_from_the_other_folds() -> None:
    logits, label = drawn(1.0, (0.0, 0.0, 0.0), PRIOR, 2000)
    fold = np.arange(2000) % 2
    logits[fold == 1] *= 4.0  # fold 1 boasts
    each = calibrate.cross_fitted(logits, label, fold, PRIOR)
    expected = heads(logits[fold == 0], calibrate.fit(logits[fold == 1], label[fold == 1], PRIOR, ""))
    np.testing.assert_array_equal(each[fold == 0], expected)
    other = label.copy()
    other[fold == 0] = 2 - other[fold == 0]  # what a fold's own labels are is never seen
    np.testing.assert_array_equal(calibrate.cross_fitted(logits, other, fold, PRIOR)[fold == 0], expected)
    alone = calibrate.cross_fitted(logits[:3], label[:3], np.zeros(3, np.int64), PRIOR)
    np.testing.assert_array_equal(alone, heads(logits[:3], calibrate.UNCALIBRATED))


def test_reliability_of_perfect_and_of_boastful_probabilities() -> None:
    rng = np.random.default_rng(0)
    top = rng.uniform(0.5, 1.0, 40_000)
    p = np.stack((top, 1 - top), axis=1)
    label = (rng.random(40_000) > top).astype(np.int64)
    perfect = Reliability.of(p, label, np.ones(40_000))
    assert perfect.error < 0.01
    np.testing.assert_allclose(perfect.mass, 1.0 / 15.0, atol=1e-3)
    boast = np.tile([0.99, 0.01], (40_000, 1))
    assert Reliability.of(boast, label, np.ones(40_000)).error == pytest.approx(0.24, abs=0.02)


def test_weights_give_the_mix() -> None:
    label = np.array([0, 0, 0, 1, 2, 2])
    weight = calibrate.weights(label, PRIOR)
    np.testing.assert_allclose(np.bincount(label, weight), PRIOR)
    np.testing.assert_allclose(calibrate.mix_of(label, 3), np.array([3, 1, 2]) / 6)
    np.testing.assert_allclose(mixed(np.full((1, 3), 1 / 3), PRIOR)[0], PRIOR)
