"""Training, on a row whose right answers are known: y = x + 2 b, noise 0.1."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from broker.core.errors import TocsinError
from broker.models.survey import train
from broker.models.survey.fitted import Fitted
from broker.models.survey.networks.mlp import Mlp as Network
from broker.models.survey.row import Columns, Training
from tests.survey.line import NOISE, ROW, simulated


@pytest.fixture(scope="module")
def fitted() -> Fitted:
    return train.fit(ROW, simulated(1000, 1, None), 0)


def test_a_line_is_learned_to_its_noise(fitted: Fitted) -> None:
    fresh = simulated(1000, 2, None)
    answer = fitted.answer(fresh.columns)
    away = answer.outputs[0].value - fresh.truth[:, 0]
    assert np.sqrt(np.mean(away**2)) < 1.2 * NOISE
    assert 0.6 < np.mean(np.abs(away) < answer.outputs[0].sigma) < 0.76
    without = fitted.answer({"x": fresh.columns["x"]}).outputs[0]  # nothing of the kind was trained on
    assert np.isfinite(without.value).all()


def test_the_same_seed_gives_the_same_weights_and_leaves_other_randomness_alone() -> None:
    short, made = replace(ROW, training=Training(epochs=2, batch=32, members=2)), simulated(200, 1, None)
    before = torch.random.get_rng_state()
    one, same, other = (train.fit(short, made, seed).answer(made.columns).outputs[0].value for seed in (3, 3, 4))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)
    assert torch.equal(before, torch.random.get_rng_state())


def test_members_are_networks_of_their_own() -> None:
    fitted = train.fit(replace(ROW, training=Training(epochs=1, members=3)), simulated(100, 1, None), 0)
    first = [dict(network.named_parameters())["layers.0.weight"] for network in fitted.trunks.networks]
    assert len(first) == len(fitted.heads) == 3
    assert not torch.equal(first[0], first[1])


def test_what_cannot_be_used_trains_nothing() -> None:
    made = simulated(300, 1, None)
    made.columns["x"][:50] = np.nan
    made.truth[50:70] = np.nan
    made.columns["b"][70:90] = np.nan
    used, held = train.split(ROW, made, 0)
    assert sorted([*used, *held]) == list(range(70, 300))
    assert len(held) == 23
    made.columns["x"][:290] = np.nan
    with pytest.raises(TocsinError, match="10 of 300 examples can be used, 20 are needed"):
        train.fit(ROW, made, 0)


def test_every_tenth_is_held_out_by_one_member() -> None:
    made = simulated(300, 1, None)
    parts = [train.split(ROW, made, 0, part) for part in range(10)]
    assert sorted(np.concatenate([held for _, held in parts])) == list(range(300))
    assert all(sorted([*used, *held]) == list(range(300)) for used, held in parts)
    fitted = train.fit(replace(ROW, training=Training(epochs=1, members=2, few=True)), made, 0)
    whole = train.fit(replace(ROW, training=Training(epochs=1, members=2)), made, 0)
    one, other = ([next(network.parameters()).detach() for network in each.trunks.networks] for each in (fitted, whole))
    assert torch.equal(one[0], other[0])
    assert not torch.equal(one[1], other[1])


def test_where_examples_are_few_held_out_ones_choose_nothing() -> None:
    made = simulated(200, 1, None)
    _, held = train.split(ROW, made, 0)
    truth = made.truth.copy()
    truth[held] = -10.0 * truth[held]
    wrong = replace(made, truth=truth)
    for few in (True, False):
        row = replace(ROW, training=Training(epochs=4, batch=16, rate=1e-2, few=few))
        one, other = (train.fit(row, each, 0).answer(made.columns).outputs[0].value for each in (made, wrong))
        assert np.array_equal(one, other) == few


def test_augmented_examples_are_trained_on_each_epoch() -> None:
    seen = []

    def moved(columns: Columns, rng: np.random.Generator) -> Columns:
        seen.append(rng.random())
        return columns

    train.fit(replace(ROW, augment=moved, training=Training(epochs=3)), simulated(100, 1, None), 0)
    assert len(set(seen)) == 3


def test_records_unlike_the_training_set_rank_high(fitted: Fitted) -> None:
    near, far = simulated(500, 2, None).columns, {"x": np.full(50, 4.0), "b": np.full(50, -4.0)}
    assert 0.4 < np.median(fitted.answer(near).out_of_domain) < 0.6
    assert np.all(fitted.answer(far).out_of_domain > 0.99)


# ---- the perceptron


def test_the_perceptron_scales_by_what_is_there_and_whitens() -> None:
    rng = np.random.default_rng(0)
    common = rng.normal(20.0, 2.0, 5000)
    columns = {"x": common, "b": common + rng.normal(0, 0.05, 5000)}
    columns["b"][::4] = np.nan
    prepared = ROW.trunk.prepare(columns, ROW.inputs)
    assert prepared.shape == (5000, 4)
    assert np.isfinite(prepared).all()
    np.testing.assert_array_equal(prepared[:, 3], np.isfinite(columns["b"]))
    network = Network(prepared, 8, 1, 0.0)
    np.testing.assert_allclose(network.mean, [common.mean(), np.nanmean(columns["b"])], rtol=1e-5)
    np.testing.assert_allclose(network.std, [common.std(), np.nanstd(columns["b"])], rtol=1e-4)
    whole = torch.from_numpy(prepared[np.isfinite(columns["b"])][:, :2])
    white = (((whole - network.mean) / network.std) @ network.whiten).numpy()
    np.testing.assert_allclose(np.cov(white, rowvar=False), np.eye(2), atol=0.1)


def test_the_value_of_a_missing_input_does_not_matter() -> None:
    network = Network(ROW.trunk.prepare(simulated(100, 1, None).columns, ROW.inputs), 8, 2, 0.0)
    told = torch.tensor([[0.3, 7.0, 1.0, 0.0], [0.3, -1e9, 1.0, 0.0]])
    torch.testing.assert_close(network(told)[0], network(told)[1])
