"""The time-series Transformer t2 on the Gaussian-process grid (Allam & McEwen 2021): one block, sixteen heads of two.

There: 100 times from 50 days before the first to 50 after the last detection, fluxes as they are. Here: the broker's 40
times, their mask, fluxes over the flux scale with the scale as one more channel; several heads give the uncertainty.
As there: the means alone, sines for places, redshift and its error as channels, normalisation after, average pooling.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from broker.models.networks.parts import SCALE_AND_HOST, Heads, Scalars, waves


@dataclass(frozen=True, slots=True)
class Config:
    """Sizes.

    Attributes
    ----------
    channels, scalars, classes : int
        C, S and K of the tensors.
    width, attention, feedforward : int
        Of a token; attention heads; hidden units of the block.
    known : int
        Channels that flux scale and redshift are put into.
    hidden, heads : int
        Hidden units of a classifying head; number of those.
    dropout : float
        In training only.
    """

    channels: int
    scalars: int
    classes: int
    width: int = 32
    attention: int = 16
    feedforward: int = 128
    known: int = 4
    hidden: int = 32
    heads: int = 4
    dropout: float = 0.1


class T2(nn.Module):
    """Series, flux scale and host to logits."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        w, self.bands = config.width, (config.channels - 2) // 2
        self.scalars = Scalars(config.scalars, config.known, config.dropout, SCALE_AND_HOST)
        self.embed = nn.Conv1d(self.bands + config.known, w, kernel_size=1)
        self.qkv, self.out = nn.Linear(w, 3 * w), nn.Linear(w, w)
        self.feedforward = nn.Sequential(
            nn.Linear(w, config.feedforward), nn.ReLU(), nn.Linear(config.feedforward, w), nn.Dropout(config.dropout)
        )
        self.first, self.second, self.dropout = nn.LayerNorm(w), nn.LayerNorm(w), nn.Dropout(config.dropout)
        self.attention, self.width = config.attention, w
        self.heads = Heads(w, config.hidden, config.classes, config.heads, config.dropout)

    def forward(self, series: Tensor, mask: Tensor, scalars: Tensor) -> Tensor:
        """Return logits (A, H, K) of series (A, T, C), mask (A, T) bool, scalars (A, S)."""
        present = mask.unsqueeze(-1)
        flux = torch.where(present, series[..., : self.bands], 0.0)
        known = self.scalars(scalars).unsqueeze(1).expand(-1, series.shape[1], -1)
        x = nn.functional.relu(self.embed(torch.cat((flux, known), dim=-1).transpose(1, 2))).transpose(1, 2)
        steps = torch.arange(series.shape[1], dtype=x.dtype, device=x.device)
        x = x + waves(steps, self.width // 2, 2.0 * torch.pi, 2e4 * torch.pi)
        x = self.first(x + self.dropout(self._attended(x, mask)))
        x = self.second(x + self.feedforward(x))
        mean = torch.where(present, x, 0.0).sum(dim=1) / mask.sum(dim=1, keepdim=True).clamp(min=1)
        logits: Tensor = self.heads(mean)
        return logits

    def _attended(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return (A, T, W): tokens with data, read by all; a row of which nothing can be read counts for nothing."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.attention, -1)).permute(2, 0, 3, 1, 4)
        any_data = mask.any(dim=1, keepdim=True)
        attend = torch.where(any_data, mask, True)[:, None, None, :]
        seen = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=attend)
        out: Tensor = self.out(seen.transpose(1, 2).flatten(2))
        return out
