"""``tocsin score``: what Tocsin says of the packets in a file."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import click
from rich.console import Console

from broker.cli import assemble
from broker.core import schemas
from broker.core.config import load
from broker.core.errors import TocsinError

BATCH = 256


@click.command()
@click.argument("file", type=click.Path(exists=True, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One annotation a line as JSON instead of a table.")
@click.option("--config", "config", type=click.Path(path_type=Path), help="TOML file with thresholds and models.")
def score(file: Path, as_json: bool, config: Path | None) -> None:
    """Score every packet of FILE (or of a directory) and print the annotations; nothing is written.

    Exit 1 if a packet cannot be decoded, after all others were printed.

    \b
    Example:
      tocsin score 2475433850015010009.avro
      tocsin score --json alerts/ | jq .anomaly.score
    """
    from broker.archive import read
    from broker.cli.live import table
    from broker.core.metrics import Recorded

    pipeline = assemble.pipeline(load(config), Recorded())
    primary = assemble.primary(pipeline.publishing.topics)
    source = read.packets([file])
    dead = 0
    while packets := list(islice(source, BATCH)):
        outcomes = pipeline(assemble.batch_of(packets))
        found = [
            schemas.decode(record.value, list(record.headers), "annotation")
            for record in outcomes.records
            if record.topic in primary
        ]
        if as_json:
            for annotation in found:
                click.echo(json.dumps(annotation, default=str))
        elif found:
            Console().print(table(found))
        for letter in outcomes.dead:
            click.echo(f"{letter.reason}: {letter.text}", err=True)
        dead += len(outcomes.dead)
    if dead:
        raise TocsinError(f"{dead} packets cannot be decoded")
