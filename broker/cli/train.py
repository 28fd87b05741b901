"""`tocsin train`: from the PLAsTiCC training set to weights and a card."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from broker.core.config import load


@click.command()
@click.argument("name")
@click.option("--data", type=click.Path(path_type=Path, exists=True), help="Wheel or folder of Parquet tables.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of models [default: the installed one].")
@click.option("--seed", default=0, show_default=True, help="Of examples, folds, starts and batches.")
@click.option("--epochs", default=0, help="Epochs [default: the recipe's].")
@click.option(
    "--folds", default=5, show_default=True, type=click.IntRange(0, 5), help="How many of five folds to hold out first."
)
@click.option("--threads", default=1, show_default=True, type=click.IntRange(1), help="Threads of torch.")
@click.option("--config", type=click.Path(path_type=Path, exists=True), help="Settings (for the cache directory).")
def train(
    name: str,
    data: Path | None,
    out: Path | None,
    seed: int,
    epochs: int,
    folds: int,
    threads: int,
    config: Path | None,
) -> None:
    """Train the model NAME, judge it on held-out folds, and write its weights and card.

    The data (82 MB) are downloaded once. A run that was stopped goes on after its last finished epoch.

    \b
    Example:
      tocsin train lsst-gru --seed 0
    """
    # Heavy: torch, scikit-learn.
    from broker.models.transients import recipes

    options = recipes.Options(data, load(config).run.cache_dir, out, seed, epochs, folds, threads)
    with Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()) as bars:
        card = recipes.run(name, options, partial(show, bars))
    click.echo(f"{card.name} {card.version}: {card.weights.bytes} bytes, {card.training.seconds:.0f} s of training")
    click.echo(json.dumps(card.metrics, indent=2))


def show(bars: Progress, what: str, done: int, total: int) -> None:
    """Move the bar of the task that runs; a task is known by its text up to the comma, what follows is news of it."""
    key = what.split(",", maxsplit=1)[0]
    running = next((task for task in bars.tasks if task.fields.get("key") == key), None)
    task_id = bars.add_task(what, total=total, key=key) if running is None else running.id
    bars.update(task_id, description=what, completed=done, total=total)
    if not bars.console.is_terminal:
        bars.console.print(f"{what} {done}/{total}", highlight=False)
