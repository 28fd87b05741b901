"""``tocsin dlq``: look at dead letters, and try them again."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from broker.cli import assemble
from broker.cli import where as places
from broker.core.errors import TocsinError

if TYPE_CHECKING:
    from broker.core.config import Settings
    from broker.deliver.loop import Totals
    from broker.deliver.outputs import Outputs
    from broker.deliver.retry import Letter

HEAD = 64
_FIELD = re.compile(r"\(at (?P<at>[^)]+)\)|(?:the|no) field (?P<named>\w+(?:\.\w+)*)")


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
    found = (one for one in _all(outputs) if reason in (None, one["reason"]) and (one["open"] or not only_open))
    for one in islice(found, limit):
        what = f"{one['number']:>6}  {one['stage']:<8} {one['reason']:<15} {one['packetBytes']:>9} B  {_state(one):<12}"
        click.echo(json.dumps(one) if as_json else f"{what}  {_place(one)}")


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
    one, packet = _one(places.outputs(where, config, brokers, prefix), number)
    if out is not None:
        out.write_bytes(packet)
    click.echo(json.dumps(one) if as_json else _page(one, where, packet))


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


# -- what is printed ------------------------------------------------------------------------------------------------


def _all(outputs: Outputs) -> list[dict[str, Any]]:
    """Return every packet that has dead letters, by number; without the packets, which need not fit in memory."""
    from broker.deliver.ledger import place_of
    from broker.deliver.retry import letters

    last = {place_of(letter): letter for letter in map(_plain, outputs.dead_letters())}
    return [_numbered(letter, last[letter.place]) for letter in letters(outputs) if letter.place in last]


def _one(outputs: Outputs, number: int) -> tuple[dict[str, Any], bytes]:
    """Return dead letter ``number`` and its packet: a first reading finds its place, a second one fetches it."""
    from broker.deliver.ledger import place_of
    from broker.deliver.retry import letters

    wanted = next((letter for letter in letters(outputs) if letter.number == number), None)
    if wanted is None:
        raise TocsinError(f"there is no dead letter {number}")
    *_, found = (letter for letter in outputs.dead_letters() if place_of(letter) == wanted.place)
    return _numbered(wanted, _plain(found)), found["packet"]


def _numbered(letter: Letter, plain: dict[str, Any]) -> dict[str, Any]:
    tries = [{"outcome": outcome, "reason": reason} for outcome, reason in letter.tries]
    return {"number": letter.number, **plain, "open": letter.is_open, "retried": tries}


def _plain(letter: dict[str, Any]) -> dict[str, Any]:
    """Return a dead letter for printing: times as ISO 8601, the packet as its size and its first bytes."""
    packet = letter["packet"]
    shown = {name: value for name, value in letter.items() if name != "packet"}
    for name in ("timestamp", "ingestTimestamp"):
        shown[name] = _iso(shown[name])
    found = _FIELD.search(letter["error"])
    field = (found["at"] or found["named"]) if found else None
    return {**shown, "field": field, "packetBytes": len(packet), "packetHead": packet[:HEAD].hex()}


def _page(one: dict[str, Any], where: str, packet: bytes) -> str:
    """Return all that a person needs of a dead letter, as lines."""
    rows = {
        "dead letter": f"{one['number']} of {where}",
        "reason": f"{one['reason']}, found by: {one['stage']}",
        "text": one["error"],
        "field": one["field"] or "not named",
        "packet": f"{one['topic']}, partition {one['partition']}, offset {one['offset']}",
        "size": f"{one['packetBytes']:,} bytes",
        "sent": one["timestamp"] or "the source has no time",
        "read": f"{one['ingestTimestamp']}, by tocsin {one['brokerVersion']}",
        "retried": ", then ".join(map(_end, one["retried"])) or "never",
        "now": _state(one),
        "to retry": f"tocsin dlq retry {where} --source {_place(one)}"
        if one["open"]
        else "it has another end: nothing is to do",
    }
    lines = [f"{name:<12} {value}" for name, value in rows.items()]
    return "\n".join([*lines, *_dump(packet[:HEAD])])


def _place(one: dict[str, Any]) -> str:
    return f"{one['topic']}/{one['partition']}/{one['offset']}"


def _state(one: dict[str, Any]) -> str:
    return "open" if one["open"] else _end(one["retried"][-1])


def _end(end: dict[str, str]) -> str:
    return end["outcome"].replace("_", " ") + (f" ({end['reason']})" if end["reason"] else "")


def _dump(head: bytes) -> list[str]:
    """Return bytes as lines of sixteen: offset, hexadecimal, and the letters among them."""
    lines = []
    for at in range(0, len(head), 16):
        row = head[at : at + 16]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        lines.append(f"{at:08x}     {row.hex(' '):<47}  |{text}|")
    return lines


def _iso(value: Any) -> str | None:
    """Return a time stamp (fastavro gives a datetime, or an int where it cannot) as ISO 8601; -1 ms is none."""
    time = value if isinstance(value, datetime) else datetime.fromtimestamp(value / 1000, UTC)
    return time.isoformat(timespec="milliseconds") if time.timestamp() >= 0 else None
