"""Ranks of like records are uniform, and shifted ones, holes of the training set too, are found."""

from collections.abc import Callable

import numpy as np
import pytest

from broker.models.survey import domain, posterior
from broker.models.survey.row import Columns
from broker.models.survey.trust import ood
from broker.sidecar.answer import Answer, Floats

RNG = np.random.default_rng(1)
MIX = RNG.normal(size=(3, 16))


def like(n: int, seed: int) -> Floats:
    """Return features (n, 16) that truly are three, one column of them constant."""
    rng = np.random.default_rng(seed)
    features = np.tanh(rng.normal(size=(n, 3)) @ MIX) + 0.01 * rng.normal(size=(n, 16))
    features[:, 5] = 7.0
    return features.astype(np.float32)


ARRAYS = domain.fit(like(6000, 2), like(3000, 3))


def test_ranks_of_like_records_are_uniform_and_one_in_a_hundred_is_above_099() -> None:
    ranks = domain.rank(ARRAYS, like(4000, 4))
    assert posterior.deviation(ranks.astype(np.float64)) < 0.045
    assert np.mean(ranks > 0.99) == pytest.approx(0.01, abs=0.008)


def test_a_shift_is_found_that_no_column_shows_by_itself() -> None:
    wrong = like(500, 5)
    wrong[:, 0] = wrong[::-1, 0]  # the right values of another record
    assert np.mean(domain.rank(ARRAYS, wrong) > 0.99) > 0.5


def test_a_hole_in_the_training_set_is_outside() -> None:
    def ring(n: int, seed: int) -> Floats:
        angle = np.random.default_rng(seed).uniform(0, 2 * np.pi, n)
        return np.stack((np.cos(angle), np.sin(angle)), axis=1).astype(np.float32)

    arrays = domain.fit(ring(4000, 0), ring(1000, 1))
    assert domain.rank(arrays, np.zeros((1, 2), dtype=np.float32))[0] > 0.999


def test_a_rank_depends_on_its_record_alone_and_fitting_on_nothing_random() -> None:
    features = like(5000, 6)
    ranks = domain.rank(ARRAYS, features)
    np.testing.assert_allclose(domain.rank(ARRAYS, features[4000:4003]), ranks[4000:4003], atol=1e-3)
    again = domain.fit(like(6000, 2), like(3000, 3))
    assert all(np.array_equal(again[name], ARRAYS[name]) for name in ARRAYS)
    assert len(domain.rank(ARRAYS, features[:0])) == 0


def test_few_examples_and_a_single_feature_will_do() -> None:
    few = RNG.normal(size=(30, 1)).astype(np.float32)
    arrays = domain.fit(few[:20], few[20:])
    assert domain.rank(arrays, np.array([[50.0]], dtype=np.float32))[0] == 1.0


def sky(n: int, seed: int) -> Columns:
    """Return magnitudes that two numbers decide, with small errors."""
    rng = np.random.default_rng(seed)
    bright, red = rng.normal(22.0, 1.0, n), rng.normal(0.5, 0.2, n)
    columns = {f"mag_{b}": bright - red * k + 0.03 * rng.normal(size=n) for k, b in enumerate(ood.WAVELENGTHS)}
    return columns | {f"mag_err_{b}": np.full(n, 0.03) for b in ood.WAVELENGTHS}


def answer_by(rank: Callable[[Floats], Floats]) -> Callable[[Columns], Answer]:
    def answer(columns: Columns) -> Answer:
        features = np.stack([columns[f"mag_{band}"] for band in ood.WAVELENGTHS], axis=1).astype(np.float32)
        return Answer((), rank(features), [""] * len(features))

    return answer


def test_x_ood_shows_a_working_rank_and_sees_through_one_that_says_nothing() -> None:
    seen, fresh = sky(2000, 1), sky(1500, 2)
    features = np.stack([sky(6000, 3)[f"mag_{band}"] for band in ood.WAVELENGTHS], axis=1)
    arrays = domain.fit(features[:4000], features[4000:])
    right = ood.measured(answer_by(lambda x: domain.rank(arrays, x)), seen, fresh, 0)
    noise = ood.measured(answer_by(lambda x: np.random.default_rng(len(x)).random(len(x))), seen, fresh, 0)
    eager = ood.measured(answer_by(lambda x: 1.0 - (1.0 - domain.rank(arrays, x)) / 6), seen, fresh, 0)
    areas = {finding.metric: finding for finding in right[:-1]}
    assert areas["AUROC, g and z swapped"].model > 0.95
    assert areas["AUROC, one band 1 mag off"].model > 0.95
    assert all(finding.model > finding.baseline for finding in right[:4])
    assert all(abs(finding.model - 0.5) < 0.05 for finding in noise[:-1])
    assert right[-1].model < 1.5 < 0.5 * eager[-1].model
    assert right[0].interval[0] <= right[0].model <= right[0].interval[1]


def test_shifts_change_what_they_say() -> None:
    columns, rng = sky(200, 4), np.random.default_rng(0)
    for name, shift in ood.SHIFTS.items():
        wrong = shift(columns, rng)
        assert set(wrong) == set(columns), name
        assert any(not np.array_equal(wrong[key], columns[key]) for key in columns), name
    nucleus = ood.quasars(columns, rng)
    np.testing.assert_allclose(nucleus["mag_i"], columns["mag_i"] - 2.5 * np.log10(2.0))
    np.testing.assert_allclose(nucleus["mag_err_i"], columns["mag_err_i"] / 2)
    np.testing.assert_allclose(ood.stars(columns, rng)["mag_i"], columns["mag_i"], atol=0.2)
