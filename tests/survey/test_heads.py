"""Heads: losses are the textbook's, an ensemble is the mean of its distributions, an answer is of its record alone."""

from dataclasses import replace
from math import log, pi

import numpy as np
import pytest
import torch
from scipy import stats

from broker.models.survey import posterior
from broker.models.survey.heads import Bins, Classes, Flow, Head, Mixture, Point
from broker.models.survey.row import Target
from tests.survey import line

WIDTH, N = 6, 40
TWO = replace(line.ROW, targets=(Target("a", "mag", -4.0, 4.0), Target("b", "", 0.0, 100.0)))
LABELS = replace(line.ROW, targets=(), classes=("star", "galaxy", "quasar"))
RNG = np.random.default_rng(1)
TRUTH = np.stack((RNG.normal(0.5, 1.0, 500), RNG.normal(50.0, 10.0, 500)), axis=1)
NUMBERS = RNG.integers(0, 3, 500)
HEADS: tuple[Head, ...] = (
    Point(), Bins(30), Bins(30, smoothing=1.0, estimate="mode"), Mixture(3), Mixture(3, hidden=0, estimate="median"),
    Flow(2, 8, 64), Flow(2, 8, 64, coupling=True, estimate="median"), Classes(),
)  # fmt: skip


def network(head: Head, seed: int = 0):  # type: ignore[no-untyped-def]
    torch.manual_seed(seed)
    if isinstance(head, Classes):
        return head.build(WIDTH, LABELS, NUMBERS), LABELS
    return head.build(WIDTH, TWO, TRUTH), TWO


def said(head: Head, features: torch.Tensor, seeds: tuple[int, ...] = (0,)):  # type: ignore[no-untyped-def]
    with torch.inference_mode():
        members = [{k: v.numpy() for k, v in network(head, seed)[0](features).items()} for seed in seeds]
    return head.outputs(members, network(head)[1])


@pytest.mark.parametrize("head", HEADS, ids=repr)
def test_an_answer_is_finite_of_its_record_alone_and_the_same_again(head: Head) -> None:
    features = torch.randn(N, WIDTH, generator=torch.Generator().manual_seed(2))
    order = torch.randperm(N)
    once, again, alone = (said(head, x) for x in (features, features[order], features[:1]))
    for first, second, single in zip(once, again, alone, strict=True):
        assert first.value.shape == (N,)
        assert np.isfinite(first.value).all()
        assert isinstance(head, Classes) or (first.sigma > 0).all()
        scale = 10.0 if first.name == "b" else 1.0
        np.testing.assert_allclose(second.value, first.value[order.numpy()], atol=1e-4 * scale)
        np.testing.assert_allclose(single.value, first.value[:1], atol=1e-4 * scale)


@pytest.mark.parametrize("head", HEADS, ids=repr)
def test_no_records_are_answered_by_nothing(head: Head) -> None:
    for output in said(head, torch.empty(0, WIDTH), (0, 1)):
        assert output.value.shape == output.sigma.shape == (0,)


@pytest.mark.parametrize("head", [Bins(30), Mixture(3), Point(beta=0.0)], ids=repr)
def test_an_ensembles_distribution_is_the_mean_of_its_members(head: Head) -> None:
    features = torch.randn(N, WIDTH)
    first, second, both = (said(head, features, seeds)[1] for seeds in ((0,), (1,), (0, 1)))
    np.testing.assert_allclose(both.value, (first.value + second.value) / 2, rtol=1e-5)
    spread = (first.sigma**2 + second.sigma**2) / 2 + (first.value - second.value) ** 2 / 4
    np.testing.assert_allclose(both.sigma, np.sqrt(spread), rtol=1e-3)
    if both.form != "value":
        at = np.full((N, 1), 48.0, dtype=np.float32)
        mean = (posterior.pdf(first, at) + posterior.pdf(second, at)) / 2
        np.testing.assert_allclose(posterior.pdf(both, at), mean, rtol=1e-4)


