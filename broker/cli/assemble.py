"""Settings to working parts: the one place that wires stages, models and delivery together."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from broker import __version__
from broker.core.batch import FilePacket, PacketBatch
from broker.core.config import Settings
from broker.core.metrics import Metrics
from broker.core.topics import Topics

if TYPE_CHECKING:
    from broker.core.outcomes import Step
    from broker.decode import Decoder, SchemaStore
    from broker.decode import Registry as SchemaRegistry
    from broker.decode.schemas import Ids
    from broker.deliver.files import Parquet
    from broker.deliver.parquet import Flat
    from broker.deliver.registry import Registry
    from broker.deliver.types import Bounds
    from broker.pipeline import Pipeline
    from broker.score import Scorer, Shadow
    from broker.sidecar.feed import Feed


def now_ms() -> int:
    """Return Unix milliseconds UTC: the only clock of the pipeline."""
    return time.time_ns() // 1_000_000


def batch_of(packets: list[FilePacket]) -> PacketBatch:
    """Return packets of files as one batch, without delivery's bookkeeping."""
    from broker.deliver.files import batch_of as made

    return made(packets, now_ms())


def store(settings: Settings) -> SchemaStore:
    """Return the configured sources of the surveys' schemas."""
    from broker.decode import SchemaStore

    url = settings.registry.survey_url
    return SchemaStore(_registry(url, settings) if url else None, settings.run.cache_dir / "schemas")


def product_ids(settings: Settings) -> Ids:
    """Return the writer schemas of products on topics, by wire id: our registry's where we have one."""
    from broker.decode import SchemaStore
    from broker.sidecar.framing import Installed

    url = settings.registry.output_url
    if url is None:
        return Installed()
    return SchemaStore(_registry(url, settings), settings.run.cache_dir / "schemas", package=False)


def _registry(url: str, settings: Settings) -> SchemaRegistry:
    from broker.decode import Registry

    chosen = settings.registry
    auth = (chosen.username, chosen.password.get_secret_value()) if chosen.username and chosen.password else None
    return Registry(url, auth)


def decoder(settings: Settings) -> Decoder:
    """Return a decoder with the configured schema sources."""
    from broker.decode import Decoder

    return Decoder(store(settings))


def flat(settings: Settings) -> Flat:
    """Return what writes annotations of the configured models as flat columns."""
    from broker.deliver.parquet import Flat
    from broker.score.card import locate

    classifiers = settings.score.classifiers
    averages = [f"{survey}-average" for survey, models in classifiers.items() if len(models) > 1]
    return Flat((*(locate(model)[0] for models in classifiers.values() for model in models), *averages))


def scorers(settings: Settings) -> dict[str, Scorer]:
    """Return the configured models of every survey that has any."""
    from broker.score import Scorer

    chosen = settings.score
    return {
        survey: Scorer.load(
            survey,
            names,
            chosen.anomaly[survey] or None,
            device=chosen.device,
            threads=chosen.threads,
            min_detections_classify=settings.cuts.min_detections_classify,
            min_detections_anomaly=settings.cuts.min_detections_anomaly,
        )
        for survey, names in chosen.classifiers.items()
        if names or chosen.anomaly[survey]
    }


def pipeline(
    settings: Settings,
    metrics: Metrics,
    *,
    prefix: str | None = None,
    shadows: dict[str, list[Shadow]] | None = None,
    timer: Callable[[], float] = time.perf_counter,
) -> Pipeline:
    """Return the stream's step.

    Parameters
    ----------
    prefix : str
        First part of every topic, instead of the configured one.
    shadows : dict of str to list of Shadow
        Candidates beside the live models, see `broker.cli.candidates`.
    timer : callable
        Seconds, for the stages' metric.
    """
    from broker.decode import Decoder
    from broker.pipeline import Cuts, Pipeline, Publishing

    output, cuts, schemas = settings.output, settings.cuts, store(settings)
    return Pipeline(
        decoder=Decoder(schemas),
        scorers=scorers(settings),
        metrics=metrics,
        version=__version__,
        clock_ms=now_ms,
        cuts=Cuts(cuts.drop_non_public, cuts.drop_test, cuts.drop_repeated, dict(cuts.min_real_bogus)),
        publishing=Publishing(
            Topics(prefix or output.prefix), output.raw, output.class_threshold, output.anomaly_percentile
        ),
        shadows=shadows or {},
        feed=feed(settings, schemas, prefix),
        gp_solver=settings.score.gp_solver,
        gp_threads=settings.score.gp_threads,
        timer=timer,
    )


def product_topics(settings: Settings, prefix: str | None = None) -> Topics:
    """Return the names of what sidecars read and write; those of a replay, with a ``prefix``, are below its own."""
    live = prefix in (None, settings.output.prefix)
    return Topics(settings.survey.prefix if live else f"{prefix}.{settings.survey.prefix}")


def feed(settings: Settings, schemas: SchemaStore, prefix: str | None) -> Feed | None:
    """Return what sends products to sidecars; None where the configuration asks for none."""
    from broker.core.taxonomy import CLASSES
    from broker.decode import details
    from broker.sidecar.feed import Feed
    from broker.sidecar.product import Kind

    chosen = settings.survey
    if not chosen.feed:
        return None
    return Feed(
        topics=product_topics(settings, prefix),
        kinds=tuple(Kind(kind) for kind in chosen.feed),
        class_ids=frozenset(one.id for one in CLASSES if one.slug in chosen.classes),
        threshold=chosen.threshold,
        ask=partial(details, schemas=schemas, stamps="cutout" in chosen.feed),
    )


@dataclass(frozen=True, slots=True)
class Work:
    """What the delivery loop runs, and what comes of it.

    Attributes
    ----------
    step : Step
    primary : frozenset of str
        Topics of which every packet that is no dead letter has exactly one record.
    schema : str
        Of those records.
    flat : callable
        Returns what writes them as flat columns.
    bounds : Bounds
        Of a batch.
    """

    step: Step
    primary: frozenset[str]
    schema: str
    flat: Callable[[], Parquet]
    bounds: Bounds


def work(settings: Settings, metrics: Metrics) -> Work:
    """Return the stream's step and what comes of it."""
    topics = Topics(settings.output.prefix)
    return Work(pipeline(settings, metrics), primary(topics), "annotation", lambda: flat(settings), bounds(settings))


def output_registry(settings: Settings) -> Registry | None:
    """Return where our schemas are registered, if anywhere."""
    from broker.deliver.registry import Registry

    chosen = settings.registry
    if chosen.output_url is None:
        return None
    password = chosen.password.get_secret_value() if chosen.password else None
    return Registry(chosen.output_url, chosen.username, password, settings.run.cache_dir / "registered")


def bounds(settings: Settings) -> Bounds:
    """Return the bounds of a micro-batch."""
    from broker.deliver.types import Bounds

    return Bounds(settings.batch.max_alerts, settings.batch.max_bytes, settings.batch.max_wait_ms / 1000)


def primary(topics: Topics) -> frozenset[str]:
    """Return the topics of which every annotated packet has exactly one record."""
    from broker.core.bands import SURVEYS

    return frozenset(topics.all(survey) for survey in SURVEYS)
