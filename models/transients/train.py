"""One training loop for the classifiers: seeded, resumable, and the same for a fold and for the weights that ship."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from broker.core.batch import Ints
from broker.core.taxonomy import CLASSES
from broker.models.networks import class_of, create, reads, settings
from broker.models.transients.examples import Examples
from broker.models.transients.perturb import PERTURB
from broker.score.classify import run
from broker.score.tensors import HOST, hide_host

Report = Callable[[int, float], None]
"""Told the epoch (from 1) and its mean loss."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a network is trained.

    Attributes
    ----------
    network : str
        Key of `broker.models.networks.NETWORKS`.
    epochs, batch : int
        An epoch draws as many examples as there are, classes evened out.
    rate, decay : float
        Peak learning rate of the one-cycle schedule; weight decay.
    hide_host : float
        Share of examples whose redshift is hidden: one network works with and without.
    noise : float
        Standard deviation of noise on the scaled scalars.
    seed : int
    focal : float
        Exponent γ of the focal loss (Lin et al. 2017; Burhanudin et al. 2021): what is known well counts less.
    perturb : str
        Key of `broker.models.transients.perturb.PERTURB`: what happens to a batch of epochs; '' for nothing.
    share : float
        Share of the examples that an epoch draws.
    """

    network: str
    epochs: int = 16
    batch: int = 256
    rate: float = 4e-3
    decay: float = 0.03
    hide_host: float = 0.5
    noise: float = 0.05
    seed: int = 0
    # Not told by repr: checkpoints are named after it, and those of recipes without these go on to be found.
    focal: float = field(default=0.0, repr=False)
    perturb: str = field(default="", repr=False)
    share: float = field(default=1.0, repr=False)


def fit(
    examples: Examples, recipe: Recipe, checkpoint: Path, report: Report, begin: Mapping[str, Tensor] | None = None
) -> Any:
    """Return a network trained on the examples, in evaluation mode.

    Parameters
    ----------
    checkpoint : Path
        Where the state is kept after every epoch; an existing one is continued, a finished one returned at once.
    begin : mapping, optional
        Weights to begin with, of the same network trained on something else; the scaling is the examples' own.
    """
    network, optimiser = _start(examples, recipe, begin or {})
    done = resume(network, optimiser, checkpoint)
    balance = _Balance.of(examples.label)
    votes = _votes(examples.object_id, _heads(network), recipe.seed)
    steps = math.ceil(recipe.share * len(examples) / recipe.batch)
    for epoch in range(done, recipe.epochs):
        rng = np.random.default_rng((recipe.seed, epoch))
        torch.manual_seed(int(rng.integers(2**31)))
        total = 0.0
        for step, rows in enumerate(balance.draw(rng, steps, recipe.batch)):
            set_rate(optimiser, recipe.rate * one_cycle((epoch * steps + step) / (recipe.epochs * steps)))
            loss = _batch_loss(network, examples, rows, recipe, balance, votes, rng)
            total += descend(network, optimiser, loss)
        save(network, optimiser, epoch + 1, checkpoint)
        report(epoch + 1, total / steps)
    return network.eval()


def predict(network: Any, examples: Examples, host: bool) -> NDArray[np.float32]:
    """Return logits (N, H, K) as serving would make them, with the host's redshift or without."""
    tensors = examples.tensors
    if not host:
        hidden = hide_host(tensors.scalars, np.ones(len(tensors), dtype=bool))
        tensors = replace(tensors, scalars=hidden)
    return run(network, tensors, torch.device("cpu"))


def one_cycle(done: float) -> float:
    """Return the learning rate over its peak when a share ``done`` of training is over: up for 15 %, then cosine."""
    warm = 0.15
    if done < warm:
        return 0.05 + 0.95 * done / warm
    return 0.5 * (1.0 + math.cos(math.pi * (done - warm) / (1.0 - warm))) + 1e-3


def sizes(network: str, examples: Examples) -> dict[str, int]:
    """Return the fields of a classifier's ``Config`` that the data fix."""
    _, times, channels = examples.tensors.series.shape
    if reads(class_of(network)) == "epochs":
        channels = examples.tensors.inputs("epochs", slice(0))[0].shape[2]
    scalars = examples.tensors.scalars.shape[1]
    fixed = {"channels": channels, "times": times, "scalars": scalars, "classes": len(CLASSES)}
    return {name: value for name, value in fixed.items() if name in settings(network)}


