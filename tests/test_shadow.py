"""A candidate beside the live models: published apart, and whatever it does, no live byte changes."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save

from broker.archive import simulate
from broker.cli import assemble, candidates
from broker.core import schemas
from broker.core.batch import ClassScores, FilePacket, Ints, PacketBatch
from broker.core.config import Settings, load
from broker.core.errors import TocsinError
from broker.core.metrics import Recorded
from broker.core.outcomes import Outcomes, Record
from broker.pipeline import Pipeline
from broker.score import GridRule, Scorer, Shadow
from broker.score import card as cards
from broker.score.classify import Classifier
from broker.score.tensors import Tensors

GRU = "tocsin.shadow.ztf-gru.ztf"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("cache")
    simulate.install_schema(folder / "schemas")
    return load(None, {"run.cache_dir": folder})


@pytest.fixture(scope="module")
def retrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder outside the tree with a GRU of other weights."""
    root = tmp_path_factory.mktemp("candidates")
    card = cards.read("ztf-gru")
    generator = torch.Generator().manual_seed(0)
    weights = load_file(cards.folder("ztf-gru") / cards.WEIGHTS_FILE)
    moved = {name: w + 0.02 * torch.randn(w.shape, generator=generator) * w.std() for name, w in weights.items()}
    return cards.write(card, save({name: w if w.ndim < 2 else moved[name] for name, w in weights.items()}), root)


@pytest.fixture(scope="module")
def packets() -> PacketBatch:
    """Return 96 ZTF and 16 Rubin packets."""
    values = [p.value for survey, n in (("ztf", 96), ("lsst", 16)) for p in simulate.night(survey, n, 3)]
    return assemble.batch_of([FilePacket("night", i, value) for i, value in enumerate(values)])


def made(settings: Settings, shadows: dict[str, list[Shadow]]) -> Pipeline:
    return replace(assemble.pipeline(settings, Recorded(), shadows=shadows), clock_ms=lambda: 1_700_000_000_000)


def loaded(settings: Settings, *models: object) -> dict[str, list[Shadow]]:
    score = settings.score.model_copy(update={"shadow": [str(model) for model in models]})
    return candidates.shadows(settings.model_copy(update={"score": score}))


def live(outcomes: Outcomes) -> list[Record]:
    return [record for record in outcomes.records if ".shadow." not in record.topic]


def on(outcomes: Outcomes, topic: str) -> dict[int, Any]:
    found = [r for r in outcomes.records if r.topic == topic]
    return {r.row: schemas.decode(r.value, list(r.headers), "annotation") for r in found}


def probabilities(annotation: Any) -> list[list[float]]:
    return [[e["probability"] for e in c["classifications"]] for c in annotation["classifiers"]]


def test_live_bytes_are_the_same_with_and_without_shadows(
    settings: Settings, retrained: Path, packets: PacketBatch
) -> None:
    alone = made(settings, {})(packets)
    beside = made(settings, loaded(settings, retrained, "ztf-anomaly,ztf-transformer", "lsst-gru"))(packets)
    assert live(beside) == alone.records
    np.testing.assert_array_equal(alone.code, beside.code)
    assert alone.reason == beside.reason
    assert live(alone) != beside.records


def test_a_shadow_says_of_every_annotated_alert_what_its_models_say(
    settings: Settings, retrained: Path, packets: PacketBatch
) -> None:
    outcomes = made(settings, loaded(settings, retrained))(packets)
    judged = on(outcomes, GRU)
    annotated = on(outcomes, "tocsin.ztf.all")
    assert judged.keys() == annotated.keys()
    expected = on(made(candidates.with_models(settings, str(retrained)), {})(packets), "tocsin.ztf.all")
    assert judged == expected  # as it would be if it were live: other classifiers gone, the same anomaly score
    assert any(probabilities(judged[row]) != probabilities(annotated[row])[:1] for row in judged)


