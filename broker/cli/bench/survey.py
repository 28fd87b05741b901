"""``tocsin bench survey``: a row of the survey models beside its baselines, and the table of all rows."""

from __future__ import annotations

import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from broker.cli.train import real_sets, show

if TYPE_CHECKING:
    from broker.models.survey.row import Capability


@click.command()
@click.argument("name", metavar="ROW[@VARIANT]")
@click.option("--data", type=click.Path(path_type=Path, exists=True), help="Folder of real sets.")
@click.option("--seed", default=1, show_default=True, type=click.IntRange(0), help="Of folds and fresh examples.")
@click.option(
    "--results",
    type=click.Path(path_type=Path),
    help="Folder of results [default: the installed one; of other packages' rows: ./results].",
)
@click.option("--missing", is_flag=True, help="Only what has no result yet (with 'all').")
@click.option("--check", is_flag=True, help="Fail if a result is missing or the table is not theirs; run nothing.")
def survey(name: str, data: Path | None, seed: int, results: Path | None, missing: bool, check: bool) -> None:
    """Judge ROW and its baselines on the same inputs, write the result, and make the table of its package's rows again.

    Without @VARIANT: every variant that can be judged here, and every set that only judges, which is named like one;
    real sets need --data (or $TOCSIN_TEST_DATA). 'all' is every row of Tocsin's own. x-bench shows that the table's
    figures come out again. Exit 1 where --check finds something amiss.

    \b
    Example:
      tocsin bench survey pz-mdn@sim
      tocsin bench survey all --missing
      tocsin bench survey x-bench --check
    """
    from broker.models.survey import registry, table

    package = registry.package_of(name.partition("@")[0])
    root = results or table.results_root(package)
    if check:
        _check(root, package)
        return
    folder = data or real_sets()
    names = _names(name, folder, root if missing else None)
    with Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()) as bars:
        for each in names:
            _one(each, folder, seed, root, bars)
    page = root / "survey.md"
    page.write_text(table.text(table.read_results(root), package))
    click.echo(f"written: {page}")


def _names(name: str, data: Path | None, root: Path | None) -> list[str]:
    """Return what is to be judged; real variants only where their sets are, unless asked for by name."""
    from broker.models.survey import registry, table
    from broker.models.survey.row import Row

    if "@" in name:
        return [name]
    rows = registry.rows(registry.OURS) if name == "all" else {name: registry.row(name)}
    found = [
        each
        for row in rows.values()
        for each in (registry.sets(row, real=data is not None) if isinstance(row, Row) else [row.id])
    ]
    if root is None:
        return found
    left = set(table.missing(table.read_results(root), registry.package_of(name)))
    return [each for each in found if each in left]


def _one(name: str, data: Path | None, seed: int, root: Path, bars: Progress) -> None:
    # Heavy: torch, scikit-learn.
    from broker.models.survey import bench, registry, table
    from broker.models.survey.row import Capability, Row

    row = registry.row(name.partition("@")[0])
    report = partial(show, bars)
    found = bench.bench(name, data, seed, report) if isinstance(row, Row) else _shown(row, data, seed)
    place = table.write_result(root, found)
    if isinstance(row, Capability) and row.pages is not None:
        for file, text in row.pages(seed, data).items():
            (place.parent / file).write_text(text)
    bars.console.print(_lines(found), highlight=False)
    bars.console.print(f"written: {place}", highlight=False)


def _shown(row: Capability, data: Path | None, seed: int) -> dict[str, Any]:
    from broker.models.survey import table

    began = time.perf_counter()
    findings, said = row.show(seed, data)
    return table.shown(row, findings, said, seed, time.perf_counter() - began)


def _lines(found: dict[str, Any]) -> str:
    """Return a result as a few lines of text."""
    head = f"{found['row']}@{found['variant']}: {found['seconds']} s"
    if "findings" in found:
        lines = [
            f"  {f['metric']} {f['model']:.4g} {f['unit']} (baseline {f['baseline']:.4g})" for f in found["findings"]
        ]
        return "\n".join([head, *lines, f"  {found['said']}"])
    lines = [_line(name, figure) for name, figure in found["metrics"].items()]
    speeds = ", ".join(f"{who} {speed:,.0f}" for who, speed in found["records_per_s"].items())
    return "\n".join([head, *lines, f"  records/s: {speeds}"])


def _line(name: str, figure: dict[str, Any]) -> str:
    others = ", ".join(f"{who} {value:.4g}" for who, value in figure["baselines"].items())
    low, high = figure["interval"]
    return f"  {name} {figure['model']:.4g} {figure['unit']} [{low:.4g}, {high:.4g}] ({others})"


def _check(root: Path, package: str) -> None:
    from broker.models.survey import table

    found = table.read_results(root)
    if left := table.missing(found, package):
        click.echo(f"no result: {', '.join(left)}", err=True)
        sys.exit(1)
    page = root / "survey.md"
    if not page.exists() or page.read_text() != table.text(found, package):
        click.echo(f"{page} does not hold the table that the results give", err=True)
        sys.exit(1)
    click.echo(f"{len(found)} results, and the table is theirs")
