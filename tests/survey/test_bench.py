"""The bench of a row: nobody is judged on what he was trained on, and answers keep their records."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from broker.core.errors import TocsinError
from broker.models.survey import bench, registry, train
from broker.models.survey.heads import Mixture
from broker.models.survey.row import Data, Examples, Row, Target, Training, Unseen, Variant
from broker.models.survey.trunks import Mlp
from broker.models.survey.trust import simtrain
from broker.sidecar.product import Input, Kind

SET = Data("line", "1", "x even between 0 and 1")


def line(n: int, seed: int, data: Path | None) -> Examples:
    x = np.random.default_rng(seed).random(n)
    return Examples({"x": x}, 3.0 * x[:, None], SET)


def mean_of_training(train: Examples, seed: int):  # type: ignore[no-untyped-def]
    mean = float(train.truth.mean())
    return lambda columns: np.full((len(columns["x"]), 1), mean)


@pytest.fixture
def row() -> Row:
    return Row(
        id="line", summary="", papers=(), finding="", kind=Kind.CATALOG, inputs=(Input("x"),), trunk=Mlp(16, 1),
        head=Mixture(2, hidden=0), variants={"real": Variant(line, n=600, real=True)},
        baselines={"mean": mean_of_training}, judge="posterior", targets=(Target("y", high=3.0),),
        training=Training(epochs=30, batch=64, rate=1e-2),
    )  # fmt: skip


def test_folds_are_disjoint_and_whole_and_classes_are_spread(row: Row) -> None:
    labels = Examples({"x": np.zeros(103)}, (np.arange(103) < 11).astype(np.int64), SET)
    parts = bench.folds(replace(row, classes=("no", "yes")), labels, 1)
    assert sorted(np.concatenate(parts).tolist()) == list(range(103))
    assert {int(labels.truth[part].sum()) for part in parts} <= {2, 3}
    again = bench.folds(row, labels, 2)
    assert any(a.tolist() != b.tolist() for a, b in zip(parts, again, strict=True))


def test_a_real_set_is_answered_out_of_fold(row: Row, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(registry, "row", lambda name: row)
    found = bench.bench("line@real", tmp_path, seed=1)
    metric = found["metrics"]["rmse"]
    assert metric["model"] < 0.3 * metric["baselines"]["mean"]
    assert metric["interval"][0] <= metric["model"] <= metric["interval"][1]
    assert metric["baselines"]["mean"] == pytest.approx(3.0 / np.sqrt(12.0), rel=0.1)
    assert found["records"] == 600
    assert set(found["records_per_s"]) == {"model", "mean"}
    assert found["command"] == "tocsin bench survey line@real --seed 1"


def test_baselines_are_judged_on_the_records_that_the_row_answers(
    row: Row, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A tenth lacks the input, and lies where the mean does worst."""

    def gaps(n: int, seed: int, data: Path | None) -> Examples:
        made, lost = line(n, seed, data), np.arange(n) % 10 == 0
        return replace(
            made, columns={"x": np.where(lost, np.nan, made.columns["x"])}, truth=made.truth * ~lost[:, None]
        )

    row = replace(row, variants={"real": Variant(gaps, n=600, real=True)})
    monkeypatch.setattr(registry, "row", lambda name: row)
    found = bench.bench("line@real", tmp_path, seed=1)["metrics"]
    assert (found["answered"]["model"], found["answered"]["baselines"]) == (90.0, {"mean": 100.0})
    assert found["rmse"]["baselines"]["mean"] == pytest.approx(3.0 / np.sqrt(12.0), rel=0.05)


def test_a_set_that_only_judges_is_answered_by_the_weights_that_ship(
    row: Row, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def steeper(n: int, seed: int, data: Path | None) -> Examples:
        made = line(300, seed, data)
        return replace(made, truth=1.1 * made.truth, data=replace(SET, id="steeper"))

    row = replace(row, unseen={"steep": Unseen(steeper, of="real", real=True)})
    monkeypatch.setattr(registry, "row", lambda name: row)
    train.run("line@real", train.Options(tmp_path, tmp_path), lambda *_: None)
    monkeypatch.setattr(registry, "weights_of", lambda name: tmp_path)
    found = bench.bench("line@steep", tmp_path, seed=1)
    assert found["variant"] == found["data"]["id"].removesuffix("er") == "steep"
    assert found["records"] == 300
    assert found["protocol"] == "shipped weights of real, on a set that only judges"
    assert found["metrics"]["rmse"]["model"] == pytest.approx(0.3 / np.sqrt(3.0), rel=0.15)
    assert found["command"] == "tocsin bench survey line@steep --seed 1"
    assert registry.sets(row, real=True) == ["line@real", "line@steep"]
    assert registry.sets(row, real=False) == []
    with pytest.raises(TocsinError, match="no variant 'steep'"):
        registry.find("line@steep")


def test_pooled_answers_stay_with_their_records(row: Row) -> None:
    parts = [np.array([[1.0], [2.0]]), np.array([[3.0]])]
    pooled = bench.joined([bench.as_answer(row, part) for part in parts])
    assert pooled.outputs[0].value.tolist() == [1.0, 2.0, 3.0]
    assert pooled.reason == [""] * 3


def test_a_classifier_s_baseline_says_the_likeliest_class(row: Row) -> None:
    answer = bench.as_answer(replace(row, classes=("a", "b")), np.array([[0.2, 0.8], [0.9, 0.1]]))
    assert answer.outputs[0].value.tolist() == [1.0, 0.0]
    assert answer.outputs[0].labels == ("a", "b")


def test_every_row_of_two_codes_is_tried_on_the_other(row: Row, monkeypatch: pytest.MonkeyPatch) -> None:
    one = Variant(line)
    rows = {"one": replace(row, variants={"sim": one}), "two": replace(row, variants={"sim": one, "sim-jet": one})}
    monkeypatch.setattr(registry, "rows", lambda package: rows)
    assert simtrain.of_two_codes() == ["two"]
