"""A row without its pretraining, as a baseline of the row: what the first examples are worth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from broker.models.survey.row import Baseline, Columns, Examples, Floats

EPOCHS = 80


def scratch(row_id: str) -> Baseline:
    """Return the row's own network, trained from random weights on the examples that the row is tuned on.

    It takes `EPOCHS` epochs, with the pretraining's rate.
    """
    return partial(_fit, row_id)


def _fit(row_id: str, train: Examples, seed: int) -> Callable[[Columns], Floats]:
    from broker.models.survey import registry
    from broker.models.survey import train as training  # torch

    row, _ = registry.find(row_id)
    if row.pretraining is None:
        raise ValueError(f"{row_id} has no pretraining to go without")
    alone = replace(row.training, epochs=EPOCHS, rate=row.pretraining.training.rate)
    fitted = training.fit(replace(row, pretraining=None, training=alone), train, seed)

    def estimate(columns: Columns) -> Floats:
        return np.stack([output.value for output in fitted.answer(columns).outputs], axis=1)

    return estimate
