from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from broker.models.survey.row import Data, Examples, Pretraining, Row, Training, Variant
from broker.models.survey.trunks_flux import Fluxes
from broker.sidecar.product import Input, Kind

INPUTS = (Input("flux_a", "nJy", required=False), Input("flux_err_a", "nJy", required=False), Input("x"))


def examples(n: int, seed: int, shift: float = 0.0) -> Examples:
    rng = np.random.default_rng(seed)
    x, flux = rng.normal(shift, 1.0, n), rng.lognormal(3.0, 1.0, n)
    columns = {"flux_a": flux, "flux_err_a": 0.1 + 0.05 * flux, "x": x}
    return Examples(columns, np.stack([x + 0.3 * np.log(flux)], axis=1), Data("made", "1", "here"))


def row() -> Row:
    torch = pytest.importorskip("torch", reason="training needs torch")
    assert torch
    from broker.models.survey.heads import Point
    from broker.models.survey.row import Target

    def early(n: int, seed: int, data: Path | None) -> Examples:
        return examples(n, seed)

    return Row(
        id="made",
        summary="",
        papers=(),
        finding="",
        kind=Kind.CATALOG,
        inputs=INPUTS,
        trunk=Fluxes(width=16, depth=2),
        head=Point(hidden=0),
        targets=(Target("y", "", -5.0, 8.0),),
        variants={},
        baselines={},
        judge="posterior",
        training=Training(epochs=1, rate=1e-12, decay=0.0),
        pretraining=Pretraining(Variant(early, n=400), Training(epochs=8, batch=32, rate=1e-2)),
    )


def test_training_starts_from_what_was_learned_before() -> None:
    """With a rate of nothing the answer is that of the pretraining alone, also of examples that lie elsewhere."""
    from broker.models.survey import train

    made, few, asked = row(), examples(60, 5, shift=3.0), examples(50, 6)
    assert made.pretraining is not None
    alone = train.fit(replace(made, pretraining=None, training=made.pretraining.training), examples(400, 0), 0)
    tuned = train.fit(made, few, 0)
    expected = alone.answer(asked.columns).outputs[0].value
    np.testing.assert_allclose(tuned.answer(asked.columns).outputs[0].value, expected, atol=2e-3)
    assert np.std(expected - asked.truth[:, 0]) < 0.8 * np.std(asked.truth)
    moved = train.fit(replace(made, training=Training(epochs=5, batch=16)), few, 0)
    assert np.abs(moved.answer(asked.columns).outputs[0].value - expected).max() > 0.01


def test_fluxes_of_any_sign_are_logarithms_where_they_are_bright() -> None:
    flux = np.array([-5.0, 0.0, 1e-3, 1.0, 1e4, 1e6, np.nan, 3.0])
    err = np.array([1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0])
    prepared = Fluxes().prepare({"flux_a": flux, "flux_err_a": err, "x": np.zeros(8)}, INPUTS)
    values, present = np.split(prepared, 2, axis=1)
    np.testing.assert_array_equal(present[:, 0], [1, 1, 1, 1, 1, 1, 0, 0])
    assert np.all(np.diff(values[:6, 0]) > 0)
    np.testing.assert_allclose(values[4:6, 0], np.log(flux[4:6]), atol=1e-3)
    np.testing.assert_allclose(values[:7, 1], 0.0)
    assert np.all(np.isfinite(prepared))


def test_the_row_without_its_pretraining_is_a_baseline() -> None:
    from broker.models.survey.catalogue.rows.pz_transfer_nb import ROW

    known, asked = (ROW.variants["sim"].make(n, seed, None) for n, seed in ((400, 0), (150, 1)))
    found = ROW.baselines["scratch"](known, 0)(asked.columns)
    assert found.shape == asked.truth.shape
    assert np.sqrt(np.mean((found - asked.truth) ** 2)) < 0.9 * asked.truth.std()
