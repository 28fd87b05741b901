"""Classical methods for haloes: abundance matching, the virial theorem, power laws. n = records.

A method answers every record: what lacks a column that it reads gets the training set's median.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from broker.models.survey.row import Baseline, Columns, Examples, Floats


def matched(column: str) -> Baseline:
    """Return abundance matching: the record of rank r in ``column`` has the mass of rank r (Vale & Ostriker 2004).

    It reads how common masses are, from the training set, but never which record has which mass.
    """
    return partial(_matched, column)


def virial(log_dispersion: str, log_radius: str) -> Baseline:
    """Return the virial estimator log10(A sigma² R / G), with the A that is right for the training set's median."""
    return partial(_virial, log_dispersion, log_radius)


def power_law(*columns: str, logarithmic: bool = True) -> Baseline:
    """Return the product of powers of 10^column that fits best; ``logarithmic`` is the truth a logarithm itself."""
    return partial(_power_law, columns, logarithmic)


def exponents(columns: tuple[str, ...], train: Examples, logarithmic: bool = True) -> Floats:
    """Return the exponent of each column and, last, log10 of the factor (columns + 1,), by least squares."""
    truth = train.truth[:, 0] if logarithmic else np.log10(train.truth[:, 0])
    rows = _stack(columns, train.columns)
    there = np.isfinite(rows).all(axis=1)
    return np.asarray(np.linalg.lstsq(rows[there], truth[there], rcond=None)[0])


def _matched(column: str, train: Examples, seed: int) -> Callable[[Columns], Floats]:
    tracer = train.columns[column]
    there = np.isfinite(tracer)
    ranked, masses = np.sort(tracer[there]), np.sort(train.truth[there, 0])
    return lambda columns: _or_median(np.interp(columns[column], ranked, masses), train)


def _virial(log_dispersion: str, log_radius: str, train: Examples, seed: int) -> Callable[[Columns], Floats]:
    def virial(columns: Columns) -> Floats:
        return np.asarray(2.0 * columns[log_dispersion] + columns[log_radius])

    factor = np.nanmedian(train.truth[:, 0] - virial(train.columns))
    return lambda columns: _or_median(virial(columns) + factor, train)


def _power_law(names: tuple[str, ...], logarithmic: bool, train: Examples, seed: int) -> Callable[[Columns], Floats]:
    powers = exponents(names, train, logarithmic)

    def predict(columns: Columns) -> Floats:
        found = _stack(names, columns) @ powers
        return _or_median(found if logarithmic else 10.0**found, train)

    return predict


def _stack(names: tuple[str, ...], columns: Columns) -> NDArray[np.float64]:
    """Return the columns, and a one, side by side (n, columns + 1)."""
    rows = [np.asarray(columns[name], dtype=np.float64) for name in names]
    return np.stack([*rows, np.ones_like(rows[0])], axis=1)


def _or_median(found: Floats, train: Examples) -> Floats:
    return np.where(np.isfinite(found), found, np.median(train.truth[:, 0]))[:, None]
