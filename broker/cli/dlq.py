"""``tocsin dlq``: look at dead letters."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from broker.cli import where as places
from broker.core.errors import TocsinError

if TYPE_CHECKING:
    from broker.deliver.outputs import Outputs


@click.group()
def dlq() -> None:
    """Look at dead letters: packets that could not be understood, with their bytes and the reason.

    \b
    Example:
      tocsin dlq list out/
    """


@dlq.command("list")
@places.options
@click.option("--reason", help="Only dead letters of this reason.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line, without the packet.")
def list_(
    where: str,
    config: Path | None,
    brokers: str | None,
    prefix: str | None,
    reason: str | None,
    limit: int | None,
    as_json: bool,
) -> None:
    """List the dead letters of WHERE (the directory of a replay, or 'kafka'), numbered in the order of their sources.

    \b
    Example:
      tocsin dlq list kafka --reason malformed --limit 20
    """
    numbered = enumerate(_in_order(places.outputs(where, config, brokers, prefix).dead_letters()))
    chosen = ((number, letter) for number, letter in numbered if reason in (None, letter["reason"]))
    for number, letter in islice(chosen, limit):
        if as_json:
            click.echo(json.dumps({"number": number, **letter}))
        else:
            place = f"{letter['topic']}/{letter['partition']}/{letter['offset']}"
            click.echo(
                f"{number:>6}  {letter['stage']:<8} {letter['reason']:<15} {letter['packetBytes']:>9} B  {place}"
            )


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
    letter = _at(places.outputs(where, config, brokers, prefix), number)
    if out is not None:
        out.write_bytes(letter["packet"])
    plain = _plain(letter)
    click.echo(json.dumps(plain) if as_json else "\n".join(f"{name:<16} {value}" for name, value in plain.items()))


def _place(letter: dict[str, Any]) -> tuple[str, int, int]:
    """Return where the packet came from: what letters are numbered by, for the order of arrival may change."""
    return letter["topic"], letter["partition"], letter["offset"]


def _in_order(letters: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return letters for printing, in the order of their numbers; without the packets, which need not fit in memory."""
    return sorted(map(_plain, letters), key=_place)


def _at(outputs: Outputs, number: int) -> dict[str, Any]:
    """Return the letter ``number``: a first reading finds its place, a second one fetches it."""
    wanted = sorted(map(_place, outputs.dead_letters()))[number : number + 1]
    for letter in outputs.dead_letters():
        if _place(letter) in wanted:
            return letter
    raise TocsinError(f"there is no dead letter {number}")


def _plain(letter: dict[str, Any]) -> dict[str, Any]:
    """Return a dead letter for printing: times as ISO 8601, the packet as its size and its first bytes."""
    packet = letter["packet"]
    shown = {name: value for name, value in letter.items() if name != "packet"}
    for name in ("timestamp", "ingestTimestamp"):
        shown[name] = _iso(shown[name])
    return {**shown, "packetBytes": len(packet), "packetHead": packet[:32].hex()}


def _iso(value: Any) -> str | None:
    """Return a time stamp (fastavro gives a datetime, or an int where it cannot) as ISO 8601; -1 ms is none."""
    time = value if isinstance(value, datetime) else datetime.fromtimestamp(value / 1000, UTC)
    return time.isoformat(timespec="milliseconds") if time.timestamp() >= 0 else None
