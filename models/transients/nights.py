"""Training of networks that read raw nights: every epoch sees every object afresh, cut, thinned and noisier."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from broker.core.batch import Ints
from broker.models.networks.nights import Config, Nights
from broker.models.transients.data import Labelled
from broker.models.transients.train import descend, one_cycle, resume, save, set_rate
from broker.score import epochs, features
from broker.score.tensors import hide_host, of_host

BANDS = 6
MOST = epochs.EpochRule(most=72)
"""Nights of a curve that are read: all of most."""
CHUNK = 512
Draw = Callable[[np.random.Generator], Labelled]
"""Returns the objects of one epoch."""
Report = Callable[[int, float], None]
"""Told the epoch (from 1) and its mean loss."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How such a network is trained.

    Attributes
    ----------
    epochs, batch : int
        An epoch is what one draw returns.
    rate, decay : float
        Peak learning rate of the one-cycle schedule; weight decay.
    smooth : float
        Label smoothing.
    hide_host : float
        Share of objects whose redshift is hidden: one network answers with and without.
    jitter : float
        Standard deviation of noise on the scaled scalars.
    width, layers, classes : int
        Of the network; its classes are the first of `broker.core.taxonomy.CLASSES`.
    dropout : float
    seed : int
    """

    epochs: int = 24
    batch: int = 128
    rate: float = 2e-3
    decay: float = 0.05
    smooth: float = 0.03
    hide_host: float = 0.5
    jitter: float = 0.05
    width: int = 64
    layers: int = 3
    classes: int = 3
    dropout: float = 0.1
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Seen:
    """What the network reads of A objects: epochs (A, E, C) and their mask (A, E), scalars (A, S)."""

    epochs: NDArray[np.float32]
    mask: NDArray[np.bool_]
    scalars: NDArray[np.float32]

    def rows(self, index: Ints | slice) -> tuple[Tensor, Tensor, Tensor]:
        """Return the three as tensors, without the nights that none of the rows has."""
        mask = self.mask[index]
        longest = max(int(mask.sum(axis=1).max(initial=0)), 1)
        arrays = (self.epochs[index, :longest], mask[:, :longest], self.scalars[index])
        return torch.from_numpy(arrays[0]), torch.from_numpy(arrays[1]), torch.from_numpy(arrays[2])


def see(objects: Labelled) -> Seen:
    """Return the inputs of the objects, the host's redshift in them; a band that is absent is NaN in the scalars."""
    scale, points = features.of_points(objects.curves, BANDS)
    nights, mask = epochs.of_curves(objects.curves, BANDS, scale, MOST)
    host = of_host(len(objects), objects.host_z, objects.host_z_err, points[:, 0])
    scalars = np.concatenate((points, host), axis=1).astype(np.float32)
    return Seen(nights, mask, np.where(np.isfinite(scalars), scalars, np.float32(np.nan)))


def fit(draw: Draw, recipe: Recipe, checkpoint: Path, report: Report) -> Nights:
    """Return a network trained on what ``draw`` returns, in evaluation mode; equal seeds give equal networks.

    Parameters
    ----------
    checkpoint : Path
        Where the state is kept after every epoch; an existing one is continued, a finished one returned at once.
    """
    torch.manual_seed(recipe.seed)
    network, optimiser = _start(see(draw(np.random.default_rng((recipe.seed, 12)))), recipe)
    for epoch in range(resume(network, optimiser, checkpoint), recipe.epochs):
        rng = np.random.default_rng((recipe.seed, 11, epoch))
        torch.manual_seed(int(rng.integers(2**31)))
        objects = draw(rng)
        seen = see(objects)
        batches = list(_batches(seen.mask.sum(axis=1), recipe.batch, rng))
        total = 0.0
        for step, rows in enumerate(batches):
            done = (epoch + step / len(batches)) / recipe.epochs
            set_rate(optimiser, recipe.rate * one_cycle(done))
            total += descend(network, optimiser, _loss(network, seen, objects.label, rows, recipe, rng))
        save(network, optimiser, epoch + 1, checkpoint)
        report(epoch + 1, total / len(batches))
    return network.eval()


def predict(network: Nights, objects: Labelled, *, host: bool) -> NDArray[np.float64]:
    """Return probabilities (A, K), the mean over the heads, with the host's redshift or without."""
    out = []
    with torch.inference_mode():
        for start in range(0, len(objects), CHUNK):
            seen = see(objects.take(np.arange(start, min(start + CHUNK, len(objects)))))
            nights, mask, scalars = seen.rows(slice(None))
            if not host:
                scalars = torch.from_numpy(hide_host(seen.scalars, np.ones(len(scalars), dtype=bool)))
            out.append(network(nights, mask, scalars).double().softmax(dim=2).mean(dim=1).numpy())
    return np.concatenate(out)


def _start(seen: Seen, recipe: Recipe) -> tuple[Nights, torch.optim.Optimizer]:
    config = Config(
        channels=seen.epochs.shape[2],
        scalars=seen.scalars.shape[1],
        classes=recipe.classes,
        width=recipe.width,
        feedforward=2 * recipe.width,
        layers=recipe.layers,
        dropout=recipe.dropout,
    )
    network = Nights(config).train()
    # A column that nobody has (a band that the survey lacks) stays unknown: mean 0, spread 1.
    known = np.isfinite(seen.scalars)
    count = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, seen.scalars, 0.0).sum(axis=0) / count
    variance = np.where(known, (seen.scalars - mean) ** 2, 0.0).sum(axis=0) / count
    network.scalars.mean.copy_(torch.from_numpy(mean))
    network.scalars.std.copy_(torch.from_numpy(np.maximum(np.sqrt(variance), 1e-2)))
    return network, torch.optim.AdamW(network.parameters(), recipe.rate, (0.9, 0.98), weight_decay=recipe.decay)


def _batches(length: Ints, batch: int, rng: np.random.Generator) -> Iterator[Ints]:
    """Yield rows in random order, but of about one length in a batch: fewer empty nights to compute."""
    order = rng.permutation(len(length))
    groups = [g[np.argsort(length[g], kind="stable")] for g in np.array_split(order, math.ceil(len(order) / batch / 8))]
    rows = [part for g in groups for part in np.array_split(g, math.ceil(len(g) / batch))]
    for k in rng.permutation(len(rows)):
        yield rows[k]


def _loss(network: Any, seen: Seen, label: Ints, rows: Ints, recipe: Recipe, rng: np.random.Generator) -> Tensor:
    nights, mask, scalars = seen.rows(rows)
    scalars = torch.from_numpy(hide_host(scalars.numpy(), rng.random(len(rows)) < recipe.hide_host))
    scalars[:, :-5] += recipe.jitter * torch.randn(len(rows), scalars.shape[1] - 5) * network.scalars.std[:-5]
    logits = network(nights, mask, scalars)  # (n, H, K)
    target = torch.from_numpy(label[rows])[:, None].expand(logits.shape[:2])
    return torch.nn.functional.cross_entropy(logits.transpose(1, 2), target, label_smoothing=recipe.smooth)
