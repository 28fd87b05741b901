"""The flow head's network, of zuko's transforms. n = records, t = targets, s = samples."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.distributions import Transform
from zuko.distributions import DiagNormal
from zuko.flows import ElementWiseTransform, MaskedAutoregressiveTransform
from zuko.lazy import Flow, LazyTransform, UnconditionalDistribution
from zuko.transforms import AutoregressiveTransform, MonotonicRQSTransform

from broker.models.survey.networks.heads import Scale

KNOTS = 8
AT_ONCE = 8192
"""Samples in work at a time: what the splines' networks make of more would not fit into the cache."""


class FlowNetwork(nn.Module):
    """Truths, shifted and stretched by the features, through splines to a Gaussian.

    Splines act within 5 deviations: the first, affine transform brings even a narrow posterior to that width.
    ``base`` (s, t) are the Gaussian draws that every record's samples are made of.
    """

    base: Tensor

    def __init__(
        self,
        width: int,
        hidden: int,
        truth: NDArray[np.generic],
        base: NDArray[np.floating],
        transforms: int,
        coupling: bool,
    ) -> None:
        super().__init__()
        self.scale = Scale(truth)
        self.register_buffer("base", torch.tensor(base, dtype=torch.float32))
        targets = truth.shape[1]
        affine = ElementWiseTransform(targets, width, hidden_features=(hidden,))
        splines = [_spline(targets, width, hidden, coupling, bool(i % 2)) for i in range(transforms)]
        normal = UnconditionalDistribution(DiagNormal, torch.zeros(targets), torch.ones(targets), buffer=True)
        self.flow = Flow([affine, *splines], normal)

    def loss(self, features: Tensor, truth: Tensor) -> Tensor:
        """Return the negative logarithm of the joint density, in the truth's own scale."""
        likelihood: Tensor = self.flow(features).log_prob(self.scale(truth))
        return -likelihood.mean()

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        """Return ``samples`` (n, t, s)."""
        step = max(AT_ONCE // len(self.base), 1)
        parts = [self._drawn(features[start : start + step]) for start in range(0, max(len(features), 1), step)]
        return {"samples": (self.scale.mean + self.scale.std * torch.cat(parts, dim=1)).permute(1, 2, 0)}

    def _drawn(self, features: Tensor) -> Tensor:
        """Return samples (s, n, t) in the truth's own scale."""
        drawn = self.base[:, None].expand(-1, len(features), -1)
        for transform in reversed(self.flow(features).transform.transforms):
            drawn = _inverted(transform, drawn)
        return drawn


def _inverted(transform: Transform, y: Tensor) -> Tensor:
    """Return x (s, n, t) of y (s, n, t), target after target.

    Those that come first depend on no other, so that the first pass asks the network once for all samples.
    """
    if not isinstance(transform, AutoregressiveTransform):
        alone: Tensor = transform.inv(y)
        return alone
    x = torch.zeros_like(y[:1])
    for _ in range(transform.passes):
        x = transform.meta(x).inv(y)
    return x


def _spline(targets: int, width: int, hidden: int, coupling: bool, backwards: bool) -> LazyTransform:
    """Return one conditional spline; every second takes the targets backwards."""
    shapes = ((KNOTS,), (KNOTS,), (KNOTS - 1,))
    univariate = partial(MonotonicRQSTransform, slope=1e-3)
    hyper = {"univariate": univariate, "shapes": shapes, "hidden_features": (hidden, hidden)}
    if targets == 1:  # its parameters depend on the features alone: one evaluation for all samples
        return ElementWiseTransform(1, width, **hyper)
    order = torch.arange(targets)
    passes = 2 if coupling else targets
    return MaskedAutoregressiveTransform(targets, width, passes, order.flip(0) if backwards else order, **hyper)
