from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from broker.models.networks import NETWORKS, create, reads, settings
from broker.models.networks.vrae import squared_error

SIZES = {"channels": 8, "scalars": 9, "classes": 14}
CLASSIFIERS = tuple(name for name in NETWORKS if "bands" not in settings(name))  # what has bands draws curves
RAW = tuple(name for name in CLASSIFIERS if reads(create(name, SIZES)) == "epochs")
"""Eight channels are three bands of a series and two of epochs: the same arrays try both."""


def inputs(n: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    series = torch.randn(n, 40, 8, generator=generator)
    series[..., -1] = series[..., -1].abs()  # the gap between epochs: none is negative
    mask = torch.rand(n, 40, generator=generator) < 0.6
    scalars = torch.randn(n, 9, generator=generator)
    scalars[:, -5:] = scalars[:, -5:].abs()  # the host's: no redshift is negative
    return series, mask, scalars


def determined(network: Any) -> Any:
    """Return the network with weights that a formula gives, whatever torch's generator does."""
    with torch.no_grad():
        for k, parameter in enumerate(network.parameters()):
            count = torch.arange(parameter.numel(), dtype=torch.float32)
            parameter.copy_((0.3 * torch.sin(count * 0.7 + k)).reshape(parameter.shape))
    return network.eval()


def waves() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    count = torch.arange(2 * 40 * 8, dtype=torch.float32)
    series = torch.cos(count * 0.31).reshape(2, 40, 8)
    mask = (torch.arange(80).reshape(2, 40) % 3) > 0
    return series, mask, torch.linspace(-2, 2, 18).reshape(2, 9)


# Outputs of these weights and inputs, written down when the networks were made: a change of architecture shows here.
REFERENCE = {
    "gru": [0.07408, 0.25487, 0.31579, -0.13412, -0.21963, -0.20186],
    "transformer": [-0.31278, -0.29828, -0.14350, 0.31142, 0.17476, -0.04409],
    "nights": [0.10902, -0.10874, -0.27536, 0.09319, 0.27163, 0.32231],
    "t2": [0.25830, 0.10162, -0.10285, -0.16731, 0.02338, 0.20307],
    "lstm": [0.41383, 0.31751, 0.07183, 0.05198, 0.22362, 0.29009],
    "phased": [-0.58699, -0.12479, 0.39609, 0.14980, 0.19076, 0.14199],
    "supernnova": [0.06963, 1.26555, 1.67532, -0.42931, 0.69297, 1.39109],
    "timemod": [0.09531, 0.25204, 0.29023, -0.25977, -0.34451, -0.26720],
    "vrae": [-0.81646, 0.90828, 0.09205, -0.67813, 1.05562, -1.44941],
}


def reference(name: str) -> list[float]:
    sizes = {"channels": 8, "bands": 3} if name == "vrae" else SIZES
    network = determined(create(name, sizes))
    with torch.inference_mode():
        if name == "vrae":
            code, _, flux = network(*waves()[:2])
            return [*code[0, :3].tolist(), *flux[1, 5].tolist()]
        return [float(x) for x in network(*waves())[1, :2, :3].flatten()]


@pytest.mark.parametrize("name", ["vrae", *CLASSIFIERS])
def test_outputs_are_the_stored_ones(name: str) -> None:
    assert reference(name) == pytest.approx(REFERENCE[name], abs=2e-4)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_float32_agrees_with_float64(name: str) -> None:
    network = determined(create(name, SIZES))
    series, mask, scalars = inputs(6)
    with torch.inference_mode():
        single = network(series, mask, scalars)
        double = network.double()(series.double(), mask, scalars.double())
    np.testing.assert_allclose(single.numpy(), double.numpy(), atol=1e-4)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_hidden_times_and_unknown_scalars_do_not_reach_the_logits(name: str) -> None:
    network = determined(create(name, SIZES))
    series, mask, scalars = inputs(5)
    scalars[:, 2] = torch.nan
    wild = torch.where(mask[..., None], series, 99.0)
    with torch.inference_mode():
        before, after = network(series, mask, scalars), network(wild, mask, scalars)
    assert torch.isfinite(before).all()
    np.testing.assert_allclose(before.numpy(), after.numpy(), atol=1e-5)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_rows_do_not_see_each_other(name: str) -> None:
    network = determined(create(name, SIZES))
    series, mask, scalars = inputs(7)
    mask[2], mask[3, 5:] = True, False  # rows of many lengths
    order = torch.tensor([4, 3, 0, 6])
    with torch.inference_mode():
        together = network(series, mask, scalars)
        alone = torch.cat([network(series[k : k + 1], mask[k : k + 1], scalars[k : k + 1]) for k in range(7)])
        others = network(series[order], mask[order], scalars[order])
        again = network(series, mask, scalars)
    np.testing.assert_allclose(together.numpy(), alone.numpy(), atol=1e-5)
    np.testing.assert_allclose(together[order].numpy(), others.numpy(), atol=1e-5)
    np.testing.assert_array_equal(together.numpy(), again.numpy())


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_every_network_has_an_uncertainty(name: str) -> None:
    torch.manual_seed(0)
    network = create(name, {**SIZES, "dropout": 0.2}).eval()
    with torch.inference_mode():
        logits = network(*inputs(4))
    assert logits.shape[0] == 4
    assert logits.shape[1] > 1
    assert logits.shape[2] == 14
    assert (logits.std(dim=1) > 0).all()


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_the_gradient_reaches_every_weight(name: str) -> None:
    torch.manual_seed(0)
    network = create(name, {**SIZES, "dropout": 0.0}).train()
    logits = network(*inputs(64))
    (logits * torch.randn(logits.shape)).sum().backward()
    silent = [key for key, p in network.named_parameters() if p.grad is None or not bool((p.grad != 0).any())]
    assert not silent


@pytest.mark.parametrize("name", RAW)
def test_padding_between_epochs_and_after_them_changes_nothing(name: str) -> None:
    network = determined(create(name, SIZES))
    epochs, _, scalars = inputs(3)
    epochs, mask = epochs[:, :12], torch.ones(3, 12, dtype=torch.bool)
    place = torch.tensor([0, 1, 2, 5, 6, 9, 10, 11, 12, 13, 20, 29])
    spread, there = torch.full((3, 35, 8), 7.0), torch.zeros(3, 35, dtype=torch.bool)
    spread[:, place], there[:, place] = epochs, True
    with torch.inference_mode():
        one, other = network(epochs, mask, scalars), network(spread, there, scalars)
    np.testing.assert_allclose(one.numpy(), other.numpy(), atol=1e-5)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_no_data_at_all_is_still_finite(name: str) -> None:
    network = determined(create(name, SIZES))
    series, mask, scalars = inputs(3)
    with torch.inference_mode():
        assert torch.isfinite(network(series, torch.zeros_like(mask), scalars)).all()


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_tiny_network_overfits_ten_curves(name: str) -> None:
    torch.manual_seed(0)
    network = create(name, {**SIZES, "width": 16, "dropout": 0.0})
    series, mask, scalars = inputs(10)
    if name in RAW:  # a recurrence pays by the step
        series, mask = series[:, :8], mask[:, :8]
    label = torch.arange(10)
    optimiser = torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(70):
        logits = network(series, mask, scalars)
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), label.repeat_interleave(logits.shape[1]))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    assert loss.item() < 0.2
    assert (network.eval()(series, mask, scalars).mean(dim=1).argmax(dim=1) == label).all()


