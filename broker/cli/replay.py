"""``tocsin replay``: archived packets through the pipeline, to files or to Kafka."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import track

from broker.cli import assemble
from broker.core.config import Settings, load
from broker.core.errors import TocsinError
from broker.core.metrics import Metrics, Recorded
from broker.core.topics import Topics

if TYPE_CHECKING:
    from broker.deliver.loop import Totals
    from broker.deliver.notes import Notes
    from broker.deliver.types import Sink


DLQ_WINDOW = 1000


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--to", "target", required=True, help="DIR, or 'kafka'; with --raw: DIR or kafka:TOPIC.")
@click.option("--topics", "prefix", help="First part of the topics to write (--to kafka); never the live prefix.")
@click.option("--raw", is_flag=True, help="Copy the packets untouched; nothing is decoded.")
@click.option("--dlq-limit", type=click.FloatRange(0, 1), help="Stop beyond this part of dead letters in 1,000.")
@click.option("--config", "config", type=click.Path(path_type=Path), help="TOML file with thresholds and models.")
@click.option("--brokers", help="Kafka's bootstrap servers.")
def replay(
    paths: tuple[Path, ...],
    target: str,
    prefix: str | None,
    raw: bool,
    dlq_limit: float | None,
    config: Path | None,
    brokers: str | None,
) -> None:
    """Run the pipeline over archived packets: files, directories, ZTF's nightly tar.gz.

    DIR gets annotations/*.avro, dead_letters/*.avro and the manifest; running it again adds nothing.
    Dead letters do not stop a replay: it ends with 0 and prints their number.

    \b
    Example:
      tocsin replay ztf_public_20180819.tar.gz --to night/
      tocsin replay alerts/ --to kafka --topics test.20180819
      tocsin replay alerts/ --raw --to kafka:ztf_20180819_programid1
    """
    settings = load(config, {"kafka.brokers": brokers})
    _check_target(target, raw, prefix, dlq_limit)
    if raw:
        _copy(list(paths), target, settings)
        return
    if target == "kafka":
        _to_kafka(list(paths), _checked_prefix(prefix, settings), settings, dlq_limit)
        return
    to_directory(list(paths), Path(target), settings, dlq_limit=dlq_limit)


def _check_target(target: str, raw: bool, prefix: str | None, dlq_limit: float | None) -> None:
    if raw and (prefix or dlq_limit is not None or target == "kafka"):
        raise click.UsageError("--raw goes to a DIR or to kafka:TOPIC, without --topics and --dlq-limit")
    if not raw and target.startswith("kafka:"):
        raise click.UsageError("--to kafka:TOPIC goes with --raw; annotations go --to kafka --topics PREFIX")
    if prefix and target != "kafka":
        raise click.UsageError("--topics goes with --to kafka")


def to_directory(paths: list[Path], directory: Path, settings: Settings, *, dlq_limit: float | None = None) -> Totals:
    """Replay ``paths`` into ``directory`` with a live view, then print the recounted ledger.

    Raises
    ------
    TocsinError
        The ledger of the directory does not balance, or an archive is damaged.
    """
    from broker.cli.ledger import note_inputs
    from broker.deliver.files import FileSink
    from broker.deliver.notes import FileNotes
    from broker.deliver.recount import recount_directory

    topics = Topics(settings.output.prefix)
    note_inputs(directory, paths)
    sink = FileSink(directory, primary=assemble.primary(topics))
    notes = FileNotes(directory / "in_flight.json")
    totals = deliver(paths, sink, settings, topics, Recorded(), dlq_limit, notes)
    _report(recount_directory(directory), totals)
    return totals


def deliver(
    paths: list[Path],
    sink: Sink,
    settings: Settings,
    topics: Topics,
    metrics: Metrics,
    dlq_limit: float | None,
    notes: Notes | None = None,
) -> Totals:
    """Run the loop from archives to ``sink`` with a live view."""
    from broker.archive import read
    from broker.cli.live import Watched
    from broker.deliver.deadletters import Limits
    from broker.deliver.files import FileSource
    from broker.deliver.loop import run, stop_on_signals

    stop = threading.Event()
    primary = assemble.primary(topics)
    step = assemble.pipeline(settings, metrics, prefix=topics.prefix)
    view = Watched(step, primary, read.estimate(paths), Console(stderr=True))
    limits = None if dlq_limit is None else Limits(dlq_limit, DLQ_WINDOW, max_run=sys.maxsize)
    with stop_on_signals(stop), view.shown():
        totals = run(
            FileSource(lambda skip: read.packets(paths, skip=skip)),
            view,
            sink,
            metrics=metrics,
            bounds=assemble.bounds(settings),
            limits=limits,
            primary=primary,
            stop=stop,
            drain_s=settings.run.drain_s,
            notes=notes,
        )
    if stop.is_set():
        raise TocsinError("stopped before the end; run the same command again to go on")
    return totals


def _to_kafka(paths: list[Path], prefix: str, settings: Settings, dlq_limit: float | None) -> None:
    """Replay into topics under ``prefix``; the ledger topic there is the progress, so that running again goes on."""
    from broker.deliver.kafka import KafkaNotes, KafkaSink
    from broker.deliver.recount import recount_kafka

    topics, kafka = Topics(prefix), settings.kafka.librdkafka()
    sink = KafkaSink(kafka, f"tocsin-replay-{prefix}", topics, registry=assemble.output_registry(settings), resume=True)
    totals = deliver(paths, sink, settings, topics, Recorded(), dlq_limit, KafkaNotes(kafka, topics, "replay"))
    _report(recount_kafka(kafka, topics), totals)


def _checked_prefix(prefix: str | None, settings: Settings) -> str:
    if not prefix:
        raise click.UsageError("--to kafka needs --topics PREFIX: a replay never writes to live topics")
    if prefix == settings.output.prefix:
        raise click.UsageError(f"--topics {prefix} is the live prefix: a replay never writes to live topics")
    return prefix


def _copy(paths: list[Path], target: str, settings: Settings) -> None:
    """Copy packets untouched to a directory or a topic."""
    from broker.archive import read
    from broker.deliver.raw import copy_to_directory, copy_to_kafka

    total = read.estimate(paths)
    packets = track(read.packets(paths), "packets", total or None, console=Console(stderr=True))
    if target.startswith("kafka:"):
        sent = copy_to_kafka(packets, settings.kafka.librdkafka(), target.removeprefix("kafka:"))
        click.echo(f"{sent} packets sent to {target}")
        return
    written, there = copy_to_directory(packets, Path(target))
    click.echo(f"{written} packets written to {target}, {there} were there")


def _report(found: dict[str, Any], totals: Totals) -> None:
    from broker.cli.ledger import table

    click.echo(table(found))
    click.echo(f"{totals.received} packets in this run, {totals.dead_lettered} dead letters")
    if not found["balanced"]:
        raise TocsinError("the ledger does not balance")
