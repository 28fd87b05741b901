"""What training sees missing."""

from __future__ import annotations

import numpy as np
import pytest

from broker.models.survey.missing import hide

N = 20_000


def lost(whole: float, *names: str) -> dict[str, np.ndarray]:
    columns = {"flux_u": np.ones(N), "flux_err_u": np.ones(N), "log_mass": np.ones(N), "redshift": np.ones(N)}
    seen = hide(names, whole)(columns, np.random.default_rng(0))
    assert all(np.isfinite(x).all() for x in columns.values())
    return {name: np.isnan(x) for name, x in seen.items()}


def test_a_share_of_the_examples_stays_whole_and_others_lose_anything_from_one_to_all() -> None:
    found = lost(0.6, "flux_u", "log_mass")
    count = found["flux_u"].astype(int) + found["log_mass"]
    # two inputs, each lost with a probability that is uniform: none, one and two are as frequent
    expected = [0.6 + 0.4 / 3, 0.4 / 3, 0.4 / 3]
    np.testing.assert_allclose(np.bincount(count) / N, expected, atol=0.01)
    assert not found["redshift"].any()


def test_an_error_goes_with_what_it_is_the_error_of() -> None:
    found = lost(0.5, "flux_u")
    assert found["flux_u"].mean() == pytest.approx(0.25, abs=0.01)
    np.testing.assert_array_equal(found["flux_err_u"], found["flux_u"])
    assert not found["log_mass"].any()