@pytest.mark.parametrize(("name", "reason"), [("raises", "shadow_failed"), ("answers NaN", "bad_fit")])
def test_a_shadow_that_fails_says_why_and_hurts_nobody(
    settings: Settings, packets: PacketBatch, name: str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    shadows = loaded(settings, "ztf-gru", "ztf-transformer")
    broken = shadows["ztf"][0].scorer.classifiers[0]
    network = Raises() if name == "raises" else AnswersNaN(broken.network)
    scorer = replace(shadows["ztf"][0].scorer, classifiers=(replace(broken, network=network),))
    shadows["ztf"][0] = Shadow("ztf-gru", scorer)
    step = made(settings, shadows)
    outcomes = step(packets)
    assert live(outcomes) == made(settings, {})(packets).records
    failed = [a for a in on(outcomes, GRU).values() if a["classifiers"][0]["reason"] == reason]
    assert len(failed) > 40
    assert not any(c["classifications"] for a in failed for c in a["classifiers"])
    assert not any(reason in str(a) for a in on(outcomes, "tocsin.shadow.ztf-transformer.ztf").values())
    metrics = step.metrics
    assert isinstance(metrics, Recorded)
    assert not metrics.counters  # not before the commit
    step.committed(packets, outcomes)
    counted = {dict(key[1])["reason"]: n for key, n in metrics.counters.items() if key[0] == "shadow_failed_total"}
    assert counted == {reason: len(failed)}
    step(packets)
    said = [record for record in caplog.records if "the shadow ztf-gru failed" in record.getMessage()]
    assert len(said) == (name == "raises")  # once for a kind of error, however many batches
    assert all("the candidate's own bug" in str(record.exc_info) for record in said)


def test_an_answer_of_another_width_than_its_card_says_is_a_failure(settings: Settings, packets: PacketBatch) -> None:
    shadows = loaded(settings, "ztf-gru")
    (true,) = shadows["ztf"][0].scorer.classifiers
    scorer = replace(shadows["ztf"][0].scorer, classifiers=(Narrow(true),))  # type: ignore[arg-type]
    outcomes = made(settings, {"ztf": [Shadow("ztf-gru", scorer)]})(packets)
    assert live(outcomes) == made(settings, {})(packets).records
    assert {c["reason"] for a in on(outcomes, GRU).values() for c in a["classifiers"]} >= {"shadow_failed"}


def test_a_candidate_with_a_grid_of_its_own_is_interpolated_on_it(settings: Settings, packets: PacketBatch) -> None:
    shadows = loaded(settings, "ztf-gru")
    other = replace(shadows["ztf"][0].scorer, rule=GridRule(points=40, before_d=30.0))
    outcomes = made(settings, {"ztf": [Shadow("ztf-gru", other)]})(packets)
    assert live(outcomes) == made(settings, {})(packets).records
    answers = on(outcomes, GRU)
    expected = made(settings, {})
    expected.scorers["ztf"] = replace(expected.scorers["ztf"], rule=other.rule)
    for row, annotation in on(expected(packets), "tocsin.ztf.all").items():
        assert probabilities(answers[row]) == probabilities(annotation)[:1]


def test_a_first_model_can_be_tried_where_none_is_live(settings: Settings, packets: PacketBatch) -> None:
    score = settings.score.model_copy(update={"classifiers": {}, "anomaly": {}})
    outcomes = made(settings.model_copy(update={"score": score}), loaded(settings, "ztf-gru"))(packets)
    assert {a["unscoredReason"] for a in on(outcomes, "tocsin.ztf.all").values()} >= {"no_model"}
    assert "scored" in {a["outcome"] for a in on(outcomes, GRU).values()}


def test_what_a_candidate_is_called(settings: Settings, retrained: Path) -> None:
    found = loaded(settings, f"{retrained},ztf-anomaly", "lsst-transformer")
    assert {survey: [s.name for s in shadows] for survey, shadows in found.items()} == {
        "ztf": ["ztf-gru_ztf-anomaly"],
        "lsst": ["lsst-transformer"],
    }
    chosen = candidates.with_models(settings, f"{retrained},ztf-anomaly,lsst-gru").score
    assert chosen.classifiers == {"ztf": [str(retrained)], "lsst": ["lsst-gru"]}
    assert chosen.anomaly == {"ztf": "ztf-anomaly", "lsst": "lsst-anomaly"}
    assert candidates.with_models(settings, "live") is settings


@pytest.mark.parametrize(
    ("models", "text"),
    [
        (["ztf-gru", "ztf-gru"], "share a topic"),
        (["ztf-anomaly,ztf-anomaly"], "two anomaly scores"),
        ([","], "names no model"),
        (["./nowhere/ztf-gru"], "no model is called"),
    ],
)
def test_a_wrong_candidate_is_said_before_anything_is_read(settings: Settings, models: list[str], text: str) -> None:
    with pytest.raises(TocsinError, match=text):
        loaded(settings, *models)


def test_weights_outside_the_tree_are_believed_as_little_as_inside(settings: Settings, retrained: Path) -> None:
    copy = retrained.parent / "other" / "ztf-gru"
    shutil.copytree(retrained, copy)
    described = json.loads((copy / cards.CARD_FILE).read_text())
    (copy / cards.CARD_FILE).write_text(json.dumps({**described, "weights": {**described["weights"], "sha256": "0"}}))
    with pytest.raises(TocsinError, match="SHA-256"):
        Scorer.load("ztf", [str(copy)], None, device="cpu")


class Raises:
    def __call__(self, *_: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("the candidate's own bug")


class Narrow:
    """A classifier that leaves out its last class."""

    def __init__(self, classifier: Classifier) -> None:
        self.card, self.network, self._classifier = classifier.card, classifier.network, classifier

    def score(self, tensors: Tensors, n_detections: Ints, min_detections: int) -> ClassScores:
        full = self._classifier.score(tensors, n_detections, min_detections)
        return replace(full, probabilities=full.probabilities[:, :-1], uncertainty=full.uncertainty[:, :-1])


class AnswersNaN:
    """A network that breaks its inputs, too: they are shared, so the live models must have read them before."""

    def __init__(self, network: Callable[..., torch.Tensor]) -> None:
        self.network = network

    def __call__(self, series: torch.Tensor, mask: torch.Tensor, scalars: torch.Tensor) -> torch.Tensor:
        answer = self.network(series, mask, scalars) * torch.nan
        series.zero_()
        return answer
