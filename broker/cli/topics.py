"""``tocsin topics``: make the topics that the service writes."""

from __future__ import annotations

import json
from pathlib import Path

import click

from broker.cli import assemble, candidates, products
from broker.core.bands import SURVEYS
from broker.core.config import load
from broker.core.taxonomy import CLASSES
from broker.core.topics import Topics
from broker.deliver.topics import create as create_topics
from broker.deliver.topics import spec, specs, specs_of_sidecar


@click.group()
def topics() -> None:
    """Make the topics that the service writes.

    \b
    Example:
      tocsin topics create --brokers localhost:9092
    """


@topics.command()
@click.option("--config", type=click.Path(path_type=Path), help="TOML file.")
@click.option("--brokers", help="Kafka's bootstrap servers.")
@click.option("--topics", "prefix", help="First part of the topics; default: the configured one.")
@click.option("--survey", "surveys", multiple=True, type=click.Choice(sorted(SURVEYS)), help="Default: all surveys.")
@click.option("--shadow", multiple=True, help="Also those of a candidate, as `tocsin run` takes it; repeatable.")
@click.option(
    "--sidecar",
    "rows",
    multiple=True,
    metavar="NAME",
    help="Those of a sidecar of this row, and of the products that it reads, instead; repeatable.",
)
@click.option("--partitions", type=click.IntRange(min=1), default=4, show_default=True, help="Of each topic.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def create(
    config: Path | None,
    brokers: str | None,
    prefix: str | None,
    surveys: tuple[str, ...],
    shadow: tuple[str, ...],
    rows: tuple[str, ...],
    partitions: int,
    as_json: bool,
) -> None:
    """Make every output topic that is not there yet, with retention and sizes set; run it as often as you like.

    Dead letters, the ledger, notes of what is in flight and raw copies are the operator's own ("operators" in JSON):
    they carry packets as they came. Partnership data never reaches any other topic.

    \b
    Example:
      tocsin topics create --config ztf.toml --partitions 4
      tocsin topics create --sidecar pz-mdn
    """
    settings = load(config, {"kafka.brokers": brokers, "output.prefix": prefix, "score.shadow": list(shadow) or None})
    slugs = [found.slug for found in CLASSES]
    names = products.topics(rows, settings) if rows and not prefix else Topics(settings.output.prefix)
    if rows:
        wanted = specs_of_sidecar(names, products.sources(rows, settings), partitions)
    else:
        wanted = specs(names, surveys or sorted(SURVEYS), slugs, partitions, raw=settings.output.raw)
        wanted += [spec(names, name, partitions) for name in candidates.shadow_topics(settings)]
        sent = assemble.product_topics(settings)
        wanted += [spec(sent, sent.product(kind), partitions) for kind in settings.survey.feed]
    made = create_topics(settings.kafka.librdkafka(), wanted)
    if as_json:
        own = [spec.name for spec in wanted if names.is_operators(spec.name)]
        click.echo(json.dumps({"made": made, "topics": [spec.name for spec in wanted], "operators": own}))
    else:
        click.echo("\n".join(made) if made else f"all {len(wanted)} topics are there")
