"""From packets to outcomes: the one page where the stages meet. No I/O, no clock of its own.

packets -> decode -> operator's cuts -> merge -> science cuts -> grid -> GP -> score -> annotate -> outcomes
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from broker.annotate import Findings, messages, schema
from broker.core.bands import SURVEYS
from broker.core.batch import AlertBatch, AnomalyScores, ClassScores, Ints, LightCurves, PacketBatch, Scores
from broker.core.metrics import Metrics
from broker.core.outcomes import Outcomes, Record
from broker.core.reasons import Filtered, Outcome, Unscored
from broker.core.taxonomy import BY_ID
from broker.core.topics import Topics
from broker.core.units import tai_to_unix_ms
from broker.decode import Decoded, Decoder
from broker.gp import interpolate_on
from broker.lightcurve import Dropped, merge, summarize
from broker.score import GridRule, Scorer, Shadow, Tensors, build
from broker.sidecar.feed import Feed

AlertKey = tuple[str, int]
Inputs = dict[GridRule, tuple[Tensors, Ints]]
LOGGED = 10  # dead letters of a batch that are logged one by one; a storm must not fill the log

log = logging.getLogger("tocsin.pipeline")


@dataclass(frozen=True, slots=True)
class Cuts:
    """The operator's and the science's thresholds; see `broker.core.config.Cuts`."""

    drop_non_public: bool = True
    drop_test: bool = True
    drop_repeated: bool = False
    min_real_bogus: dict[str, float] = field(default_factory=lambda: {"ztf": 0.3, "lsst": 0.3})


@dataclass(frozen=True, slots=True)
class Publishing:
    """Where copies go; see `broker.core.config.Output`."""

    topics: Topics = field(default_factory=Topics)
    raw: bool = False
    class_threshold: float = 0.5
    anomaly_percentile: float = 0.99


@dataclass(frozen=True, slots=True)
class Recent:
    """The alert ids of the last ``limit`` alerts that were committed, to flag what a survey sends again."""

    limit: int = 200_000
    seen: dict[AlertKey, None] = field(default_factory=dict)

    def repeated(self, survey: str, alert_ids: Ints) -> NDArray[np.bool_]:
        """Return for each alert id (A,) whether it was seen before, in this batch or earlier."""
        _, first = np.unique(alert_ids, return_index=True)
        again = np.ones(len(alert_ids), np.bool_)
        again[first] = False
        known = np.array([(survey, alert_id) in self.seen for alert_id in alert_ids.tolist()], np.bool_)
        return again | known

    def add(self, keys: list[AlertKey]) -> None:
        """Remember ``keys``; the oldest are forgotten beyond the limit."""
        self.seen.update(dict.fromkeys(keys))
        for key in list(islice(self.seen, max(0, len(self.seen) - self.limit))):
            del self.seen[key]


@dataclass(slots=True)
class Pipeline:
    """The stream's `Step`: what the delivery loop runs on every batch.

    Attributes
    ----------
    decoder : Decoder
    scorers : dict of str to Scorer
        By survey; alerts of a survey without one are unscored with ``no_model``.
    shadows : dict of str to list of Shadow
        By survey; candidates whose annotations go to topics of their own. No live byte depends on them.
    feed : Feed or None
        What sends hosts' columns and stamps of classified alerts to sidecars.
    clock_ms : callable
        Unix ms UTC, for the annotations' publish time.
    timer : callable
        Seconds, for the stages' metric; the benches count CPU time instead.
    """

    decoder: Decoder
    scorers: dict[str, Scorer]
    metrics: Metrics
    version: str
    clock_ms: Callable[[], int]
    cuts: Cuts = field(default_factory=Cuts)
    publishing: Publishing = field(default_factory=Publishing)
    shadows: dict[str, list[Shadow]] = field(default_factory=dict)
    feed: Feed | None = None
    gp_solver: str = "fast"
    gp_threads: int = 1
    recent: Recent = field(default_factory=Recent)
    timer: Callable[[], float] = time.perf_counter
    _pending: list[AlertKey] = field(default_factory=list)
    _observed_ms: list[float] = field(default_factory=list)
    _shadow_failed: Counter[tuple[str, str]] = field(default_factory=Counter)
    _fed: Counter[tuple[str, str]] = field(default_factory=Counter)
    _said: set[tuple[str, str]] = field(default_factory=set)
    _answered: PacketBatch | None = None  # what the fields above are of

    def __call__(self, batch: PacketBatch) -> Outcomes:
        """Return one outcome per packet of ``batch``.

        Raises
        ------
        broker.core.errors.Wait
            A schema registry is away.
        """
        code = np.full(len(batch), Outcome.DEAD_LETTERED, np.int8)
        reason = [""] * len(batch)
        records: list[Record] = []
        self._answered = None
        with self._timed("decode"):
            decoded, dead = self.decoder(batch)
        for letter in dead:
            reason[letter.row] = letter.reason
        self._pending, self._observed_ms, self._shadow_failed, self._fed = [], [], Counter(), Counter()
        for part in decoded:
            records += self._survey(part, batch, code, reason)
        self._answered = batch
        return Outcomes(code, reason, records, dead)

    def committed(self, batch: PacketBatch, outcomes: Outcomes) -> None:
        """Remember the batch's alert ids, now that they are published, and how old the alerts are; log dead letters.

        A packet may be given up, and committed, without this step; then nothing was found out about it.
        """
        for letter in outcomes.dead[:LOGGED]:
            found = {"stage": letter.stage, "reason": letter.reason}
            log.warning("dead letter: %s", letter.text, extra={**_place(batch, letter.row), **found})
        if len(outcomes.dead) > LOGGED:
            log.warning("%d more dead letters in this batch", len(outcomes.dead) - LOGGED)
        if self._answered is not batch:
            return
        self.recent.add(self._pending)
        for (model, reason), alerts in self._shadow_failed.items():
            self.metrics.count("shadow_failed_total", alerts, model=model, reason=reason)
        for (kind, reason), products in self._fed.items():
            if reason:
                self.metrics.count("products_missing_total", products, kind=kind, reason=reason)
            else:
                self.metrics.count("products_sent_total", products, kind=kind)
        if self._observed_ms:
            age_s = (self.clock_ms() - float(np.median(self._observed_ms))) / 1000
            self.metrics.observe("alert_latency_seconds", max(0.0, age_s), since="observation")

    def _survey(self, part: Decoded, batch: PacketBatch, code: NDArray[np.int8], reason: list[str]) -> list[Record]:
        """Fill in ``code`` and ``reason`` for one survey's alerts and return what to publish."""
        alerts, curves = part.alerts, part.curves
        repeated = self.recent.repeated(alerts.survey, alerts.alert_id)
        self._pending += [(alerts.survey, alert_id) for alert_id in alerts.alert_id.tolist()]
        self._observed_ms += tai_to_unix_ms(alerts.mjd).tolist()
        filtered = self._filtered(alerts, repeated)
        for row, why in zip(alerts.rows.tolist(), filtered, strict=True):
            if why:
                code[row], reason[row] = Outcome.FILTERED, why
        kept = np.flatnonzero([not why for why in filtered])
        if len(kept) < len(alerts):
            alerts, curves, repeated = alerts.take(kept), curves.take(kept), repeated[kept]
        findings, *shadows = self._findings(alerts, curves, repeated)
        for row, why in zip(alerts.rows.tolist(), findings.reason, strict=True):
            code[row], reason[row] = (Outcome.UNSCORED if why else Outcome.SCORED), why
        self._log_failed(alerts, batch, findings.reason)
        with self._timed("annotate"):
            records = self._records(alerts, batch, findings)
        if self.feed is not None:
            with self._timed("feed"):
                products, counts = self.feed.records(alerts, batch, findings.scores)
            records += products
            self._fed += counts
        for shadow, found in zip(self.shadows.get(alerts.survey, ()), shadows, strict=True):
            with self._timed("shadow"):
                records += self._shadow_records(shadow, alerts, batch, found)
        return records

    def _log_failed(self, alerts: AlertBatch, batch: PacketBatch, reason: list[str]) -> None:
        """Log alerts whose numbers came out not finite: our failure, not the packet's."""
        failed = [i for i, why in enumerate(reason) if why == Unscored.BAD_FIT]
        for i in failed[:LOGGED]:
            row = int(alerts.rows[i])
            alert = {"survey": alerts.survey, "alert_id": int(alerts.alert_id[i]), "object_id": alerts.object_id[i]}
            log.warning("no finite score", extra={**alert, **_place(batch, row)})

    def _filtered(self, alerts: AlertBatch, repeated: NDArray[np.bool_]) -> list[str]:
        """Return the operator's reason to leave out each alert, or ''; the first that applies."""
        tests = [
            (Filtered.PROGRAMID, self.cuts.drop_non_public & (alerts.programid != 1)),
            (Filtered.TEST_ALERT, self.cuts.drop_test & alerts.test),
            (Filtered.REPEATED, self.cuts.drop_repeated & repeated),
        ]
        return _first_reason(len(alerts), tests)

    def _findings(self, alerts: AlertBatch, curves: LightCurves, repeated: NDArray[np.bool_]) -> list[Findings]:
        """Return what is found out about the alerts, then the same as each shadow sees it."""
        survey = SURVEYS[alerts.survey]
        with self._timed("light_curve"):
            clean, dropped = merge(curves, len(survey.bands))
            summary = summarize(clean, len(survey.bands))
        unscorable = self._unscorable(alerts, clean)
        live, *others = self._scores(alerts.survey, clean, unscorable)
        findings = Findings(
            bands=survey.bands,
            scores=live,
            reason=_packet_reasons(live, unscorable),
            repeated=repeated,
            used=clean.counts,
            counts=summary.counts,
            first_mjd=summary.first_mjd,
            last_mjd=summary.last_mjd,
            last_mag=summary.last_mag,
            rise_rate=summary.rise_rate,
            **_dropped_columns(dropped),
        )
        return [
            findings,
            *(replace(findings, scores=other, reason=_packet_reasons(other, unscorable)) for other in others),
        ]

    def _unscorable(self, alerts: AlertBatch, clean: LightCurves) -> list[str]:
        """Return why no scorer should see each alert, or ''; the first reason that applies."""
        threshold = self.cuts.min_real_bogus.get(alerts.survey, 0.0)
        tests = [
            (Unscored.SOLAR_SYSTEM, alerts.solar_system),
            (Unscored.BOGUS, alerts.real_bogus < threshold),  # an alert without the column is not called bogus
            (Unscored.NO_POINTS, clean.counts == 0),
        ]
        return _first_reason(len(alerts), tests)

    def _scores(self, survey: str, clean: LightCurves, unscorable: list[str]) -> list[Scores]:
        """Return the live scores of all alerts, then each shadow's; ``unscorable`` (A,) is every scorer's reason."""
        rows = np.flatnonzero([not why for why in unscorable])
        curves = clean.take(rows)
        inputs: Inputs = {}
        scores = [Scores([], None)]
        if (scorer := self.scorers.get(survey)) is not None:
            tensors = self._tensors(survey, scorer, curves, inputs)
            with self._timed("score"):
                scores = [scorer.answer(*tensors)]
        for shadow in self.shadows.get(survey, ()):
            with self._timed("shadow"):
                scores.append(self._shadowed(survey, shadow, curves, inputs, scores[0]))
        return [
            Scores(
                [_spread_classes(c, rows, unscorable) for c in found.classifiers],
                _spread_anomaly(found.anomaly, rows, unscorable) if found.anomaly else None,
            )
            for found in scores
        ]

    def _tensors(self, survey: str, scorer: Scorer, curves: LightCurves, inputs: Inputs) -> tuple[Tensors, Ints]:
        """Return what a scorer reads: out of ``inputs`` where another one has asked for the same grid."""
        if scorer.rule not in inputs:
            with self._timed("grid"):
                grid = scorer.grid(curves)
            with self._timed("gp"):
                wavelengths = SURVEYS[survey].wavelengths_aa
                made = interpolate_on(self.gp_threads, grid.curves, wavelengths, grid.times, solver=self.gp_solver)
            with self._timed("tensors"):
                others = (shadow.scorer for shadow in self.shadows.get(survey, ()))
                epochs = any(one.reads_epochs for one in (scorer, *others))
                inputs[scorer.rule] = build(grid, made, epochs=epochs), grid.n_detections
        return inputs[scorer.rule]

    def _shadowed(self, survey: str, shadow: Shadow, curves: LightCurves, inputs: Inputs, live: Scores) -> Scores:
        """Return a shadow's answer; whatever its code raises is a reason on its own alerts."""
        try:
            own = shadow.answer(*self._tensors(survey, shadow.scorer, curves, inputs))
        except Exception as error:
            if (kind := (shadow.name, type(error).__name__)) not in self._said:  # the metric counts the others
                log.exception("the shadow %s failed; the live stream goes on", shadow.name)
            self._said.add(kind)
            own = shadow.failed(len(curves))
        for reasons in zip(*_reasons(own), strict=True):
            for failed in {Unscored.BAD_FIT, Unscored.SHADOW_FAILED}.intersection(reasons):
                self._shadow_failed[shadow.name, failed] += 1
        return shadow.beside(live, own)

    def _shadow_records(self, shadow: Shadow, alerts: AlertBatch, batch: PacketBatch, found: Findings) -> list[Record]:
        values = messages(alerts, batch, found, version=self.version, published_ms=self.clock_ms())
        topic, headers = self.publishing.topics.shadow(shadow.name, alerts.survey), schema(found.scores).headers
        rows = zip(values, alerts.object_id, alerts.rows.tolist(), strict=True)
        return [Record(row, topic, object_id.encode(), value, headers) for value, object_id, row in rows]

    def _records(self, alerts: AlertBatch, batch: PacketBatch, findings: Findings) -> list[Record]:
        values = messages(alerts, batch, findings, version=self.version, published_ms=self.clock_ms())
        headers = schema(findings.scores).headers
        records = []
        destinations = self._destinations(alerts.survey, findings.scores, len(alerts))
        for value, object_id, row, copies in zip(
            values, alerts.object_id, alerts.rows.tolist(), destinations, strict=True
        ):
            key = object_id.encode()
            records += [Record(row, topic, key, value, headers) for topic in copies]
            if self.publishing.raw:
                records.append(Record(row, self.publishing.topics.raw(alerts.survey), key, batch.values[row]))
        return records

    def _destinations(self, survey: str, scores: Scores, alerts: int) -> list[list[str]]:
        """Return the topics of each alert's annotation: the survey's ``all``, then classes, then anomalies."""
        topics = self.publishing.topics
        found = [[topics.all(survey)] for _ in range(alerts)]
        if (chosen := scores.chosen) is not None:  # NaN where it gave no answer: no class topic then
            for row, column in np.argwhere(chosen.probabilities > self.publishing.class_threshold).tolist():
                found[row].append(topics.of_class(survey, BY_ID[chosen.class_ids[column]].slug))
        if scores.anomaly is not None:
            for row in np.flatnonzero(scores.anomaly.score > self.publishing.anomaly_percentile).tolist():
                found[row].append(topics.anomaly(survey))
        return found

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        start = self.timer()
        yield
        self.metrics.observe("stage_seconds", self.timer() - start, stage=stage)


