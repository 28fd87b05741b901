"""What the classifiers share: how scalars enter, and the small ensemble of heads that gives an uncertainty."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Scalars(nn.Module):
    """Scale the scalars, put 0 (their mean) where one is unknown, and embed them.

    ``mean`` and ``std`` (S,) are buffers: they travel with the weights.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, n_scalars: int, width: int, dropout: float) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_scalars))
        self.register_buffer("std", torch.ones(n_scalars))
        self.embed = nn.Sequential(
            nn.Linear(2 * n_scalars, 2 * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(2 * width, width)
        )

    def forward(self, scalars: Tensor) -> Tensor:
        """Return (A, width) of scalars (A, S) that may hold NaN for unknown."""
        known = torch.isfinite(scalars)
        scaled = ((scalars - self.mean) / self.std).clamp(-5.0, 5.0)
        # The flag tells "unknown" from "average"; neither can be told from the number alone.
        inputs = torch.cat((torch.where(known, scaled, 0.0), known.to(scaled.dtype)), dim=1)
        embedded: Tensor = self.embed(inputs)
        return embedded


class Heads(nn.Module):
    """H independent two-layer heads on one trunk: their mean is the answer, their spread its uncertainty.

    Each head has its own start, dropout and (in training) its own weights of the examples, as in a bootstrap.
    """

    def __init__(self, n_in: int, hidden: int, n_out: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.randn(n_heads, n_in, hidden) / n_in**0.5)
        self.first_bias = nn.Parameter(torch.zeros(n_heads, 1, hidden))
        self.second = nn.Parameter(torch.randn(n_heads, hidden, n_out) / hidden**0.5)
        self.second_bias = nn.Parameter(torch.zeros(n_heads, 1, n_out))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (A, H, K) of features (A, n_in)."""
        repeated = self.dropout(x.expand(len(self.first), *x.shape))  # (H, A, n_in), a mask per head
        hidden = torch.nn.functional.gelu(torch.baddbmm(self.first_bias, repeated, self.first))
        return torch.baddbmm(self.second_bias, self.dropout(hidden), self.second).transpose(0, 1)


def with_mask(series: Tensor, mask: Tensor) -> Tensor:
    """Return (A, T, C + 1): the series, 0 where no data is near, and the mask itself as the last channel."""
    present = mask.unsqueeze(-1).to(series.dtype)
    return torch.cat((series * present, present), dim=-1)


def pool(x: Tensor, mask: Tensor) -> Tensor:
    """Return (A, 2 W): mean and maximum of x (A, T, W) over the times where mask (A, T) is true; 0 if none is."""
    present = mask.unsqueeze(-1)
    count = present.sum(dim=1).clamp(min=1)
    mean = torch.where(present, x, 0.0).sum(dim=1) / count
    top = torch.where(present, x, -torch.inf).amax(dim=1)
    return torch.cat((mean, torch.where(mask.any(dim=1, keepdim=True), top, 0.0)), dim=1)
