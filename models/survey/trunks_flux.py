"""A trunk for fluxes of any sign, such as those of faint galaxies in narrow bands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from broker.models.survey.row import Columns
from broker.models.survey.trunks import Mlp
from broker.sidecar.product import Input

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, slots=True)
class Fluxes:
    """Fluxes ``flux_*`` with errors ``flux_err_*``, and other numbers, to features: ``depth`` layers of ``width``.

    A flux f with error σ becomes asinh(f / 2σ) + ln σ (after Lupton, Gunn & Szalay 1999): the logarithm of what is
    bright, and finite and monotonic through zero. The error becomes ln σ. Neither is taken without the other. Other
    inputs are taken as they are.
    """

    width: int = 128
    depth: int = 3
    dropout: float = 0.0

    def prepare(self, columns: Columns, inputs: tuple[Input, ...]) -> NDArray[np.float32]:
        """Return (n, 2 p): the inputs in their order, 0 where one is missing, then a mask of each (1: it is there)."""
        scaled = {wanted.name: _scaled(wanted.name, columns) for wanted in inputs}
        return self._mlp.prepare(scaled, inputs)

    def build(self, example: NDArray[Any]) -> nn.Module:
        """Return the network, with the scale of the values that are there."""
        return self._mlp.build(example)

    @property
    def _mlp(self) -> Mlp:
        return Mlp(self.width, self.depth, self.dropout)


def _scaled(name: str, columns: Columns) -> NDArray[np.float64]:
    if not name.startswith("flux_"):
        return np.asarray(columns[name], dtype=np.float64)
    error = name if name.startswith("flux_err_") else name.replace("flux_", "flux_err_", 1)
    flux, err = (np.asarray(columns[told], dtype=np.float64) for told in (error.replace("_err_", "_", 1), error))
    good = np.isfinite(flux) & np.isfinite(err) & (err > 0)
    log = np.log(np.where(good, err, 1.0))
    found = log if name == error else np.arcsinh(flux / (2.0 * np.where(good, err, 1.0))) + log
    return np.where(good, found, np.nan)
