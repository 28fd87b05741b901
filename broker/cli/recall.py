"""``tocsin recall``: what was said of a simulated night against the truth."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table

from broker.cli import where as places
from broker.core.bands import SURVEYS
from broker.core.config import load
from broker.core.errors import TocsinError
from broker.core.topics import Topics

if TYPE_CHECKING:
    from broker.archive.recall import Heard

PIPED = 100
_CALL_S = 0.2
_ANSWER_S = 10.0


@click.command()
@places.options
@click.option("--truth", required=True, help="What simulate wrote: DIR.truth.jsonl, or kafka:TOPIC.truth.")
@click.option("--threshold", type=click.FloatRange(0, 1), help="Class probability; default: that of class topics.")
@click.option("--rank", type=click.FloatRange(0, 1), help="Anomaly rank; default: that of the anomaly topic.")
@click.option(
    "--follow",
    type=click.FloatRange(0, min_open=True),
    help="Read annotations as they come, until none came for so many seconds: latency to a subscriber.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def recall(
    where: str,
    config: Path | None,
    brokers: str | None,
    prefix: str | None,
    truth: str,
    threshold: float | None,
    rank: float | None,
    follow: float | None,
    as_json: bool,
) -> None:
    """Compare WHERE (the directory of a replay, or 'kafka') with the truth of a simulated night; 1: not all is there.

    Every alert that was sent must have its one end: an annotation, a dead letter if it was spoilt on purpose, a
    filtered offset if it is partnership data or a test. Recall and precision are of alerts whose class probability, by
    the average of the classifiers, is above the threshold; anomalies are superluminous supernovae, tidal disruptions
    and kilonovae. Latency is told of nights that were sent live: from sending to publishing, and with --follow (started
    before the night) to a reader of committed messages.

    \b
    Example:
      tocsin recall result/ --truth night.truth.jsonl
      tocsin recall kafka --truth kafka:ztf_night.truth --follow 30 --json
    """
    from broker.archive.recall import Heard, judge

    settings = load(config, {"kafka.brokers": brokers, "output.prefix": prefix})
    client, topics = settings.kafka.librdkafka(), Topics(settings.output.prefix)
    heard = Heard()
    if follow is not None:
        if where != "kafka":
            raise click.UsageError("--follow goes with kafka")
        _follow(heard, client, topics, follow)
    outputs = places.outputs(where, config, brokers, prefix)
    for record in outputs.annotations() if follow is None else ():
        heard.annotation(record)
    for record in outputs.dead_letters():
        heard.dead_letter(record)
    for record in outputs.ledgers():
        heard.ledger(record)
    output = settings.output
    found = judge(
        _truths(truth, client),
        heard,
        threshold=output.class_threshold if threshold is None else threshold,
        rank=output.anomaly_percentile if rank is None else rank,
    )
    if as_json:
        click.echo(json.dumps(found))
    else:
        _print(found)
    if not found["coverage"]["complete"]:
        raise click.exceptions.Exit(1)


def _truths(place: str, client: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the truth about every packet.

    Raises
    ------
    TocsinError
        There is none.
    """
    from broker.deliver.kafka.reader import read_messages

    if place.startswith("kafka:"):
        lines: Iterator[Any] = (m.value() for m in read_messages(client, [place.removeprefix("kafka:")]))
    else:
        try:
            lines = iter(Path(place).read_text("utf-8").splitlines())
        except OSError as error:
            raise TocsinError(f"cannot read the truth {place}: {error.strerror}") from error
    none = True
    for line in lines:
        none = False
        yield json.loads(line)
    if none:
        raise TocsinError(f"there is no truth in {place}")


def _follow(heard: Heard, client: dict[str, Any], topics: Topics, silence_s: float) -> None:
    """Take annotations as they are committed, until none came for a while; the clock starts with the first.

    Raises
    ------
    TocsinError
        Kafka does not answer, or refuses us.
    """
    from confluent_kafka import Consumer, KafkaError

    from broker.core import kafka, schemas
    from broker.deliver import librdkafka

    settings = librdkafka.reader(client) | {
        "group.id": f"tocsin-recall-{time.time_ns()}",
        "enable.partition.eof": False,
        "topic.metadata.refresh.interval.ms": 1000,
    }
    began_ms = time.time() * 1000
    refused = (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED)
    refusal = kafka.Refusal(client)
    consumer = kafka.client(Consumer, {**settings, "error_cb": refusal})
    last: float | None = None
    try:
        refusal.topics(consumer, _ANSWER_S)
        consumer.subscribe([topics.all(survey) for survey in SURVEYS])
        while last is None or time.monotonic() - last < silence_s:
            for message in consumer.consume(500, timeout=_CALL_S):
                if message.error() is not None:  # a topic that is not there yet, a server that is away
                    if message.error().code() in refused:
                        raise TocsinError(f"Kafka refuses to let us read annotations: {message.error().str()}")
                    continue
                last, now_ms = time.monotonic(), time.time_ns() // 1_000_000
                record = schemas.decode(message.value(), message.headers(), "annotation")
                fresh = record["brokerPublishTimestamp"].timestamp() * 1000 >= began_ms
                heard.annotation(record, now_ms if fresh else -1)
    finally:
        consumer.close()


def _print(found: dict[str, Any]) -> None:
    """Print the comparison for people."""
    console = Console(width=None if Console().is_terminal else PIPED)
    coverage = found["coverage"]
    ends = ", ".join(f"{n} {name.replace('_', '-')}" for name, n in coverage.items() if name != "complete")
    click.echo(f"coverage: {ends}: {'complete' if coverage['complete'] else 'NOT COMPLETE'}")
    shown = Table(title=f"classes above {found['threshold']}, anomalies above {found['rank']}", title_justify="left")
    for name in ("class", "alerts", "scored", "claimed", "recall", "precision", "objects", "found"):
        shown.add_column(name, justify="left" if name == "class" else "right")
    for slug, row in found["classes"].items():
        shown.add_row(slug, *(_text(value) for value in row.values()))
    rare = found["anomaly"]
    rows = (rare["rare_alerts"], None, rare["above"], *(rare[n] for n in ("recall", "precision")))
    shown.add_row("anomaly", *(_text(value) for value in (*rows, rare["objects"], rare["objects_found"])))
    console.print(shown)
    bogus = found["artefacts"]
    click.echo(
        f"artefacts: {bogus['alerts']}, called bogus {_text(bogus['called_bogus'])}, "
        f"claimed as a class {_text(bogus['claimed_as_a_class'])}"
    )
    for name, row in (found["latency"] or {}).items():
        if row is not None:
            figures = ", ".join(f"{key.removesuffix('_s')} {row[key]:.2f} s" for key in row if key != "alerts")
            click.echo(f"latency from sent to {name}, {row['alerts']} alerts: {figures}")


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}" if isinstance(value, float) else str(value)
