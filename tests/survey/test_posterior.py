"""Posteriors of every form say the same of one Gaussian as the textbook does, and planted faults are found."""

from collections.abc import Callable
from math import pi, sqrt

import numpy as np
import pytest
from scipy import stats

from broker.models.survey import densities, posterior
from broker.sidecar.answer import Floats, Output

N = 60
RNG = np.random.default_rng(1)
MEAN, SIGMA = RNG.normal(0.5, 0.1, N), RNG.uniform(0.05, 0.2, N)
GRID = np.linspace(-1.5, 2.5, 2001)
FORMS = ("value", "grid", "mixture", "samples")


def output(form: str, mean: Floats = MEAN, sigma: Floats = SIGMA) -> Output:
    """Return Gaussians in one of the forms; as samples, at 600 even quantiles."""
    two, levels = np.stack((mean, mean), axis=1), (np.arange(600) + 0.5) / 600
    parts: dict[str, Callable[[], dict[str, Floats]]] = {
        "value": dict,
        "grid": lambda: {"grid": GRID, "pdf": stats.norm.pdf(GRID, mean[:, None], sigma[:, None])},
        "mixture": lambda: {
            "weights": np.full_like(two, 0.5), "means": two, "sigmas": np.stack((sigma, sigma), axis=1),
        },
        "samples": lambda: {"samples": mean[:, None] + sigma[:, None] * stats.norm.ppf(levels)},
    }  # fmt: skip
    return Output("z", "", form, mean, sigma, parts[form]())  # type: ignore[arg-type]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_gaussians_textbook_values(form: str) -> None:
    said, x = output(form), MEAN + 0.7 * SIGMA
    near = 1e-2 if form == "samples" else 1e-3
    mean, sigma = posterior.moments(said)
    np.testing.assert_allclose(mean, MEAN, atol=near * 0.05)
    np.testing.assert_allclose(sigma, SIGMA, rtol=near)
    np.testing.assert_allclose(posterior.pit(said, x), stats.norm.cdf(0.7), atol=near)
    levels = np.array([0.1, 0.5, 0.95])
    expected = MEAN[:, None] + SIGMA[:, None] * stats.norm.ppf(levels)
    np.testing.assert_allclose(posterior.quantiles(said, levels), expected, atol=2 * near * 0.2)
    for estimate in ("mean", "median", "mode"):
        value, sigma = posterior.summary(said, estimate)
        np.testing.assert_allclose(value, MEAN, atol=(0.1 if (form, estimate) == ("samples", "mode") else near) * 0.2)
        np.testing.assert_allclose(sigma, SIGMA, rtol=2 * near)


@pytest.mark.parametrize("form", FORMS)
def test_density_and_losses_are_the_closed_forms(form: str) -> None:
    said, x = output(form), MEAN + 0.7 * SIGMA
    near = 5e-2 if form == "samples" else 1e-3  # samples are smoothed
    density = stats.norm.pdf(0.7) / SIGMA
    np.testing.assert_allclose(posterior.pdf(said, x[:, None])[:, 0], density, rtol=near)
    square = 1 / (2 * SIGMA * sqrt(pi))
    np.testing.assert_allclose(posterior.cde_loss(said, x), square - 2 * density, atol=2 * near * square.max())


def test_a_grids_own_numbers_are_those_of_straight_lines() -> None:
    triangle = Output(
        "z", "", "grid", np.zeros(1), np.zeros(1), {"grid": np.array([0.0, 1.0, 3.0]), "pdf": np.zeros((1, 3))}
    )
    triangle.parts["pdf"][0, 1] = 2 / 3
    mean, sigma = posterior.moments(triangle)
    law = stats.triang(1 / 3, scale=3)
    assert mean[0] == pytest.approx(law.mean())
    assert sigma[0] == pytest.approx(law.std())
    levels = np.array([0.0, 0.2, 0.5, 1.0])
    np.testing.assert_allclose(posterior.quantiles(triangle, levels)[0], law.ppf(levels), atol=1e-12)
    x = np.array([-1.0, 0.4, 2.0, 4.0])
    np.testing.assert_allclose(posterior.cdf(triangle, x)[0], law.cdf(x), atol=1e-12)
    np.testing.assert_allclose(posterior.pdf(triangle, x)[0], law.pdf(x), atol=1e-12)


def test_bins_keep_their_probability() -> None:
    probabilities = np.random.default_rng(2).dirichlet(np.ones(20), 7)
    parts = posterior.of_bins(probabilities, -1.0, 3.0)
    np.testing.assert_allclose(np.trapezoid(parts["pdf"], parts["grid"], axis=1), 1.0)
    centres = -1.0 + (np.arange(20) + 0.5) * 0.2
    first, second = Output("z", "", "grid", np.zeros(7), np.zeros(7), parts), (probabilities @ centres)
    np.testing.assert_allclose(posterior.moments(first)[0], second, atol=0.05)


