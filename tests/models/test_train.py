from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from broker.core.taxonomy import RARE
from broker.models.transients import evaluate, examples, exposure, recipes, strange, train
from broker.models.transients.data import Labelled
from broker.models.transients.examples import Examples
from broker.score import Scorer

MakeLabelled = Callable[..., Labelled]
MakeExamples = Callable[..., Examples]


def quiet(*_: object) -> None:
    return


def test_equal_seeds_give_equal_examples_and_the_cache_the_same(labelled: MakeLabelled, tmp_path: Path) -> None:
    objects = labelled(14)
    made = examples.make("lsst", objects, 3, quiet)
    kept = examples.cached("lsst", objects, 3, tmp_path, quiet)
    again = examples.cached("lsst", objects, 3, tmp_path, quiet)
    for other in (kept, again):
        np.testing.assert_array_equal(made.tensors.series, other.tensors.series)
        np.testing.assert_array_equal(made.tensors.scalars, other.tensors.scalars)
        np.testing.assert_array_equal(made.n_detections, other.n_detections)
    whole = made.version == examples.WHOLE
    assert set(made.object_id[whole].tolist()) == set(objects.object_id.tolist())


def test_training_examples_are_the_tensors_that_serving_makes(labelled: MakeLabelled) -> None:
    """One path: an example of a whole curve equals what the scorer's own calls give for that curve."""
    from broker import gp
    from broker.core.bands import SURVEYS
    from broker.score.tensors import build

    objects = labelled(14)
    made = examples.make("lsst", objects, 0, quiet)
    scorer = Scorer.load("lsst", [], None, device="cpu")
    grid = scorer.grid(objects.curves)
    answer = gp.interpolate(grid.curves, SURVEYS["lsst"].wavelengths_aa, grid.times)
    served = build(grid, answer, host_z=objects.host_z, host_z_err=objects.host_z_err)
    whole = made.take(np.flatnonzero(made.version == examples.WHOLE))
    assert whole.object_id.tolist() == objects.object_id.tolist()
    np.testing.assert_array_equal(whole.tensors.series, served.series)
    np.testing.assert_array_equal(whole.tensors.scalars, served.scalars)


def test_folds_are_stratified_and_keep_objects_together(random_examples: MakeExamples) -> None:
    made = random_examples(280)
    twice = made.take(np.concatenate((np.arange(280), np.arange(280))))
    fold = evaluate.folds_of(twice, 5, 0)
    np.testing.assert_array_equal(fold[:280], fold[280:])
    for k in range(5):
        assert np.bincount(made.label[fold[:280] == k], minlength=14).tolist() == [4] * 14


