"""What the classifiers share: how scalars enter, and the small ensemble of heads that gives an uncertainty."""

from __future__ import annotations

import torch
from torch import Tensor, nn

SCALE_AND_HOST = (0, -5, -4, -3, -2, -1)
"""Scalars that are no summary of the curve: the flux scale, which comes first, and what is known of the host."""


class Scalars(nn.Module):
    """Scale the scalars, put 0 (their mean) where one is unknown, and embed them.

    ``mean`` and ``std`` (S,) are buffers: they travel with the weights. ``columns`` are the scalars that are read,
    all if None.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, n_scalars: int, width: int, dropout: float, columns: tuple[int, ...] | None = None) -> None:
        super().__init__()
        self.columns = list(range(n_scalars) if columns is None else columns)
        self.register_buffer("mean", torch.zeros(n_scalars))
        self.register_buffer("std", torch.ones(n_scalars))
        self.embed = nn.Sequential(
            nn.Linear(2 * len(self.columns), 2 * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(2 * width, width)
        )

    def forward(self, scalars: Tensor) -> Tensor:
        """Return (A, width) of scalars (A, S) that may hold NaN for unknown."""
        known = torch.isfinite(scalars)
        scaled = ((scalars - self.mean) / self.std).clamp(-5.0, 5.0)
        known, scaled = known[:, self.columns], scaled[:, self.columns]
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


class Locked(nn.Module):
    """Dropout with one mask per curve, the same at all its times (Gal & Ghahramani 2016), that serving goes on with.

    In training a mask is drawn per curve. Serving uses the same H masks for every alert and every night, so an alert's
    answer depends on nothing but the alert; their spread is the uncertainty.

    Parameters
    ----------
    width, draws : int
        W of what is dropped; masks H.
    dropout : float
    seed : int
        Of the masks, which are buffers ``masks`` (H, W): they travel with the weights.
    """

    masks: Tensor

    def __init__(self, width: int, draws: int, dropout: float, seed: int) -> None:
        super().__init__()
        self.dropout = dropout
        generator = torch.Generator().manual_seed(seed)
        kept = torch.rand(draws, width, generator=generator) >= dropout
        self.register_buffer("masks", kept.to(torch.get_default_dtype()) / (1.0 - dropout))

    def forward(self, x: Tensor) -> Tensor:
        """Return (A, N, W) of x in training; else of x (H A, N, W), mask by mask."""
        if self.training:
            return x * nn.functional.dropout(torch.ones_like(x[:, :1]), self.dropout)
        return x * self.masks.repeat_interleave(len(x) // len(self.masks), dim=0).unsqueeze(1)


def recur(cell: nn.Module, x: Tensor, mask: Tensor, backwards: bool = False) -> Tensor:
    """Return the states (A, N, W) of a recurrent layer over `compact` x (A, N, C); 0 where mask (A, N) is false.

    Backwards, it begins with the last night that is there. Padding comes after what is there and so reaches no state
    of it: it is stepped through, as packed sequences train six times slower here.
    """
    if not backwards:
        return torch.where(mask.unsqueeze(-1), cell(x)[0], 0.0)
    step = torch.arange(x.shape[1], device=x.device)
    turned = torch.where(mask, mask.sum(dim=1, keepdim=True) - 1 - step, step).unsqueeze(-1)
    states = cell(x.gather(1, turned.expand(-1, -1, x.shape[2])))[0]
    return torch.where(mask.unsqueeze(-1), states.gather(1, turned.expand(-1, -1, states.shape[2])), 0.0)


def compact(x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return x (A, N, C) and mask (A, N) with what is there moved to the front, in its order, and the rest 0.

    N is then the longest row's, at least 1: neither gaps nor padding are stepped through.
    """
    order = torch.argsort((~mask).to(torch.int8), dim=1, stable=True)
    order = order[:, : max(int(mask.sum(dim=1).max()), 1) if len(mask) else 1]
    there = mask.gather(1, order)
    moved = x.gather(1, order.unsqueeze(-1).expand(-1, -1, x.shape[2]))
    return torch.where(there.unsqueeze(-1), moved, 0.0), there


def observed(epochs: Tensor) -> Tensor:
    """Return (A, E, 5 B + 1) of epochs (A, E, 3 B + 2) of `broker.score.epochs.names`: what a network can add up.

    Per band the flux over the flux scale, asinh of its signal to noise, log10 of its error, whether it is measured
    and whether it is a limit; last the logarithm of the gap.
    """
    bands = (epochs.shape[-1] - 2) // 3
    flux, log_err, seen = (epochs[..., k * bands : (k + 1) * bands] for k in range(3))
    measured, limit = (seen > 0.5).to(flux.dtype), (seen < -0.5).to(flux.dtype)
    significance = torch.asinh(flux * 10.0 ** -log_err.clamp(-4.0, 4.0)) / 3.0
    gap = torch.log1p(epochs[..., -1:].clamp(min=0.0))
    return torch.cat((flux * measured, significance * measured, log_err, measured, limit, gap), dim=-1)


def waves(days: Tensor, number: int, shortest: float = 2.0, longest: float = 2000.0) -> Tensor:
    """Return (..., 2 number): sine and cosine of times in days, at periods in a geometric row."""
    exponents = torch.linspace(0.0, 1.0, number, dtype=days.dtype, device=days.device)
    angle = 2.0 * torch.pi * days.unsqueeze(-1) / (shortest * (longest / shortest) ** exponents)
    return torch.cat((angle.sin(), angle.cos()), dim=-1)
