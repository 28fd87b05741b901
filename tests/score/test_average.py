"""The average of several classifiers: its numbers from the heads themselves, its name, its reasons."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from broker.core.batch import ClassScores, Interpolated, LightCurves
from broker.core.taxonomy import CLASS_IDS, over_branches
from broker.score import GridRequest, Scorer, build
from broker.score.average import average
from broker.score.calibrate import heads, mixed
from broker.score.classify import Classifier, run

Curves = Callable[..., LightCurves]
Smooth = Callable[[GridRequest, str], Interpolated]


def each_head(classifier: Classifier, scorer: Scorer, grid: GridRequest, answer: Interpolated) -> np.ndarray:
    """Return every head's probabilities (A, H, K) for even classes, of alerts with a detection."""
    logits = run(classifier.network, build(grid, answer), classifier.device)
    return heads(logits[grid.n_detections > 0], classifier.card.calibration)


def only(scores: ClassScores) -> ClassScores:
    """Return the alerts that are scored."""
    scored = np.array([not reason for reason in scores.reason])
    names = "probabilities", "uncertainty", "branch_uncertainty"
    return replace(scores, **{name: getattr(scores, name)[scored] for name in names})


@pytest.mark.parametrize("survey", ["ztf", "lsst"])
def test_the_average_and_its_uncertainty_are_those_of_the_heads(
    survey: str, make_curves: Curves, smooth: Smooth
) -> None:
    scorer = Scorer.load(survey, [f"{survey}-gru", f"{survey}-transformer"], None, device="cpu")
    grid = scorer.grid(make_curves(50, survey))
    answer = smooth(grid, survey)
    *members, found = (only(c) for c in scorer(grid, answer).classifiers)
    prior = np.array([c.prior for c in scorer.classifiers[0].card.classes])
    even = [each_head(c, scorer, grid, answer) for c in scorer.classifiers]
    mean = np.mean([e.mean(axis=1) for e in even], axis=0)
    np.testing.assert_allclose(found.probabilities, mixed(mean, prior), atol=2e-6)
    for head, published, sigma in (
        ([mixed(e, prior) for e in even], [m.probabilities for m in members], found.uncertainty),
        (
            [over_branches(mixed(e, prior)) for e in even],
            [over_branches(m.probabilities) for m in members],
            found.branch_uncertainty,
        ),
    ):
        within = np.mean([h.var(axis=1, ddof=1) for h in head], axis=0)
        np.testing.assert_allclose(sigma, np.sqrt(within + np.var(published, axis=0, ddof=1)), atol=2e-6)
    assert (found.uncertainty + 1e-6 >= np.min([m.uncertainty for m in members], axis=0)).all()


def test_what_the_average_is_called(make_curves: Curves, smooth: Smooth) -> None:
    scorer = Scorer.load("ztf", ["ztf-gru", "ztf-transformer"], None, device="cpu")
    grid = scorer.grid(make_curves(2, "ztf"))
    scores = scorer(grid, smooth(grid, "ztf"))
    gru, transformer = (c.card for c in scorer.classifiers)
    found = scores.chosen
    assert found is scores.classifiers[-1]
    assert found.name == "ztf-average"
    for card in (gru, transformer):
        assert f"{card.name} {card.version} {card.weights.sha256[:16]}" in found.weights_hash
    alone = Scorer.load("ztf", ["ztf-gru"], None, device="cpu")
    assert [c.name for c in alone(grid, smooth(grid, "ztf")).classifiers] == ["ztf-gru"]


def answers(p: list[list[float]], reason: list[str], prior: list[float]) -> ClassScores:
    n, k = np.shape(p)
    none, sums = np.zeros((n, k), np.float32), np.zeros((n, 7), np.float32)
    values = np.array(p, np.float32)
    return ClassScores("m", "1", "ab" * 32, CLASS_IDS[:k], np.array(prior, np.float32), values, none, sums, reason)


def test_three_members_and_reasons_and_priors_that_differ() -> None:
    nan = float("nan")
    members = [
        answers([[0.5, 0.5], [0.9, 0.1], [nan, nan]], ["", "", "bad_fit"], [0.5, 0.5]),
        answers([[0.9, 0.1], [nan, nan], [nan, nan]], ["", "too_few_detections", "too_few_detections"], [0.9, 0.1]),
        answers([[0.5, 0.5], [0.5, 0.5], [0.5, 0.5]], ["", "", ""], [0.5, 0.5]),
    ]
    found = average("ztf", members)
    assert found.reason == ["", "too_few_detections", "bad_fit"]
    assert np.isnan(found.probabilities[1:]).all()
    np.testing.assert_allclose(found.prior, [1.9 / 3, 1.1 / 3], rtol=1e-6)
    np.testing.assert_allclose(found.probabilities[0], found.prior, rtol=1e-6)  # each says even of even classes
    np.testing.assert_allclose(found.uncertainty[0], np.std([0.5, 0.9, 0.5], ddof=1), rtol=1e-6)
