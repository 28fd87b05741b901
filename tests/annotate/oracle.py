"""Annotations as Python records, an alert at a time: what the columnar encoder must equal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from broker.annotate import Findings
from broker.core.batch import AlertBatch, AnomalyScores, ClassScores, Floats, PacketBatch, Scores

Json = dict[str, Any]
BRANCHES = (2200, 2220, 2230, 2240, 2300, 2320, 2330)


def annotation_records(
    alerts: AlertBatch, packets: PacketBatch, findings: Findings, *, version: str, published_ms: int
) -> list[Json]:
    """Return one record of the annotation schema per alert."""
    stamps = {"brokerIngestTimestamp": packets.ingest_ms, "brokerPublishTimestamp": published_ms}
    broker = {"brokerName": "tocsin", "brokerVersion": version, **stamps}
    parts = zip(
        _alert_columns(alerts, findings),
        _classifiers(findings.scores.classifiers, len(alerts)),
        _anomaly(findings.scores.anomaly, len(alerts)),
        _points(alerts, findings),
        _summary(findings),
        _context(alerts, findings),
        _source(alerts, packets),
        _trees(findings.scores.classifiers, len(alerts)),
        _nearest(findings.scores, len(alerts)),
        strict=True,
    )
    return [
        {
            **alert,
            "classifiers": classifiers,
            "anomaly": anomaly,
            "points": points,
            "summary": summary,
            "context": context,
            "source": source,
            **broker,
            "trees": trees,
            "nearestClass": nearest,
        }
        for alert, classifiers, anomaly, points, summary, context, source, trees, nearest in parts
    ]


def _rows(**columns: Sequence[Any]) -> list[Json]:
    names = tuple(columns)
    return [dict(zip(names, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _nullable(values: NDArray[Any]) -> list[float | None]:
    """Return Python floats with None for NaN."""
    return [None if value != value else value for value in values.tolist()]  # noqa: PLR0124 - NaN is not itself


def _alert_columns(alerts: AlertBatch, findings: Findings) -> list[Json]:
    names = (*findings.bands, "")  # band -1 is the last
    return _rows(
        alertId=alerts.alert_id.tolist(),
        diaSourceId=alerts.dia_source_id.tolist(),
        objectId=alerts.object_id,
        survey=[alerts.survey] * len(alerts),
        outcome=["unscored" if reason else "scored" for reason in findings.reason],
        unscoredReason=[reason or None for reason in findings.reason],
        ra=alerts.ra_deg.tolist(),
        dec=alerts.dec_deg.tolist(),
        mjd=alerts.mjd.tolist(),
        band=[names[code] for code in alerts.band.tolist()],
        flux=_nullable(alerts.flux_njy),
        fluxErr=_nullable(alerts.flux_err_njy),
        surveyPublishTimestamp=[None if ms < 0 else ms for ms in alerts.published_ms.tolist()],
    )


def _classifiers(classifiers: list[ClassScores], alerts: int) -> list[list[Json]]:
    answers = [_classifier(scores) for scores in classifiers]
    return [list(row) for row in zip(*answers, strict=True)] if answers else [[] for _ in range(alerts)]


def _classifier(scores: ClassScores) -> list[Json]:
    model = {
        "classifierName": scores.name,
        "classifierVersion": scores.version,
        "classifierParams": scores.weights_hash,
    }
    rows = zip(scores.reason, scores.probabilities.tolist(), map(_nullable, scores.uncertainty), strict=True)
    return [
        {**model, "reason": reason, "classifications": []}
        if reason
        else {
            **model,
            "reason": None,
            "classifications": [
                {"classId": class_id, "probability": p, "uncertainty": u}
                for class_id, p, u in zip(scores.class_ids, probabilities, uncertainties, strict=True)
            ],
        }
        for reason, probabilities, uncertainties in rows
    ]


def _trees(classifiers: list[ClassScores], alerts: int) -> list[list[Json]]:
    return [[_tree(scores, row) for scores in classifiers] for row in range(alerts)]


def _tree(scores: ClassScores, row: int) -> Json:
    if scores.reason[row]:
        return {"prior": [], "branches": []}
    branches = [
        {
            "classId": branch,
            "probability": np.float32(
                sum(p for i, p in zip(scores.class_ids, scores.probabilities[row], strict=True) if branch in _above(i))
            ),
            "uncertainty": u,
        }
        for branch, u in zip(BRANCHES, _nullable(scores.branch_uncertainty[row]), strict=True)
    ]
    return {"prior": scores.prior.tolist(), "branches": branches}


def _above(class_id: int) -> tuple[int, int]:
    """Return the branches of a class, which its digits say."""
    return class_id // 100 * 100, class_id // 10 * 10


def _nearest(scores: Scores, alerts: int) -> list[int | None]:
    return [_nearest_of(scores, row) for row in range(alerts)]


def _nearest_of(scores: Scores, row: int) -> int | None:
    if scores.anomaly is None or scores.anomaly.reason[row]:
        return None
    if scores.anomaly.nearest is not None:
        return int(scores.anomaly.nearest[row]) or None
    if not scores.classifiers or scores.classifiers[-1].reason[row]:
        return None
    last = scores.classifiers[-1]
    found = dict(zip(last.class_ids, last.probabilities[row].tolist(), strict=True))
    return max((i for i in found if i not in (2242, 2243, 2232)), key=found.__getitem__)


def _anomaly(scores: AnomalyScores | None, alerts: int) -> list[Json | None]:
    if scores is None:
        return [None] * alerts
    model = {"modelName": scores.name, "modelVersion": scores.version, "modelParams": scores.weights_hash}
    parts = _rows(**{name: part.tolist() for name, part in scores.parts.items()})
    return [
        {**model, "reason": reason, "score": None, "parts": {}}
        if reason
        else {**model, "reason": None, "score": score, "parts": part}
        for reason, score, part in zip(scores.reason, scores.score.tolist(), parts, strict=True)
    ]


def _points(alerts: AlertBatch, findings: Findings) -> list[Json]:
    return _rows(
        used=findings.used.tolist(),
        notFinite=findings.not_finite.tolist(),
        unknownBand=findings.unknown_band.tolist(),
        duplicate=findings.duplicate.tolist(),
        notPublic=alerts.not_public.tolist(),
    )


def _by_band(bands: tuple[str, ...], values: Floats) -> list[dict[str, float]]:
    """Return a map of band name to value per alert, without the NaN ones; ``values`` is (A, B)."""
    return [
        {band: value for band, value in zip(bands, row, strict=True) if value == value}  # noqa: PLR0124 - NaN
        for row in values.tolist()
    ]


def _summary(findings: Findings) -> list[Json]:
    return _rows(
        nDetections=findings.counts[:, 0].tolist(),
        nForced=findings.counts[:, 1].tolist(),
        nLimits=findings.counts[:, 2].tolist(),
        firstMjd=_nullable(findings.first_mjd),
        lastMjd=_nullable(findings.last_mjd),
        lastMag=_by_band(findings.bands, findings.last_mag),
        riseRate=_by_band(findings.bands, findings.rise_rate),
    )


def _context(alerts: AlertBatch, findings: Findings) -> list[Json]:
    return _rows(
        realBogus=_nullable(alerts.real_bogus),
        starGalaxy=_nullable(alerts.star_galaxy),
        refDistance=_nullable(alerts.ref_distance_arcsec),
        solarSystem=alerts.solar_system.tolist(),
        solarSystemId=[name or None for name in alerts.solar_system_id],
        negative=alerts.negative.tolist(),
        repeated=findings.repeated.tolist(),
    )


def _source(alerts: AlertBatch, packets: PacketBatch) -> list[Json]:
    rows = alerts.rows
    return _rows(
        topic=[packets.topics[row] for row in rows.tolist()],
        partition=packets.partitions[rows].tolist(),
        offset=packets.offsets[rows].tolist(),
        timestamp=packets.timestamps_ms[rows].tolist(),
    )
