"""Two stacked LSTMs on the observations, their states averaged over the nights (Charnock & Moss 2017).

There: 16 units, a night's missing bands filled with random values between its neighbours, one softmax. Here: bands that
are missing are flagged, not filled; 32 units for 14 classes; several heads give the uncertainty.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from broker.models.networks.parts import SCALE_AND_HOST, Heads, Scalars, compact, observed, recur


@dataclass(frozen=True, slots=True)
class Config:
    """Sizes.

    Attributes
    ----------
    channels, scalars, classes : int
        C of the epochs, S and K of the tensors.
    width, layers : int
        Units of an LSTM; how many.
    hidden, heads : int
        Hidden units of a head; number of heads.
    dropout : float
        Between the layers and in the heads, in training only.
    """

    channels: int
    scalars: int
    classes: int
    width: int = 32
    layers: int = 2
    hidden: int = 32
    heads: int = 4
    dropout: float = 0.2


class Lstm(nn.Module):
    """Epochs, flux scale and host to logits."""

    READS = "epochs"

    def __init__(self, config: Config) -> None:
        super().__init__()
        w, inputs = config.width, 5 * ((config.channels - 2) // 3) + 2
        self.scalars = Scalars(config.scalars, w, config.dropout, SCALE_AND_HOST)
        self.lstm = nn.LSTM(inputs + w, w, config.layers, batch_first=True, dropout=config.dropout)
        self.heads = Heads(w, config.hidden, config.classes, config.heads, config.dropout)

    def forward(self, epochs: Tensor, mask: Tensor, scalars: Tensor) -> Tensor:
        """Return logits (A, H, K) of epochs (A, E, C), mask (A, E) bool, scalars (A, S)."""
        epochs, mask = compact(epochs, mask)
        since = torch.asinh(epochs[..., -2:-1])  # days, either sign
        known = self.scalars(scalars).unsqueeze(1).expand(-1, epochs.shape[1], -1)
        states = recur(self.lstm, torch.cat((observed(epochs), since, known), dim=-1), mask)
        logits: Tensor = self.heads(states.sum(dim=1) / mask.sum(dim=1, keepdim=True).clamp(min=1))
        return logits
