"""``tocsin bench``: every claim of speed, as a ratio or beside the machine's own figures of the same run."""

from __future__ import annotations

import click

from broker.cli.main import LazyGroup

COMMANDS = {
    "decode": "broker.cli.bench.decode:decode",
    "gp": "broker.cli.bench.gp:gp",
    "pipeline": "broker.cli.bench.stream:pipeline",
    "kafka": "broker.cli.bench.stream:kafka",
    "scale": "broker.cli.bench.scale:scale",
    "score": "broker.cli.bench.score:score",
    "start": "broker.cli.bench.start:start",
    "survey": "broker.cli.bench.survey:survey",
}


@click.group(cls=LazyGroup, lazy=COMMANDS)
def bench() -> None:
    """Measure Tocsin on this machine; every command prints JSON with --json.

    \b
    Example:
      tocsin bench decode --json
      tocsin bench kafka --survey ztf
    """