@pytest.mark.parametrize(
    "recipe",
    [
        train.Recipe("gru", epochs=3, batch=20),
        train.Recipe("supernnova", epochs=3, batch=20, perturb="moss", share=0.7),
    ],
    ids=["gru", "supernnova"],
)
def test_a_stopped_training_goes_on_to_the_same_weights(
    recipe: train.Recipe, random_examples: MakeExamples, tmp_path: Path
) -> None:
    made = random_examples(60)
    straight = train.fit(made, recipe, tmp_path / "a.pt", quiet)

    class Stopped(Exception):
        pass

    def stop(epoch: int, _: float) -> None:
        if epoch == 2:
            raise Stopped

    with pytest.raises(Stopped):
        train.fit(made, recipe, tmp_path / "b.pt", stop)
    resumed = train.fit(made, recipe, tmp_path / "b.pt", quiet)
    for one, other in zip(straight.parameters(), resumed.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_the_focal_loss_by_hand() -> None:
    logits = torch.tensor([[[2.0, 0.0], [0.0, 1.0]]])  # one example, two heads, two classes
    label, weight, votes = torch.tensor([0]), torch.tensor([1.5]), torch.tensor([[1.0, 2.0]])
    p = logits.softmax(dim=2)[0, :, 0]
    expected = (-p.log() * (1 - p) ** 2 * votes[0]).mean() * 1.5
    assert train._loss(logits, label, weight, votes, 2.0).item() == pytest.approx(expected.item())
    plain = (-p.log() * votes[0]).mean() * 1.5
    assert train._loss(logits, label, weight, votes, 0.0).item() == pytest.approx(plain.item())


def test_training_begins_with_given_weights(random_examples: MakeExamples, tmp_path: Path) -> None:
    made = random_examples(40)
    first = train.fit(made, train.Recipe("gru", epochs=1, batch=20, seed=3), tmp_path / "a.pt", quiet)
    still = train.Recipe("gru", epochs=1, batch=20, rate=0.0)
    begun = train.fit(made, still, tmp_path / "b.pt", quiet, begin=first.state_dict())
    for one, other in zip(first.parameters(), begun.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_a_column_that_is_never_known_is_no_nan(random_examples: MakeExamples, tmp_path: Path) -> None:
    made = random_examples(40)
    scalars = made.tensors.scalars.copy()
    scalars[:, 1] = np.nan
    made = dataclasses.replace(made, tensors=dataclasses.replace(made.tensors, scalars=scalars))
    network = train.fit(made, train.Recipe("gru", epochs=1, batch=20), tmp_path / "a.pt", quiet)
    assert np.isfinite(train.predict(network, made, True)).all()


def test_a_classifier_learns_what_can_be_learnt(random_examples: MakeExamples, tmp_path: Path) -> None:
    made = random_examples(420)
    scalars = made.tensors.scalars.copy()
    scalars[:, 0] = made.label
    tensors = dataclasses.replace(made.tensors, scalars=scalars)
    made = dataclasses.replace(made, tensors=tensors)
    network = train.fit(made, train.Recipe("gru", epochs=25, batch=60, rate=0.01), tmp_path / "a.pt", quiet)
    guess = train.predict(network, made, host=True).mean(axis=1).argmax(axis=1)
    # The scalars' noise of 0.05 standard deviations keeps it from certainty; chance is 1 / 14.
    assert (guess == made.label).mean() > 0.6


def test_predictions_without_host_do_not_see_it(random_examples: MakeExamples, tmp_path: Path) -> None:
    made = random_examples(40)
    network = train.fit(made, train.Recipe("gru", epochs=1, batch=20), tmp_path / "a.pt", quiet)
    scalars = made.tensors.scalars.copy()
    scalars[:, -5:] = 1.0
    other = dataclasses.replace(made, tensors=dataclasses.replace(made.tensors, scalars=scalars))
    np.testing.assert_array_equal(train.predict(network, made, False), train.predict(network, other, False))
    assert not np.array_equal(train.predict(network, made, True), train.predict(network, other, True))


def test_area_under_the_curve_is_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    positive = rng.random(500) < 0.3
    for score in (rng.random(500) + positive, np.round(3 * rng.random(500) + positive)):
        assert evaluate.area_under_curve(score, positive) == pytest.approx(roc_auc_score(positive, score))


def test_recall_at_a_false_positive_rate() -> None:
    score = np.concatenate((np.arange(100.0), [95.5, 50.0, 200.0, 89.0]))
    positive = np.arange(104) >= 100
    assert evaluate.recall_at(score, positive, 0.1) == 0.5


def test_the_anomaly_score_sees_no_rare_object(
    labelled: MakeLabelled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever rare objects look like, judge, forest and ranks stay the same."""
    monkeypatch.setattr(exposure, "AIM", 60)
    monkeypatch.setattr(exposure, "TREES", 10)
    fitted = []
    objects = labelled(42)
    for k, factor in enumerate((1.0, -3.0)):
        rare = np.repeat(exposure.member(objects.label, RARE), objects.curves.counts)
        flux = np.where(rare, factor * objects.curves.flux_njy, objects.curves.flux_njy)
        changed = dataclasses.replace(objects, curves=dataclasses.replace(objects.curves, flux_njy=flux))
        task = exposure.Task("lsst", 0, 1, tmp_path / str(k), quiet)
        made = strange.usable(examples.make("lsst", changed, 0, quiet))
        known, judged = strange.split(made, 0, 0)
        assert not exposure.member(known.label, RARE).any()
        assert not set(known.object_id) & set(judged.object_id)
        fitted.append(strange.fit(changed, known, task, "half0"))
    np.testing.assert_array_equal(fitted[0].models.judge.value, fitted[1].models.judge.value)
    np.testing.assert_array_equal(fitted[0].models.forest.value, fitted[1].models.forest.value)
    np.testing.assert_array_equal(fitted[0].ranks.combined, fitted[1].ranks.combined)


@pytest.mark.parametrize("name", ["lsst-gru", "lsst-supernnova", "lsst-anomaly", "lsst-agn-anomaly"])
def test_train_writes_a_model_that_loads(
    name: str, labelled: MakeLabelled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.models.transients.data.load", lambda _: labelled(70))
    monkeypatch.setattr(exposure, "AIM", 60)
    monkeypatch.setattr(exposure, "TREES", 10)
    options = recipes.Options(tmp_path, tmp_path / "cache", tmp_path / "models", epochs=1, folds=2)
    card = recipes.run(name, options, quiet)
    assert card.metrics
    assert card.weights.bytes > 0
    assert card.training.command == f"tocsin train {name} --seed 0 --epochs 1 --folds 2"
    classifiers = [name] if card.kind == "classifier" else []
    anomaly = name if card.kind == "anomaly" else None
    scorer = Scorer.load("lsst", classifiers, anomaly, device="cpu", root=tmp_path / "models")
    assert scorer.rule == card.rule
