"""The plain way to build this broker: an alert at a time, with the libraries that everybody uses.

confluent-kafka reads, fastavro decodes with a cached schema, numpy columns, george fits and interpolates (L-BFGS-B with
its analytic gradient, the same grid and start), the same networks score, fastavro encodes the same annotation, and a
producer sends it in batches of its own. Offsets are committed after the answers are sent: at least once. What is ours
in it (survey conversions, merging of duplicates, networks) is what the outputs need to be the same.
"""

from __future__ import annotations

import io
import json
import signal
import threading
import time
from dataclasses import dataclass, field
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
from confluent_kafka import Consumer, Message, Producer

from broker import __version__
from broker.annotate import Findings
from broker.annotate import schema as annotation_schema
from broker.archive import simulate
from broker.cli import assemble
from broker.core.bands import SURVEYS
from broker.core.batch import AlertBatch, LightCurves, PacketBatch, Scores
from broker.core.config import Settings
from broker.core.reasons import Unscored
from broker.core.taxonomy import BY_ID, CLASSES
from broker.core.topics import Topics
from broker.decode import lsst, ztf
from broker.decode.fields import NULL, Kind, Projection, Tables, code
from broker.deliver.topics import create, specs
from broker.gp import interpolate
from broker.lightcurve import merge, summarize
from broker.score import Scorer
from tests.annotate.oracle import annotation_records

CONVERT = {"ztf": ztf, "lsst": lsst}
NOT_REAL = 0.3
CLASS_TOPIC, ANOMALY_TOPIC = 0.5, 0.99
FLUSH_EVERY = 200
Answer = tuple[str, bytes, bytes]


@dataclass(slots=True)
class Reader:
    """fastavro with the schema parsed once: a registry's, or a container's, whose header is looked up whole."""

    schema: Any = None
    _headers: dict[bytes, Any] = field(default_factory=dict)

    def __call__(self, value: bytes) -> Any:
        """Return the packet as a dictionary."""
        if self.schema is not None:
            return fastavro.schemaless_reader(io.BytesIO(value[5:]), self.schema, None)
        for header, schema in self._headers.items():
            if value.startswith(header):
                body = io.BytesIO(value)
                body.seek(len(header) + 16)  # the sync marker differs in every file
                fastavro.schemaless_reader(body, "long", None)  # records
                fastavro.schemaless_reader(body, "long", None)  # bytes
                return fastavro.schemaless_reader(body, schema, None)
        reader = fastavro.reader(io.BytesIO(value))
        sync = value[-16:]
        self._headers[value[: value.index(sync)]] = fastavro.parse_schema(reader.writer_schema)
        return next(reader)


@dataclass(slots=True)
class Plain:
    """A message of one survey to what is published about it.

    Attributes
    ----------
    survey : str
    reader : Reader
    scorer : Scorer
    topics : Topics
    seen : set of int
        Alert ids, to flag what comes again.
    """

    survey: str
    reader: Reader
    scorer: Scorer
    topics: Topics
    seen: set[int] = field(default_factory=set)

    def __call__(self, packet: PacketBatch) -> list[Answer]:
        """Return topic, key and value of each copy of the annotation of one packet; none of a test alert."""
        convert = CONVERT[self.survey]
        alert, curve, _ = convert.convert(tables(self.reader(packet.values[0]), convert.PROJECTION))
        if alert.test[0] or alert.programid[0] != 1:
            return []
        findings = self._findings(alert, curve)
        self.seen.add(int(alert.alert_id[0]))
        now = time.time_ns() // 1_000_000
        record = annotation_records(alert, packet, findings, version=__version__, published_ms=now)[0]
        value, key = annotation_schema(findings.scores).encode(record), alert.object_id[0].encode()
        return [(topic, key, value) for topic in self._copies(findings.scores)]

    def _findings(self, alert: AlertBatch, curve: LightCurves) -> Findings:
        survey = SURVEYS[self.survey]
        clean, dropped = merge(curve, len(survey.bands))
        summary = summarize(clean, len(survey.bands))
        reason = _unscorable(alert, clean)
        scores = self._scores(clean) if not reason else Scores([], None)
        return Findings(
            bands=survey.bands,
            scores=scores,
            reason=[reason or _reason(scores)],
            repeated=np.array([int(alert.alert_id[0]) in self.seen]),
            used=clean.counts,
            counts=summary.counts,
            first_mjd=summary.first_mjd,
            last_mjd=summary.last_mjd,
            last_mag=summary.last_mag,
            rise_rate=summary.rise_rate,
            not_finite=dropped.not_finite,
            unknown_band=dropped.unknown_band,
            duplicate=dropped.duplicate,
        )

    def _scores(self, clean: LightCurves) -> Scores:
        grid = self.scorer.grid(clean)
        wavelengths = SURVEYS[self.survey].wavelengths_aa
        return self.scorer(grid, interpolate(grid.curves, wavelengths, grid.times, solver="george"))

    def _copies(self, scores: Scores) -> list[str]:
        found = [self.topics.all(self.survey)]
        if scores.chosen is not None:
            ids, p = scores.chosen.class_ids, scores.chosen.probabilities[0]
            found += [self.topics.of_class(self.survey, BY_ID[ids[k]].slug) for k in np.flatnonzero(p > CLASS_TOPIC)]
        if scores.anomaly is not None and scores.anomaly.score[0] > ANOMALY_TOPIC:
            found.append(self.topics.anomaly(self.survey))
        return found


