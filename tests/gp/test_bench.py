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
    found = bench.measure(sample, lambda done: None)
    assert found["within_1.0"] >= 0.9
    assert found["fast_within_1.5e-3_bars"] >= 0.9
    assert found["float64_relative"] < 1e-6
    assert all(found["ratio"][step] > 5 for step in ("fit", "fit_mean", "fit_mean_variance"))


def test_a_wrong_optimum_shows() -> None:
    sample = bench.plasticc(folder(), 12, 5, "event")
    waves = SURVEYS["lsst"].wavelengths_aa
    best = gp.fit(sample.curves, waves, solver="dense")
    wrong = gp.Fit(3.0 * best.amplitude, best.time_scale_d, best.log_likelihood)
    assert bench._optimum(sample.curves, waves, best, wrong)["within_0.5"] < 0.5


def test_missing_data_is_said(tmp_path: Path) -> None:
    with pytest.raises(TocsinError, match=r"lc\.parquet"):
        bench.plasticc(tmp_path, 4, 1, "event")


def figures(**changed: float) -> dict[str, object]:
    ratio = {step: changed.get(step, 500.0) for step in ("fit", "fit_mean", "fit_mean_variance")}
    rest = {
        "within_0.5": 0.99,
        "worst": -1.0,
        "worse_by_3": 0.0,
        "fast_within_1.5e-3_bars": 1.0,
        "fast_worst_bars": 1e-3,
        "float64_relative": 1e-9,
    }
    return {"ratio": ratio, **{name: changed.get(name, value) for name, value in rest.items()}}


def test_the_worst_of_the_draws_counts() -> None:
    draws = [figures(fit=250.0, worse_by_3=1e-3), figures(fit=300.0, **{"within_0.5": 0.98})]
    found = bench.worst(draws)
    assert found["fit"] == 250.0
    assert found["within_0.5"] == 0.98
    assert found["worse_by_3"] == 1e-3
    assert bench.broken(found, "event") == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("fit", 199.0),
        ("fit_mean", 129.0),
        ("fit_mean_variance", 89.0),
        ("within_0.5", 0.96),
        ("worse_by_3", 2e-3),
        ("fast_within_1.5e-3_bars", 0.98),
        ("float64_relative", 2e-6),
    ],
)
def test_each_floor_can_break(name: str, value: float) -> None:
    broken = bench.broken(bench.worst([figures(), figures(**{name: value})]), "whole")
    assert len(broken) == 1
    assert broken[0].startswith(name)


def test_variance_is_asked_for_more_on_event_windows_and_less_without_avx512() -> None:
    found = bench.worst([figures(fit_mean_variance=100.0)])
    assert bench.broken(found, "whole") == []
    assert len(bench.broken(found, "event")) == 1
    assert bench.broken(found, "event", speed=0.5) == []