def _place(batch: PacketBatch, row: int) -> dict[str, object]:
    """Return where a packet came from, for the log."""
    return {
        "topic": batch.topics[row],
        "partition": int(batch.partitions[row]),
        "offset": int(batch.offsets[row]),
    }


def _first_reason(alerts: int, tests: Sequence[tuple[str, NDArray[np.bool_]]]) -> list[str]:
    """Return for each alert the name of the first test (A,) that is true, or ''."""
    reasons = np.full(alerts, "", dtype=object)
    for name, hit in reversed(tests):
        reasons[hit] = str(name)
    return [str(reason) for reason in reasons]


def _packet_reasons(scores: Scores, unscorable: list[str]) -> list[str]:
    """Return '' for packets with at least one score, else the reason of the first scorer."""
    if not (answers := _reasons(scores)):
        return [why or Unscored.NO_MODEL for why in unscorable]
    return [reasons[0] if all(reasons) else "" for reasons in zip(*answers, strict=True)]


def _reasons(scores: Scores) -> list[list[str]]:
    """Return each scorer's reasons (A,)."""
    return [c.reason for c in scores.classifiers] + ([scores.anomaly.reason] if scores.anomaly else [])


def _dropped_columns(dropped: Dropped) -> dict[str, Ints]:
    return {
        "not_finite": dropped.not_finite,
        "unknown_band": dropped.unknown_band,
        "duplicate": dropped.duplicate,
    }


