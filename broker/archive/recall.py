"""What a broker said of a simulated night against the truth: coverage, recall and precision, latency."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from broker.core.reading import probabilities
from broker.core.reasons import Filtered
from broker.core.taxonomy import CLASSES, RARE

Truth = dict[str, Any]
Found = dict[str, Any]
_CUT = (Filtered.PROGRAMID, Filtered.TEST_ALERT)
LIVE_S = 86_400.0  # an alert that was sent longer ago was not sent live


@dataclass(frozen=True, slots=True)
class Said:
    """What was said of one alert.

    Attributes
    ----------
    classes : dict of int to float
        Probability of the average of the classifiers, by class id; empty where it was not classified.
    anomaly : float or None
        Rank.
    reason : str
        Why it was not scored; ''.
    published_ms : int
        When the annotation was made, Unix ms UTC.
    arrived_ms : int
        When a reader of committed messages had it; -1: nobody looked.
    """

    classes: Mapping[int, float]
    anomaly: float | None
    reason: str
    published_ms: int
    arrived_ms: int = -1


@dataclass(slots=True)
class Heard:
    """Everything that was said.

    Attributes
    ----------
    annotations : dict of (str, int) to Said
        By survey and alert id: the last one.
    times : dict of (str, int) to int
        How often, where it was more than once.
    dead : set of str
        SHA-256 of the packets of dead letters.
    filtered : int
        Packets that an operator's cut on partnership data or tests left out.
    """

    annotations: dict[tuple[str, int], Said] = field(default_factory=dict)
    times: dict[tuple[str, int], int] = field(default_factory=dict)
    dead: set[str] = field(default_factory=set)
    filtered: int = 0

    def annotation(self, record: Mapping[str, Any], arrived_ms: int = -1) -> None:
        """Take an annotation."""
        key = record["survey"], record["alertId"]
        if key in self.annotations:
            self.times[key] = self.times.get(key, 1) + 1
        anomaly = (record["anomaly"] or {}).get("score")
        published = round(record["brokerPublishTimestamp"].timestamp() * 1000)
        reason = record["unscoredReason"] or ""
        self.annotations[key] = Said(probabilities(record), anomaly, reason, published, arrived_ms)

    def dead_letter(self, record: Mapping[str, Any]) -> None:
        """Take a dead letter."""
        self.dead.add(hashlib.sha256(record["packet"]).hexdigest())

    def ledger(self, record: Mapping[str, Any]) -> None:
        """Take a ledger record."""
        self.filtered += sum(place["reason"] in _CUT for place in record["filtered"])


def judge(truths: Iterable[Truth], heard: Heard, *, threshold: float, rank: float) -> Found:
    """Compare what was said with the truth.

    Parameters
    ----------
    truths : iterable of dict
        As `broker.archive.simulated.Truth` has them.
    threshold : float
        Mean probability above which an alert counts as of a class.
    rank : float
        Anomaly rank above which an alert counts as an anomaly.

    Returns
    -------
    dict
        ``coverage``, ``classes`` by slug, ``anomaly``, ``artefacts``, ``latency``; a part of nothing is null.
    """
    every = list(truths)
    due = [t for t in every if not t["poison"] and t["programid"] == 1 and not t["test"]]
    pairs = [(t, heard.annotations.get((t["survey"], t["alert_id"]))) for t in due]
    claims = [_claims(said, threshold) for _, said in pairs]
    return {
        "coverage": _coverage(every, heard),
        "classes": {c.slug: found for c in CLASSES if (found := _class(c.id, pairs, claims)) is not None},
        "anomaly": _anomaly(pairs, rank),
        "artefacts": _artefacts(pairs, claims),
        "latency": _latency([(t, said) for t, said in pairs if said is not None]),
        "threshold": threshold,
        "rank": rank,
    }


def _coverage(truths: list[Truth], heard: Heard) -> Found:
    keys = {(t["survey"], t["alert_id"]): t for t in truths if not t["poison"]}
    missing = [t for key, t in keys.items() if key not in heard.annotations]
    held_back = [t for t in missing if t["programid"] != 1 or t["test"]]
    poison = [t for t in truths if t["poison"]]
    dead = sum(t["poison"] in heard.dead for t in poison)
    doubled = sum(n - 1 for key, n in heard.times.items() if key in keys)
    accounted = len(missing) == len(held_back) <= heard.filtered
    return {
        "sent": len(truths),
        "annotated": len(keys) - len(missing),
        "filtered": len(held_back),
        "poison": len(poison),
        "dead_lettered": dead,
        "missing": len(missing) - len(held_back),
        "doubled": doubled,
        "complete": accounted and dead == len(poison) and not doubled,
    }


def _claims(said: Said | None, threshold: float) -> set[int]:
    return set() if said is None else {class_id for class_id, p in said.classes.items() if p > threshold}


def _class(class_id: int, pairs: list[tuple[Truth, Said | None]], claims: list[set[int]]) -> Found | None:
    """Return the figures of one class; None where it neither occurs nor is claimed."""
    own = [i for i, (truth, _) in enumerate(pairs) if truth["class_id"] == class_id]
    claimed = [i for i, classes in enumerate(claims) if class_id in classes]
    if not own and not claimed:
        return None
    right = set(own) & set(claimed)
    objects = {pairs[i][0]["object_id"] for i in own}
    return {
        "alerts": len(own),
        "scored": sum(bool(said and said.classes) for _, said in (pairs[i] for i in own)),
        "claimed": len(claimed),
        "recall": _part(len(right), len(own)),
        "precision": _part(len(right), len(claimed)),
        "objects": len(objects),
        "objects_found": _part(len({pairs[i][0]["object_id"] for i in right}), len(objects)),
    }


def _anomaly(pairs: list[tuple[Truth, Said | None]], rank: float) -> Found:
    above = [bool(said and said.anomaly is not None and said.anomaly > rank) for _, said in pairs]
    rare = [truth["class_id"] in RARE for truth, _ in pairs]
    found = [a for a, is_rare in zip(above, rare, strict=True) if is_rare]
    objects = {t["object_id"] for (t, _), is_rare in zip(pairs, rare, strict=True) if is_rare}
    seen = {t["object_id"] for (t, _), is_rare, a in zip(pairs, rare, above, strict=True) if is_rare and a}
    return {
        "rare_alerts": len(found),
        "above": sum(above),
        "recall": _part(sum(found), len(found)),
        "precision": _part(sum(found), sum(above)),
        "objects": len(objects),
        "objects_found": _part(len(seen), len(objects)),
    }


def _artefacts(pairs: list[tuple[Truth, Said | None]], claims: list[set[int]]) -> Found:
    own = [i for i, (truth, _) in enumerate(pairs) if truth["artefact"]]
    bogus = sum(said is not None and said.reason == "bogus" for _, said in (pairs[i] for i in own))
    return {
        "alerts": len(own),
        "called_bogus": _part(bogus, len(own)),
        "claimed_as_a_class": _part(sum(bool(claims[i]) for i in own), len(own)),
    }


def _latency(pairs: list[tuple[Truth, Said]]) -> Found | None:
    """Return percentiles, seconds since an alert was sent; None for a night that was not sent live."""
    published = [(said.published_ms - truth["sent_ms"]) / 1000.0 for truth, said in pairs]
    if not published or not 0 <= np.median(published) < LIVE_S:
        return None
    arrived = [(said.arrived_ms - t["sent_ms"]) / 1000.0 for t, said in pairs if said.arrived_ms >= 0]
    return {"published": _percentiles(published), "arrived": _percentiles(arrived) if arrived else None}


def _percentiles(seconds: list[float]) -> Found:
    p50, p90, p99, most = np.percentile(seconds, [50, 90, 99, 100]).tolist()
    return {"alerts": len(seconds), "p50_s": p50, "p90_s": p90, "p99_s": p99, "max_s": most}


def _part(some: int, all_of_them: int) -> float | None:
    return some / all_of_them if all_of_them else None
