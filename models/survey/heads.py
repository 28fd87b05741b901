"""Heads: from features to outputs. Configurations only; the networks are in `broker.models.survey.networks`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from broker.models.survey.row import Floats, Row
from broker.sidecar.answer import Output

if TYPE_CHECKING:
    from torch import Tensor


class HeadNetwork(Protocol):
    """What a head builds: an ``nn.Module`` with these two methods; scales of the truth are buffers in its state."""

    def loss(self, features: Tensor, truth: Tensor) -> Tensor:
        """Return the mean loss of features (n, width) for truths (n, targets) or (n,)."""
        ...

    def __call__(self, features: Tensor) -> dict[str, Tensor]:
        """Return what `Head.outputs` reads, each (n, ...), in the targets' units."""
        ...


class Head(Protocol):
    """One way to say what is known about the targets."""

    def build(self, width: int, row: Row, truth: NDArray[np.generic]) -> HeadNetwork:
        """Return the network for ``width`` features; ``truth`` are the training set's."""
        ...

    def outputs(self, members: list[dict[str, Floats]], row: Row) -> tuple[Output, ...]:
        """Return the outputs of an ensemble's members together: the mean of their distributions."""
        ...
