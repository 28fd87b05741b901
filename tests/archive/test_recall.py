"""Recall, precision, coverage and latency: on a night small enough to count by hand."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from broker.archive.recall import Heard, judge

SNIA, SNII, TDE = 2222, 2224, 2243
SENT_MS = 1_790_000_000_000


def truth(alert_id: int, class_id: int, object_id: str = "", **other: Any) -> dict[str, Any]:
    return {
        "survey": "ztf", "alert_id": alert_id, "object_id": object_id or f"o{alert_id}", "class_id": class_id,
        "programid": 1, "test": False, "poison": "", "artefact": class_id == 0, "sent_ms": SENT_MS, **other,
    }  # fmt: skip


def annotation(
    alert_id: int, first: Mapping[int, float], second: Mapping[int, float] | None = None, anomaly: float | None = None,
    after_s: float = 1.0, reason: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    answers = [
        {"classifierName": name, "classifications": [{"classId": k, "probability": p} for k, p in answer.items()]}
        for name, answer in (("first", first), ("second", first if second is None else second))
    ]
    return {
        "survey": "ztf", "alertId": alert_id, "classifiers": answers, "anomaly": {"score": anomaly},
        "unscoredReason": reason,
        "brokerPublishTimestamp": datetime.fromtimestamp(SENT_MS / 1000 + after_s, UTC),
    }  # fmt: skip


def heard(*annotations: dict[str, Any], dead: tuple[bytes, ...] = (), filtered: int = 0) -> Heard:
    found = Heard()
    for record in annotations:
        found.annotation(record)
    for packet in dead:
        found.dead_letter({"packet": packet})
    found.ledger({"filtered": [{"reason": "programid"}] * filtered + [{"reason": "repeated"}]})
    return found


def test_a_night_counted_by_hand() -> None:
    poison = hashlib.sha256(b"spoilt").hexdigest()
    truths = [
        truth(1, SNIA, "a"), truth(2, SNIA, "a"), truth(3, SNIA, "b"), truth(4, SNII), truth(5, TDE), truth(6, TDE),
        truth(7, 0), truth(8, SNIA, programid=2), truth(9, SNIA, poison=poison),
    ]  # fmt: skip
    said = heard(
        annotation(1, {SNIA: 0.9, SNII: 0.1}, anomaly=0.2, after_s=1.0),
        annotation(2, {SNIA: 0.8, SNII: 0.2}, {SNIA: 0.1, SNII: 0.9}, anomaly=0.3, after_s=2.0),  # mean 0.45, 0.55
        annotation(3, {}, reason="no_points", after_s=3.0),
        annotation(4, {SNIA: 0.6, SNII: 0.4}, anomaly=0.995, after_s=4.0),
        annotation(5, {TDE: 0.7}, anomaly=0.999, after_s=5.0),
        annotation(6, {TDE: 0.2}, anomaly=0.5, after_s=6.0),
        annotation(7, {}, reason="bogus", after_s=7.0),
        annotation(100, {SNIA: 1.0}),  # of another night
        dead=(b"spoilt",),
        filtered=1,
    )
    found = judge(truths, said, threshold=0.5, rank=0.99)
    assert found["coverage"] == {
        "sent": 9, "annotated": 7, "filtered": 1, "poison": 1, "dead_lettered": 1, "missing": 0, "doubled": 0,
        "complete": True,
    }  # fmt: skip
    assert found["classes"]["snia"] == {
        "alerts": 3, "scored": 2, "claimed": 2, "recall": pytest.approx(1 / 3), "precision": 0.5, "objects": 2,
        "objects_found": 0.5,
    }  # fmt: skip
    assert (found["classes"]["snii"]["recall"], found["classes"]["snii"]["precision"]) == (0.0, 0.0)
    assert (found["classes"]["tde"]["recall"], found["classes"]["tde"]["precision"]) == (0.5, 1.0)
    assert set(found["classes"]) == {"snia", "snii", "tde"}
    assert found["anomaly"] == {
        "rare_alerts": 2, "above": 2, "recall": 0.5, "precision": 0.5, "objects": 2, "objects_found": 0.5
    }  # fmt: skip
    assert found["artefacts"] == {"alerts": 1, "called_bogus": 1.0, "claimed_as_a_class": 0.0}
    assert found["latency"]["published"]["p50_s"] == pytest.approx(4.0)
    assert (found["latency"]["published"]["max_s"], found["latency"]["arrived"]) == (pytest.approx(7.0), None)


@pytest.mark.parametrize("fault", ["lost", "doubled", "dead letter lost", "filtered unseen"])
def test_what_is_not_complete(fault: str) -> None:
    poison = hashlib.sha256(b"spoilt").hexdigest()
    truths = [truth(1, SNIA), truth(2, SNIA), truth(3, SNIA, test=True), truth(4, SNIA, poison=poison)]
    annotations = [annotation(1, {SNIA: 1.0}), annotation(2, {SNIA: 1.0})]
    annotations = annotations[:1] if fault == "lost" else annotations + annotations[:1] * (fault == "doubled")
    dead = () if fault == "dead letter lost" else (b"spoilt",)
    filtered = 0 if fault == "filtered unseen" else 1
    found = judge(truths, heard(*annotations, dead=dead, filtered=filtered), threshold=0.5, rank=0.99)
    assert found["coverage"]["complete"] is False


def test_a_night_of_the_past_has_no_latency() -> None:
    assert judge([truth(1, SNIA, sent_ms=0)], heard(annotation(1, {})), threshold=0.5, rank=0.99)["latency"] is None
