"""The command: see `tests.decode.fuzz.run`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from tests.decode.fuzz.run import fuzz, lines


@click.command()
@click.option("--inputs", default=1_000_000, show_default=True, help="Mutated packets.")
@click.option("--seed", default=1, show_default=True, help="Same seed, same inputs.")
@click.option("--state", type=click.Path(path_type=Path), help="File that keeps the counts; an unfinished run goes on.")
@click.option("--sampled", default=0.12, show_default=True, help="Share of the inputs that fastavro reads too.")
@click.option("--first", default=0, show_default=True, help="Number of the first batch: parts of a run side by side.")
def main(inputs: int, seed: int, state: Path | None, sampled: float, first: int) -> None:
    """Fuzz the decoder and print what became of the inputs, by kind.

    Example: python -m tests.decode.fuzz --inputs 1000000 --state fuzz.json
    """
    report = fuzz(inputs, seed, state=state, sampled=sampled, first=first)
    click.echo("\n".join(lines(report)))
    sys.exit(bool(report.failures or report.unexplained()))


if __name__ == "__main__":
    main()