def _spread_reason(reason: list[str], rows: Ints, unscorable: list[str]) -> list[str]:
    spread = list(unscorable)
    for row, why in zip(rows.tolist(), reason, strict=True):
        spread[row] = why
    return spread


def _spread(values: NDArray[np.float32], rows: Ints, alerts: int) -> NDArray[np.float32]:
    """Return ``values`` (n, ...) at ``rows`` of an otherwise NaN array (A, ...)."""
    spread = np.full((alerts, *values.shape[1:]), np.nan, np.float32)
    spread[rows] = values
    return spread


def _spread_classes(scores: ClassScores, rows: Ints, unscorable: list[str]) -> ClassScores:
    return replace(
        scores,
        probabilities=_spread(scores.probabilities, rows, len(unscorable)),
        uncertainty=_spread(scores.uncertainty, rows, len(unscorable)),
        branch_uncertainty=_spread(scores.branch_uncertainty, rows, len(unscorable)),
        reason=_spread_reason(scores.reason, rows, unscorable),
    )


def _spread_anomaly(scores: AnomalyScores, rows: Ints, unscorable: list[str]) -> AnomalyScores:
    nearest = None
    if scores.nearest is not None:
        nearest = np.zeros(len(unscorable), np.int64)
        nearest[rows] = scores.nearest
    return replace(
        scores,
        score=_spread(scores.score, rows, len(unscorable)),
        parts={name: _spread(part, rows, len(unscorable)) for name, part in scores.parts.items()},
        reason=_spread_reason(scores.reason, rows, unscorable),
        nearest=nearest,
    )