def _unscorable(alert: AlertBatch, clean: LightCurves) -> str:
    if alert.solar_system[0]:
        return Unscored.SOLAR_SYSTEM
    if alert.real_bogus[0] < NOT_REAL:
        return Unscored.BOGUS
    return "" if clean.counts[0] else Unscored.NO_POINTS


def _reason(scores: Scores) -> str:
    answers = [c.reason[0] for c in scores.classifiers] + ([scores.anomaly.reason[0]] if scores.anomaly else [])
    return answers[0] if answers and all(answers) else ""


def tables(record: dict[str, Any], projection: Projection) -> Tables:
    """Return the fields that we read of one decoded packet, in the form that the surveys' conversions take."""
    alert, body = [], b""
    for column in projection.alert:
        value: Any = record
        for name in column.path.split("."):
            value = value.get(name) if value else None
        if column.kind == Kind.SPAN:
            text = (value or "").encode()
            alert += [len(body), len(text)]
            body += text
        else:
            alert.append(_words([value], column.kind)[0])
    blocks = [projection.point_null[:1].copy()]
    for history in projection.histories:
        items = record.get(history.path) or []
        block = np.repeat(projection.point_null[history.tag][None], len(items), axis=0)
        for k, column in enumerate(history.columns):
            block[:, k] = _words([item.get(column.path) for item in items], column.kind)
        blocks.append(block)
    points = np.concatenate(blocks)
    first = np.array([0, len(points)])
    return Tables(np.zeros(1, np.int64), np.array([alert], np.int64), points, first, [body])


def _words(values: list[Any], kind: Kind) -> Any:
    if kind == Kind.FLOAT:
        return np.array(values, np.float64).view(np.int64)
    if kind == Kind.CODE:
        return [code(value) for value in values]
    return [NULL if value is None else int(value) for value in values]


def made(survey: str, settings: Settings) -> Plain:
    """Return the plain way with the configured models."""
    schema = None if survey == "ztf" else fastavro.parse_schema(json.loads(simulate.schema(survey)))
    return Plain(survey, Reader(schema), assemble.scorers(settings)[survey], Topics(settings.output.prefix))


def member(survey: str, settings: Settings, result: Path, together: Barrier) -> None:
    """Read, answer and commit until SIGTERM, as one of a group; write how many alerts were answered when."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    plain, client = made(survey, settings), settings.kafka.librdkafka()
    group = {"group.id": settings.source.group, "auto.offset.reset": "earliest", "enable.auto.offset.store": False}
    consumer = Consumer({**client, **group, "fetch.message.max.bytes": 16_000_000})
    producer = Producer({**client, "linger.ms": 50, "compression.type": "zstd", "log_level": 2})
    # Kafka makes none by itself: a message to a topic that is not there would hold up every flush.
    create(client, specs(plain.topics, [survey], [c.slug for c in CLASSES], 1, raw=False))
    together.wait(120.0)
    answered: list[tuple[float, int]] = []
    pending: list[Message] = []
    consumer.subscribe(
        settings.source.topics,
        on_revoke=lambda *_: _store(consumer, producer, pending),
        on_lost=lambda *_: pending.clear(),
    )
    while not stop.is_set():
        message = consumer.poll(0.2)
        if message is None or message.error() is not None:
            continue
        for topic, key, value in plain(_packet(message)):
            producer.produce(topic, value, key)
        producer.poll(0)
        pending.append(message)
        answered.append((time.time(), 1))
        if len(pending) >= FLUSH_EVERY:
            _store(consumer, producer, pending)
    _store(consumer, producer, pending)
    consumer.close()
    result.write_text(json.dumps({"commits": answered}))


def _store(consumer: Consumer, producer: Producer, pending: list[Message]) -> None:
    """Send what is left, then let the consumer commit what was answered."""
    producer.flush()
    for message in pending:
        consumer.store_offsets(message=message)
    pending.clear()


def _packet(message: Message) -> PacketBatch:
    return PacketBatch(
        [message.value()],
        [message.topic()],
        np.array([message.partition()], np.int32),
        np.array([message.offset()]),
        np.array([message.timestamp()[1]]),
        int(time.time() * 1000),
    )
