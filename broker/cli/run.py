"""``tocsin run``: the always-on service, Kafka to Kafka."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from broker.cli import assemble, candidates
from broker.cli.loading import loading
from broker.core import logs
from broker.core.config import Settings, load
from broker.core.errors import TocsinError
from broker.core.topics import Topics

if TYPE_CHECKING:
    from broker.core.metrics import Metrics
    from broker.core.outcomes import Step
    from broker.deliver.loop import Totals
    from broker.deliver.types import Bounds

log = logging.getLogger("tocsin.run")
TellReady = Callable[[Callable[[], bool]], None]
Service = Callable[["Settings", "Metrics", threading.Event, TellReady], "Totals"]


@click.command()
@click.option("--config", "config", type=click.Path(path_type=Path), help="TOML file; see deploy/config/.")
@click.option("--brokers", help="Kafka's bootstrap servers.")
@click.option("--topic", "topics", multiple=True, help="Source topic, instead of the configured ones; repeatable.")
@click.option("--group", help="Consumer group.")
@click.option("--prefix", help="First part of every topic that is written.")
@click.option(
    "--shadow", multiple=True, help="A candidate (name or folder) to score beside the live models; repeatable."
)
@click.option("--port", type=int, help="Port of /healthz, /readyz and /metrics; 0 takes a free one.")
def run(
    config: Path | None,
    brokers: str | None,
    topics: tuple[str, ...],
    group: str | None,
    prefix: str | None,
    shadow: tuple[str, ...],
    port: int | None,
) -> None:
    """Classify a survey's stream until SIGTERM: every packet becomes exactly one outcome, committed once.

    Kafka or a schema registry that is away is waited for. Exit 1 when going on would do harm (the text says why).
    What a --shadow says goes to PREFIX.shadow.MODEL.SURVEY, in the same transactions; no live byte depends on it.

    \b
    Example:
      TOCSIN_KAFKA__PASSWORD=... tocsin run --config ztf.toml
      tocsin run --config ztf.toml --shadow candidates/ztf-gru
    """
    settings = load(
        config,
        {
            "kafka.brokers": brokers,
            "source.topics": list(topics) or None,
            "source.group": group,
            "output.prefix": prefix,
            "score.shadow": list(shadow) or None,
            "serve.port": port,
        },
    )
    if not settings.source.topics:
        raise TocsinError("no source topics: give --topic NAME or [source] topics in the configuration")
    logs.configure(settings.run.log_level)
    serve(settings)


def serve(settings: Settings, what: Service | None = None) -> None:
    """Run the service with its page of health and metrics until it is told to stop; default: that of the stream."""
    from broker.deliver.loop import stop_on_signals
    from broker.serve.http import serving
    from broker.serve.metrics import Prometheus
    from broker.serve.stalled import Watched

    stop = threading.Event()
    prometheus = Prometheus()
    metrics = Watched(prometheus, settings.serve.stalled_after_s)
    state = State(metrics.why)
    host, wanted = settings.serve.host, settings.serve.port
    with ExitStack() as stack:
        stack.enter_context(stop_on_signals(stop))
        try:
            port = stack.enter_context(serving(host, wanted, prometheus.registry, state.why_not_ready))
        except OSError as error:
            raise TocsinError(
                f"cannot listen on {host}:{wanted} ({error.strerror}): --port 0 takes a free one"
            ) from error
        log.info("listening", extra={"host": settings.serve.host, "port": port})
        totals = (what or service)(settings, metrics, stop, state.assigned)
        log.info("stopped", extra={"received": totals.received, "batches": totals.batches})


class State:
    """What ``/readyz`` knows: whether the service has a source to read, and whether it moves.

    Parameters
    ----------
    stalled : callable
        Returns '' or why the stream does not move.
    """

    def __init__(self, stalled: Callable[[], str] = str) -> None:
        self._ready: Callable[[], bool] = lambda: False
        self._stalled = stalled

    def assigned(self, ready: Callable[[], bool]) -> None:
        """Take the source's own word for it."""
        self._ready = ready

    def why_not_ready(self) -> str:
        """Return '' or the reason."""
        if not self._ready():
            return "no assignment: Kafka is away, or the topics do not exist yet"
        return self._stalled()


def service(
    settings: Settings,
    metrics: Metrics,
    stop: threading.Event,
    tell_ready: TellReady = lambda _: None,
    timer: Callable[[], float] = time.perf_counter,
) -> Totals:
    """Build all parts of the stream and deliver until ``stop``; what `tocsin run` and the benches share.

    Raises
    ------
    TocsinError
        A model or a setting is wrong, or a limit is broken.
    """

    def make() -> Step:
        return assemble.pipeline(settings, metrics, shadows=candidates.shadows(settings), timer=timer)

    primary = assemble.primary(Topics(settings.output.prefix))
    return deliver(settings, metrics, stop, tell_ready, make, primary, assemble.bounds(settings))


def deliver(
    settings: Settings,
    metrics: Metrics,
    stop: threading.Event,
    tell_ready: TellReady,
    make: Callable[[], Step],
    primary: frozenset[str],
    bounds: Bounds,
) -> Totals:
    """Run the step that ``make`` returns from Kafka to Kafka until ``stop``.

    Raises
    ------
    TocsinError
        See `service`.
    """
    from broker.deliver.deadletters import Limits
    from broker.deliver.kafka import KafkaNotes, KafkaSink, KafkaSource, claim_member
    from broker.deliver.loop import run as loop

    topics = Topics(settings.output.prefix)
    kafka = settings.kafka.librdkafka()
    source = KafkaSource(
        kafka,
        topics=settings.source.topics,
        group=settings.source.group,
        nights=settings.source.nights,
        metrics=metrics,
    )
    tell_ready(lambda: source.assigned)
    with (
        closing(claim_member(settings.source.group, settings.run.cache_dir, settings.run.member)) as member,
        loading(make, stop) as step,
    ):
        return loop(
            source,
            step,
            KafkaSink(kafka, member.transactional_id, topics, registry=assemble.output_registry(settings)),
            metrics=metrics,
            bounds=bounds,
            limits=Limits(settings.dlq.max_ratio, settings.dlq.window, settings.dlq.max_run),
            primary=primary,
            member=member.name,
            stop=stop,
            drain_s=settings.run.drain_s,
            notes=KafkaNotes(kafka, topics, settings.source.group),
        )