@dataclass(frozen=True, slots=True)
class _Balance:
    """Even classes: half by drawing rare ones more often, half by weighing them more in the loss."""

    chance: NDArray[np.float64]
    weight: NDArray[np.float32]

    @classmethod
    def of(cls, label: Ints) -> _Balance:
        counts = np.bincount(label, minlength=len(CLASSES)).astype(np.float64)
        root = np.sqrt(1.0 / counts[label])
        return cls(root / root.sum(), (root / np.average(root, weights=root)).astype(np.float32))

    def draw(self, rng: np.random.Generator, steps: int, batch: int) -> NDArray[np.int64]:
        return rng.choice(len(self.chance), (steps, batch), p=self.chance)


def _votes(object_id: Ints, heads: int, seed: int) -> NDArray[np.float32]:
    """Return (N, H): how often each head's bootstrap sample holds the object; versions of one object go together."""
    unique, place = np.unique(object_id, return_inverse=True)
    drawn = np.random.default_rng((seed, 7)).poisson(1.0, (len(unique), heads)).astype(np.float32)
    # Not quite a bootstrap: every head sees every object a little, which costs less accuracy than it saves.
    return (0.5 + 0.5 * drawn)[place]


def _batch_loss(
    network: Any,
    examples: Examples,
    rows: Ints,
    recipe: Recipe,
    balance: _Balance,
    votes: NDArray[np.float32],
    rng: np.random.Generator,
) -> Tensor:
    tensors = examples.tensors
    hidden = rng.random(len(rows)) < recipe.hide_host
    scalars = torch.from_numpy(hide_host(tensors.scalars[rows], hidden))
    noise = torch.randn(scalars.shape[0], scalars.shape[1] - len(HOST)) * recipe.noise
    scalars[:, : -len(HOST)] += noise * network.scalars.std[: -len(HOST)]
    series, mask, _ = tensors.inputs(reads(network), rows)
    if recipe.perturb:
        series, mask = PERTURB[recipe.perturb](series, mask, rng)
    logits = network(torch.from_numpy(series), torch.from_numpy(mask), scalars)
    label = torch.from_numpy(examples.label[rows])
    return _loss(logits, label, torch.from_numpy(balance.weight[rows]), torch.from_numpy(votes[rows]), recipe.focal)


def _loss(logits: Tensor, label: Tensor, weight: Tensor, votes: Tensor, focal: float) -> Tensor:
    """Return the mean cross-entropy of logits (n, H, K), weighted per example (n,), head (n, H) and by (1 - p)^γ."""
    each = torch.nn.functional.cross_entropy(
        logits.transpose(1, 2), label[:, None].expand(votes.shape), reduction="none"
    )
    unsure = (1.0 - (-each).exp()) ** focal if focal else 1.0
    return (unsure * each * votes * weight[:, None]).mean()


def _heads(network: Any) -> int:
    """Return how many answers a network gives in training."""
    return len(network.heads.first) if hasattr(network, "heads") else 1


def _start(examples: Examples, recipe: Recipe, begin: Mapping[str, Tensor]) -> tuple[Any, torch.optim.Optimizer]:
    torch.manual_seed(recipe.seed)
    network = create(recipe.network, sizes(recipe.network, examples)).train()
    if begin:
        network.load_state_dict(dict(begin))
    mean, std = _moments(examples.tensors.scalars)
    network.scalars.mean.copy_(torch.from_numpy(mean))
    network.scalars.std.copy_(torch.from_numpy(std))
    optimiser = torch.optim.AdamW(network.parameters(), lr=recipe.rate, weight_decay=recipe.decay, betas=(0.9, 0.98))
    return network, optimiser


def _moments(scalars: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return mean and standard deviation (S,) of scalars (N, S) without NaN; 0 and 1 where none is known."""
    known = np.asarray(np.isfinite(scalars).any(axis=0))
    mean, std = np.zeros(len(known), np.float32), np.ones(len(known), np.float32)
    mean[known] = np.nanmean(scalars[:, known], axis=0)
    std[known] = np.maximum(np.nanstd(scalars[:, known], axis=0), 1e-3)
    return mean, std


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate."""
    for group in optimiser.param_groups:
        group["lr"] = rate


def descend(network: Any, optimiser: torch.optim.Optimizer, loss: Tensor) -> float:
    """Take one step down the loss, its gradient clipped to norm 1; return the loss."""
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimiser.step()
    return float(loss.item())


def save(network: Any, optimiser: torch.optim.Optimizer, epoch: int, path: Path) -> None:
    """Write a checkpoint in one move: a kill leaves the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    torch.save({"network": network.state_dict(), "optimiser": optimiser.state_dict(), "epoch": epoch}, part)
    part.replace(path)


def resume(network: Any, optimiser: torch.optim.Optimizer, path: Path) -> int:
    """Load a checkpoint, if there is one; return the epochs done."""
    if not path.exists():
        return 0
    held = torch.load(path, weights_only=True)
    network.load_state_dict(held["network"])
    optimiser.load_state_dict(held["optimiser"])
    return int(held["epoch"])
