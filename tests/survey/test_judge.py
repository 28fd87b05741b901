"""Figures are those of the textbook and of scikit-learn; without uncertainty there is no calibration."""

from math import sqrt

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from broker.models.survey import judge
from broker.sidecar.answer import Answer, Floats, Output

N = 3000
RNG = np.random.default_rng(1)
Z = RNG.uniform(0.1, 1.0, N)
VALUE = Z + 0.02 * (1 + Z) * RNG.normal(size=N)
NONE = np.full(N, np.nan)


def answer(value: Floats, sigma: Floats = NONE) -> Answer:
    return Answer((Output("redshift", "", "value", value, sigma),), np.zeros(N), [""] * N)


def test_scatter_is_a_gaussians_sigma_whatever_the_bias() -> None:
    assert judge.sigma_nmad(RNG.normal(3.0, 0.5, 200_000)) == pytest.approx(0.5, rel=0.01)


def test_the_area_under_the_curve_is_scikit_learns_with_ties() -> None:
    score, positive = RNG.integers(0, 7, 500).astype(float), RNG.random(500) < 0.3
    assert judge.auroc(score, positive) == pytest.approx(metrics.roc_auc_score(positive, score))


def test_the_interval_is_as_wide_as_the_mean_is_uncertain() -> None:
    scores = RNG.normal(size=N)
    low, high = judge.bootstrap(scores, judge.mean, 0, 1000)
    assert high - low == pytest.approx(2 * 1.96 / sqrt(N), rel=0.1)
    assert low < scores.mean() < high
    assert (low, high) == judge.bootstrap(scores, judge.mean, 0, 1000)


def test_the_interval_of_a_distance_holds_the_true_one() -> None:
    distance = stats.beta(1.2, 1.2).cdf(np.linspace(0, 1, 2001)) - np.linspace(0, 1, 2001)
    for shape, true in ((1.0, 0.0), (1.2, np.abs(distance).max())):
        draws = [np.random.default_rng(seed).beta(shape, shape, 400) for seed in range(100)]
        held = [low <= true <= high for low, high in (judge.uniform(ranks).interval() for ranks in draws)]
        assert np.mean(held) >= 0.95


def test_photo_z_figures_of_planted_errors() -> None:
    value = VALUE.copy()
    value[:60] = Z[:60] + 0.1 * (1 + Z[:60])
    figures = judge.photo_z(answer(value), Z[:, None], {})
    assert figures["sigma_nmad"].value == pytest.approx(0.02, rel=0.1)
    assert figures["outliers"].value == 0.0
    strict = judge.photo_z(answer(value), Z[:, None], {"outlier": np.full(N, 0.09)})
    assert strict["outliers"].value == pytest.approx(2.0)
    biased = judge.photo_z(answer(value + 0.01 * (1 + Z)), Z[:, None], {})
    assert biased["bias"].value - figures["bias"].value == pytest.approx(0.01, abs=1e-6)
    assert biased["sigma_nmad"].value == pytest.approx(figures["sigma_nmad"].value)
    assert "pit" not in figures


def test_uncertainties_are_judged_and_too_small_ones_found() -> None:
    sigma = 0.02 * (1 + Z)
    right, wrong = (judge.photo_z(answer(VALUE, factor * sigma), Z[:, None], {}) for factor in (1.0, 0.5))
    assert right["pit"].value < 1.63 / sqrt(N) < wrong["pit"].value
    assert right["coverage_68_error"].value < 3 < wrong["coverage_68_error"].value
    assert right["cde_loss"].value < wrong["cde_loss"].value
    assert right["sigma_nmad"].value == wrong["sigma_nmad"].value


def test_records_without_an_answer_count_as_such_only() -> None:
    value = VALUE.copy()
    value[::4] = np.nan
    figures = judge.photo_z(answer(value), Z[:, None], {})
    assert figures["answered"].value == pytest.approx(75.0)
    kept = ~np.isnan(value)
    errors = (value - Z)[kept] / (1 + Z[kept])
    assert figures["sigma_nmad"].value == pytest.approx(judge.sigma_nmad(errors))


def test_bins_count_what_lies_in_them() -> None:
    found = judge.by_bin(answer(VALUE).outputs[0], Z, Z, [0.0, 0.1, 0.5, 1.0])
    assert [one.n for one in found] == [0, int((Z < 0.5).sum()), int((Z >= 0.5).sum())]
    assert np.isnan(found[0].bias)
    assert found[1].sigma_nmad == pytest.approx(0.02, rel=0.15)


def test_joint_samples_get_tarp_and_single_targets_their_own_figures() -> None:
    truth = RNG.normal(size=(N, 2))
    samples = RNG.normal(size=(N, 50, 2))
    outputs = tuple(
        Output(name, "dex", "samples", samples[:, :, i].mean(axis=1), np.ones(N), {"samples": samples[:, :, i]})
        for i, name in enumerate("ab")
    )
    figures = judge.posteriors(Answer(outputs, np.zeros(N), [""] * N), truth, {})
    assert {"a rmse", "b pit", "tarp"} <= set(figures)
    assert figures["tarp"].value < 1.63 / sqrt(N)
    assert figures["a rmse"].unit == "dex"
    assert figures["a rmse"].value == pytest.approx(1.0, rel=0.1)


def test_classifiers_are_judged_as_scikit_learn_does() -> None:
    probabilities = RNG.dirichlet(np.array([3.0, 1.0, 0.5]), N)
    truth = np.array([RNG.choice(3, p=p) for p in probabilities])
    guess = probabilities.argmax(axis=1)
    parts: dict[str, Floats] = {"probabilities": probabilities}
    said = Answer(
        (Output("class", "", "classes", guess.astype(float), NONE, parts, tuple("abc")),), np.zeros(N), [""] * N
    )
    figures = {name: figure.value for name, figure in judge.classes(said, truth, {}).items()}
    assert figures["accuracy"] == pytest.approx(100 * metrics.accuracy_score(truth, guess))
    assert figures["balanced_accuracy"] == pytest.approx(100 * metrics.balanced_accuracy_score(truth, guess))
    assert figures["log_loss"] == pytest.approx(metrics.log_loss(truth, probabilities))
    expected = metrics.roc_auc_score(truth, probabilities, multi_class="ovr")
    assert figures["auroc"] == pytest.approx(expected)
