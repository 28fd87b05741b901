"""``tocsin dlq``: look at dead letters, and try them again."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import click

from broker.cli import assemble, letterpage
from broker.cli import where as places
from broker.core.errors import TocsinError

if TYPE_CHECKING:
    from broker.core.config import Settings
    from broker.deliver.loop import Totals
    from broker.deliver.outputs import Outputs
    from broker.deliver.retry import Letter


@click.group()
def dlq() -> None:
    """Look at dead letters (packets that could not be understood, with their bytes and the reason); try them again.

    \b
    Example:
      tocsin dlq list out/
      tocsin dlq retry kafka --reason unknown_schema
    """


@dlq.command("list")
@places.options
@click.option("--reason", help="Only dead letters of this reason.")
@click.option("--open", "only_open", is_flag=True, help="Only those that no retry has brought to another end.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line, without the packet.")
def list_(
    where: str,
    config: Path | None,
    brokers: str | None,
    prefix: str | None,
    reason: str | None,
    only_open: bool,
    limit: int | None,
    as_json: bool,
) -> None:
    """List the dead letters of WHERE (the directory of a replay, or 'kafka'), numbered in the order of their sources.

    A packet that was retried in vain has one line, that of its last dead letter. Where new dead letters come in, a
    number may be another packet's the next time: the last column, for 'dlq retry --source', stays.

    \b
    Example:
      tocsin dlq list kafka --reason malformed --limit 20
    """
    outputs = places.outputs(where, config, brokers, prefix)
    found = (
        one for one in letterpage.every(outputs) if reason in (None, one["reason"]) and (one["open"] or not only_open)
    )
    for one in islice(found, limit):
        click.echo(json.dumps(one) if as_json else letterpage.line(one))


@dlq.command()
@places.options
@click.argument("number", type=click.IntRange(min=0))
@click.option("--out", type=click.Path(path_type=Path), help="Write the packet's bytes to this file.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, without the packet.")
def show(
    where: str,
    config: Path | None,
    brokers: str | None,
    prefix: str | None,
    number: int,
    out: Path | None,
    as_json: bool,
) -> None:
    """Show dead letter NUMBER of WHERE (see 'tocsin dlq list').

    \b
    Example:
      tocsin dlq show out/ 0 --out packet.avro
    """
    one, packet = letterpage.fetch(places.outputs(where, config, brokers, prefix), number)
    if out is not None:
        try:
            out.write_bytes(packet)
        except OSError as error:
            raise TocsinError(f"cannot write {out}: {error.strerror}") from error
    click.echo(json.dumps(one) if as_json else letterpage.page(one, where, packet))


@dlq.command()
@places.options
@click.option("--reason", "reasons", multiple=True, help="Only dead letters of this reason; repeatable.")
@click.option(
    "--number",
    "numbers",
    multiple=True,
    help="Only this number of 'dlq list', or 3-9; repeatable. A new letter may shift it.",
)
@click.option(
    "--source",
    "sources",
    multiple=True,
    help="Only TOPIC, TOPIC/PARTITION or TOPIC/PARTITION/OFFSET, the last column of 'dlq list'; repeatable.",
)
@click.option("--limit", type=click.IntRange(min=1), help="At most so many.")
@click.option(
    "--sidecar",
    "rows",
    multiple=True,
    metavar="NAME",
    help="The row of a sidecar whose dead letters they are (WHERE kafka); repeatable. A directory knows.",
)
@click.option("--dry-run", is_flag=True, help="Say which, and change nothing.")
def retry(
    where: str,
    config: Path | None,
    brokers: str | None,
    prefix: str | None,
    reasons: tuple[str, ...],
    numbers: tuple[str, ...],
    sources: tuple[str, ...],
    limit: int | None,
    rows: tuple[str, ...],
    dry_run: bool,
) -> None:
    """Run the pipeline or a sidecar again over dead letters of WHERE (a directory, or 'kafka'), after a repair.

    What can be understood now is annotated; what cannot has a new dead letter. Each packet counts once, as its last
    outcome. Killed in the middle, run it again: what is committed is not repeated. Dead letters that a retry has
    brought to another end are left alone.

    \b
    Example:
      tocsin dlq retry kafka --reason unknown_schema --dry-run
      tocsin dlq retry kafka --source ztf_20251122_programid1 --limit 1000
      tocsin dlq retry out/ --number 0 --number 7-12
      tocsin dlq retry kafka --sidecar pz-mdn --reason bad_uri
    """
    from broker.cli import products
    from broker.core.config import load
    from broker.deliver.retry import letters

    choose = _chooser(reasons, _ranges(numbers), sources, limit)
    rows = rows if where == "kafka" else tuple(products.rows_of(Path(where)))
    if rows and prefix is None:
        prefix = products.topics(rows, load(config)).prefix
    outputs = places.outputs(where, config, brokers, prefix)
    if dry_run:
        chosen = choose([letter for letter in letters(outputs) if letter.is_open])
        for letter in chosen:
            click.echo(f"{letter.number:>6}  {letter.reason:<15} {'/'.join(map(str, letter.place))}")
        click.echo(f"{len(chosen)} dead letters would be retried")
        return
    settings = load(config, {"kafka.brokers": brokers, "output.prefix": prefix})
    totals = _retry(outputs, settings, rows, choose)
    ends = {"scored": totals.scored, "unscored": totals.unscored, "filtered": totals.filtered}
    told = ", ".join(f"{n} {name}" for name, n in {**ends, "dead again": totals.dead_lettered}.items() if n)
    click.echo(f"{totals.received} dead letters retried{': ' if told else ''}{told}")


def _retry(
    outputs: Outputs, settings: Settings, rows: Sequence[str], choose: Callable[[list[Letter]], list[Letter]]
) -> Totals:
    """Run the loop from dead letters back to where they are, around the stream's step or that of a sidecar of ``rows``.

    Raises
    ------
    TocsinError
        It was stopped before the end; another retry runs.
    """
    from rich.console import Console

    from broker.cli import products
    from broker.cli.live import Watched
    from broker.core.metrics import Recorded
    from broker.core.topics import Topics
    from broker.deliver.files import FileSink
    from broker.deliver.kafka import KafkaNotes, KafkaSink
    from broker.deliver.loop import run, stop_on_signals
    from broker.deliver.notes import FileNotes, Notes
    from broker.deliver.outputs import DirectoryOutputs
    from broker.deliver.retry import RetrySource
    from broker.deliver.types import Sink

    topics, metrics, stop = Topics(settings.output.prefix), Recorded(), threading.Event()
    files = isinstance(outputs, DirectoryOutputs)
    work = products.work(rows, settings, metrics, files=files) if rows else assemble.work(settings, metrics)
    primary, kafka = work.primary, settings.kafka.librdkafka()
    sink: Sink
    notes: Notes
    if isinstance(outputs, DirectoryOutputs):
        next(outputs.ledgers(), None)  # is it the output of a replay?
        flat = work.flat() if outputs.is_flat() else None
        sink = FileSink(outputs.directory, primary=primary, parquet=flat, schema=work.schema)
        notes = FileNotes(outputs.directory / "in_flight.json")
    else:
        name, registry = f"tocsin-retry-{topics.prefix}", assemble.output_registry(settings)
        sink, notes = (
            KafkaSink(kafka, name, topics, registry=registry, resume=True),
            KafkaNotes(kafka, topics, "dlq-retry"),
        )
    view = Watched(work.step, primary, None, Console(stderr=True), "dead letters", tabled=not rows)

    def choose_and_tell(letters: list[Letter]) -> list[Letter]:
        chosen = choose(letters)
        view.progress.update(view.progress.tasks[0].id, total=len(chosen))
        return chosen

    with stop_on_signals(stop), view.shown():
        totals = run(
            RetrySource(outputs, choose_and_tell),
            view,
            sink,
            metrics=metrics,
            bounds=work.bounds,
            primary=primary,
            member="dlq-retry",
            stop=stop,
            drain_s=settings.run.drain_s,
            notes=notes,
        )
    if stop.is_set():
        raise TocsinError(f"stopped after {totals.received} dead letters; run the same command again to go on")
    return totals


# -- which ----------------------------------------------------------------------------------------------------------


def _ranges(numbers: tuple[str, ...]) -> list[tuple[int, int]]:
    ranges = []
    for text in numbers:
        found = re.fullmatch(r"(\d+)(?:-(\d+))?", text)
        if found is None:
            raise click.UsageError(f"--number {text}: give a number of 'tocsin dlq list', or a range like 3-9")
        ranges.append((int(found[1]), int(found[2] or found[1])))
    return ranges


def _chooser(
    reasons: tuple[str, ...], numbers: list[tuple[int, int]], sources: tuple[str, ...], limit: int | None
) -> Callable[[list[Letter]], list[Letter]]:
    """Return what picks the letters that every given kind of option names."""

    def wanted(letter: Letter) -> bool:
        place = "/".join(map(str, letter.place)) + "/"
        return (
            (not reasons or letter.reason in reasons)
            and (not numbers or any(first <= letter.number <= last for first, last in numbers))
            and (not sources or any(place.startswith(source.rstrip("/") + "/") for source in sources))
        )

    return lambda letters: list(islice(filter(wanted, letters), limit))
