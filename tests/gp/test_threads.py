"""Threads change the time it takes, nothing else."""

import numpy as np
import pytest

from broker.core.bands import SURVEYS
from broker.core.batch import Interpolated, LightCurves
from broker.gp import interpolate, interpolate_on


@pytest.mark.parametrize("alerts", [0, 3, 150])
def test_threads_give_the_same_bits(alerts: int) -> None:
    rng = np.random.default_rng(alerts)
    offsets = np.concatenate(([0], np.cumsum(rng.integers(0, 40, alerts)))).astype(np.int64)
    total = int(offsets[-1])
    mjd = np.concatenate([np.sort(rng.uniform(60000, 60060, n)) for n in np.diff(offsets)] or [np.empty(0)])
    flux, err = rng.normal(500, 300, total), rng.uniform(20, 60, total)
    curves = LightCurves(offsets, mjd, flux, err, rng.integers(0, 3, total).astype(np.int8), np.zeros(total, np.int8))
    times = np.tile(np.linspace(60000, 60060, 12), (alerts, 1))
    waves = SURVEYS["ztf"].wavelengths_aa
    one, two = interpolate(curves, waves, times), interpolate_on(2, curves, waves, times)
    for name in Interpolated.__slots__:
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
