"""A variational recurrent autoencoder of interpolated light curves (Villar et al. 2020, 2021)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from broker.models.networks.parts import with_mask


@dataclass(frozen=True, slots=True)
class Config:
    """Sizes.

    Attributes
    ----------
    channels, bands : int
        C of the tensors, of which the first ``bands`` are fluxes, the next ``bands`` log10 of their errors and
        the last two the time.
    width, latents : int
        Of the GRUs; of the code.
    """

    channels: int
    bands: int
    width: int = 40
    latents: int = 10


class Vrae(nn.Module):
    """Series to a code and back. The time is given to the decoder: it has to explain fluxes, not the cadence."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        w, self.bands = config.width, config.bands
        self.embed = nn.Conv1d(config.channels + 1, w, kernel_size=2, stride=2)
        self.encoder = nn.GRU(w, w, batch_first=True)
        self.code = nn.Linear(w, 2 * config.latents)
        self.decoder = nn.GRU(config.latents + 4, w, batch_first=True)
        self.out = nn.Linear(w, 2 * config.bands)

    def encode(self, series: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log variance (A, latents) of the code of series (A, T, C), mask (A, T)."""
        x = nn.functional.gelu(self.embed(with_mask(series, mask).transpose(1, 2))).transpose(1, 2)
        _, last = self.encoder(x)
        mean, log_variance = self.code(last[0]).chunk(2, dim=1)
        return mean, log_variance.clamp(-8.0, 4.0)

    def decode(self, code: Tensor, series: Tensor) -> Tensor:
        """Return fluxes (A, T, B) over the flux scale, at the times of series (A, T, C)."""
        time = series[..., -2:].reshape(len(series), series.shape[1] // 2, 4)  # (A, T / 2, 4)
        repeated = code.unsqueeze(1).expand(-1, time.shape[1], -1)
        states, _ = self.decoder(torch.cat((repeated, time), dim=2))
        flux: Tensor = self.out(states).reshape(len(code), series.shape[1], self.bands)
        return flux

    def forward(self, series: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the code's mean and log variance, and the fluxes decoded from a draw (in training) or the mean."""
        mean, log_variance = self.encode(series, mask)
        noise = torch.randn_like(mean) if self.training else torch.zeros_like(mean)
        return mean, log_variance, self.decode(mean + noise * (0.5 * log_variance).exp(), series)


def squared_error(series: Tensor, mask: Tensor, flux: Tensor, floor: float = 0.05) -> Tensor:
    """Return (A,): mean squared error in error bars over the grid times that hold data.

    The bar is the interpolation's error with a floor of 5 % of the flux scale, below which no model of ours is true.
    """
    bands = flux.shape[-1]
    err = 10.0 ** series[..., bands : 2 * bands]
    squares = ((series[..., :bands] - flux) ** 2 / (err**2 + floor**2)).mean(dim=-1)  # (A, T)
    present = mask.to(squares.dtype)
    return (squares * present).sum(dim=1) / present.sum(dim=1).clamp(min=1.0)
