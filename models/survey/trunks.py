"""Trunks: from a row's inputs to features. Configurations only; the networks are in `broker.models.survey.networks`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from broker.models.survey.row import Columns
from broker.sidecar.product import Input

if TYPE_CHECKING:
    from torch import nn


class Trunk(Protocol):
    """The same `prepare` makes the tensors of training and of serving."""

    @property
    def width(self) -> int:
        """How many features come out."""
        ...

    def prepare(self, columns: Columns, inputs: tuple[Input, ...]) -> NDArray[np.float32]:
        """Return the network's input (n, ...), finite everywhere: what is missing is 0 and has a mask."""
        ...

    def build(self, example: NDArray[Any]) -> nn.Module:
        """Return the network that maps inputs (n, ...) to features (n, width).

        ``example`` (n, ...) are the prepared training examples, whose mean and standard deviation it takes as its own
        scale (buffers in its state).
        """
        ...
