"""A small dense network on features of light curves: what trees read, read smoothly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from broker.core.batch import Floats, Ints
from broker.models.transients.train import descend, one_cycle, set_rate

RARE = 0.02
"""A feature that is unknown more often than this, and known so often too, tells so."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Sizes and training; chosen on split 0 of seed 0 of protocol A.

    Attributes
    ----------
    epochs : int
    most : int
        Examples of a batch; fewer where the examples are few.
    rate, decay, smooth : float
        Peak learning rate of the one-cycle schedule, weight decay, label smoothing.
    widths : tuple of int
    seed : int
    """

    epochs: int = 25
    most: int = 256
    rate: float = 3e-3
    decay: float = 0.05
    smooth: float = 0.02
    widths: tuple[int, int] = (192, 96)
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Scaling:
    """Each feature's rank among those of the training set, as a normal deviate; 0 where it is unknown.

    Attributes
    ----------
    sorted : list of (n_f,) float64
        Known values of each feature that is used.
    used, unknown : (F,) bool
        Features with more than one value; those of which it is told that they are unknown.
    """

    sorted: list[Floats]
    used: NDArray[np.bool_]
    unknown: NDArray[np.bool_]

    @classmethod
    def of(cls, features: Floats) -> Scaling:
        """Return the scaling of a training set's features (A, F)."""
        known = np.isfinite(features)
        share = known.mean(axis=0)
        values = [np.sort(column[ok]) for column, ok in zip(features.T, known.T, strict=True)]
        used = np.array([len(v) > 0 and v[0] < v[-1] for v in values])
        told = (share > RARE) & (share < 1.0 - RARE)
        return cls([v for v, ok in zip(values, used, strict=True) if ok], used, told)

    def __call__(self, features: Floats) -> Tensor:
        """Return what the network reads of features (A, F)."""
        out = []
        for column, values in zip(features[:, self.used].T, self.sorted, strict=True):
            # Unknown: the middle.
            known = np.isfinite(column)
            out.append(np.where(known, np.interp(column, values, np.linspace(1e-3, 1.0 - 1e-3, len(values))), 0.5))
        deviates = torch.special.ndtri(torch.from_numpy(np.stack(out, axis=1)))
        unknown = torch.from_numpy(~np.isfinite(features[:, self.unknown]))
        return torch.cat((deviates.float(), unknown.float()), dim=1)


@dataclass(frozen=True, slots=True)
class Dense:
    """A trained network with its scaling."""

    scaling: Scaling
    network: nn.Module

    def predict(self, features: Floats) -> Floats:
        """Return probabilities (A, K) of features (A, F)."""
        with torch.inference_mode():
            return np.asarray(self.network(self.scaling(features)).double().softmax(dim=1).numpy())


def fit(features: Floats, label: Ints, recipe: Recipe) -> Dense:
    """Return a network trained on features (A, F); equal seeds give equal networks."""
    scaling, rng = Scaling.of(features), np.random.default_rng((recipe.seed, 31))
    torch.manual_seed(int(rng.integers(2**31)))
    x, y = scaling(features), torch.from_numpy(label)
    network = _network(x.shape[1], int(label.max()) + 1, recipe.widths)
    optimiser = torch.optim.AdamW(network.parameters(), recipe.rate, weight_decay=recipe.decay)
    batches = -(-len(x) // int(np.clip(len(x) // 40, 32, recipe.most)))
    for epoch in range(recipe.epochs):
        for step, rows in enumerate(np.array_split(rng.permutation(len(x)), batches)):
            set_rate(optimiser, recipe.rate * one_cycle((epoch + step / batches) / recipe.epochs))
            descend(
                network,
                optimiser,
                nn.functional.cross_entropy(network(x[rows]), y[rows], label_smoothing=recipe.smooth),
            )
    return Dense(scaling, network.eval())


def _network(inputs: int, classes: int, widths: tuple[int, int]) -> nn.Sequential:
    first = (nn.Dropout(0.1), nn.Linear(inputs, widths[0]), nn.GELU(), nn.Dropout(0.4))
    return nn.Sequential(*first, nn.Linear(*widths), nn.GELU(), nn.Dropout(0.3), nn.Linear(widths[1], classes))
