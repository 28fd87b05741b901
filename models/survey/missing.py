"""What training sees missing, so that a row learns to answer without it: errors then grow as they should."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from broker.models.survey.row import Columns

WHOLE = 0.5
"""Share of the examples that lose nothing."""


def hide(names: tuple[str, ...], whole: float = WHOLE) -> Callable[[Columns, np.random.Generator], Columns]:
    """Return what hides some inputs in training: a row's ``augment``.

    A share ``whole`` of the examples stays as it is. Each of the others loses each of the inputs with a probability of
    its own, anything from 0 to 1: one input may be missing, or all. An error goes with what it is the error of
    (``flux_err_u`` with ``flux_u``).
    """
    return partial(_hidden, names, whole)


def _hidden(names: tuple[str, ...], whole: float, columns: Columns, rng: np.random.Generator) -> Columns:
    n, out = len(columns[names[0]]), dict(columns)
    share = np.where(rng.random(n) < whole, 0.0, rng.random(n))
    for name in names:
        lost = rng.random(n) < share
        for told in {name, error_of(name)} & columns.keys():
            out[told] = np.where(lost, np.nan, columns[told])
    return out


def error_of(name: str) -> str:
    """Return the name that the error of an input has, where it has one: ``mag_err_u`` of ``mag_u``."""
    quantity, _, rest = name.partition("_")
    return f"{quantity}_err_{rest}"
