"""Light curves for the tests of this room."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from broker.core.bands import SURVEYS
from broker.core.batch import LightCurves

START = 60000.25
Curve = tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]


def batch(curves: list[Curve]) -> LightCurves:
    """Join (mjd, band, flux, error) of each curve."""
    offsets = np.concatenate(([0], np.cumsum([len(curve[0]) for curve in curves]))).astype(np.int64)
    mjd, band, flux, error = (np.concatenate([np.asarray(curve[i]) for curve in curves]) for i in range(4))
    return LightCurves(offsets, mjd, flux, error, band.astype(np.int8), np.zeros(len(mjd), np.int8))


def supernova(points: int, rng: np.random.Generator, *, span: float = 120.0) -> Curve:
    """Draw a transient of a random height, width and colour, with noise."""
    waves = SURVEYS["lsst"].wavelengths_aa
    mjd = START + np.sort(rng.uniform(0.0, span, points))
    band = rng.integers(0, len(waves), points)
    phase = mjd - START - rng.uniform(0.2, 0.6) * span
    shape = np.exp(-0.5 * (phase / np.where(phase < 0, rng.uniform(5, 15), rng.uniform(15, 45))) ** 2)
    height = 10 ** rng.uniform(2.5, 5.0)
    error = height * rng.uniform(0.01, 0.1) * rng.uniform(0.5, 2.0, points)
    colour = 1.0 + rng.normal(0.0, 0.3) * (waves[band] - 6500.0) / 3000.0
    return mjd, band, height * shape * colour + rng.normal(0.0, error), error


def supernovae(points: tuple[int, ...], seed: int) -> LightCurves:
    """Draw one transient per number of points."""
    rng = np.random.default_rng(seed)
    return batch([supernova(n, rng) for n in points])
