"""Two bidirectional LSTMs, averaged over the nights, with variational dropout (SuperNNova, Möller & de Boissière 2020).

The uncertainty is the spread over fixed dropout masks. There masks act on the recurrent connection, too, and are drawn
at every call; here on what enters a layer, and they are the same for every alert. Training cuts curves at random.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from broker.models.networks.parts import SCALE_AND_HOST, Locked, Scalars, compact, observed, recur


@dataclass(frozen=True, slots=True)
class Config:
    """Sizes.

    Attributes
    ----------
    channels, scalars, classes : int
        C of the epochs, S and K of the tensors.
    width, draws : int
        Units of an LSTM in one direction; masks that answer.
    dropout : float
        In training and in serving.
    """

    channels: int
    scalars: int
    classes: int
    width: int = 32
    draws: int = 4
    dropout: float = 0.05


class SuperNnova(nn.Module):
    """Epochs, flux scale and host to logits, one set per mask (in training one)."""

    READS = "epochs"

    def __init__(self, config: Config) -> None:
        super().__init__()
        w, inputs = config.width, 5 * ((config.channels - 2) // 3) + 1 + config.width
        self.draws = config.draws
        self.scalars = Scalars(config.scalars, w, 0.0, SCALE_AND_HOST)
        widths = (inputs, 2 * w, 2 * w)
        self.drop = nn.ModuleList(Locked(n, config.draws, config.dropout, k) for k, n in enumerate(widths))
        self.first, self.second = (_two(n, w) for n in widths[:2])
        self.out = nn.Linear(2 * w, config.classes)

    def forward(self, epochs: Tensor, mask: Tensor, scalars: Tensor) -> Tensor:
        """Return logits (A, H, K) of epochs (A, E, C), mask (A, E) bool, scalars (A, S)."""
        draws = 1 if self.training else self.draws
        epochs, mask = compact(epochs, mask)
        known = self.scalars(scalars).unsqueeze(1).expand(-1, epochs.shape[1], -1)
        x = torch.cat((observed(epochs), known), dim=-1).repeat(draws, 1, 1)
        mask = mask.repeat(draws, 1)
        for ways, drop in ((self.first, self.drop[0]), (self.second, self.drop[1])):
            x = drop(x)
            x = torch.cat((recur(ways[0], x, mask), recur(ways[1], x, mask, backwards=True)), dim=-1)
        mean = x.sum(dim=1, keepdim=True) / mask.sum(dim=1).clamp(min=1)[:, None, None]
        logits: Tensor = self.out(self.drop[2](mean)).squeeze(1)
        return logits.view(draws, len(epochs), -1).transpose(0, 1)


def _two(inputs: int, width: int) -> nn.ModuleList:
    """Return an LSTM for each direction."""
    return nn.ModuleList(nn.LSTM(inputs, width, batch_first=True) for _ in range(2))
