from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from broker.core.batch import Kind, LightCurves
from broker.core.taxonomy import COMMON, RARE
from broker.models.transients import exposure, warp
from broker.models.transients.data import Labelled
from broker.models.transients.exposure import Task
from broker.score.anomaly import judge_inputs

MakeLabelled = Callable[..., Labelled]


def quiet(*_: object) -> None:
    return


def bells(n: int = 40) -> LightCurves:
    """Return n Gaussian light curves of width 12 d in ugrizy, errors of 1 % of the peak, a visit a day."""
    mjd = np.tile(np.repeat(60000.0 + np.arange(120.0), 6), n)
    band = np.tile(np.tile(np.arange(6), 120), n).astype(np.int8)
    flux = 1e5 * np.exp(-0.5 * ((mjd - 60060.0) / 12.0) ** 2)
    err = np.full(len(mjd), 1e3)
    kind = np.where(flux > 5 * err, Kind.DETECTION, Kind.FORCED).astype(np.int8)
    return LightCurves(np.arange(n + 1) * 720, mjd, flux, err, band, kind)


@pytest.fixture(scope="module")
def known() -> warp.Known:
    return warp.Known.of("lsst", bells())


def widths(curves: LightCurves) -> np.ndarray:
    """Return days (A,) that r is above half of its largest flux."""
    out = []
    for i in range(len(curves)):
        points = slice(curves.offsets[i], curves.offsets[i + 1])
        r = curves.flux_njy[points][curves.band[points] == 2]
        out.append((r > 0.5 * r.max()).sum())
    return np.array(out)


def colours(curves: LightCurves) -> np.ndarray:
    """Return log10 (A,) of summed flux in u over that in y."""
    out = []
    for i in range(len(curves)):
        points = slice(curves.offsets[i], curves.offsets[i + 1])
        flux, band = curves.flux_njy[points], curves.band[points]
        out.append(np.log10(max(flux[band == 0].sum(), 1.0) / max(flux[band == 5].sum(), 1.0)))
    return np.array(out)


def test_what_is_known_is_the_curve(known: warp.Known) -> None:
    days = np.array([-10.0, 0.0, 10.0])
    rows, bands = np.zeros(3, np.int64), np.full(3, 2)
    np.testing.assert_allclose(known.at(rows, bands, days), 1e5 * np.exp(-0.5 * (days / 12.0) ** 2), rtol=0.05)
    assert known.at(rows[:1], bands[:1], np.array([400.0]))[0] == pytest.approx(0.0, abs=1.0)


def test_ordinary_curves_keep_shape_colour_cadence_and_noise(known: warp.Known) -> None:
    rows = np.arange(40)
    made = warp.observed(known, rows, np.zeros(40, dtype=bool), np.random.default_rng(0))
    np.testing.assert_array_equal(made.mjd, known.curves.mjd)
    np.testing.assert_array_equal(made.band, known.curves.band)
    np.testing.assert_allclose(widths(made), widths(known.curves), rtol=0.35)
    assert np.abs(colours(made)).max() < 0.15
    assert (made.flux_err_njy >= 0.5 * known.curves.flux_err_njy).all()
    assert not np.array_equal(made.flux_njy, known.curves.flux_njy)


def test_warped_curves_are_longer_and_shorter_hotter_and_cooler(known: warp.Known) -> None:
    rows = np.arange(40)
    made = warp.observed(known, rows, np.ones(40, dtype=bool), np.random.default_rng(1))
    ratio = np.log(widths(made) / widths(known.curves))
    assert ratio.min() < -0.7
    assert ratio.max() > 0.7
    assert colours(made).min() < -0.3
    assert colours(made).max() > 0.3
    assert np.isfinite(made.flux_njy).all()


def test_stretches_favour_no_direction() -> None:
    n = 20000
    nothing = np.zeros(0)
    points = warp._Points(
        np.random.default_rng(0), *(np.zeros(0, np.int64),) * 3, nothing, nothing, np.ones(n, dtype=bool)
    )
    rise, decay = warp._stretches(points)
    for factor in (rise, decay):
        assert abs(np.log(factor).mean()) < 0.03
        assert factor.max() < 1.3 * warp.STRETCH


def test_curves_with_limits_have_limits_again(known: warp.Known) -> None:
    old = known.curves.take(np.arange(2))
    kind = np.where(old.kind == Kind.FORCED, Kind.LIMIT, old.kind).astype(np.int8)
    kind[: old.offsets[1]] = old.kind[: old.offsets[1]]
    mixed = LightCurves(old.offsets, old.mjd, old.flux_njy, old.flux_err_njy, old.band, kind)
    made = warp._noisy(mixed, old.flux_njy, "ztf", np.random.default_rng(0))
    assert Kind.LIMIT not in made.kind[: old.offsets[1]]
    assert Kind.FORCED not in made.kind[old.offsets[1] :]
    assert (made.flux_njy[made.kind == Kind.LIMIT] == 0).all()


def test_exposures_come_of_the_given_objects_alone(
    labelled: MakeLabelled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever rare objects look like, what the judge learns from stays the same."""
    objects = labelled(60)
    ordinary = objects.take(np.flatnonzero(exposure.member(objects.label, COMMON)))
    assert not exposure.member(ordinary.label, RARE).any()
    monkeypatch.setattr(exposure, "AIM", 80)
    monkeypatch.setattr(exposure, "TREES", 10)
    task = Task("lsst", 0, 1, tmp_path, quiet)
    made, again = (exposure.make(ordinary, task) for _ in range(2))
    np.testing.assert_array_equal(made.tensors.series, again.tensors.series)
    assert 0.3 < made.warped.mean() < 0.7
    judge = exposure.train(made, task)
    assert np.isfinite(judge.score(judge_inputs(made.tensors))).all()


@pytest.fixture(scope="module")
def everything(labelled: MakeLabelled, tmp_path_factory: pytest.TempPathFactory) -> tuple[exposure.Exposures, Task]:
    """Return what a judge learns from of objects of all classes."""
    task = Task("lsst", 0, 1, tmp_path_factory.mktemp("all"), quiet)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exposure, "AIM", 80)
        return exposure.make(labelled(90), task), task


def test_other_ordinary_classes_are_ordinary_and_few(
    everything: tuple[exposure.Exposures, Task], labelled: MakeLabelled, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, task = everything
    objects = labelled(90)
    monkeypatch.setattr(exposure, "AIM", 80)
    alone = exposure.make(objects.take(np.flatnonzero(exposure.member(objects.label, COMMON))), task)
    more = (~made.warped).sum() - (~alone.warped).sum()
    assert 0 < more < (~alone.warped).sum()
    assert abs(int(made.warped.sum()) - int(alone.warped.sum())) < 0.1 * alone.warped.sum()


def test_the_judge_reads_no_cadence(everything: tuple[exposure.Exposures, Task]) -> None:
    made, task = everything
    judge = exposure.train(made, task)
    before = judge.score(judge_inputs(made.tensors))
    scalars = made.tensors.scalars.copy()
    cadence = [k for k, name in enumerate(task.scalars) if name.startswith(exposure.CADENCE)]
    assert {"log_points", "points_g", "detections_y"} <= {task.scalars[k] for k in cadence}
    scalars[:, cadence] = 99.0
    np.testing.assert_array_equal(judge.score(judge_inputs(replace(made.tensors, scalars=scalars))), before)
    scalars[:] = 99.0
    assert (judge.score(judge_inputs(replace(made.tensors, scalars=scalars))) != before).any()
