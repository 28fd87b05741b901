"""A small labelled set that looks like PLAsTiCC's, and the examples made of it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from broker.core.batch import Floats, Kind, LightCurves
from broker.models.transients.data import Labelled
from broker.models.transients.examples import Examples
from broker.models.transients.sky.salt3 import Salt3
from broker.score.tensors import Tensors

MakeLabelled = Callable[..., Labelled]
MakeExamples = Callable[..., Examples]


@pytest.fixture(scope="session")
def labelled() -> MakeLabelled:
    """Return a maker of n objects: ugrizy, three years, an event in the middle, label i modulo 14."""

    def make(n: int, seed: int = 0) -> Labelled:
        rng = np.random.default_rng(seed)
        counts = rng.integers(60, 200, n)
        alert = np.repeat(np.arange(n), counts)
        mjd = np.concatenate([np.sort(rng.uniform(59600, 60600, c)) for c in counts] + [np.zeros(0)])
        band = rng.integers(0, 6, len(mjd)).astype(np.int8)
        phase = (mjd - 60100) / rng.uniform(20, 80, n)[alert]
        err = rng.uniform(300, 900, len(mjd))
        flux = 3e4 * np.exp(-0.5 * phase**2) + err * rng.standard_normal(len(mjd))
        kind = np.where(np.abs(flux) > 5 * err, Kind.DETECTION, Kind.FORCED).astype(np.int8)
        offsets = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
        label = np.arange(n, dtype=np.int64) % 14
        z = np.where(label < 10, rng.uniform(0.05, 0.8, n), 0.0)
        curves = LightCurves(offsets, mjd, flux, err, band, kind)
        return Labelled(curves, np.arange(n, dtype=np.int64) * 7 + 3, label, z, 0.1 * z, z)

    return make


@pytest.fixture(scope="session")
def random_examples() -> MakeExamples:
    """Return a maker of n examples of noise with labels i modulo 14."""

    def make(n: int, channels: int = 8, scalars: int = 9, seed: int = 0) -> Examples:
        rng = np.random.default_rng(seed)
        values = rng.standard_normal((n, scalars)).astype(np.float32)
        values[rng.random(values.shape) < 0.1] = np.nan
        mask = rng.random((n, 40)) < 0.7
        series = rng.standard_normal((n, 40, channels)).astype(np.float32)
        epochs = rng.standard_normal((n, 12, 8)).astype(np.float32)
        epochs[..., -1] = np.abs(epochs[..., -1])  # no gap is negative
        tensors = Tensors(series, mask, values, np.ones(n, dtype=bool), epochs, rng.random((n, 12)) < 0.7)
        index = np.arange(n, dtype=np.int64)
        return Examples(tensors, index % 14, index, index % 3, np.full(n, 5, np.int64))

    return make


@pytest.fixture(scope="session")
def salt3() -> Salt3:
    """Return a model with SALT3's axes and scale: red light peaks later, x1 stretches, the colour law is bent."""
    phase, wave = np.arange(-20.0, 51.0), np.arange(2000.0, 11001.0, 10.0)
    late, colour = (wave - 4400.0) / 800.0, np.exp(-(((wave - 4500.0) / 2500.0) ** 2))

    def flux(x1: float) -> Floats:
        return np.asarray(colour * np.exp(-0.5 * ((phase[:, None] - late) / (12.0 + x1)) ** 2))

    law = (5428.0 - wave) / 1126.0 + 0.3 * ((wave - 5000.0) / 3000.0) ** 2
    return Salt3(phase, wave, flux(0.0), 0.5 * (flux(1.0) - flux(-1.0)), law)
