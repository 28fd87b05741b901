"""The functions of whole registers against numpy's, over all that the Gaussian process asks of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from broker.core.jit import jit
from broker.gp import functions, simd


@jit(cache=False)
def correlations(values: Any, out: Any) -> None:
    for i in range(0, len(values), simd.lanes(values)):
        simd.store(out, i, functions.matern(simd.load(values, i)))


@jit(cache=False)
def logarithms(values: Any, out: Any) -> None:
    for i in range(0, len(values), simd.lanes(values)):
        simd.store(out, i, functions.log(simd.load(values, i)))


@pytest.mark.parametrize(("kind", "error"), [(np.float32, 4e-7), (np.float64, 1e-13)])
def test_matern_is_the_correlation(kind: Any, error: float) -> None:
    values = np.concatenate(([0.0], np.logspace(-14, 3.2, 1023), np.logspace(3.3, 32, 1024))).astype(kind)
    out = np.empty_like(values)
    correlations(values, out)
    root = np.minimum(np.sqrt(values.astype(np.float64)), 40.0)  # where it ends
    expected = (1.0 + root) * np.exp(-root)
    np.testing.assert_allclose(out, expected, atol=error, rtol=0.0)
    np.testing.assert_allclose(out, expected, rtol=40 * error)
    assert out.min() > np.finfo(np.float32).tiny ** 0.5


def test_log_is_the_logarithm() -> None:
    values = np.logspace(-37, 38, 4096).astype(np.float32)
    out = np.empty_like(values)
    logarithms(values, out)
    np.testing.assert_allclose(out, np.log(values.astype(np.float64)), rtol=3e-7, atol=3e-7)
    assert np.isnan(_of(logarithms, np.zeros(16, np.float32))).all()


def _of(function: Any, values: Any) -> Any:
    out = np.empty_like(values)
    function(values, out)
    return out
