from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from broker.core.taxonomy import CLASSES
from broker.models.transients.data import Labelled
from broker.models.transients.nights import Recipe
from broker.models.transients.protocols import shift, spcc, supernovae
from broker.models.transients.protocols.supernovae import Answers, Task, figures, roc
from broker.models.transients.protocols.unit import Context, Protocol, Unit, write
from broker.models.transients.sky.salt3 import Salt3

N = 90
SMALL = Recipe(epochs=1, batch=32, width=16, layers=1)


def table(n: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """n events of three widths, griz, the first third with spectra."""
    rng = np.random.default_rng(8)
    kind = np.array(["Ia", "Ibc", "II"])[np.arange(n) % 3]
    days = np.arange(56150.0, 56290.0, 5.0)
    obj = np.repeat(np.arange(n) + 100, 4 * len(days))
    mjd, band = np.tile(np.repeat(days, 4), n), np.tile(np.array(list("griz")), n * len(days))
    width = np.repeat(10.0 + 8.0 * (np.arange(n) % 3), 4 * len(days))
    flux = 90.0 * np.exp(-0.5 * ((mjd - 56210.0) / width) ** 2) + 4.0 * rng.standard_normal(len(mjd))
    points = pd.DataFrame({"obj": obj, "mjd": mjd, "band": band, "flux": flux, "fluxerr": 4.0})
    known = np.arange(n) < n // 3
    z = rng.uniform(0.2, 0.5, n)
    columns = {"obj": np.arange(n) + 100, "cls": kind, "in_spec_train": known, "host_photoz": z}
    return points, pd.DataFrame({**columns, "z_spec": np.where(known, z, -9.0)})


@pytest.fixture
def context(tmp_path: Path) -> Context:
    folder = tmp_path / "data" / "spcc"
    folder.mkdir(parents=True)
    points, objects = table(N)
    points.to_parquet(folder / "lc.parquet")
    objects.to_parquet(folder / "objects.parquet")
    return Context(tmp_path / "data", tmp_path / "cache", lambda what, done, total: None)


def test_every_column_of_a_has_its_figure_and_rows_share_their_members(
    context: Context, salt3: Salt3, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(spcc, "RECIPE_A", SMALL)
    monkeypatch.setattr(Salt3, "load", classmethod(lambda cls, cache: salt3))
    monkeypatch.setattr(supernovae, "TREES", 3)
    found = {row: spcc.A.run(Unit("A", row, 0, 1), context) for row in spcc.A.rows}
    for row, result in found.items():
        unit = Unit("A", row, 0, 1)
        write(unit, result, tmp_path)
        assert unit.path(tmp_path).stat().st_size < 30_000
        assert {column.metric for column in spcc.A.columns} <= set(result["metrics"])
    # Four answers lie in the cache: the average made none of its own.
    assert len(list((context.cache / "checkpoints" / "supernovae").glob("*.npz"))) == 4
    drawn = spcc.A.plots({Unit("A", row, 0, 1): r for row, r in found.items()}, tmp_path)
    assert all((tmp_path / name).stat().st_size > 1000 for name, _ in drawn)


@pytest.mark.parametrize("protocol", [spcc.B, spcc.C])
def test_training_holds_no_object_of_the_test(
    protocol: Protocol, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[Task, Labelled]] = []

    def answers(system: str, task: Task, views: Mapping[str, Labelled], _: Context) -> Answers:
        given.append((task, views["whole"]))
        return {"whole.host_z": np.full((len(views["whole"]), 3), 1 / 3)}

    monkeypatch.setattr(spcc, "answers", answers)
    monkeypatch.setattr(spcc, "SMALL", N // 3)
    monkeypatch.setattr(spcc, "POOL", 60)
    for row in protocol.rows:
        protocol.run(Unit(protocol.name, row, 0, 0), context)
    for task, test in given:
        assert len(test) == N - N // 3
        assert not set(task.pool.object_id.tolist()) & set(test.object_id.tolist())
        assert (task.per_epoch > 0) == (len(task.pool) == 60)
    assert {task.per_epoch > 0 for task, _ in given} == {True, False}


def test_figures_are_the_challenges() -> None:
    label = np.array([0, 0, 0, 0, 1, 2, 2, 2])
    p = np.array([[0.9, 0.05, 0.05]] * 3 + [[0.2, 0.5, 0.3]] + [[0.6, 0.2, 0.2]] + [[0.1, 0.1, 0.8]] * 3)
    f = figures(p, label)
    assert f["accuracy"] == 6 / 8
    assert f["purity"] == 3 / 4
    assert f["completeness"] == 3 / 4
    assert f["fom"] == pytest.approx(3 / 4 * 3 / 6)
    assert f["accuracy_three"] == 6 / 8
    assert f["auc"] == pytest.approx(15 / 16)
    rate = roc(p[:, 0], label == 0)
    assert rate[0] == 0.75
    assert rate[-1] == 1.0
    assert (np.diff(rate) >= 0).all()


def test_a_survey_of_few_bands_grows_trees(labelled: type[Labelled], context: Context) -> None:
    objects: Labelled = labelled(60)  # type: ignore[call-arg, arg-type]
    curves = objects.curves.keep((objects.curves.band > 0) & (objects.curves.band < 5))
    objects = replace(objects, curves=curves, label=objects.label % 3)
    task = Task("few bands", objects, SMALL)
    made = supernovae.answers("gbm", task, {"whole": objects}, context)
    assert np.isfinite(made["whole.no_host_z"]).all()
    assert (made["whole.host_z"].argmax(axis=1) == objects.label).mean() > 0.9


def test_types_of_the_test_set_are_the_true_ones(tmp_path: Path) -> None:
    points = pd.DataFrame(
        {
            "object_id": [7.0, 7.0, 9.0],
            "mjd": [59002.0, 59001.0, 59003.0],
            "passband": [1, 5, 2],
            "flux": [100.0, 2.0, 3.0],
            "flux_err": [1.0, 2.0, 3.0],
            "detected_bool": [1, 0, 1],
        }
    )
    objects = pd.DataFrame(
        {
            "object_id": [9.0, 7.0],
            "hostgal_specz": [-9.0, 0.3],
            "hostgal_photoz": [0.5, 0.25],
            "hostgal_photoz_err": [0.1, 0.05],
            "target": [0.0, 0.0],
            "true_target": [42.0, 62.0],
        }
    )
    with zipfile.ZipFile(tmp_path / "set.whl", "w") as archive:
        for name, table_ in {"lightcurves": points, "metadata": objects}.items():
            archive.writestr(f"snmachine/example_data/sniabcii_test_{name}_example.csv", table_.to_csv(index=False))
    # The second time from the tables.
    for _ in range(2):
        found = shift.test_supernovae(tmp_path / "set.whl", tmp_path / "tables")
        assert found.object_id.tolist() == [7, 9]
        assert [CLASSES[k].slug for k in found.label] == ["snibc", "snii"]
        assert found.curves.band.tolist() == [5, 1, 2]
        assert found.host_z.tolist() == [0.25, 0.5]
        (tmp_path / "set.whl").unlink(missing_ok=True)
