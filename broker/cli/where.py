"""The WHERE of ``ledger`` and ``dlq``: the directory of a replay, or Kafka."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from broker.core.config import load
from broker.core.errors import TocsinError
from broker.core.topics import Topics
from broker.deliver.outputs import DirectoryOutputs, KafkaOutputs, Outputs
from broker.deliver.topics import missing


def options(command: Callable[..., None]) -> Callable[..., None]:
    """Add WHERE and how to reach Kafka to a command."""
    for option in (
        click.option("--topics", "prefix", help="First part of the topics (WHERE kafka); default: the configured one."),
        click.option("--brokers", help="Kafka's bootstrap servers."),
        click.option("--config", type=click.Path(path_type=Path), help="TOML file."),
        click.argument("where"),
    ):
        command = option(command)
    return command


def kafka_of(config: Path | None, brokers: str | None, prefix: str | None) -> tuple[dict[str, Any], Topics]:
    """Return librdkafka's settings and the topics."""
    settings = load(config, {"kafka.brokers": brokers, "output.prefix": prefix})
    return settings.kafka.librdkafka(), Topics(settings.output.prefix)


def written_to(config: Path | None, brokers: str | None, prefix: str | None) -> tuple[dict[str, Any], Topics]:
    """Return librdkafka's settings and the topics, which something was delivered to.

    Raises
    ------
    TocsinError
        Nothing ever was: the prefix is another.
    """
    client, topics = kafka_of(config, brokers, prefix)
    if missing(client, [topics.ledger]):
        raise TocsinError(f"there is no topic {topics.ledger}")
    return client, topics


def outputs(where: str, config: Path | None, brokers: str | None, prefix: str | None) -> Outputs:
    """Return what was delivered to WHERE."""
    if where == "kafka":
        return KafkaOutputs(*written_to(config, brokers, prefix))
    return DirectoryOutputs(Path(where))
