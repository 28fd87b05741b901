"""What Tocsin says of each alert: columns in, messages of our annotation schema out, without an object per alert.

The order of the fields is that of ``schemas/annotation``; tests compare with records that fastavro writes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from broker.annotate.columns import (
    Column,
    booleans,
    constant,
    doubles,
    floats,
    joined,
    longs,
    nullable,
    text,
    texts,
)
from broker.core.batch import AlertBatch, AnomalyScores, ClassScores, Floats, Ints, PacketBatch, Scores
from broker.core.schemas import OwnSchema, frame_prefix, versions
from broker.core.taxonomy import BRANCH_IDS, RARE, over_branches

END = b"\0"  # of an array or a map; also an empty one
NAME = "tocsin"


@dataclass(frozen=True, slots=True)
class Findings:
    """Everything that the stages found out about A alerts of one survey.

    Attributes
    ----------
    bands : tuple of str, (B,)
    scores : Scores
        Of the same A alerts.
    reason : list of str, (A,)
        '' for alerts with at least one score, else why there is none.
    repeated : (A,) bool
        The survey sent the alert id before.
    used, not_finite, unknown_band, duplicate : (A,) int64
        Points, see the schema.
    counts : (A, 3) int64
        Detections, forced points, limits.
    first_mjd, last_mjd : (A,) float64
    last_mag, rise_rate : (A, B) float64
        NaN where there is none.
    """

    bands: tuple[str, ...]
    scores: Scores
    reason: list[str]
    repeated: NDArray[np.bool_]
    used: Ints
    not_finite: Ints
    unknown_band: Ints
    duplicate: Ints
    counts: NDArray[np.int64]
    first_mjd: Floats
    last_mjd: Floats
    last_mag: Floats
    rise_rate: Floats


def schema(scores: Scores) -> OwnSchema:
    """Return the version of the annotation schema that `messages` writes: the oldest that says all of it.

    Where no model is configured there is nothing that 1.0 does not say.
    """
    return versions("annotation")["1.1" if scores.classifiers or scores.anomaly else "1.0"]


def messages(
    alerts: AlertBatch, packets: PacketBatch, findings: Findings, *, version: str, published_ms: int
) -> list[bytes]:
    """Return one annotation per alert in the wire format, in the order of ``alerts``.

    Parameters
    ----------
    packets : PacketBatch
        The batch that ``alerts.rows`` points into.
    version : str
        Version of tocsin.
    published_ms : int
        Unix ms UTC, now.
    """
    if not len(alerts):
        return []
    n = len(alerts)
    broker = longs([packets.ingest_ms, published_ms]).data.tobytes() + text(NAME) + text(version)
    written = schema(findings.scores)
    return joined(
        constant(frame_prefix(written.default_id), n),
        _alert(alerts, findings),
        _classifiers(findings.scores.classifiers, n),
        _anomaly(findings.scores.anomaly, n),
        _points(alerts, findings),
        _summary(findings),
        _context(alerts, findings),
        _source(alerts, packets),
        nullable(longs(alerts.published_ms), alerts.published_ms >= 0),
        constant(broker, n),
        *(() if written.version == "1.0" else _of_1_1(findings.scores, n)),
    ).rows()


def _alert(alerts: AlertBatch, findings: Findings) -> Column:
    bands = (*findings.bands, "")  # band -1 is the last
    reasons = texts(findings.reason)
    unscored = np.array([bool(reason) for reason in findings.reason])
    return joined(
        longs(alerts.alert_id),
        longs(alerts.dia_source_id),
        texts(alerts.object_id),
        constant(text(alerts.survey), len(alerts)),
        texts(["unscored" if reason else "scored" for reason in findings.reason]),
        nullable(reasons, unscored),
        doubles(alerts.ra_deg),
        doubles(alerts.dec_deg),
        doubles(alerts.mjd),
        texts([bands[code] for code in alerts.band.tolist()]),
        _number(doubles(alerts.flux_njy), alerts.flux_njy),
        _number(doubles(alerts.flux_err_njy), alerts.flux_err_njy),
    )


def _number(column: Column, values: NDArray[np.floating]) -> Column:
    """Return a nullable column, null for NaN and infinity."""
    return nullable(column, np.isfinite(values))


def _classifiers(classifiers: list[ClassScores], rows: int) -> Column:
    if not classifiers:
        return constant(END, rows)
    count = longs([len(classifiers)]).data.tobytes()
    return joined(constant(count, rows), *(_classifier(c, rows) for c in classifiers), constant(END, rows))


def _classifier(scores: ClassScores, rows: int) -> Column:
    scored = np.array([not reason for reason in scores.reason])
    model = text(scores.name) + text(scores.version) + text(scores.weights_hash)
    items: list[Column] = [constant(longs([len(scores.class_ids)]).data.tobytes(), rows)]
    for k, class_id in enumerate(scores.class_ids):
        items.append(constant(longs([class_id]).data.tobytes(), rows))
        items.append(floats(scores.probabilities[:, k]))
        items.append(_number(floats(scores.uncertainty[:, k]), scores.uncertainty[:, k]))
    return joined(
        constant(model, rows),
        nullable(texts(scores.reason), ~scored),
        joined(*items).where(scored),
        constant(END, rows),
    )


def _anomaly(scores: AnomalyScores | None, rows: int) -> Column:
    if scores is None:
        return constant(b"\0", rows)
    scored = np.array([not reason for reason in scores.reason])
    model = b"\2" + text(scores.name) + text(scores.version) + text(scores.weights_hash)
    return joined(
        constant(model, rows),
        nullable(texts(scores.reason), ~scored),
        nullable(floats(scores.score), scored),
        _map({name: np.where(scored, part, np.nan) for name, part in scores.parts.items()}),
    )


def _of_1_1(scores: Scores, rows: int) -> tuple[Column, ...]:
    """Return the fields that version 1.1 adds."""
    known = nearest(scores, rows)
    trees = [_tree(c, rows) for c in scores.classifiers]
    count = longs([len(trees)]).data.tobytes() if trees else b""
    return (
        joined(constant(count, rows), *trees, constant(END, rows)),
        nullable(longs(known), known != 0),
    )


def nearest(scores: Scores, rows: int) -> Ints:
    """Return the class (A,) that an alert with an anomaly score is nearest to, 0 for none.

    Where the anomaly's model does not say, it is the likeliest class that is not `RARE`.
    """
    strange, chosen = scores.anomaly, scores.chosen
    if strange is None or (strange.nearest is None and chosen is None):
        return np.zeros(rows, np.int64)
    scored = np.array([not reason for reason in strange.reason], np.bool_)
    if strange.nearest is not None:
        return np.where(scored, strange.nearest, 0)
    assert chosen is not None  # for mypy
    ids = np.array(chosen.class_ids)
    likeliest = np.where(np.isin(ids, list(RARE)), -1.0, chosen.probabilities).argmax(axis=1)
    scored &= np.array([not reason for reason in chosen.reason], np.bool_)
    return np.where(scored, ids[likeliest], 0)


def _tree(scores: ClassScores, rows: int) -> Column:
    scored = np.array([not reason for reason in scores.reason])
    prior = longs([len(scores.prior)]).data.tobytes() + floats(scores.prior).data.tobytes()
    sums = over_branches(scores.probabilities, scores.class_ids)
    items: list[Column] = [constant(longs([len(BRANCH_IDS)]).data.tobytes(), rows)]
    for n, branch_id in enumerate(BRANCH_IDS):
        items.append(constant(longs([branch_id]).data.tobytes(), rows))
        items.append(floats(sums[:, n]))
        items.append(_number(floats(scores.branch_uncertainty[:, n]), scores.branch_uncertainty[:, n]))
    return joined(
        constant(prior, rows).where(scored),
        constant(END, rows),
        joined(*items).where(scored),
        constant(END, rows),
    )


def _map(values: dict[str, NDArray[np.floating]]) -> Column:
    """Return a map of float from columns (A,) by key, without the entries that are not finite."""
    there = {key: np.isfinite(column) for key, column in values.items()}
    count = np.sum(list(there.values()), axis=0)
    entries = [
        joined(constant(text(key), len(count)), floats(values[key])).where(present) for key, present in there.items()
    ]
    return joined(longs(count).where(count > 0), *entries, constant(END, len(count)))


def _points(alerts: AlertBatch, findings: Findings) -> Column:
    return joined(
        longs(findings.used),
        longs(findings.not_finite),
        longs(findings.unknown_band),
        longs(findings.duplicate),
        longs(alerts.not_public),
    )


def _summary(findings: Findings) -> Column:
    return joined(
        longs(findings.counts[:, 0]),
        longs(findings.counts[:, 1]),
        longs(findings.counts[:, 2]),
        _number(doubles(findings.first_mjd), findings.first_mjd),
        _number(doubles(findings.last_mjd), findings.last_mjd),
        _map(dict(zip(findings.bands, findings.last_mag.T, strict=True))),
        _map(dict(zip(findings.bands, findings.rise_rate.T, strict=True))),
    )


def _context(alerts: AlertBatch, findings: Findings) -> Column:
    named = np.array([bool(name) for name in alerts.solar_system_id])
    return joined(
        _number(floats(alerts.real_bogus), alerts.real_bogus),
        _number(floats(alerts.star_galaxy), alerts.star_galaxy),
        _number(floats(alerts.ref_distance_arcsec), alerts.ref_distance_arcsec),
        booleans(alerts.solar_system),
        nullable(texts(alerts.solar_system_id), named),
        booleans(alerts.negative),
        booleans(findings.repeated),
    )


def _source(alerts: AlertBatch, packets: PacketBatch) -> Column:
    rows = alerts.rows
    return joined(
        texts([packets.topics[row] for row in rows.tolist()]),
        longs(packets.partitions[rows]),
        longs(packets.offsets[rows]),
        longs(packets.timestamps_ms[rows]),
    )
