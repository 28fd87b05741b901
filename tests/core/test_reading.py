"""What a reader makes of annotations, of both versions."""

from __future__ import annotations

import io
import json
from importlib.resources import files
from typing import Any

import fastavro
import pytest

from broker.client import branches, chosen, even, probabilities
from broker.core import schemas


def sample(version: str) -> Any:
    text = (files("broker") / "schemas" / "annotation" / version / "sample.json").read_text()
    (record,) = fastavro.json_reader(
        io.StringIO(json.dumps(json.loads(text))), schemas.versions("annotation")[version].parsed
    )
    return record


def two_old_answers() -> Any:
    record = sample("1.0")
    one = record["classifiers"][0]
    rows = [{"classId": i, "probability": p, "uncertainty": None} for i, p in ((2222, 0.25), (2332, 0.75))]
    return {**record, "classifiers": [one, {**one, "classifierName": "ztf-transformer", "classifications": rows}]}


def test_the_average_is_the_one_to_go_by() -> None:
    record = sample("1.1")
    entry = chosen(record)
    assert entry is not None
    assert entry["classifierName"] == "ztf-average"
    assert probabilities(record) == {2222: 0.5, 2242: 0.5}
    assert branches(record) == {2200: 1.0, 2220: 0.5, 2230: 0, 2240: 0.5, 2300: 0, 2320: 0, 2330: 0}
    written = record["trees"][-1]["branches"]
    assert {b["classId"]: b["probability"] for b in written}.items() <= branches(record).items()


def test_annotations_of_the_first_version_are_read_as_they_were_meant() -> None:
    record = two_old_answers()
    assert chosen(record) is None
    assert probabilities(record) == {2222: 0.5, 2224: 0.125, 2332: 0.375}
    assert branches(record)[2220] == 0.625
    one = sample("1.0")
    assert chosen(one) is one["classifiers"][0]
    with pytest.raises(ValueError, match="no prior of ztf-gru"):
        even(one)
    with pytest.raises(ValueError, match="no prior of None"):
        even(record)


def test_one_classifier_without_an_answer_is_no_answer() -> None:
    record = two_old_answers()
    record["classifiers"][1] |= {"classifications": [], "reason": "bad_fit"}
    assert probabilities(record) == {}
    assert branches(record) == {}


def test_even_undoes_the_prior() -> None:
    record = sample("1.1")  # priors 7 : 1
    assert even(record) == pytest.approx({2222: 0.125, 2242: 0.875})
    assert even(record, "ztf-gru") == pytest.approx({2222: 0.3, 2242: 0.7})
    with pytest.raises(ValueError, match="no prior of mine"):
        even(record, "mine")
