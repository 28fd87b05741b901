"""x-density: its toy's posterior is exact, a head comes near it, and what is wrong with a posterior shows."""

from dataclasses import replace
from math import sqrt

import numpy as np
import pytest

from broker.models.survey import posterior
from broker.models.survey.heads import Mixture
from broker.models.survey.trust import density

N = 2500
TEST = density.examples(1, N, 1)
TRUTH, EXACT = TEST.truth[:, 0], density.exact_posterior(TEST.columns["square"])
NOISE = 1.63 / sqrt(N)


def test_the_toys_posterior_is_uniform_in_its_ranks_and_no_other_has_a_smaller_loss() -> None:
    assert posterior.deviation(posterior.pit(EXACT, TRUTH)) < NOISE
    best = posterior.cde_loss(EXACT, TRUTH).mean()
    grid, pdf = EXACT.parts["grid"], EXACT.parts["pdf"]
    for power in (0.5, 2.0):  # too wide, too narrow
        wrong = pdf**power / np.trapezoid(pdf**power, grid, axis=1)[:, None]
        said = replace(EXACT, parts={"grid": grid, "pdf": wrong})
        assert posterior.cde_loss(said, TRUTH).mean() > best + 0.05
    peak = replace(EXACT, form="value", value=np.sqrt(np.maximum(TEST.columns["square"], 0.0)), sigma=np.full(N, 0.1))
    assert posterior.deviation(posterior.pit(peak, TRUTH)) > 10 * NOISE  # one of the two peaks


def test_a_mixture_reaches_the_posterior_and_a_planted_fault_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(density, "TRAIN", 6000)
    (said,) = density.fitted(Mixture(components=6), 1, 0, TEST)
    figures = density._figures(said, TRUTH, EXACT)
    assert figures["PIT deviation"].value < 1.5 * NOISE
    assert figures["CDE loss above the truth's"].value < 0.2
    sure = replace(said, parts={**said.parts, "sigmas": 0.4 * said.parts["sigmas"]})
    assert density._figures(sure, TRUTH, EXACT)["CDE loss above the truth's"].value > 0.3
    one_sided = replace(said, parts={**said.parts, "means": np.abs(said.parts["means"])})
    assert density._figures(one_sided, TRUTH, EXACT)["PIT deviation"].value > 10 * NOISE
