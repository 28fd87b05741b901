"""The WHERE of ``ledger`` and ``dlq``: the directory of a replay, or Kafka."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from broker.core.config import load
from broker.core.topics import Topics
from broker.deliver.outputs import DirectoryOutputs, KafkaOutputs, Outputs


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


def outputs(where: str, config: Path | None, brokers: str | None, prefix: str | None) -> Outputs:
    """Return what was delivered to WHERE."""
    if where == "kafka":
        return KafkaOutputs(*kafka_of(config, brokers, prefix))
    return DirectoryOutputs(Path(where))
