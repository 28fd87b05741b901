"""Trunks: from a row's inputs to features. Configurations only; the networks are in `broker.models.survey.networks`."""

from __future__ import annotations

from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Mlp:
    """Numbers of a catalogue to features: ``depth`` layers of ``width`` units.

    Numbers come as they are (magnitudes, logarithms); the network scales and whitens them.
    """

    width: int = 128
    depth: int = 3
    dropout: float = 0.0

    def prepare(self, columns: Columns, inputs: tuple[Input, ...]) -> NDArray[np.float32]:
        """Return (n, 2 p): the inputs in their order, 0 where one is missing, then a mask of each (1: it is there)."""
        numbers = [np.asarray(columns[wanted.name], dtype=np.float32) for wanted in inputs]
        values = np.concatenate([x.reshape(len(x), int(np.prod(x.shape[1:]))) for x in numbers], axis=1)
        present = np.isfinite(values)
        return np.concatenate((np.where(present, values, 0.0), present), axis=1, dtype=np.float32)

    def build(self, example: NDArray[Any]) -> nn.Module:
        """Return the network, with the scale of the values that are there."""
        from broker.models.survey.networks.mlp import Mlp as Network

        return Network(example, self.width, self.depth, self.dropout)
