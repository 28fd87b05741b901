"""What every scorer must keep, run for every model in the tree."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from broker.core.batch import Interpolated, LightCurves
from broker.core.errors import TocsinError
from broker.score import GridRequest, Scorer
from broker.score import card as cards
from broker.score.anomaly import Anomaly
from broker.score.classify import Classifier
from broker.score.scorer import choose_device

Curves = Callable[..., LightCurves]
Smooth = Callable[[GridRequest, str], Interpolated]

NAMES = cards.available()


def load(name: str, root: Path | None = None, **options: int) -> Scorer:
    card = cards.read(name, root)
    if card.kind == "classifier":
        return Scorer.load(card.survey, [name], None, device="cpu", root=root, **options)
    return Scorer.load(card.survey, [], name, device="cpu", root=root, **options)


def numbers(scorer: Scorer, grid: GridRequest, answer: Interpolated) -> tuple[np.ndarray, list[str]]:
    """Return all that a scorer publishes (A, columns) and its reasons."""
    scores = scorer(grid, answer)
    if scores.anomaly is None:
        (one,) = scores.classifiers
        return np.concatenate((one.probabilities, one.uncertainty), axis=1), one.reason
    columns = (scores.anomaly.score, *scores.anomaly.parts.values())
    return np.stack(columns, axis=1), scores.anomaly.reason


def rows(answer: Interpolated, index: np.ndarray) -> Interpolated:
    return Interpolated(*(getattr(answer, f.name)[index] for f in dataclasses.fields(Interpolated)))


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_the_six_models_of_the_default_configuration_are_in_the_tree() -> None:
    expected = {f"{survey}-{kind}" for survey in ("lsst", "ztf") for kind in ("gru", "transformer", "anomaly")}
    assert expected <= set(NAMES)


def test_an_empty_batch_gives_empty_scores(name: str, make_curves: Curves, smooth: Smooth) -> None:
    scorer = load(name)
    grid = scorer.grid(make_curves(0, scorer.survey))
    values, reason = numbers(scorer, grid, smooth(grid, scorer.survey))
    assert len(values) == 0
    assert reason == []


def test_rows_depend_on_no_neighbour_and_no_order(name: str, make_curves: Curves, smooth: Smooth) -> None:
    scorer = load(name)
    curves = make_curves(60, scorer.survey)
    grid = scorer.grid(curves)
    answer = smooth(grid, scorer.survey)
    together, reasons = numbers(scorer, grid, answer)
    order = np.random.default_rng(1).permutation(60)
    permuted, permuted_reasons = numbers(scorer, scorer.grid(curves.take(order)), rows(answer, order))
    np.testing.assert_allclose(permuted, together[order], atol=1e-5, rtol=1e-5)
    assert permuted_reasons == [reasons[i] for i in order]
    for i in (0, 17, 59):
        alone, _ = numbers(scorer, scorer.grid(curves.take(np.array([i]))), rows(answer, np.array([i])))
        np.testing.assert_allclose(alone[0], together[i], atol=1e-5, rtol=1e-5)


def test_the_same_input_twice_gives_the_same_output(name: str, make_curves: Curves, smooth: Smooth) -> None:
    scorer, again = load(name), load(name)
    grid = scorer.grid(make_curves(20, scorer.survey))
    answer = smooth(grid, scorer.survey)
    np.testing.assert_array_equal(numbers(scorer, grid, answer)[0], numbers(again, grid, answer)[0])


def test_what_lies_where_no_data_are_does_not_matter(name: str, make_curves: Curves, smooth: Smooth) -> None:
    """Padding is known from the mask alone: grid times without data may hold anything finite."""
    scorer = load(name)
    grid = scorer.grid(make_curves(30, scorer.survey))
    tensors_before = smooth(grid, scorer.survey)
    assert (~grid.mask).any()
    model = scorer.classifiers[0] if scorer.classifiers else scorer.anomaly
    assert model is not None
    from broker.score.tensors import build, without_host

    tensors = build(grid, tensors_before)
    tensors = tensors if scorer.classifiers else without_host(tensors)
    wild = tensors.series.copy()
    wild[~grid.mask, :-2] = 3.0  # the two channels of time stay: they are no data
    changed = dataclasses.replace(tensors, series=wild)
    a, b = (model.score(t, grid.n_detections, 1) for t in (tensors, changed))
    if isinstance(model, Classifier):
        np.testing.assert_allclose(a.probabilities, b.probabilities, atol=1e-6)  # type: ignore[union-attr]
    else:
        np.testing.assert_allclose(a.parts["forest"], b.parts["forest"], atol=1e-6)  # type: ignore[union-attr]
        np.testing.assert_allclose(a.parts["reconstruction"], b.parts["reconstruction"], rtol=1e-4)  # type: ignore[union-attr]


def test_numbers_that_are_not_finite_give_a_reason_and_hurt_no_neighbour(
    name: str, make_curves: Curves, smooth: Smooth
) -> None:
    scorer = load(name)
    grid = scorer.grid(make_curves(12, scorer.survey, at_least=20))
    answer = smooth(grid, scorer.survey)
    good, reasons = numbers(scorer, grid, answer)
    scored = [r == "" for r in reasons]
    flux, variance, scale = answer.flux.copy(), answer.variance.copy(), answer.time_scale_d.copy()
    flux[2, 0, 3], variance[5, -1, -1], scale[7] = np.nan, np.inf, np.nan
    bad = dataclasses.replace(answer, flux=flux, variance=variance, time_scale_d=scale)
    values, reason = numbers(scorer, grid, bad)
    assert all(scored[i] for i in (2, 5, 7)), "the test needs rows that are scored when finite"
    assert [reason[i] for i in (2, 5, 7)] == ["bad_fit"] * 3
    assert np.isnan(values[[2, 5, 7]]).all()
    others = [i for i in range(12) if i not in (2, 5, 7)]
    np.testing.assert_allclose(values[others], good[others], atol=1e-6)


def test_too_few_detections_are_said_and_never_scored(name: str, make_curves: Curves, smooth: Smooth) -> None:
    scorer = load(name, min_detections_classify=9, min_detections_anomaly=9)
    grid = scorer.grid(make_curves(40, scorer.survey))
    values, reason = numbers(scorer, grid, smooth(grid, scorer.survey))
    few = grid.n_detections < 9
    assert few.any()
    assert not few.all()
    assert [r == "too_few_detections" for r in reason] == few.tolist()
    assert np.isnan(values[few]).all()
    assert np.isfinite(values[~few]).all()


def test_probabilities_sum_to_one_and_ranks_lie_in_0_1(name: str, make_curves: Curves, smooth: Smooth) -> None:
    scorer = load(name)
    grid = scorer.grid(make_curves(40, scorer.survey))
    scores = scorer(grid, smooth(grid, scorer.survey))
    if scores.anomaly is None:
        scored = np.array([r == "" for r in scores.classifiers[0].reason])
        p = scores.classifiers[0].probabilities[scored]
        np.testing.assert_allclose(p.sum(axis=1), 1.0, atol=1e-5)
        assert (scores.classifiers[0].uncertainty[scored] >= 0).all()
    else:
        rank = scores.anomaly.score[np.array([r == "" for r in scores.anomaly.reason])]
        assert len(rank)
        assert ((rank >= 0) & (rank <= 1)).all()


def test_a_single_point_is_scored_or_has_a_reason(name: str) -> None:
    scorer = load(name)
    one = LightCurves(np.array([0, 1]), np.array([6e4]), np.array([9e4]), np.array([1e3]), *np.zeros((2, 1), np.int8))
    grid = scorer.grid(one)
    shape = (1, len(cards.read(name).bands), grid.times.shape[1])
    flat, ones = np.ones(shape, np.float32), np.ones(1)
    values, reason = numbers(scorer, grid, Interpolated(grid.times, 9e4 * flat, 1e6 * flat, 9e4 * ones, ones, -ones))
    assert reason == ["" if scorer.classifiers else "too_few_detections"]
    assert np.isfinite(values).all() == bool(scorer.classifiers)


def test_the_card_comes_back_as_it_was_written(name: str, tmp_path: Path) -> None:
    card = cards.read(name)
    cards.write(card, cards.read_weights(card), tmp_path)
    assert cards.read(name, tmp_path) == card
    assert cards.read(name, tmp_path).to_json() == (cards.folder(name) / cards.CARD_FILE).read_text()


def test_other_weights_are_refused(name: str, tmp_path: Path) -> None:
    place = tmp_path / name
    shutil.copytree(cards.folder(name), place)
    data = bytearray((place / cards.WEIGHTS_FILE).read_bytes())
    data[-1] ^= 1
    (place / cards.WEIGHTS_FILE).write_bytes(data)
    with pytest.raises(TocsinError, match="SHA-256"):
        load(name, tmp_path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"bands": ["g", "r"]}, "bands"),
        ({"zero_point": 27.5}, "zero_point"),
        ({"schema_version": 2}, "schema_version"),
        ({"surprise": 1}, "surprise"),
        ({"channels": []}, "channels"),
        ({"scalars": ["log_scale"]}, "scalars"),
        ({"classes": [{"id": 1, "name": "x", "prior": 1.0}]}, "classes"),
        ({"config": {"channels": 3}}, "the weights do not fit"),
        ({"calibration": {"method": "none", "temperature": 0.0, "fitted_on": ""}}, "temperature"),
        ({"network": "perceptron"}, "no network is called"),
        ({"name": "other"}, "name"),
    ],
)
def test_a_card_that_does_not_fit_is_refused(name: str, change: dict[str, object], says: str, tmp_path: Path) -> None:
    place = tmp_path / name
    shutil.copytree(cards.folder(name), place)
    values = json.loads((place / cards.CARD_FILE).read_text())
    (place / cards.CARD_FILE).write_text(json.dumps({**values, **change}))
    with pytest.raises(TocsinError, match=says):
        load(name, tmp_path)


def test_forest_inputs_of_other_names_are_refused(tmp_path: Path) -> None:
    shutil.copytree(cards.folder("ztf-anomaly"), tmp_path / "ztf-anomaly")
    path = tmp_path / "ztf-anomaly" / cards.CARD_FILE
    values = json.loads(path.read_text())
    values["forest_inputs"][0] = "latent_9"
    path.write_text(json.dumps(values))
    with pytest.raises(TocsinError, match="forest_inputs"):
        Anomaly.load("ztf-anomaly", torch.device("cpu"), tmp_path)


def test_classes_in_another_order_are_refused(tmp_path: Path) -> None:
    shutil.copytree(cards.folder("lsst-gru"), tmp_path / "lsst-gru")
    path = tmp_path / "lsst-gru" / cards.CARD_FILE
    values = json.loads(path.read_text())
    values["classes"].reverse()
    path.write_text(json.dumps(values))
    with pytest.raises(TocsinError, match="classes"):
        cards.read("lsst-gru", tmp_path)


def test_a_model_of_another_survey_or_kind_is_refused() -> None:
    with pytest.raises(TocsinError, match="is for ztf, not for lsst"):
        Scorer.load("lsst", ["ztf-gru"], None, device="cpu")
    with pytest.raises(TocsinError, match="no anomaly score"):
        Anomaly.load("lsst-gru", torch.device("cpu"))
    with pytest.raises(TocsinError, match="no classifier"):
        Classifier.load("lsst-anomaly", torch.device("cpu"))
    with pytest.raises(TocsinError, match="no model is called"):
        Scorer.load("lsst", ["nothing"], None, device="cpu")


def test_a_gpu_that_is_not_there_is_said() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(TocsinError, match="no GPU"):
        Scorer.load("lsst", ["lsst-gru"], None, device="cuda")


@pytest.mark.parametrize(
    ("name", "there", "chosen"), [("auto", True, "cuda"), ("auto", False, "cpu"), ("cpu", True, "cpu")]
)
def test_the_device_is_a_setting(monkeypatch: pytest.MonkeyPatch, name: str, there: bool, chosen: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    assert choose_device(name).type == chosen
    assert torch.backends.cudnn.allow_tf32 == (chosen == "cpu")


@pytest.mark.gpu
def test_the_gpu_gives_the_same_numbers(name: str, make_curves: Curves, smooth: Smooth) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no GPU here")
    scorer = load(name)
    cuda = choose_device("cuda")
    if scorer.classifiers:
        other = dataclasses.replace(scorer, classifiers=(Classifier.load(name, cuda),))
    else:
        other = dataclasses.replace(scorer, anomaly=Anomaly.load(name, cuda))
    grid = scorer.grid(make_curves(40, scorer.survey))
    answer = smooth(grid, scorer.survey)
    np.testing.assert_allclose(numbers(other, grid, answer)[0], numbers(scorer, grid, answer)[0], atol=1e-4, rtol=1e-3)
