"""`tocsin model`: the trained models that are installed, their cards, and whether they can be believed."""

from __future__ import annotations

from pathlib import Path

import click

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
    from broker.score import card as cards

    for name in cards.available(root):
        card = cards.read(name, root)
        size = f"{card.weights.bytes / 1000:.0f} kB"
        click.echo(f"{card.name:18s} {card.version:8s} {size:>7s}  {card.summary}: {card.headline or 'no figure'}")


@model.command()
@click.argument("name")
@ROOT
def card(name: str, root: Path | None) -> None:
    """Print the card of the model NAME, as JSON.

    \b
    Example:
      tocsin model card lsst-gru
    """
    from broker.score import card as cards

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
    import torch

    from broker.score import card as cards
    from broker.score.anomaly import Anomaly
    from broker.score.classify import Classifier

    for name in names or cards.available(root):
        kind = Classifier if cards.read(name, root).kind == "classifier" else Anomaly
        loaded = kind.load(name, torch.device("cpu"), root)
        click.echo(f"{name}: the weights are {loaded.card.weights.sha256[:12]}…, as the card says")
