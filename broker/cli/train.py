"""`tocsin train`: from examples to weights and a card."""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from broker.core.config import load
from broker.core.errors import unknown


@click.command()
@click.argument("name")
@click.option(
    "--data",
    type=click.Path(path_type=Path, exists=True),
    help="Wheel or folder of Parquet tables; of a survey model, the folder of real sets [$TOCSIN_TEST_DATA/survey].",
)
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="Folder of models [default: the installed one]."
)
@click.option("--seed", default=0, show_default=True, help="Of examples, folds, starts and batches.")
@click.option("--epochs", type=click.IntRange(1), help="Epochs [default: the recipe's].")
@click.option(
    "--folds",
    default=5,
    show_default=True,
    type=click.IntRange(0, 5),
    help="How many of five folds to hold out first; survey models hold out a tenth.",
)
@click.option("--threads", default=1, show_default=True, type=click.IntRange(1), help="Threads of torch.")
@click.option("--config", type=click.Path(path_type=Path, exists=True), help="Settings (for the cache directory).")
def train(
    name: str,
    data: Path | None,
    out: Path | None,
    seed: int,
    epochs: int | None,
    folds: int,
    threads: int,
    config: Path | None,
) -> None:
    """Train the model NAME, judge it on what was held out, and write its weights and card.

    NAME is a model of the stream, whose data (82 MB) are downloaded once, and whose training goes on, when it was
    stopped, after its last finished epoch; or a survey model, ROW or ROW@VARIANT, whose examples are simulated or real.

    \b
    Example:
      tocsin train lsst-gru --seed 0
      tocsin train pz-mdn@dc2 --data sets
    """
    from broker.models.survey import registry

    card: Any
    with Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()) as bars:
        if registry.has(name):
            from broker.models.survey import train as survey  # heavy: torch

            card = survey.run(
                name, survey.Options(data or real_sets(), out, seed, threads, epochs or 0), partial(show, bars)
            )
            size = card.bytes
        else:
            from broker.models.transients import recipes  # heavy: torch, scikit-learn

            if name not in recipes.MODELS:
                known = (*recipes.MODELS, *registry.places())
                raise unknown("model", name, known, "`tocsin model list` and `tocsin sidecar list`")
            options = recipes.Options(data, load(config).run.cache_dir, out, seed, epochs or 0, folds, threads)
            card = recipes.run(name, options, partial(show, bars))
            size = card.weights.bytes
    click.echo(f"{card.name} {card.version}: {size} bytes, {card.training.seconds:.0f} s of training")
    click.echo(json.dumps(card.metrics, indent=2))


def real_sets() -> Path | None:
    """Return the folder of real sets that the environment names, if it is there."""
    folder = Path(os.environ.get("TOCSIN_TEST_DATA", "/nonexistent")) / "survey"
    return folder if folder.is_dir() else None


def show(bars: Progress, what: str, done: int, total: int) -> None:
    """Move the bar of the task that runs; a task is known by its text up to the comma, what follows is news of it."""
    key = what.split(",", maxsplit=1)[0]
    running = next((task for task in bars.tasks if task.fields.get("key") == key), None)
    task_id = bars.add_task(what, total=total, key=key) if running is None else running.id
    bars.update(task_id, description=what, completed=done, total=total)
    if not bars.console.is_terminal:
        bars.console.print(f"{what} {done}/{total}", highlight=False)
