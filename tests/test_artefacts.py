"""Artefacts first: what the survey calls bogus, and the solar system, reach neither a class topic nor the anomalies.

Every threshold is below what a score can be, so that each scored alert is on the anomaly topic and on all class topics.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from broker.archive import simulate
from broker.cli import assemble
from broker.core import schemas
from broker.core.batch import FilePacket
from broker.core.config import load
from broker.core.metrics import Recorded
from broker.core.outcomes import Record
from broker.core.taxonomy import CLASSES
from broker.pipeline import Publishing

PACKETS = {"ztf": 160, "lsst": 48}
NOT_REAL = 0.3


@pytest.fixture(scope="module", params=sorted(PACKETS))
def published(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, list[Any]]:
    """Return the annotations of a night of one survey by topic, and the truth about its packets as ``truth``."""
    folder = tmp_path_factory.mktemp("cache")
    simulate.install_schema(folder / "schemas")
    pipeline = assemble.pipeline(load(None, {"run.cache_dir": folder}), Recorded())
    step = replace(pipeline, publishing=Publishing(class_threshold=-1.0, anomaly_percentile=-1.0))
    mix = simulate.Mix(artefact=0.3, solar_system=0.3)
    packets = list(simulate.night(request.param, PACKETS[request.param], 5, mix=mix))
    outcomes = step(assemble.batch_of([FilePacket("night", i, p.value) for i, p in enumerate(packets)]))
    found: dict[str, list[Any]] = {"truth": [p.truth for p in packets]}
    for record in outcomes.records:
        found.setdefault(record.topic.split(".", 2)[2], []).append(decoded(record))
    return found


def decoded(record: Record) -> Any:
    return schemas.decode(record.value, list(record.headers), "annotation")


def ids(annotations: list[Any]) -> set[int]:
    return {a["diaSourceId"] for a in annotations}


def is_bogus(annotation: Any) -> bool:
    score = annotation["context"]["realBogus"]
    return score is not None and score < NOT_REAL


def test_no_artefact_and_no_solar_system_object_is_among_the_anomalies(published: Mapping[str, list[Any]]) -> None:
    solar = {t.alert_id for t in published["truth"] if t.class_id == 0 and not t.artefact}
    artefacts = {t.alert_id for t in published["truth"] if t.artefact}
    bogus = ids([a for a in published["all"] if is_bogus(a)])
    assert len(solar) > 5
    assert len(bogus & artefacts) > 0.8 * len(artefacts) > 4
    copies = {topic: ids(found) for topic, found in published.items() if topic not in ("all", "truth")}
    assert {"anomaly", *(f"class.{c.slug}" for c in CLASSES)} == copies.keys()
    for topic, found in copies.items():
        assert found, topic
        assert not found & (solar | bogus), topic


def test_each_has_its_reason_and_no_number(published: Mapping[str, list[Any]]) -> None:
    solar = {t.alert_id for t in published["truth"] if t.class_id == 0 and not t.artefact}
    for annotation in published["all"]:
        expected = "solar_system" if annotation["diaSourceId"] in solar else "bogus" if is_bogus(annotation) else None
        if expected is None:
            continue
        assert annotation["unscoredReason"] == annotation["anomaly"]["reason"] == expected
        assert annotation["anomaly"]["score"] is None
        assert annotation["anomaly"]["parts"] == {}
        assert annotation["nearestClass"] is None
        assert {c["reason"] for c in annotation["classifiers"]} == {expected}
        assert annotation["trees"] == [{"prior": [], "branches": []}] * len(annotation["classifiers"])


def test_every_scored_alert_is_among_them_here(published: Mapping[str, list[Any]]) -> None:
    """The thresholds let everything through: what is missing from the topics is missing for its reason."""
    scored = [a for a in published["all"] if a["anomaly"]["reason"] is None]
    assert ids(published["anomaly"]) == ids(scored)
    assert all(a["nearestClass"] for a in scored)
