"""`tocsin model`: the trained models that are installed, their cards, and whether they can be believed."""

from __future__ import annotations

from pathlib import Path

import click

from broker.core.errors import TocsinError

ROOT = click.option("--root", type=click.Path(path_type=Path, exists=True), help="Folder of models [installed one].")


@click.group()
def model() -> None:
    """List trained models, read their cards, verify their weights.

    \b
    Example:
      tocsin model list
    """


@model.command("list")
@ROOT
def list_(root: Path | None) -> None:
    """Print one line per model: name, version, size, what it is and its held-out figure.

    \b
    Example:
      tocsin model list
    """
    from broker.models.survey import card as survey
    from broker.models.survey import registry
    from broker.score import card as cards

    for name in cards.available(root):
        card = cards.read(name, root)
        size = f"{card.weights.bytes / 1000:.0f} kB"
        click.echo(f"{card.name:22s} {card.version:8s} {size:>7s}  {card.summary}: {card.headline or 'no figure'}")
    broken: list[TocsinError] = []
    for row in survey.installed(root):
        try:
            told = survey.read(*registry.find(row), root)
        except TocsinError as error:
            broken.append(error)
        else:
            size = f"{told.bytes / 1000:.0f} kB"
            click.echo(f"{told.name:22s} {told.version:8s} {size:>7s}  {told.summary}: {told.headline or 'no figure'}")
    if broken:
        raise TocsinError("\n".join(map(str, broken)))


@model.command()
@click.argument("name")
@ROOT
def card(name: str, root: Path | None) -> None:
    """Print the card of the model NAME, as JSON; survey models are called ROW or ROW@VARIANT.

    \b
    Example:
      tocsin model card lsst-gru
    """
    from broker.models.survey import card as survey
    from broker.models.survey import registry
    from broker.score import card as cards

    if registry.has(name):
        click.echo(survey.read(*registry.find(name), root).to_json(), nl=False)
    else:
        click.echo(cards.read(name, root).to_json(), nl=False)


@model.command()
@ROOT
def table(root: Path | None) -> None:
    """Print the held-out figures of all models as Markdown; models/README.md holds this table.

    \b
    Example:
      tocsin model table
    """
    from broker.score import card as cards

    click.echo(cards.table([cards.read(name, root) for name in cards.available(root)]), nl=False)


@model.command()
@click.argument("names", nargs=-1)
@ROOT
def verify(names: tuple[str, ...], root: Path | None) -> None:
    """Load the models NAMES (default: all) as the service would: card, hash, shapes.

    \b
    Example:
      tocsin model verify
    """
    from broker.models.survey import card as survey
    from broker.score import card as cards

    for name in names or [*cards.available(root), *survey.installed(root)]:
        click.echo(f"{name}: the weights are {_verified(name, root)[:12]}…, as the card says")


def _verified(name: str, root: Path | None) -> str:
    """Return the SHA-256 of a model's weights, loaded as the service would."""
    import torch

    from broker.models.survey import registry, serve
    from broker.score import card as cards
    from broker.score.anomaly import Anomaly
    from broker.score.classify import Classifier

    if registry.has(name):
        return serve.load(name, root).card.weights_hash
    kind = Classifier if cards.read(name, root).kind == "classifier" else Anomaly
    return kind.load(name, torch.device("cpu"), root).card.weights.sha256
