"""A Transformer on raw observations, one token a night: no interpolation, every answer from what was measured.

Time enters as sines (as in ATAT, Cabrera-Vives et al. 2024), once as observed and once in the rest frame where a
redshift is known; brightness once over the object's own scale and once as luminosity.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from broker.models.networks.parts import Heads, Scalars, pool
from broker.models.networks.transformer import Block


@dataclass(frozen=True, slots=True)
class Config:
    """Sizes.

    Attributes
    ----------
    channels, scalars, classes : int
        C of `broker.score.epochs.names` (three per band and two of time), S and K. The last five scalars are the
        host's.
    waves : int
        Sines and cosines of a time, from 2 to 300 days.
    width, layers, attention, feedforward, hidden, heads, dropout
        As of `broker.models.networks.transformer.Config`.
    """

    channels: int
    scalars: int
    classes: int
    waves: int = 8
    width: int = 64
    layers: int = 3
    attention: int = 4
    feedforward: int = 128
    hidden: int = 48
    heads: int = 4
    dropout: float = 0.1


class Nights(nn.Module):
    """Nights and scalars to logits."""

    READS = "epochs"
    rates: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        w = config.width
        self.bands = (config.channels - 2) // 3
        self.register_buffer("rates", torch.logspace(0.3, 2.5, config.waves).reciprocal())
        self.embed = nn.Linear(6 * self.bands + 4 + 4 * config.waves, w)
        self.scalars = Scalars(config.scalars, w, config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))  # type: ignore[arg-type]
        self.norm = nn.LayerNorm(w)
        self.heads = Heads(3 * w, config.hidden, config.classes, config.heads, config.dropout)

    def forward(self, epochs: Tensor, mask: Tensor, scalars: Tensor) -> Tensor:
        """Return logits (A, H, K) of epochs (A, E, C), mask (A, E) bool and scalars (A, S)."""
        epochs = torch.where(mask.unsqueeze(-1), epochs, 0.0)
        whole = self.scalars(scalars).unsqueeze(1)  # (A, 1, W)
        x = torch.cat((whole, self.embed(self._tokens(epochs, scalars)) + whole), dim=1)
        # The scalars' token is always there, so no row of the attention is empty.
        attend = torch.cat((torch.ones_like(mask[:, :1]), mask), dim=1)[:, None, None, :]
        for block in self.blocks:
            x = block(x, attend)
        x = self.norm(x)
        logits: Tensor = self.heads(torch.cat((x[:, 0], pool(x[:, 1:], mask)), dim=1))
        return logits

    def _tokens(self, epochs: Tensor, scalars: Tensor) -> Tensor:
        """Return what a night's token is made of, (A, E, 6 B + 4 + 4 W)."""
        b = self.bands
        flux, log_err, seen = epochs[..., :b], epochs[..., b : 2 * b], epochs[..., 2 * b : 3 * b]
        since, gap = epochs[..., -2:-1], epochs[..., -1:]
        z, luminosity = scalars[:, None, None, -5], scalars[:, None, None, -3]
        known = torch.isfinite(luminosity)
        stretch = torch.where(known, 1.0 + z, 1.0)
        # In units where an ordinary supernova at its peak is near 1.
        bright = torch.where(known, 10.0 ** (luminosity.clamp(-6.0, 12.0) - 4.0), 0.0)
        snr = flux * 10.0**-log_err
        step = torch.log10(1.0 + gap)
        measured = (flux, log_err * (seen != 0), seen, torch.asinh(snr), torch.asinh(10.0 * flux * bright))
        floor = torch.asinh(10.0 * bright * 10.0**log_err) * (seen != 0)
        phase = torch.cat((since, since / stretch), dim=-1).unsqueeze(-1) * self.rates  # (A, E, 2, W)
        waves = torch.cat((phase.sin(), phase.cos()), dim=-1).flatten(2)
        times = (step, since / 50.0, since / 50.0 / stretch, known.expand_as(step).to(step.dtype))
        return torch.cat((*measured, floor, *times, waves), dim=-1)
