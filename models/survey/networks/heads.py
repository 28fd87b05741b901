"""Networks of the heads that need no flow. n = records, w = features, t = targets, k = components, b = bins.

They learn in the truth's own scale (mean 0, deviation 1 over the training set; buffers) and answer in its units.
"""

from __future__ import annotations

from math import log, pi

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

SMALLEST_SIGMA = 1e-3
"""Of the truth's own scale: a sharper answer to one training example would win the whole loss."""


def layers(width: int, hidden: int, out: int) -> nn.Module:
    """Return features (n, width) to (n, out), through one hidden layer if ``hidden`` is not 0."""
    if not hidden:
        return nn.Linear(width, out)
    return nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, out))


class Scale(nn.Module):
    """The truth's mean and standard deviation, buffers (t,)."""

    mean: Tensor
    std: Tensor

    def __init__(self, truth: NDArray[np.generic]) -> None:
        super().__init__()
        values = np.asarray(truth, dtype=np.float64)
        self.register_buffer("mean", torch.tensor(values.mean(axis=0), dtype=torch.float32))
        self.register_buffer("std", torch.tensor(np.maximum(values.std(axis=0), 1e-12), dtype=torch.float32))

    def forward(self, truth: Tensor) -> Tensor:
        """Return truths (n, t) in their own scale."""
        return (truth - self.mean) / self.std


class PointNetwork(nn.Module):
    """Mean and sigma of a Gaussian per target."""

    def __init__(self, width: int, hidden: int, truth: NDArray[np.generic], beta: float) -> None:
        super().__init__()
        self.beta = beta
        self.scale = Scale(truth)
        self.mean = layers(width, hidden, truth.shape[1])
        self.sigma = layers(width, hidden, truth.shape[1])

    def scaled(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and sigma (n, t) in the truth's own scale."""
        return self.mean(features), nn.functional.softplus(self.sigma(features)) + SMALLEST_SIGMA

    def loss(self, features: Tensor, truth: Tensor) -> Tensor:
        """Return the Gaussian likelihood's negative logarithm; in training, examples weigh sigma^(2 beta).

        Weighed, it falls towards 0 as sigma does, and would choose an early epoch.
        """
        mean, sigma = self.scaled(features)
        each = 0.5 * ((self.scale(truth) - mean) / sigma) ** 2 + sigma.log()
        weighed: Tensor = each * sigma.detach() ** (2 * self.beta) if self.training else each
        return weighed.mean()

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        """Return ``mean`` and ``sigma`` (n, t)."""
        mean, sigma = self.scaled(features)
        return {"mean": self.scale.mean + self.scale.std * mean, "sigma": self.scale.std * sigma}


class BinsNetwork(nn.Module):
    """Probabilities of equal bins; ``limits`` (t, 2) are the targets' low and high."""

    low: Tensor
    step: Tensor

    def __init__(self, width: int, hidden: int, limits: NDArray[np.floating], bins: int, smoothing: float) -> None:
        super().__init__()
        self.bins, self.smoothing = bins, smoothing
        self.register_buffer("low", torch.tensor(limits[:, 0], dtype=torch.float32))
        self.register_buffer("step", torch.tensor((limits[:, 1] - limits[:, 0]) / bins, dtype=torch.float32))
        self.answer = layers(width, hidden, len(limits) * bins)

    def logits(self, features: Tensor) -> Tensor:
        """Return (n, t, b)."""
        return torch.unflatten(self.answer(features), 1, (-1, self.bins))

    def loss(self, features: Tensor, truth: Tensor) -> Tensor:
        """Return the cross-entropy with the truth's bin, or with a Gaussian around the truth."""
        place = ((truth - self.low) / self.step).clamp(0.0, self.bins - 1e-3)  # [bins]
        logits = self.logits(features).flatten(0, 1)
        if not self.smoothing:
            return nn.functional.cross_entropy(logits, place.flatten().long())
        centres = torch.arange(self.bins, device=place.device) + 0.5
        labels = torch.softmax(-0.5 * ((place.flatten()[:, None] - centres) / self.smoothing) ** 2, dim=1)
        return nn.functional.cross_entropy(logits, labels)

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        """Return ``probabilities`` (n, t, b)."""
        return {"probabilities": self.logits(features).softmax(dim=2)}


class MixtureNetwork(nn.Module):
    """Weights, means and sigmas of k Gaussians per target; the means begin spread over the training set's truths."""

    start: Tensor

    def __init__(self, width: int, hidden: int, truth: NDArray[np.generic], components: int) -> None:
        super().__init__()
        self.components = components
        self.scale = Scale(truth)
        places = np.quantile(np.asarray(truth, dtype=np.float64), (np.arange(components) + 0.5) / components, axis=0)
        self.register_buffer("start", self.scale(torch.tensor(places, dtype=torch.float32)).T.contiguous())
        self.answer = layers(width, hidden, 3 * truth.shape[1] * components)

    def scaled(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return logarithms of weights, means and sigmas (n, t, k) in the truth's own scale."""
        weights, means, sigmas = self.answer(features).unflatten(1, (3, -1, self.components)).unbind(dim=1)
        return weights.log_softmax(dim=2), means + self.start, nn.functional.softplus(sigmas) + SMALLEST_SIGMA

    def loss(self, features: Tensor, truth: Tensor) -> Tensor:
        """Return the negative logarithm of the mixture's density, in the truth's own scale."""
        log_weights, means, sigmas = self.scaled(features)
        away = (self.scale(truth)[:, :, None] - means) / sigmas
        logs = log_weights - sigmas.log() - 0.5 * (away**2 + log(2 * pi))
        return -torch.logsumexp(logs, dim=2).sum(dim=1).mean()

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        """Return ``weights``, ``means`` and ``sigmas`` (n, t, k)."""
        log_weights, means, sigmas = self.scaled(features)
        mean, std = self.scale.mean[:, None], self.scale.std[:, None]
        return {"weights": log_weights.exp(), "means": mean + std * means, "sigmas": std * sigmas}


class ClassesNetwork(nn.Module):
    """Probabilities of k classes."""

    def __init__(self, width: int, hidden: int, classes: int, smoothing: float) -> None:
        super().__init__()
        self.smoothing = smoothing
        self.answer = layers(width, hidden, classes)

    def loss(self, features: Tensor, truth: Tensor) -> Tensor:
        """Return the cross-entropy with the numbers of the true classes (n,)."""
        return nn.functional.cross_entropy(self.answer(features), truth.long(), label_smoothing=self.smoothing)

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        """Return ``probabilities`` (n, k)."""
        return {"probabilities": self.answer(features).softmax(dim=1)}
