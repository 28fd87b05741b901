"""A Transformer on the Gaussian-process grid, with the scalars as a token (after Allam & McEwen 2021)."""

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
    times : int
        T of the grid; even, for the places are learned.
    width, layers, attention, feedforward : int
        Of a token; blocks; attention heads in a block; hidden units of a block.
    hidden, heads : int
        Hidden units of a classifying head; number of those.
    dropout : float
        In training only.
    """

    channels: int
    scalars: int
    classes: int
    times: int = 40
    width: int = 40
    layers: int = 2
    attention: int = 4
    feedforward: int = 80
    hidden: int = 32
    heads: int = 4
    dropout: float = 0.1


class Block(nn.Module):
    """Attention and feed-forward, normalised before each: trains without a warm-up of its own."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        w = config.width
        self.attention = config.attention
        self.first, self.second = nn.LayerNorm(w), nn.LayerNorm(w)
        self.qkv, self.out = nn.Linear(w, 3 * w), nn.Linear(w, w)
        self.feedforward = nn.Sequential(nn.Linear(w, config.feedforward), nn.GELU(), nn.Linear(config.feedforward, w))
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, attend: Tensor) -> Tensor:
        """Return (A, N, W) of tokens x (A, N, W); attend (A, 1, 1, N) is true for tokens that may be read."""
        q, k, v = self.qkv(self.first(x)).unflatten(-1, (3, self.attention, -1)).permute(2, 0, 3, 1, 4)
        seen = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=attend)  # (A, heads, N, W / heads)
        x = x + self.dropout(self.out(seen.transpose(1, 2).flatten(2)))
        x = x + self.dropout(self.feedforward(self.second(x)))
        return x  # noqa: RET504  (mypy: a Module's call is Any)


class Transformer(nn.Module):
    """Series and scalars to logits."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        w = config.width
        self.embed = nn.Conv1d(config.channels + 1, w, kernel_size=2, stride=2)
        self.place = nn.Parameter(0.02 * torch.randn(config.times // 2, w))
        self.scalars = Scalars(config.scalars, w, config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(w)
        self.heads = Heads(3 * w, config.hidden, config.classes, config.heads, config.dropout)

    def forward(self, series: Tensor, mask: Tensor, scalars: Tensor) -> Tensor:
        """Return logits (A, H, K) of series (A, T, C), mask (A, T) bool, scalars (A, S)."""
        x = self.embed(with_mask(series, mask).transpose(1, 2)).transpose(1, 2) + self.place  # (A, T / 2, W)
        pairs = mask.view(len(mask), mask.shape[1] // 2, 2).any(dim=2)
        x = torch.cat((self.scalars(scalars).unsqueeze(1), x), dim=1)  # (A, 1 + T / 2, W)
        # The scalars' token is always there, so no row of the attention is empty.
        attend = torch.cat((torch.ones_like(pairs[:, :1]), pairs), dim=1)[:, None, None, :]
        for block in self.blocks:
            x = block(x, attend)
        x = self.norm(x)
        logits: Tensor = self.heads(torch.cat((x[:, 0], pool(x[:, 1:], pairs)), dim=1))
        return logits
