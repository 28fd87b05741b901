"""The pipeline as a whole: every packet one outcome, reasons, cuts, repeats, and neighbours that do not matter."""

import os
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from broker.archive import read, simulate
from broker.cli import assemble
from broker.client import branches, chosen, even
from broker.core import schemas
from broker.core.batch import FilePacket, PacketBatch
from broker.core.config import load
from broker.core.metrics import Recorded
from broker.core.outcomes import Outcomes
from broker.core.reasons import Outcome
from broker.deliver.suspects import Suspects
from broker.deliver.types import Intake
from broker.pipeline import Cuts, Pipeline, Recent
from broker.score import Scorer


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    simulate.install_schema(folder / "schemas")
    return folder


@pytest.fixture(scope="module")
def pipeline(cache: Path) -> Pipeline:
    return assemble.pipeline(load(None, {"run.cache_dir": cache}), Recorded())


@pytest.fixture(scope="module")
def night() -> list[bytes]:
    """Return 96 ZTF and 32 Rubin packets, mixed."""
    found = [(p.timestamp_ms, p.value) for s, n in (("ztf", 96), ("lsst", 32)) for p in simulate.night(s, n, 3)]
    return [value for _, value in sorted(found)]


def batch(values: list[bytes]) -> PacketBatch:
    return assemble.batch_of([FilePacket("night", i, value) for i, value in enumerate(values)])


def annotations(outcomes: Outcomes) -> dict[int, dict[str, object]]:
    primary = [r for r in outcomes.records if r.topic.endswith(".all")]
    return {r.row: schemas.decode(r.value, list(r.headers), "annotation") for r in primary}


def test_every_packet_has_one_outcome_and_what_goes_with_it(pipeline: Pipeline, night: list[bytes]) -> None:
    values = [*night, b"", b"nonsense", night[0][:-3], night[1] + b"x"]
    outcomes = pipeline(batch(values))
    codes = Counter(outcomes.code.tolist())
    assert sum(codes.values()) == len(values)
    assert codes[Outcome.SCORED] > 0.6 * len(values)
    assert {letter.row: letter.reason for letter in outcomes.dead} == {
        len(night): "empty",
        len(night) + 1: "bad_magic",
        len(night) + 2: "malformed",
        len(night) + 3: "trailing_bytes",
    }
    made = annotations(outcomes)
    assert sorted(made) == np.flatnonzero(outcomes.code <= Outcome.UNSCORED).tolist()
    for row, annotation in made.items():
        assert annotation["unscoredReason"] == (outcomes.reason[row] or None)
        assert annotation["outcome"] == Outcome(outcomes.code[row]).name.lower()
    assert [bool(r) for r in outcomes.reason] == [c != Outcome.SCORED for c in outcomes.code]


def test_an_unscored_alert_has_reasons_and_no_number(pipeline: Pipeline, night: list[bytes]) -> None:
    made = annotations(pipeline(batch(night))).values()
    unscored = [a for a in made if a["outcome"] == "unscored"]
    assert {a["unscoredReason"] for a in unscored} >= {"bogus", "solar_system"}
    for annotation in unscored:
        answers = [*annotation["classifiers"], annotation["anomaly"]]  # type: ignore[misc]
        assert all(answer["reason"] for answer in answers)
        assert not any(answer.get("classifications") or answer.get("score") for answer in answers)


def test_scores_depend_on_neither_neighbours_nor_order(pipeline: Pipeline, night: list[bytes]) -> None:
    whole = annotations(pipeline(batch(night)))
    order = np.random.default_rng(0).permutation(len(night))
    shuffled = annotations(pipeline(batch([night[i] for i in order])))
    for position, row in enumerate(order.tolist()):
        assert (row in whole) == (position in shuffled)
        if row in whole:
            np.testing.assert_allclose(numbers(whole[row]), numbers(shuffled[position]), rtol=0, atol=1e-5)
    for row in list(whole)[::9]:
        alone = annotations(pipeline(batch([night[row]])))[0]
        np.testing.assert_allclose(numbers(whole[row]), numbers(alone), rtol=0, atol=1e-5)


def numbers(annotation: dict[str, object]) -> list[float]:
    classes = [e["probability"] for c in annotation["classifiers"] for e in c["classifications"]]  # type: ignore[attr-defined]
    strange = annotation["anomaly"]["score"]  # type: ignore[index]
    return [*classes, -1.0 if strange is None else strange]


def test_branches_are_the_sums_of_their_classes(pipeline: Pipeline, night: list[bytes]) -> None:
    scored = [a for a in annotations(pipeline(batch(night))).values() if not chosen(a)["reason"]]  # type: ignore[index]
    assert len(scored) > 50
    for annotation in scored:
        written = {b["classId"]: b for b in annotation["trees"][-1]["branches"]}  # type: ignore[index]
        assert {i: b["probability"] for i, b in written.items()} == pytest.approx(branches(annotation), abs=1e-5)
        assert written[2200]["probability"] + written[2300]["probability"] == pytest.approx(1.0, abs=1e-5)
        # Of two branches that are everything, one is as uncertain as the other.
        assert written[2200]["uncertainty"] == pytest.approx(written[2300]["uncertainty"], abs=1e-5)


