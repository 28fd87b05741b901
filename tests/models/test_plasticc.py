from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from broker import gp
from broker.core.bands import SURVEYS
from broker.core.batch import Kind
from broker.models.transients import beginnings, evaluate, examples, recipes
from broker.models.transients.data import Labelled
from broker.models.transients.protocols import boosting, calibration, curves, early, members, plasticc
from broker.models.transients.protocols.unit import Context, write
from broker.score.tensors import HOST
from broker.score.window import GridRule, request

MakeLabelled = Callable[..., Labelled]


def quiet(*_: object) -> None:
    return


@pytest.fixture
def context(labelled: MakeLabelled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Context:
    """Return a context with a small set, few versions of it, and networks that are trained for one epoch."""
    monkeypatch.setattr("broker.models.transients.data.load", lambda _: labelled(70))
    monkeypatch.setattr(examples, "versions_of", lambda label: np.full(len(label), 2))
    short = {name: replace(recipe, epochs=1) for name, recipe in members.RECIPES.items()}
    monkeypatch.setattr(members, "RECIPES", short)
    monkeypatch.setattr(boosting, "TREES", 2)
    return Context(tmp_path, tmp_path / "cache", quiet)


def test_a_fold_is_judged_by_what_was_trained_on_the_others(context: Context) -> None:
    parts = members.split(1, context)
    held = {k: set(parts.held(k).object_id.tolist()) for k in range(members.FOLDS)}
    assert sum(len(ids) for ids in held.values()) == len(set(parts.made.object_id.tolist()))
    for k, ids in held.items():
        assert not ids & set(parts.training(k).object_id.tolist())
        assert not ids & set(parts.grown_on(k).object_id.tolist())
        assert ids == set(parts.held_objects(k).object_id.tolist())


@pytest.mark.parametrize("row", ["gru", "gbm"])
def test_units_leave_finite_results_of_their_protocol(row: str, context: Context, tmp_path: Path) -> None:
    modules = (plasticc, early, calibration) if row in calibration.ROWS else (plasticc,)
    for module in modules:
        unit = module.units(row)[0]
        result = module.run(unit, context)
        write(unit, result, tmp_path)
        assert unit.path(tmp_path).stat().st_size < 30_000
        assert {column.metric for column in module.PROTOCOL.columns} <= set(result["metrics"])
        assert module.PROTOCOL.name in result["command"]
        for name, _ in module.draw({unit: result}, tmp_path):
            assert (tmp_path / name).stat().st_size > 1000


def test_the_protocol_finds_the_folds_of_the_model_that_ships(
    context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examples, "versions_of", lambda label: np.full(len(label), 3))
    options = recipes.Options(context.data, context.cache, tmp_path / "models", seed=plasticc.SEED, folds=1)
    recipes.run("lsst-gru", options, quiet)
    epochs: list[str] = []
    parts = members.split(plasticc.SEED, context)
    told = replace(context, show=lambda what, done, of: epochs.append(what))
    found = members.network(recipes.SAME_AS["lsst-gru"], parts, 0, told)
    assert not epochs  # nothing was trained
    assert members.network(recipes.SAME_AS["lsst-gru"], parts, 1, told) is not found
    assert epochs


def test_the_cut_holds_nothing_of_later_days(labelled: MakeLabelled) -> None:
    objects = labelled(14)
    first = beginnings.first_detection(objects.curves)
    points = objects.curves
    expected = [
        points.mjd[a:b][points.kind[a:b] == Kind.DETECTION].min()
        for a, b in zip(points.offsets[:-1], points.offsets[1:], strict=True)
    ]
    np.testing.assert_array_equal(first, expected)
    late = points.mjd > np.repeat(first, points.counts) + 10.0
    flux = np.where(late, -5.0 * points.flux_njy, points.flux_njy)
    changed = replace(objects, curves=replace(points, flux_njy=flux))
    one, other = early.cut(objects), early.cut(changed)
    for k, day in enumerate(early.DAYS):
        rows = one.version == k
        assert rows.sum() == 14
        assert np.array_equal(one.tensors.series[rows], other.tensors.series[rows]) is (day <= 10)


def test_beginnings_are_of_the_first_weeks(labelled: MakeLabelled, tmp_path: Path) -> None:
    objects = labelled(28)
    made = examples.make("lsst", objects, 0, quiet)
    mine = made.take(np.flatnonzero(made.object_id % 2 == 0))
    more = beginnings.added(mine, objects, 2, 0, tmp_path)
    np.testing.assert_array_equal(more.tensors.series[: len(mine)], mine.tensors.series)
    new = more.take(np.arange(len(mine), len(more)))
    assert set(new.version.tolist()) == {100, 101}
    assert set(new.object_id.tolist()) <= set(mine.object_id.tolist())
    assert new.n_detections.mean() < made.n_detections[made.version == examples.WHOLE].mean()
    again = beginnings.added(mine, objects, 2, 0, tmp_path)  # out of the cache
    np.testing.assert_array_equal(more.tensors.series, again.tensors.series)


def test_without_host_the_trees_see_none_of_it(labelled: MakeLabelled) -> None:
    made = examples.make("lsst", labelled(14), 0, quiet)
    scalars = made.tensors.scalars.copy()
    scalars[:, -len(HOST) :] = 7.0
    other = replace(made.tensors, scalars=scalars)
    np.testing.assert_array_equal(boosting.features(made.tensors, False), boosting.features(other, False))
    assert not np.array_equal(boosting.features(made.tensors, True), boosting.features(other, True))


def test_a_blend_weighs_its_members_alike(context: Context) -> None:
    parts = members.split(1, context)
    held = parts.held(0)
    p = {row: members.heads(row, parts, 0, held, True, context).mean(axis=1) for row in ("gru", "gbm", "transformer")}
    blend = members.heads("average+gbm", parts, 0, held, True, context).mean(axis=1)
    np.testing.assert_allclose(blend, np.mean(list(p.values()), axis=0), rtol=1e-6)


def test_figures_are_those_of_scikit_learn() -> None:
    from sklearn.metrics import log_loss, roc_auc_score

    rng = np.random.default_rng(0)
    label = np.arange(280) % 14
    p = rng.dirichlet(np.ones(14), 280) + 0.3 * np.eye(14)[label]
    p /= p.sum(axis=1, keepdims=True)
    found = plasticc.figures(p, label)
    assert found["flat_log_loss"] == pytest.approx(log_loss(label, p))
    weights = plasticc.KAGGLE[label]
    assert found["kaggle_log_loss"] == pytest.approx(log_loss(label, p, sample_weight=weights))
    assert found["macro_auc"] == pytest.approx(roc_auc_score(np.eye(14)[label], p, average="macro"))


def test_errors_by_uncertainty_and_confusion() -> None:
    wrong, doubt = np.array([True, False, False, False]), np.array([0.9, 0.1, 0.2, 0.3])
    assert evaluate.share_by_quantile(wrong, doubt, 2) == [0.0, 0.5]
    assert evaluate.confusion(np.array([0, 1, 1]), np.array([0, 0, 1]), 2).tolist() == [[1, 1], [0, 1]]
    each = np.array([[[0.9, 0.1], [0.5, 0.5]]])
    assert evaluate.spread_of_top(each)[0] == pytest.approx(np.std([0.9, 0.5], ddof=1))


def test_the_misfit_of_a_curve_is_of_its_points(labelled: MakeLabelled) -> None:
    """Nothing where the mean passes through the points; every point moved by 3 errors gives 9."""
    grid = request(labelled(14).curves, GridRule())
    answer = gp.interpolate(grid.curves, SURVEYS["lsst"].wavelengths_aa, grid.times)
    points = grid.curves
    moved = replace(points, flux_njy=np.mean(answer.flux) + 0.0 * points.flux_njy)
    flat = replace(answer, flux=np.full_like(answer.flux, np.mean(answer.flux)))
    np.testing.assert_allclose(curves.misfit(moved, grid.times, flat), 0.0, atol=1e-6)
    shifted = replace(moved, flux_njy=moved.flux_njy + 3.0 * moved.flux_err_njy)
    np.testing.assert_allclose(curves.misfit(shifted, grid.times, flat), 9.0, rtol=1e-3)


def test_examples_are_drawn_from_the_result(context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curves, "POINTS", (3, 500))
    unit = curves.units("gp")[0]
    result = curves.run(unit, context)
    assert set(result["curves"]) == set(curves.SHOWN)
    write(unit, result, tmp_path)
    assert unit.path(tmp_path).stat().st_size < 40_000
    ((name, _),) = curves.draw({unit: result}, tmp_path)
    assert (tmp_path / name).stat().st_size > 10_000
