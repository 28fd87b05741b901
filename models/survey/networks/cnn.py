"""Convolutions around the middle of an image: in rings and angles, so that a turned source is the same, moved.

n = images, c = channels, r = rings, a = angles. After Dieleman, Willett & Dambre (2015), who see all orientations with
the same weights; here they are neighbours on a circle.
"""

from __future__ import annotations

from math import exp, log, pi

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, grid_sample, pad

INNERMOST = 1.5
"""Pixels from the middle to the first ring."""
FAINT = 0.01
"""Of the brightest pixel: where the logarithm of the brightness begins."""
AT_ONCE = 128
"""Images of one pass: more do not fit a core's cache."""


class PolarCnn(nn.Module):
    """Images (n, bands, s, s) to features (n, width), the same whichever way the source lies.

    Rings are equally spaced in the logarithm of their radius, from `INNERMOST` to the border. Of all angles the mean
    and the strongest count.
    In training every pass sees a source turned, mirrored, a little moved and of another size.
    """

    places: Tensor

    def __init__(
        self, bands: int, size: int, rings: int, angles: int, channels: int, width: int, dropout: float
    ) -> None:
        super().__init__()
        self.size = size
        step = (log(0.5 * size - 1.0) - log(INNERMOST)) / (rings - 1)
        radius = torch.tensor([INNERMOST * exp(k * step) for k in range(rings)])
        turn = torch.arange(angles) * (2.0 * pi / angles)
        ring = torch.stack((turn.cos(), turn.sin()), dim=-1)
        self.register_buffer("places", radius[:, None, None] * ring, persistent=False)  # (r, a, 2) pixels
        self.pools = _pools((radius * max(step, 2.0 * pi / angles)).tolist())
        c = channels
        self.layers = nn.Sequential(
            *_layer(2 * bands, c, 2),
            *_layer(c, 2 * c, 2),
            *_layer(2 * c, 4 * c, (2, 1)),
            nn.Dropout2d(0.1),
            *_layer(4 * c, 4 * c, 1),
        )
        self.layers.to(memory_format=torch.channels_last)  # as the images: half the time
        self.last = nn.Sequential(nn.Linear(8 * c * (rings // 8), width), nn.ReLU(), nn.Dropout(dropout))

    def forward(self, images: Tensor) -> Tensor:
        """Return features (n, width); in evaluation the mean over a source and its mirror image."""
        if self.training:
            return self._features(images, _disturbed(len(images)))
        parts = [
            0.5 * (self._features(part, _straight(len(part), 1.0)) + self._features(part, _straight(len(part), -1.0)))
            for part in torch.split(images, AT_ONCE)
        ]
        return torch.cat(parts)

    def _features(self, images: Tensor, motion: tuple[Tensor, Tensor]) -> Tensor:
        seen = self.layers(self._around(images, *motion))
        features: Tensor = self.last(torch.cat((seen.mean(dim=3), seen.amax(dim=3)), dim=1).flatten(1))
        return features

    def _around(self, images: Tensor, matrix: Tensor, shift: Tensor) -> Tensor:
        """Return brightness and its logarithm (n, 2 bands, r, a) where the rings' places are moved to."""
        places = torch.einsum("nij,raj->nrai", matrix, self.places) + shift[:, None, None]
        places = places * (2.0 / self.size)
        rings = [
            grid_sample(_pooled(images, pool), places[:, first:last], align_corners=False)
            for pool, first, last in self.pools
        ]
        light = torch.cat(rings, dim=2)
        deep = torch.log1p(light / FAINT) / log(1.0 + 1.0 / FAINT)
        return torch.cat((light, deep), dim=1).contiguous(memory_format=torch.channels_last)


class _Around(nn.Module):
    """A convolution of 3 rings by 3 angles; the last angle is the first's neighbour, beyond the last ring is 0."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(n_in, n_out, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Return (n, n_out, r, a)."""
        seen: Tensor = self.convolution(pad(pad(x, (1, 1, 0, 0), mode="circular"), (0, 0, 1, 1)))
        return seen


def _layer(n_in: int, n_out: int, pool: int | tuple[int, int]) -> list[nn.Module]:
    """Return a layer; what it pools before it normalises is less to do."""
    return [_Around(n_in, n_out), nn.MaxPool2d(pool), nn.BatchNorm2d(n_out), nn.ReLU()]


def _pooled(images: Tensor, pool: int) -> Tensor:
    return avg_pool2d(images, pool) if pool > 1 else images


def _pools(spacings: list[float]) -> list[tuple[int, int, int]]:
    """Return how many pixels are averaged (1, 2, 4) for which rings: about as far apart as their places are."""
    pools = [1 if pixels < 1.5 else 2 if pixels < 3.0 else 4 for pixels in spacings]
    return [(pool, pools.index(pool), len(pools) - pools[::-1].index(pool)) for pool in sorted(set(pools))]


def _straight(n: int, mirror: float) -> tuple[Tensor, Tensor]:
    """Return matrices (n, 2, 2) and shifts (n, 2) that leave the source as it is, or mirror it."""
    return torch.tensor([[mirror, 0.0], [0.0, 1.0]]).expand(n, 2, 2), torch.zeros(n, 2)


def _disturbed(n: int) -> tuple[Tensor, Tensor]:
    """Return matrices (n, 2, 2) and shifts (n, 2) [pixels] of sources as they might as well lie."""
    turn, mirror = torch.rand(n) * (2.0 * pi), torch.randint(0, 2, (n,)) * 2.0 - 1.0
    scale = torch.exp(0.12 * torch.randn(n))
    rows = torch.stack((mirror * turn.cos(), -turn.sin()), -1), torch.stack((mirror * turn.sin(), turn.cos()), -1)
    return scale[:, None, None] * torch.stack(rows, dim=1), torch.randn(n, 2)
