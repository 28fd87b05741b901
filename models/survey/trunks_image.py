"""Trunks that read images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from broker.models.survey import stamps
from broker.models.survey.row import Columns
from broker.sidecar.product import Input

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, slots=True)
class PolarCnn:
    """One image's middle, ``size`` pixels, to features that do not depend on the source's orientation.

    Attributes
    ----------
    size : int
        Pixels on a side of what is looked at, a multiple of 4; images may be larger or smaller.
    rings, angles : int
        Where it is looked at; both a multiple of 8.
    channels : int
        Of the first layer; later ones have two and four times as many.
    """

    size: int = 128
    rings: int = 24
    angles: int = 48
    channels: int = 12
    width: int = 64
    dropout: float = 0.3

    def prepare(self, columns: Columns, inputs: tuple[Input, ...]) -> NDArray[np.float32]:
        """Return (n, bands, size, size): what stands above the noise, the source's brightest pixel 1."""
        (image,) = inputs
        return stamps.own_brightness(stamps.cleaned(np.asarray(columns[image.name]), self.size))

    def build(self, example: NDArray[Any]) -> nn.Module:
        """Return the network."""
        from broker.models.survey.networks.cnn import PolarCnn as Network

        return Network(example.shape[1], self.size, self.rings, self.angles, self.channels, self.width, self.dropout)