def test_members_share_a_flows_samples_evenly_and_draws_stay_together() -> None:
    features = torch.randn(N, WIDTH)
    first, both = said(Flow(2, 8, 64), features), said(Flow(2, 8, 64), features, (0, 1))
    for target in (0, 1):
        np.testing.assert_array_equal(both[target].parts["samples"][:, :32], first[target].parts["samples"][:, :32])
        assert both[target].parts["samples"].shape == (N, 64)


def test_losses_are_those_of_the_densities_that_are_told() -> None:
    features, truth = torch.randn(N, WIDTH), torch.tensor(TRUTH[:N], dtype=torch.float32)
    scale = np.log(TRUTH.std(axis=0)).sum()  # losses are in the truth's own scale
    for head in (Mixture(3), Point(beta=0.0)):
        outputs = said(head, features)
        densities = [posterior.pdf(output, TRUTH[:N, [i]]) for i, output in enumerate(outputs)]
        told = -sum(np.log(density).mean() for density in densities) - scale
        loss = float(network(head)[0].loss(features, truth).detach())
        if isinstance(head, Point):
            loss = 2 * loss + log(2 * pi)  # its loss is a mean over the targets, without the constant
        assert loss == pytest.approx(told, rel=1e-3)
    chosen, told = Bins(30), 0.0
    for output, target, true in zip(said(chosen, features), TWO.targets, TRUTH[:N].T, strict=True):
        step = (target.high - target.low) / 30
        own = ((true - target.low) / step).astype(int)
        told -= np.log(output.parts["pdf"][np.arange(N), own + 1] * step).mean() / 2
    assert float(network(chosen)[0].loss(features, truth).detach()) == pytest.approx(told, rel=1e-4)


@pytest.mark.parametrize("coupling", [False, True])
def test_a_flows_samples_follow_its_own_density(coupling: bool) -> None:
    net, _ = network(Flow(2, 8, 1500, coupling=coupling))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(2.0)  # far from a Gaussian
        features = torch.randn(1, WIDTH)
        scaled = net.scale(net(features)["samples"][0].T)
        around = torch.cdist(scaled, torch.zeros(1, 2))[:, 0] < 1.0
        grid = torch.stack(torch.meshgrid(*[torch.linspace(-1, 1, 61)] * 2, indexing="ij"), dim=-1).reshape(-1, 2)
        inside = grid[grid.norm(dim=1) < 1.0]
        density = net.flow(features.expand(len(inside), -1)).log_prob(inside).exp()
    assert float(around.float().mean()) == pytest.approx(float(density.sum()) / 30**2, abs=0.05)


def test_point_is_not_drawn_by_noisy_examples_as_the_plain_likelihood_is() -> None:
    """With beta 1 the gradient of the mean is that of the squared error, whatever sigma is."""
    net, _ = network(Point(beta=1.0))
    features, truth = torch.randn(N, WIDTH), torch.tensor(TRUTH[:N], dtype=torch.float32)
    net.train()
    net.loss(features, truth).backward()
    mean = net.mean[-1].bias
    with torch.no_grad():
        expected = (net.scaled(features)[0] - net.scale(truth)).mean(dim=0) / 2
    torch.testing.assert_close(mean.grad, expected, rtol=1e-3, atol=1e-5)


def test_class_probabilities_add_up_and_the_likeliest_is_the_value() -> None:
    (output,) = said(Classes(), torch.randn(N, WIDTH), (0, 1, 2))
    np.testing.assert_allclose(output.parts["probabilities"].sum(axis=1), 1.0, rtol=1e-5)
    np.testing.assert_array_equal(output.value, output.parts["probabilities"].argmax(axis=1))
    assert output.labels == LABELS.classes


def test_a_smoothed_label_is_a_gaussian_around_the_truth() -> None:
    head = Bins(40, smoothing=2.0)
    net, _ = network(head)
    features, truth = torch.zeros(1, WIDTH), torch.tensor([[0.0, 50.0]])
    logits = net.logits(features).detach().numpy()[0]
    labels = stats.norm.pdf(np.arange(40) + 0.5, 20.0, 2.0)
    expected = -(labels / labels.sum() * (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)))).sum(axis=1)
    assert float(net.loss(features, truth).detach()) == pytest.approx(expected.mean(), rel=1e-3)
