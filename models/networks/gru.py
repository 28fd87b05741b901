"""A recurrent classifier: convolution over pairs of grid times, one GRU, pooling (Charnock & Moss 2017)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from broker.models.networks.parts import Heads, Scalars, pool, with_mask


@dataclass(frozen=True, slots=True)
class Config:
    """Sizes.

    Attributes
    ----------
    channels, scalars, classes : int
        C, S and K of the tensors.
    width : int
        Of the GRU and of the embedded scalars.
    hidden, heads : int
        Hidden units of a head; number of heads.
    dropout : float
        In training only.
    """

    channels: int
    scalars: int
    classes: int
    width: int = 48
    hidden: int = 32
    heads: int = 4
    dropout: float = 0.15


class Gru(nn.Module):
    """Series and scalars to logits."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        w = config.width
        # Two grid times a step: half the recurrence, which is what a CPU pays for.
        self.embed = nn.Conv1d(config.channels + 1, w, kernel_size=2, stride=2)
        self.gru = nn.GRU(w, w, batch_first=True)
        self.scalars = Scalars(config.scalars, w, config.dropout)
        self.heads = Heads(4 * w, config.hidden, config.classes, config.heads, config.dropout)

    def forward(self, series: Tensor, mask: Tensor, scalars: Tensor) -> Tensor:
        """Return logits (A, H, K) of series (A, T, C), mask (A, T) bool, scalars (A, S); T even."""
        x = with_mask(series, mask).transpose(1, 2)  # (A, C + 1, T)
        x = nn.functional.gelu(self.embed(x)).transpose(1, 2)  # (A, T / 2, W)
        states, last = self.gru(x)
        pairs = mask.view(len(mask), mask.shape[1] // 2, 2).any(dim=2)  # (A, T / 2)
        features = torch.cat((last[0], pool(states, pairs), self.scalars(scalars)), dim=1)
        logits: Tensor = self.heads(features)
        return logits
