"""``tocsin replay``: packets of archives or topics through the pipeline or as they are, to files or to Kafka."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from broker.cli import assemble
from broker.cli import sources as given
from broker.core.config import Settings, load
from broker.core.errors import TocsinError
from broker.core.metrics import Recorded
from broker.core.topics import Topics

if TYPE_CHECKING:
    from broker.archive.replay import Pace
    from broker.cli.sources import Sources
    from broker.deliver.loop import Totals
    from broker.deliver.notes import Notes
    from broker.deliver.types import Sink


DLQ_WINDOW = 1000


@click.command()
@given.options
@click.option("--to", "target", required=True, help="DIR, or 'kafka'; with --raw: DIR or kafka:TOPIC.")
@click.option("--topics", "prefix", help="First part of the topics to write (--to kafka); never the live prefix.")
@click.option("--raw", is_flag=True, help="Copy the packets' bytes (no key, no time stamp); nothing is decoded.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["avro", "parquet"]),
    default="avro",
    show_default=True,
    help="Of annotations in DIR; parquet has flat columns.",
)
@click.option("--dlq-limit", type=click.FloatRange(0, 1), help="Stop beyond this part of dead letters in 1,000.")
@click.option("--config", "config", type=click.Path(path_type=Path), help="TOML file with thresholds and models.")
@click.option("--brokers", help="Kafka's bootstrap servers.")
def replay(
    sources: tuple[str, ...],
    speed: Pace,
    since: float | None,
    until: float | None,
    limit: int | None,
    loop: bool,
    target: str,
    prefix: str | None,
    raw: bool,
    form: str,
    dlq_limit: float | None,
    config: Path | None,
    brokers: str | None,
) -> None:
    """Run the pipeline over archived packets: files, directories, ZTF's nightly tar.gz, or kafka:TOPIC.

    DIR gets annotations/*, dead_letters/*.avro and the manifest; products/*.avro too where [survey] feed asks for them.
    A replay that was stopped or killed goes on when the same command is run again, and one that is done adds nothing. A
    topic is read from its beginning to the end that it has at the start, committed messages only, without a consumer
    group and in the order of their time stamps. Dead letters do not stop a replay: it ends with 0 and prints how many.

    --speed original and --since look at the time of observation in the packets. A gap of more than a day is passed
    over, and what cannot be read goes with the packet before it. In rounds after the first, --loop gives new objects:
    ids are other numbers of the same width, the sky is turned, times are a day later a round; sizes stay.

    \b
    Example:
      tocsin replay ztf_public_20180819.tar.gz --to night/ --format parquet
      tocsin replay alerts/ --to kafka --topics test.20180819 --speed 10x
      tocsin replay kafka:ztf_20180819_programid1 --to night/ --since 2018-08-19T04:00 --limit 5000
      tocsin replay alerts/ --raw --to kafka:ztf_20180819_programid1 --speed 500 --loop
    """
    from broker.archive.replay import Selection

    settings = load(config, {"kafka.brokers": brokers})
    _check_target(target, raw, prefix, dlq_limit, form)
    _check_copy(target, settings)
    if target in sources:
        raise click.UsageError(f"{target} is a source of this replay")
    if target == "kafka":
        prefix = _checked_prefix(prefix, settings)
    none = Selection()
    chosen = Selection(none.since if since is None else since, none.until if until is None else until, limit, loop)
    found = given.sources(sources, settings, chosen, speed)
    if raw:
        _copy(found, target, settings)
    elif target == "kafka" and prefix:
        _to_kafka(found, prefix, settings, dlq_limit)
    else:
        _to_directory(found, Path(target), settings, dlq_limit, form)


def _check_target(target: str, raw: bool, prefix: str | None, dlq_limit: float | None, form: str) -> None:
    if raw and (prefix or dlq_limit is not None or target == "kafka"):
        raise click.UsageError("--raw goes to a DIR or to kafka:TOPIC, without --topics and --dlq-limit")
    if not raw and target.startswith("kafka:"):
        raise click.UsageError("--to kafka:TOPIC goes with --raw; annotations go --to kafka --topics PREFIX")
    if prefix and target != "kafka":
        raise click.UsageError("--topics goes with --to kafka")
    if form != "avro" and (raw or target.startswith("kafka")):
        raise click.UsageError(f"--format {form} is for annotations in a DIR")


def _check_copy(target: str, settings: Settings) -> None:
    """Refuse a copy to a live topic, or one whose ledger would be the live one."""
    live = settings.output.prefix
    if f"{target}.".startswith(f"kafka:{live}."):
        raise click.UsageError(f"{target} is among the live topics, {live}.*: a replay never writes to them")


def to_directory(paths: list[Path], directory: Path, settings: Settings) -> Totals:
    """Replay all of ``paths`` into ``directory`` with a live view, then print the recounted ledger.

    Raises
    ------
    TocsinError
        The ledger of the directory does not balance, or an archive is damaged.
    """
    from broker.archive.replay import Pace, Selection

    return _to_directory(given.Sources(paths, [], Selection(), Pace()), directory, settings, None, "avro")


def _to_directory(sources: Sources, directory: Path, settings: Settings, dlq_limit: float | None, form: str) -> Totals:
    from broker.cli.inputs import check_form, note_inputs
    from broker.deliver.files import FileSink
    from broker.deliver.notes import FileNotes
    from broker.deliver.recount import recount_directory

    check_form(directory, "annotation", form)
    topics = Topics(settings.output.prefix)
    note_inputs(directory, sources.names, whole=sources.is_whole, rounds=sources.selection.loop)
    flat = assemble.flat(settings) if form == "parquet" else None
    sent = frozenset(map(assemble.product_topics(settings).product, settings.survey.feed))
    sink = FileSink(directory, primary=assemble.primary(topics), parquet=flat, products=sent)
    totals = deliver(sources, sink, settings, topics, dlq_limit, FileNotes(directory / "in_flight.json"))
    _report(recount_directory(directory), totals)
    return totals


def deliver(
    sources: Sources, sink: Sink, settings: Settings, topics: Topics, dlq_limit: float | None, notes: Notes
) -> Totals:
    """Run the loop from ``sources`` to ``sink`` with a live view."""
    from broker.cli import live
    from broker.deliver.deadletters import Limits
    from broker.deliver.files import FileSource

    metrics = Recorded()
    primary = assemble.primary(topics)
    step = assemble.pipeline(settings, metrics, prefix=topics.prefix)
    view = live.Watched(step, primary, sources.total, Console(stderr=True))
    limits = None if dlq_limit is None else Limits(dlq_limit, DLQ_WINDOW, max_run=sys.maxsize)
    packets = sources.replay(settings, lambda n: view.progress.advance(view.progress.tasks[0].id, n)).packets
    bounds = assemble.bounds(settings)
    return live.deliver(FileSource(packets), view, sink, settings, metrics, bounds=bounds, notes=notes, limits=limits)


def _to_kafka(sources: Sources, prefix: str, settings: Settings, dlq_limit: float | None) -> None:
    """Replay into topics under ``prefix``; the ledger topic there is the progress, so that running again goes on."""
    from broker.deliver.kafka import KafkaNotes, KafkaSink
    from broker.deliver.recount import recount_kafka

    topics, kafka = Topics(prefix), settings.kafka.librdkafka()
    sink = KafkaSink(kafka, f"tocsin-replay-{prefix}", topics, registry=assemble.output_registry(settings), resume=True)
    totals = deliver(sources, sink, settings, topics, dlq_limit, KafkaNotes(kafka, topics, "replay"))
    _report(recount_kafka(kafka, topics), totals)


def _checked_prefix(prefix: str | None, settings: Settings) -> str:
    if not prefix:
        raise click.UsageError("--to kafka needs --topics PREFIX: a replay never writes to live topics")
    if prefix == settings.output.prefix:
        raise click.UsageError(f"--topics {prefix} is the live prefix: a replay never writes to live topics")
    return prefix


def _copy(sources: Sources, target: str, settings: Settings) -> None:
    """Copy packets untouched to a directory or a topic."""
    from broker.cli.live import AGAIN
    from broker.deliver.loop import stop_on_signals
    from broker.deliver.raw import copy_to_kafka

    if not target.startswith("kafka:"):
        _copy_to_directory(sources, Path(target), settings)
        return
    stop, topic = threading.Event(), target.removeprefix("kafka:")
    with stop_on_signals(stop), _bar(sources.total) as advance:
        packets = sources.replay(settings, advance).packets
        sent = copy_to_kafka(packets, settings.kafka.librdkafka(), topic, stop=stop, progress=advance)
    click.echo(f"{sent} packets sent to {target}")
    if stop.is_set():
        raise TocsinError(AGAIN)


def _copy_to_directory(sources: Sources, directory: Path, settings: Settings) -> None:
    from broker.deliver.raw import copy_to_directory, is_there

    with _bar(sources.total) as advance:
        replay = sources.replay(settings, advance, lambda packet: not is_there(packet, directory))
        written = copy_to_directory(replay.packets(lambda *_packet: False), directory, advance)
    click.echo(f"{written} packets written to {directory}, {replay.met - written} were there")


@contextmanager
def _bar(total: int | None) -> Iterator[Callable[[int], None]]:
    """Show a bar with the time that is left while the block runs; the function moves it."""
    columns = (TextColumn("packets"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]:.0f}/s"))
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=Console(stderr=True)) as progress:
        task = progress.add_task("packets", total=total, rate=0.0)

        def advance(packets: int) -> None:
            progress.advance(task, packets)
            shown = progress.tasks[0]
            progress.update(task, rate=shown.completed / max(shown.elapsed or 0.0, 1e-3))

        yield advance


def _report(found: dict[str, Any], totals: Totals) -> None:
    from broker.cli.ledger import table

    click.echo(table(found))
    click.echo(f"{totals.received} packets in this run, {totals.dead_lettered} dead letters")
    if not found["balanced"]:
        raise TocsinError("the ledger does not balance")
