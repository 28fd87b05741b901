"""The bench draws the set that it says, and its figures would show a wrong solver."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from broker import gp
from broker.core.bands import SURVEYS
from broker.core.errors import TocsinError
from broker.gp import bench

parquet = pytest.importorskip("pyarrow.parquet")
pytest.importorskip("george")


def folder() -> Path:
    root = os.environ.get("TOCSIN_TEST_DATA")
    if not root:
        pytest.skip("TOCSIN_TEST_DATA is not set")
    return Path(root) / "lightcurves" / "plasticc"


def test_draw_is_three_to_one_seeded_and_windowed() -> None:
    sample = bench.plasticc(folder(), 40, 3, "event")
    classes = parquet.read_table(folder() / "objects.parquet", columns=["obj", "cls"]).to_pydict()
    of = dict(zip(classes["obj"], classes["cls"], strict=True))
    assert sum(of[obj] in bench.SN_LIKE for obj in sample.objects.tolist()) == 30
    again = bench.plasticc(folder(), 40, 3, "event")
    np.testing.assert_array_equal(sample.objects, again.objects)
    np.testing.assert_array_equal(sample.curves.flux_njy, again.curves.flux_njy)
    whole = bench.plasticc(folder(), 40, 3, "whole")
    assert np.all(whole.curves.counts >= sample.curves.counts)
    assert set(whole.objects.tolist()) == set(sample.objects.tolist())


def test_figures_are_whole_and_within_reason() -> None:
    sample = bench.plasticc(folder(), 12, 4, "event")
    figures = bench.measure(sample, lambda line: None)
    assert figures["within_1.0"] >= 0.9
    assert figures["fast_within_1.5e-3_bars"] >= 0.9
    assert figures["float64_relative"] < 1e-6
    assert all(figures["ratio"][step] > 5 for step in ("fit", "fit_mean", "fit_mean_variance"))


def test_a_wrong_optimum_shows() -> None:
    sample = bench.plasticc(folder(), 12, 5, "event")
    waves = SURVEYS["lsst"].wavelengths_aa
    best = gp.fit(sample.curves, waves, solver="dense")
    wrong = gp.Fit(3.0 * best.amplitude, best.time_scale_d, best.log_likelihood)
    assert bench._optimum(sample.curves, waves, best, wrong)["within_0.5"] < 0.5


def test_missing_data_is_said(tmp_path: Path) -> None:
    with pytest.raises(TocsinError, match=r"lc\.parquet"):
        bench.plasticc(tmp_path, 4, 1, "event")
