"""An LSTM whose units open and close with time (Moss 2018, after the phased LSTM of Neil et al. 2016).

A gate of each unit, periodic in the days since the first observation, decides how much of a night's update is taken.
There and here periods and phases are learned. Its augmentation is the recipe's: noise, lost nights, other starts, cuts.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from broker.models.networks.parts import SCALE_AND_HOST, Heads, Scalars, compact, observed, pool

LEAK = 0.01
"""Slope of a closed gate: without it a unit that never opens never learns to."""


@dataclass(frozen=True, slots=True)
class Config:
    """Sizes.

    Attributes
    ----------
    channels, scalars, classes : int
        C of the epochs, S and K of the tensors.
    width : int
        Units.
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
    dropout: float = 0.2


class Phased(nn.Module):
    """Epochs, flux scale and host to logits."""

    READS = "epochs"

    def __init__(self, config: Config) -> None:
        super().__init__()
        w, inputs = config.width, 5 * ((config.channels - 2) // 3) + 1
        self.scalars = Scalars(config.scalars, w, config.dropout, SCALE_AND_HOST)
        self.inputs, self.recurrent = nn.Linear(inputs + w, 4 * w), nn.Linear(w, 4 * w, bias=False)
        self.log_period = nn.Parameter(torch.linspace(0.0, 7.0, w))  # of days: 1 to 1,100
        self.shift = nn.Parameter(torch.rand(w))
        self.open = nn.Parameter(torch.zeros(w))  # a sigmoid's argument: open for half of a period
        self.heads = Heads(3 * w, config.hidden, config.classes, config.heads, config.dropout)

    def forward(self, epochs: Tensor, mask: Tensor, scalars: Tensor) -> Tensor:
        """Return logits (A, H, K) of epochs (A, E, C), mask (A, E) bool, scalars (A, S)."""
        epochs, mask = compact(epochs, mask)
        known = self.scalars(scalars).unsqueeze(1).expand(-1, epochs.shape[1], -1)
        steps = self.inputs(torch.cat((observed(epochs), known), dim=-1))  # (A, N, 4 W)
        opened = self._opened(epochs[..., -2] - epochs[:, :1, -2]) * mask.unsqueeze(-1)
        state = cell = steps.new_zeros(len(steps), opened.shape[2])
        states = []
        for step, gate in zip(steps.unbind(1), opened.unbind(1), strict=True):
            new, forget, candidate, out = (step + self.recurrent(state)).chunk(4, dim=1)
            proposed = forget.sigmoid() * cell + new.sigmoid() * candidate.tanh()
            state = torch.lerp(state, out.sigmoid() * proposed.tanh(), gate)
            cell = torch.lerp(cell, proposed, gate)
            states.append(state)
        logits: Tensor = self.heads(torch.cat((state, pool(torch.stack(states, dim=1), mask)), dim=1))
        return logits

    def _opened(self, days: Tensor) -> Tensor:
        """Return how open each unit is (A, N, W) at days (A, N): up and down once in the open part of a period."""
        turns = days.unsqueeze(-1) / self.log_period.exp() - self.shift
        phase = turns - turns.floor()
        ratio = self.open.sigmoid()
        inside = 1.0 - (2.0 * phase / ratio - 1.0).abs()
        return torch.where(phase < ratio, inside, LEAK * phase if self.training else torch.zeros_like(phase))
