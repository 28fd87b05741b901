"""A comparison of two results against scipy, against arithmetic by hand, and of a result with itself."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
from scipy.stats import spearmanr

from broker.archive import diff, diffplot
from broker.core.errors import TocsinError
from broker.core.taxonomy import CLASSES

Annotation = dict[str, Any]


def annotation(
    alert_id: int, answers: dict[str, list[float]] | None = None, anomaly: float | None = None, survey: str = "ztf"
) -> Annotation:
    """Return what `tocsin replay` writes, as far as a comparison reads it; ``answers`` [snia, snii] of classifiers."""
    ids = {c.slug: c.id for c in CLASSES}
    classifiers = [
        {
            "classifierName": name,
            "reason": None if p else "bad_fit",
            "classifications": [
                {"classId": ids[slug], "probability": x} for slug, x in zip(("snia", "snii"), p, strict=False)
            ],
        }
        for name, p in (answers or {}).items()
    ]
    scored = any(answers.values()) if answers else anomaly is not None
    return {
        "survey": survey,
        "alertId": alert_id,
        "objectId": f"object{alert_id}",
        "outcome": "scored" if scored else "unscored",
        "unscoredReason": None if scored else "bogus",
        "classifiers": classifiers,
        "anomaly": None if anomaly is None else {"score": anomaly},
    }


def compared(a: list[Annotation], b: list[Annotation]) -> diff.Diff:
    return diff.compare(diff.read(a), diff.read(b))


def random_night(seed: int) -> list[Annotation]:
    rng = np.random.default_rng(seed)
    night = []
    for alert in range(400):
        p = rng.random()
        answers = {"gru": [p, 1 - p], "transformer": [1 - p**2, p**2]}
        night.append(annotation(alert // 2, answers if alert % 7 else {}, None if alert % 5 == 0 else rng.random()))
    return night


def test_a_night_and_itself_differ_in_nothing() -> None:
    found = compared(random_night(0), random_night(0))
    summary = diff.summary(found, 0.99)
    assert summary["matched"] == 400
    assert not any(summary[name] for name in ("only_a", "only_b", "changed", "one_sided", "class_moved", "part_moved"))
    assert summary["outcomes"] == {}
    assert summary["max_dp"] == summary["anomaly"]["max_move"] == 0
    assert all(a == b for a, row in summary["classes"].items() for b in row)
    assert summary["anomaly"]["rank_correlation"] == pytest.approx(1.0)
    assert not any(diff.table(found).values())


def test_the_last_bit_of_a_number_is_a_change() -> None:
    next_, half = float(np.nextafter(np.float32(0.25), np.float32(1))), {"gru": [0.25, 0.75], "transformer": [0.5, 0.5]}
    after = float(np.nextafter(np.float32(0.5), np.float32(1)))
    for b in (annotation(1, {**half, "gru": [next_, 0.75]}, 0.5), annotation(1, half, after)):
        found = compared([annotation(1, half, 0.5)], [b])
        assert diff.summary(found, 0.99)["changed"] == 1
        assert len(diff.table(found)["alert_id"]) == 1


def test_every_figure_by_hand() -> None:
    a = [
        annotation(1, {"gru": [0.9, 0.1], "transformer": [0.5, 0.5]}, 0.995),  # mean 0.7, 0.3
        annotation(2, {"gru": [0.2, 0.8]}, 0.5),
        annotation(3, {"gru": [0.6, 0.4]}, None),
        annotation(4, {}, None),
        annotation(5, {"gru": [1.0, 0.0]}, 0.1),
        annotation(2, {"gru": [0.2, 0.8]}, 0.5),  # the survey sent it again
    ]
    b = [
        annotation(2, {"gru": [0.2, 0.8]}, 0.5),
        annotation(1, {"gru": [0.3, 0.7]}, 0.98),
        annotation(3, {"gru": [0.5, 0.5], "transformer": [0.6, 0.4]}, None),
        annotation(4, {"gru": [0.1, 0.9]}, None),
        annotation(2, {"gru": [0.3, 0.7]}, 0.999),
        annotation(6, {"gru": [0.1, 0.9]}, 0.3),
    ]
    found = compared(a, b)
    summary = diff.summary(found, 0.99)
    assert (summary["matched"], summary["only_a"], summary["only_b"]) == (5, 1, 1)
    assert (summary["changed"], summary["one_sided"], summary["class_moved"]) == (4, 1, 2)
    assert summary["part_moved"] == pytest.approx(4 / 7)
    assert summary["outcomes"] == {"bogus": {"scored": 1}}
    assert summary["classes"] == {"snia": {"snii": 1, "snia": 1}, "snii": {"snii": 2}, "unscored": {"snii": 1}}
    assert summary["dp"]["snia"]["mean"] == pytest.approx((0.4 + 0.05 + 0.0 + 0.1) / 4)
    assert summary["dp"]["snii"]["max"] == summary["max_dp"] == pytest.approx(0.4)
    assert summary["dp"]["tde"] == {"mean": 0.0, "max": 0.0}
    anomaly = summary["anomaly"]
    assert (anomaly["compared"], anomaly["published_a"], anomaly["moved_in"], anomaly["moved_out"]) == (3, 1, 1, 1)
    assert anomaly["max_move"] == pytest.approx(0.499)
    moves = diff.table(found)
    assert list(zip(moves["alert_id"], moves["repeat"], strict=True)) == [(4, 0), (2, 1), (1, 0), (3, 0)]
    assert moves["class_a"] == [None, "snii", "snia", "snia"]
    assert moves["moved_class"][0] is None
    assert set(moves["moved_class"][1:]) <= {"snia", "snii"}
    assert moves["outcome_a"] == ["bogus", "scored", "scored", "scored"]
    assert moves["anomaly_b"] == [None, pytest.approx(0.999), pytest.approx(0.98), None]
    assert diff.table(found, 1)["alert_id"] == [4]


def test_the_rank_correlation_is_scipys() -> None:
    rng = np.random.default_rng(4)
    a = np.round(rng.random(300), 1)  # with ties
    b = np.clip(a + 0.2 * rng.standard_normal(300), 0, 1)
    found = compared(
        [annotation(i, None, x) for i, x in enumerate(a.tolist())],
        [annotation(i, None, x) for i, x in enumerate(b.tolist())],
    )
    expected = spearmanr(a.astype(np.float32), b.astype(np.float32)).statistic
    assert diff.summary(found, 0.99)["anomaly"]["rank_correlation"] == pytest.approx(expected, abs=1e-12)


def test_without_anomaly_scores_there_is_no_correlation() -> None:
    found = compared([annotation(1, {"gru": [1.0, 0.0]})], [annotation(1, {"gru": [1.0, 0.0]})])
    assert json.loads(json.dumps(diff.summary(found, 0.99)))["anomaly"]["rank_correlation"] is None


def test_a_classifier_that_gives_no_answer_leaves_no_class() -> None:
    both, one = {"gru": [1.0, 0.0], "transformer": [1.0, 0.0]}, {"gru": [1.0, 0.0], "transformer": []}
    summary = diff.summary(compared([annotation(1, both)], [annotation(1, one)]), 0.99)
    assert summary["classes"] == {"snia": {"unscored": 1}}
    assert (summary["outcomes"], summary["one_sided"], summary["part_moved"]) == ({}, 1, 1)


def test_surveys_are_not_mixed_up() -> None:
    found = compared([annotation(1, None, 0.5)], [annotation(1, None, 0.5, survey="lsst"), annotation(2, None, 0.5)])
    assert (len(found.keys), found.only) == (0, (1, 2))
    assert diff.summary(found, 0.99)["part_moved"] == 1


def test_nothing_to_compare_is_said() -> None:
    with pytest.raises(TocsinError, match="side B has no annotation"):
        compared([annotation(1)], [])
    foreign = annotation(1, {"gru": [1.0]})
    foreign["classifiers"][0]["classifications"][0]["classId"] = 7
    with pytest.raises(TocsinError, match="class 7"):
        compared([foreign], [foreign])


@pytest.mark.parametrize("nights", [(0, 1), (0, 0)], ids=["changed", "empty"])
def test_tables_and_plots_are_written(nights: tuple[int, int], tmp_path: Path) -> None:
    found = compared(random_night(nights[0]), random_night(nights[1]))
    columns = diff.table(found)
    for name in ("t.csv", "t.parquet"):
        diff.write(columns, tmp_path / name)
    with (tmp_path / "t.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["alert_id"]) for row in rows] == columns["alert_id"]
    read = pyarrow.parquet.read_table(tmp_path / "t.parquet")
    assert read.column_names == list(columns)
    assert read.column("dp").to_pylist() == [None if x is None else np.float32(x) for x in columns["dp"]]
    assert str(read.schema.field("alert_id").type) == "int64"
    for name in ("p.svg", "again.svg", "p.png"):
        diffplot.plot(found, tmp_path / name, ("live", "candidate"), 0.99)
    assert b"<svg" in (tmp_path / "p.svg").read_bytes()
    assert (tmp_path / "p.svg").read_bytes() == (tmp_path / "again.svg").read_bytes()
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "write",
    [lambda found, path: diff.write(diff.table(found), path), lambda f, p: diffplot.plot(f, p, ("a", "b"), 0.9)],
    ids=["table", "plot"],
)
def test_a_wrong_file_is_one_sentence(write: Callable[[diff.Diff, Path], None], tmp_path: Path) -> None:
    found = compared(random_night(0), random_night(1))
    with pytest.raises(TocsinError, match=r"is \.(parquet or \.csv|svg or \.png)"):
        write(found, tmp_path / "x.txt")
    for suffix in (".csv", ".parquet", ".svg"):
        with pytest.raises(TocsinError, match=r"cannot write| is \."):
            write(found, tmp_path / "no" / f"x{suffix}")
