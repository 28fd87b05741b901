"""``tocsin kafka``: a single-node Apache Kafka for development and tests."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from broker.cli import kafkaserver
from broker.core.config import load


@click.group()
def kafka() -> None:
    """Start and stop a real Apache Kafka 4 on this machine (needs Java 17 and Maven, or KAFKA_HOME).

    \b
    Example:
      tocsin kafka up
      tocsin topics create --brokers localhost:9092
    """


def _options(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option(
            "--name", default="default", show_default=True, help="Which instance; each has its own directory."
        ),
        click.option("--directory", type=click.Path(path_type=Path), help="Keep the instance here, not in the cache."),
        click.option("--json", "as_json", is_flag=True, help="Print one JSON object."),
    ):
        command = option(command)
    return command


@kafka.command()
@_options
@click.option("--port", type=int, help="Port to listen on; default: that of last time, else 9092, else a free one.")
@click.option("--heap", default="768m", show_default=True, help="Memory of the server's heap.")
def up(name: str, directory: Path | None, as_json: bool, port: int | None, heap: str) -> None:
    """Start the server unless it runs, wait until it answers, and print its address.

    \b
    Example:
      tocsin kafka up --port 9092
    """
    cache = load().run.cache_dir / "kafka"
    place = (directory or cache / name).absolute()
    if not kafkaserver.status(place).running:
        click.echo("kafka: getting the server's jars and starting it ...", err=True)
    _show(kafkaserver.up(place, kafkaserver.jars(cache), port=port, heap=heap), as_json)


@kafka.command()
@_options
def down(name: str, directory: Path | None, as_json: bool) -> None:
    """Stop the server; its data stay.

    \b
    Example:
      tocsin kafka down
    """
    place = (directory or load().run.cache_dir / "kafka" / name).absolute()
    kafkaserver.down(place)
    _show(kafkaserver.status(place), as_json)


@kafka.command()
@_options
def status(name: str, directory: Path | None, as_json: bool) -> None:
    """Say whether the server runs, and where.

    \b
    Example:
      tocsin kafka status --json
    """
    _show(kafkaserver.status((directory or load().run.cache_dir / "kafka" / name).absolute()), as_json)


def _show(server: kafkaserver.Status, as_json: bool) -> None:
    shown: dict[str, Any] = {
        "running": server.running,
        "bootstrap": server.bootstrap,
        "pid": server.pid,
        "directory": str(server.directory),
        "log": str(server.log),
    }
    if as_json:
        click.echo(json.dumps(shown))
    elif server.running:
        click.echo(f"kafka: running at {server.bootstrap} (process {server.pid}, log {server.log})")
    else:
        click.echo(f"kafka: not running (directory {server.directory})")
