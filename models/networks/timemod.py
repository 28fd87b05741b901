"""Attention on observations that time modulates, band by band (TimeModAttn, Pimentel et al. 2022; ATAT).

Each band's measurement is embedded, multiplied by 1 + α(t) and shifted by β(t), sums of sines with learned amplitudes
of the band. There an observation is a token and every band attends to itself first; here the bands of a night are added
to one token: 96 instead of 576. There the network also learns to draw the curve again; here it learns classes alone.
As there, it is trained on simulated curves first (`broker.models.transients.spm`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from broker.models.networks import transformer
from broker.models.networks.parts import SCALE_AND_HOST, Heads, Scalars, compact, observed, pool, waves


@dataclass(frozen=True, slots=True)
class Config:
    """Sizes.

    Attributes
    ----------
    channels, scalars, classes : int
        C of the epochs, S and K of the tensors.
    width, layers, attention, feedforward : int
        Of a token; blocks; attention heads in a block; hidden units of a block.
    harmonics : int
        Sines, and cosines, of α and β.
    hidden, heads : int
        Hidden units of a classifying head; number of those.
    dropout : float
        In training only.
    """

    channels: int
    scalars: int
    classes: int
    width: int = 48
    layers: int = 2
    attention: int = 4
    feedforward: int = 96
    harmonics: int = 12
    hidden: int = 32
    heads: int = 4
    dropout: float = 0.1


class TimeModulated(nn.Module):
    """Epochs, flux scale and host to logits."""

    READS = "epochs"

    def __init__(self, config: Config) -> None:
        super().__init__()
        w, self.bands, self.harmonics = config.width, (config.channels - 2) // 3, config.harmonics
        self.value = nn.Parameter(torch.randn(self.bands, 5, w) / 5**0.5)
        self.alpha = nn.Linear(2 * config.harmonics, self.bands * w)
        self.beta = nn.Linear(2 * config.harmonics, self.bands * w)
        self.scalars = Scalars(config.scalars, w, config.dropout, SCALE_AND_HOST)
        sizes = transformer.Config(
            config.channels,
            config.scalars,
            config.classes,
            width=w,
            attention=config.attention,
            feedforward=config.feedforward,
            dropout=config.dropout,
        )
        self.blocks = nn.ModuleList(transformer.Block(sizes) for _ in range(config.layers))
        self.norm = nn.LayerNorm(w)
        self.heads = Heads(3 * w, config.hidden, config.classes, config.heads, config.dropout)

    def forward(self, epochs: Tensor, mask: Tensor, scalars: Tensor) -> Tensor:
        """Return logits (A, H, K) of epochs (A, E, C), mask (A, E) bool, scalars (A, S)."""
        epochs, mask = compact(epochs, mask)
        # A token in front that is always there: no row of the attention is empty.
        x = torch.cat((self.scalars(scalars).unsqueeze(1), self._modulated(epochs)), dim=1)
        attend = torch.cat((torch.ones_like(mask[:, :1]), mask), dim=1)[:, None, None, :]
        for block in self.blocks:
            x = block(x, attend)
        x = self.norm(x)
        logits: Tensor = self.heads(torch.cat((x[:, 0], pool(x[:, 1:], mask)), dim=1))
        return logits

    def _modulated(self, epochs: Tensor) -> Tensor:
        """Return (A, E, W): the bands' modulated values, added up over those that hold something."""
        values = observed(epochs)[..., :-1].reshape(*epochs.shape[:2], 5, self.bands)
        held = (values[..., 3, :] + values[..., 4, :]).unsqueeze(-1)  # (A, E, B, 1): measured, or a limit
        embedded = torch.einsum("nevb,bvw->nebw", values, self.value)
        time = waves(epochs[..., -2], self.harmonics)
        alpha = self.alpha(time).unflatten(-1, (self.bands, -1))
        beta = self.beta(time).unflatten(-1, (self.bands, -1))
        modulated: Tensor = (held * (embedded * (1.0 + alpha) + beta)).sum(dim=2)
        return modulated
