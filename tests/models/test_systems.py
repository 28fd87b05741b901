from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from broker.core.batch import Kind
from broker.core.taxonomy import CLASSES
from broker.models.networks import NETWORKS
from broker.models.transients import augment, spm, train
from broker.models.transients.data import Labelled
from broker.models.transients.protocols import members, systems
from broker.models.transients.protocols.unit import Context, Unit

MakeLabelled = Callable[..., Labelled]


def quiet(*_: object) -> None:
    return


def test_the_shape_has_the_times_it_was_given() -> None:
    days = np.linspace(-30, 200, 2301)
    full = [np.full(len(days), value) for value in (3.0, 25.0, 0.0, 0.0)]
    flux = spm.shape(days, *full)
    assert flux[np.argmin(np.abs(days))] == pytest.approx(0.5)
    late = days > 60  # the logistic is over: an exponential is left
    np.testing.assert_allclose(np.log(flux[late]), -days[late] / 25.0, atol=1e-6)
    early = days < -20
    np.testing.assert_allclose(np.log(flux[early]), days[early] / 3.0, atol=2e-3)
    plateau = spm.shape(days, full[0], full[1], np.full(len(days), 50.0), np.full(len(days), 0.004))
    assert plateau[np.argmin(np.abs(days - 40))] == pytest.approx(1 - 0.004 * 40, abs=1e-5)
    assert np.abs(np.diff(plateau)).max() < 0.02  # no jump at the plateau's end


def test_hot_is_blue() -> None:
    bands = np.array([3685.0, 9736.0])
    ratio = [np.divide(*spm.black_body(bands, np.full(2, kelvin))) for kelvin in (4_000.0, 25_000.0)]
    # Rayleigh-Jeans: frequency squared.
    assert ratio[1] == pytest.approx((9736 / 3685) ** 2, rel=0.45)
    assert ratio[0] < 0.2
    assert spm.black_body(np.array([spm.REFERENCE_AA]), np.array([9_000.0])) == pytest.approx(1.0)


def test_simulated_objects_have_the_nights_but_not_the_fluxes_of_real_ones(labelled: MakeLabelled) -> None:
    templates = labelled(28)
    made = spm.simulate(templates, 30, np.random.default_rng(0))
    again = spm.simulate(templates, 30, np.random.default_rng(0))
    np.testing.assert_array_equal(made.curves.flux_njy, again.curves.flux_njy)
    assert set(made.curves.mjd.tolist()) <= set(templates.curves.mjd.tolist())
    assert set(made.curves.flux_err_njy.tolist()) <= set(templates.curves.flux_err_njy.tolist())
    assert not set(made.curves.flux_njy.tolist()) & set(templates.curves.flux_njy.tolist())
    assert np.isfinite(made.curves.flux_njy).all()
    for i in range(len(made)):
        assert (made.curves.kind[made.curves.offsets[i] : made.curves.offsets[i + 1]] == Kind.DETECTION).sum() >= 2
    assert {CLASSES[k].slug for k in made.label} <= {family.slug for family in spm.FAMILIES}
    assert (made.host_z > 0).all()


def test_rows_are_networks_that_there_are() -> None:
    assert {system.recipe.network for system in systems.SYSTEMS.values()} <= set(NETWORKS)
    assert {unit.part for unit in systems.units("lstm")} <= set(range(members.FOLDS))


def test_a_row_is_trained_and_judged(labelled: MakeLabelled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    objects = labelled(140)
    louder = 10.0 ** augment.of_points(objects.curves, 0.3 * objects.label)  # brightness tells the class
    curves = replace(
        objects.curves, flux_njy=louder * objects.curves.flux_njy, flux_err_njy=louder * objects.curves.flux_err_njy
    )
    monkeypatch.setattr("broker.models.transients.data.load", lambda _: replace(objects, curves=curves))
    monkeypatch.setattr(systems, "SIMULATED_EACH", 4)
    short = systems.System(train.Recipe("timemod", epochs=4, batch=32, rate=0.01, share=0.15), simulated=1)
    monkeypatch.setitem(systems.SYSTEMS, "timemod", short)
    context = Context(tmp_path, tmp_path / "cache", quiet)
    results = [systems.run(Unit("systems", "timemod", 1, 0), context) for _ in range(2)]
    for result in results:  # the second finds the checkpoints
        metrics = result["metrics"]
        assert np.isfinite(list(metrics.values())).all()
        assert metrics["weights"] > 10_000
        assert metrics["ms_per_alert"] > 0
    assert results[0]["metrics"]["train_seconds"] == results[1]["metrics"]["train_seconds"] > 0
    for name in ("flat_log_loss.host_z", "accuracy.no_host_z"):
        assert results[0]["metrics"][name] == results[1]["metrics"][name]
    drawn = systems.draw({Unit("systems", "timemod", 1, 0): results[0]}, tmp_path)
    assert [(tmp_path / name).stat().st_size > 0 for name, _ in drawn] == [True, True]
