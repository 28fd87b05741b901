"""`tocsin evaluate`: run what is missing of a protocol, print its table, write its page."""

from __future__ import annotations

import sys
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from broker.cli.train import show
from broker.core.config import load

if TYPE_CHECKING:
    from broker.models.transients.protocols.unit import Protocol


@click.command()
@click.argument("name", metavar="[PROTOCOL]", required=False)
@click.option("--row", "rows", multiple=True, help="Only this row (may be given again).")
@click.option("--data", type=click.Path(path_type=Path, exists=True), help="Folder with plasticc/ and spcc/.")
@click.option("--results", type=click.Path(path_type=Path), help="Folder of results [default: the installed one].")
@click.option("--list", "listing", is_flag=True, help="Print which units have a result; run nothing.")
@click.option("--check", is_flag=True, help="Fail if a result is missing or the page is not theirs; run nothing.")
@click.option("--threads", default=1, show_default=True, type=click.IntRange(1), help="Threads of torch.")
@click.option("--config", type=click.Path(path_type=Path, exists=True), help="Settings (for the cache directory).")
def evaluate(
    name: str | None,
    rows: tuple[str, ...],
    data: Path | None,
    results: Path | None,
    listing: bool,
    check: bool,
    threads: int,
    config: Path | None,
) -> None:
    """Run the units of PROTOCOL that have no result yet, print its table and write its page.

    Without PROTOCOL: list the protocols and what is done of them. Each unit (a fold, half or repetition of a row)
    leaves a small JSON, so a run that was stopped goes on with the next unit.

    \b
    Example:
      tocsin evaluate
      tocsin evaluate D --row gru
      tocsin evaluate D --check
    """
    from broker.models.transients import protocols

    root = results or Path(str(files("broker") / "models" / "results"))
    if name is None:
        for each in protocols.PROTOCOLS:
            _state(protocols.load(each), root, units=False)
        return
    protocol = protocols.load(name)
    if unknown := set(rows) - set(protocol.rows):
        raise click.UsageError(f"protocol {name} has no row {', '.join(sorted(unknown))}: {', '.join(protocol.rows)}")
    if listing:
        _state(protocol, root, units=True)
    elif check:
        _check(protocol, root)
    else:
        _run(protocol, rows or protocol.rows, root, data, load(config).run.cache_dir, threads)


def _state(protocol: Protocol, root: Path, units: bool) -> None:
    from broker.models.transients.protocols.unit import missing

    every = [unit for row in protocol.rows for unit in protocol.units(row)]
    left = {unit for row in protocol.rows for unit in missing(protocol, row, root)}
    click.echo(f"{protocol.name:12s} {len(every) - len(left):3d} of {len(every):3d} units  {protocol.title}")
    for unit in every if units else ():
        click.echo(f"  {'missing' if unit in left else 'done   '} {unit.row} seed {unit.seed} part {unit.part}")


def _check(protocol: Protocol, root: Path) -> None:
    from broker.models.transients.protocols import page
    from broker.models.transients.protocols.unit import missing

    for unit in (unit for row in protocol.rows for unit in missing(protocol, row, root)):
        click.echo(f"no result: {unit.path(root)}", err=True)
        sys.exit(1)
    if not page.is_current(protocol, root):
        click.echo(f"{page.path(protocol, root)} does not hold the table that the results give", err=True)
        sys.exit(1)
    click.echo(f"{protocol.name}: every result is there, and the page is theirs")


def _run(protocol: Protocol, rows: tuple[str, ...], root: Path, data: Path | None, cache: Path, threads: int) -> None:
    # Heavy: torch, scikit-learn.
    import torch

    from broker.models.transients.protocols import page, table
    from broker.models.transients.protocols.unit import Context, missing, results, run_missing

    torch.set_num_threads(threads)
    left = sum(len(missing(protocol, row, root)) for row in rows)
    with Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()) as bars:
        units = bars.add_task(f"units of {protocol.name}", total=left)
        context = Context(data, cache, partial(show, bars))
        for _ in run_missing(protocol, rows, root, context):
            bars.advance(units)
    written = page.write(protocol, root)
    click.echo(table.markdown(protocol, results(protocol, root)), nl=False)
    click.echo(f"\nwritten: {written}")