def test_quantiles_of_rugged_mixtures_invert_the_cumulative_distribution() -> None:
    rng = np.random.default_rng(3)
    weights, means = rng.dirichlet(np.ones(6), 3000), rng.normal(0.5, 0.3, (3000, 6))
    sigmas = rng.lognormal(-3.0, 0.3, (3000, 6))
    levels = np.array([0.02, 0.5, 0.8])
    found = densities.mixture_quantiles(weights, means, sigmas, levels)
    back = np.sum(weights[:, None] * stats.norm.cdf((found[:, :, None] - means[:, None]) / sigmas[:, None]), axis=2)
    assert np.quantile(np.abs(back - levels), 0.999) < 4e-4


def test_the_mode_is_the_highest_point() -> None:
    rng = np.random.default_rng(4)
    weights, means = rng.dirichlet(np.ones(3), 200), rng.normal(0.5, 0.3, (200, 3))
    said = Output(
        "z",
        "",
        "mixture",
        np.zeros(200),
        np.zeros(200),
        {"weights": weights, "means": means, "sigmas": np.full((200, 3), 0.1)},
    )
    highest = np.max(posterior.pdf(said, GRID), axis=1)
    assert np.min(posterior.pdf(said, posterior.mode(said)[:, None])[:, 0] / highest) > 0.99


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("factor", [1.0, 0.7, 1.5])
def test_pit_and_coverage_find_planted_over_and_under_confidence(form: str, factor: float) -> None:
    n = 2500
    rng = np.random.default_rng(5)
    mean, sigma = rng.normal(0.5, 0.1, n), rng.uniform(0.05, 0.2, n)
    truth = mean + sigma * rng.normal(size=n)
    if form == "samples":
        samples = mean[:, None] + factor * sigma[:, None] * rng.normal(size=(n, 200))
        said = Output("z", "", "samples", mean, sigma, {"samples": samples})
    else:
        said = output(form, mean, factor * sigma)
    ranks = posterior.pit(said, truth)
    noise = 1.63 / sqrt(n)  # that one in a hundred right posteriors exceeds
    covered = np.mean(np.abs(ranks - 0.5) <= 0.34)
    if factor == 1.0:
        assert posterior.deviation(ranks) < noise
        assert covered == pytest.approx(0.68, abs=0.025)
    else:
        assert posterior.deviation(ranks) > 2 * noise
        assert (covered < 0.6) if factor < 1 else (covered > 0.76)


def joint(correlation: float, factor: float) -> Floats:
    """Return TARP ranks of samples with the given correlation and width; the truth has 0.8 and 1."""
    rng, n = np.random.default_rng(6), 3000
    middle = rng.normal(0.0, 1.0, (n, 2))
    truth = middle + rng.multivariate_normal([0, 0], [[1, 0.8], [0.8, 1]], n)
    cov = factor**2 * np.array([[1, correlation], [correlation, 1]])
    samples = middle[:, None] + rng.multivariate_normal([0, 0], cov, (n, 100))
    return posterior.tarp(samples, truth, 7)


def test_tarp_passes_right_joint_samples_and_finds_wrong_widths_and_a_wrong_correlation() -> None:
    noise = 1.63 / sqrt(3000)
    assert posterior.deviation(joint(0.8, 1.0)) < noise
    assert posterior.deviation(joint(0.8, 0.6)) > 2 * noise
    assert posterior.deviation(joint(0.8, 1.6)) > 2 * noise
    assert posterior.deviation(joint(-0.8, 1.0)) > 2 * noise  # each target alone is right


def test_the_deviation_is_scipys_statistic() -> None:
    ranks = np.random.default_rng(8).beta(1.2, 1.0, (3, 500))
    expected = [stats.kstest(row, "uniform").statistic for row in ranks]
    np.testing.assert_allclose(posterior.deviation(ranks), expected)


@pytest.mark.parametrize("form", FORMS)
def test_what_is_nan_stays_nan_and_its_neighbours_are_unhurt(form: str) -> None:
    mean, levels = MEAN.copy(), np.array([0.05, 0.5, 0.95])
    mean[3] = np.nan
    said, right = output(form, mean), output(form)
    others = np.arange(N) != 3
    for found, expected in (
        (posterior.quantiles(said, levels), posterior.quantiles(right, levels)),
        (posterior.mode(said), posterior.mode(right)),
        (posterior.moments(said)[0], posterior.moments(right)[0]),
    ):
        assert np.isnan(found[3]).all()
        np.testing.assert_array_equal(found[others], expected[others])


def test_no_records_give_no_numbers() -> None:
    for form in FORMS:
        nobody = output(form, np.empty(0), np.empty(0))
        assert len(posterior.summary(nobody, "median")[0]) == 0
        assert posterior.cdf(nobody, GRID).shape == (0, len(GRID))