def test_a_tiny_autoencoder_overfits_ten_curves() -> None:
    torch.manual_seed(0)
    network = create("vrae", {"channels": 8, "bands": 3, "width": 32})
    time = torch.linspace(0, 1, 40)
    phase = torch.linspace(0, 3, 10)[:, None, None]
    series = torch.zeros(10, 40, 8)
    series[..., :3] = torch.sin(4 * time[None, :, None] + phase + torch.arange(3.0))
    series[..., 3:6] = -2.0
    series[..., -2] = time
    mask = torch.ones(10, 40, dtype=torch.bool)
    optimiser = torch.optim.Adam(network.parameters(), lr=0.01)
    start = squared_error(series, mask, network.eval()(series, mask)[2]).mean().item()
    for _ in range(300):
        loss = squared_error(series, mask, network.eval()(series, mask)[2]).mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    assert loss.item() < 0.02 * start


def test_squared_error_by_hand() -> None:
    series = torch.zeros(1, 2, 4)
    series[0, :, 0], series[0, :, 1] = torch.tensor([1.0, 5.0]), -1.0  # fluxes, log10 of the errors
    flux = torch.zeros(1, 2, 1)
    only_first = torch.tensor([[True, False]])
    expected = 1.0 / (0.1**2 + 0.05**2)
    assert squared_error(series, only_first, flux).item() == pytest.approx(expected)
    assert squared_error(series, torch.tensor([[False, False]]), flux).item() == 0.0


def test_unknown_networks_and_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="no network is called"):
        create("perceptron", {})
    with pytest.raises(ValueError, match="no setting depth"):
        create("gru", {**SIZES, "depth": 3})


@pytest.mark.parametrize("name", ["vrae", *CLASSIFIERS])
def test_networks_are_small(name: str) -> None:
    channels = 20 if name in RAW else 14
    sizes = (
        {"channels": channels, "bands": 6} if name == "vrae" else {"channels": channels, "scalars": 88, "classes": 14}
    )
    assert 10_000 <= sum(p.numel() for p in create(name, sizes).parameters()) <= 200_000