def test_even_is_what_models_with_an_even_prior_publish(pipeline: Pipeline, night: list[bytes]) -> None:
    published, flat = (annotations(step(batch(night))) for step in (pipeline, with_even_prior(pipeline)))
    for row, annotation in published.items():
        for classifier in annotation["classifiers"]:  # type: ignore[attr-defined]
            (same,) = (c for c in flat[row]["classifiers"] if c["classifierName"] == classifier["classifierName"])  # type: ignore[attr-defined]
            expected = {e["classId"]: e["probability"] for e in same["classifications"]}
            if classifier["reason"]:
                continue
            assert even(annotation, classifier["classifierName"]) == pytest.approx(expected, rel=1e-4, abs=1e-9)


def with_even_prior(pipeline: Pipeline) -> Pipeline:
    def changed(scorer: Scorer) -> Scorer:
        cards = [c.card for c in scorer.classifiers]
        flat = [
            card.model_copy(update={"classes": tuple(c.model_copy(update={"prior": 1 / 14}) for c in card.classes)})
            for card in cards
        ]
        members = tuple(replace(c, card=card) for c, card in zip(scorer.classifiers, flat, strict=True))
        return replace(scorer, classifiers=members)

    return replace(pipeline, scorers={survey: changed(scorer) for survey, scorer in pipeline.scorers.items()})


def test_probabilities_add_up_to_one(pipeline: Pipeline, night: list[bytes]) -> None:
    for annotation in annotations(pipeline(batch(night))).values():
        for classifier in annotation["classifiers"]:  # type: ignore[attr-defined]
            if not classifier["reason"]:
                assert sum(e["probability"] for e in classifier["classifications"]) == pytest.approx(1, abs=1e-5)


def test_cuts_filter_and_repeats_are_flagged_after_the_commit_only(cache: Path, night: list[bytes]) -> None:
    fresh = assemble.pipeline(load(None, {"run.cache_dir": cache}), Recorded())
    packets = batch(night)
    first = fresh(packets)
    again = fresh(packets)  # an aborted transaction: nothing is remembered
    assert not any(a["context"]["repeated"] for a in annotations(again).values())  # type: ignore[index]
    fresh.committed(packets, first)
    assert all(a["context"]["repeated"] for a in annotations(fresh(packets)).values())  # type: ignore[index]
    dropping = replace(fresh, cuts=Cuts(drop_non_public=False, drop_test=False, drop_repeated=True))
    assert set(dropping(packets).reason) == {"repeated"}
    filtered = Counter(r for r, c in zip(first.reason, first.code, strict=True) if c == Outcome.FILTERED)
    assert set(filtered) <= {"programid", "test_alert"}


def test_a_search_for_a_guilty_packet_calls_no_other_one_repeated(cache: Path, night: list[bytes]) -> None:
    step = assemble.pipeline(load(None, {"run.cache_dir": cache}), Recorded())
    suspects = Suspects(Fails(step, night[0]))
    waiting, made = [Intake(batch(night[:2]))], []
    while waiting:
        intake = waiting.pop(0)
        found = suspects.run(intake)
        if isinstance(found, list):
            waiting = [*found, *waiting]
            continue
        step.committed(intake.batch, found)
        suspects.committed(intake)
        made += [*annotations(found).values()]
    assert [a["context"]["repeated"] for a in made] == [False]  # type: ignore[index]
    again = annotations(step(batch(night[:2])))
    assert [a["context"]["repeated"] for a in again.values()] == [False, True]  # type: ignore[index]


@dataclass(frozen=True)
class Fails:
    """A step that raises at one packet."""

    step: Pipeline
    guilty: bytes

    def __call__(self, batch: PacketBatch) -> Outcomes:
        if self.guilty in batch.values:
            raise RuntimeError("a bug of ours")
        return self.step(batch)

    def committed(self, batch: PacketBatch, outcomes: Outcomes) -> None:
        self.step.committed(batch, outcomes)


def test_a_repeat_within_a_batch_is_flagged(pipeline: Pipeline, night: list[bytes]) -> None:
    outcomes = annotations(pipeline(batch([night[0], night[0]])))
    assert [a["context"]["repeated"] for a in outcomes.values()] == [False, True]  # type: ignore[index]


def test_memory_of_repeats_is_bounded() -> None:
    recent = Recent(limit=3)
    recent.add([("ztf", i) for i in range(5)])
    assert recent.repeated("ztf", np.arange(5)).tolist() == [False, False, True, True, True]
    assert recent.repeated("lsst", np.arange(5)).tolist() == [False] * 5


def test_a_survey_without_a_model_is_unscored(pipeline: Pipeline, night: list[bytes]) -> None:
    bare = replace(pipeline, scorers={})
    outcomes = bare(batch(night))
    assert Outcome.SCORED not in outcomes.code
    assert "no_model" in outcomes.reason


def test_real_packets_end_annotated(pipeline: Pipeline) -> None:
    folder = os.environ.get("TOCSIN_TEST_DATA")
    if not folder:
        pytest.skip("TOCSIN_TEST_DATA is not set")
    packets = list(read.packets([Path(folder) / "alerts"]))
    outcomes = pipeline(assemble.batch_of(packets))
    assert len(packets) == 74
    assert not outcomes.dead
    assert (outcomes.code == Outcome.SCORED).sum() >= 40
