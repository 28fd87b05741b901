"""``tocsin ledger``: whether every packet has exactly one end."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import click

from broker.cli import where as places
from broker.cli.inputs import KAFKA, PART, ROUNDS, noted_inputs
from broker.core.errors import TocsinError
from broker.deliver.kafka.reader import read_messages
from broker.deliver.outputs import DirectoryOutputs
from broker.deliver.recount import EXAMPLES, recount_directory, recount_kafka


@click.command()
@places.options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--verify-source", is_flag=True, help="Count the inputs again, too.")
@click.option(
    "--source",
    "sources",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    help="An input of the replay, for --verify-source; default: all that the replay was given.",
)
def ledger(
    where: str,
    config: Path | None,
    brokers: str | None,
    prefix: str | None,
    as_json: bool,
    verify_source: bool,
    sources: tuple[Path, ...],
) -> None:
    """Recount WHERE (the directory of a replay, or 'kafka') from its outputs; exit 1 if it does not balance.

    Every packet must end as exactly one annotation, dead letter or filtered offset. Where somebody set the group's
    offsets back, packets were delivered again; set forward, they were never delivered: the ranges are named.

    \b
    Example:
      tocsin ledger out/
      tocsin ledger kafka --brokers localhost:9092 --verify-source --json
    """
    from broker.cli import products

    what = ""
    if where == "kafka":
        found = recount_kafka(*places.written_to(config, brokers, prefix), verify_source=verify_source)
    else:
        client, _ = places.kafka_of(config, brokers, prefix)
        packets = count_inputs(where, sources, client) if verify_source else None
        found, what = recount_directory(Path(where), source_packets=packets), products.what_of(Path(where))
    click.echo(json.dumps(found) if as_json else table(found, what))
    if not found["balanced"]:
        raise click.exceptions.Exit(1)


def table(found: dict[str, Any], what: str = "") -> str:
    """Return the ledger's object as lines for people; ``what`` was received, if not alerts."""
    rows = [(f"{what} received".strip(), found["received"]), ("scored", found["scored"])]
    for outcome in ("unscored", "filtered", "dead_lettered"):
        rows += [(f"{outcome.replace('_', '-')}: {reason}", n) for reason, n in found[outcome].items()]
    for name in ("retried", "expired", "expired_outputs", "missing", "doubled", "unknown"):
        rows += [(name.replace("_", " "), found[name])] if found[name] else []
    rows += [(f"source: {name.replace('_', ' ')}", n) for name, n in found.get("source", {}).items()]
    lines = [f"{name:<28} {n:>10,}" for name, n in rows]
    lines += [f"for example {place}" for place in found["examples"]]
    for name, why in (("redelivered", "was delivered again"), ("skipped", "was never delivered")):
        ranges = found.get(name, [])
        lines += ["{topic}/{partition} {first} to {last} ".format(**r) + why for r in ranges[:EXAMPLES]]
        lines += [f"and {len(ranges) - EXAMPLES} more ranges like it"] if len(ranges) > EXAMPLES else []
    return "\n".join([*lines, "balanced" if found["balanced"] else "NOT BALANCED"])


def count_inputs(where: str, sources: tuple[Path, ...], client: dict[str, Any]) -> int:
    """Count packets anew, by the archive's own count: of the given sources, else of what the replay was given."""
    from broker.archive import read
    from broker.cli import given, products

    noted = [] if sources else noted_inputs(Path(where))
    if not sources and not noted:
        raise TocsinError(f"{where} does not say what it was made of: name the inputs with --source")
    if PART in noted or ROUNDS in noted:
        raise TocsinError(f"{where} holds a part of its inputs, or several rounds: their count says nothing of it")
    topics = [name.removeprefix(KAFKA) for name in noted if name.startswith(KAFKA)]
    paths = list(sources) or [Path(name) for name in noted if not name.startswith(KAFKA)]
    count = partial(given.count, Path(where)) if products.rows_of(Path(where)) else read.count
    return count(paths) + (_count_topics(Path(where), topics, client) if topics else 0)


def _count_topics(directory: Path, topics: list[str], client: dict[str, Any]) -> int:
    """Count the packets on topics up to the last one that the replay has; what expired since counts as it has it."""
    last: dict[tuple[str, int], int] = {}
    kept: dict[tuple[str, int], int] = {}
    has: list[dict[str, Any]] = []
    for entry in DirectoryOutputs(directory).ledgers():
        has += [r for r in entry["sources"] if r["topic"] in topics]
        for r in entry["sources"]:
            last[r["topic"], r["partition"]] = max(r["last"], last.get((r["topic"], r["partition"]), -1))
    there = 0
    for message in read_messages(client, topics):
        where = message.topic(), message.partition()
        kept.setdefault(where, message.offset())
        there += message.offset() <= last.get(where, -1)
    ends = [min(r["last"] + 1, kept.get((r["topic"], r["partition"]), sys.maxsize)) for r in has]
    expired: int = sum(max(0, end - r["first"]) for r, end in zip(has, ends, strict=True))
    if expired:
        click.echo(f"{expired} packets are on their topics no more: they are counted as the replay has them", err=True)
    return there + expired
