"""``tocsin score CURVES --survey ...``: a scientist's own light curves, from the options to the result."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table as Shown

from broker.cli import assemble
from broker.core.batch import Floats
from broker.core.config import Settings
from broker.core.errors import TocsinError
from broker.core.units import NJY_ZERO_POINT
from broker.tables import curves, epochs, names, read, write
from broker.tables.baseline import Mode
from broker.tables.names import Layout
from broker.tables.points import Rules

if TYPE_CHECKING:
    from broker.cli.curves import Columns, Judge
    from broker.tables.curves import Table

LARGEST_ZP = 100.0
SHOWN = 40
"""Rows that are printed where no file is asked for."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The options of a table."""

    survey: str
    objects: Path | None
    at: str
    packet: bool
    zp: str | None
    columns: str
    time: Literal["mjd", "jd"]
    baseline: Mode
    drop_bad: bool
    models: tuple[str, ...]
    prior: Literal["natural", "even"]
    out: Path | None
    as_json: bool


def score_table(path: Path, asked: Asked, settings: Settings) -> None:
    """Score every object of the table at ``path`` at every epoch, and write or print what is found.

    Raises
    ------
    TocsinError
        The table, an option or a model cannot be used.
    """
    at, mapping = _options(asked)
    rules = _rules(path, asked, mapping)
    host_layout = names.of_objects(read.header(asked.objects), mapping) if asked.objects else None
    with ExitStack() as stack:
        out = stack.enter_context(write.writing(asked.out)) if asked.out else _printed(asked.as_json)
        judge = _judge(asked, at, settings, _baseline(asked, rules))
        with _bar("rows", read.count(path)) as advance:
            table = curves.load(path, rules, advance)
        z = curves.hosts(asked.objects, host_layout, table.ids) if asked.objects and host_layout else _unknown(table)
        with _bar("objects", len(table.ids)) as advance:
            for columns in judge.results(table, *z):
                out(columns)
                advance(len(columns["obj"]) // len(at))
    _say(table, rules, judge)


def _options(asked: Asked) -> tuple[Floats, dict[str, str]]:
    """Return --at and --columns, understood.

    Raises
    ------
    click.UsageError
        One of them is not of its form, or --out is of another.
    """
    try:
        if asked.out is not None:
            write.check(asked.out)
        return epochs.parse(asked.at), names.mapping_of(asked.columns)
    except TocsinError as error:
        raise click.UsageError(str(error)) from error


def _rules(path: Path, asked: Asked, mapping: dict[str, str]) -> Rules:
    try:
        zp, column = float(asked.zp) if asked.zp is not None else NJY_ZERO_POINT, None
    except ValueError:
        zp, column = NJY_ZERO_POINT, asked.zp
    if not abs(zp) <= LARGEST_ZP:
        raise click.UsageError(f"--zp {asked.zp} is no zero point in magnitudes")
    header = read.header(path)
    mapping = {name: found for name, found in mapping.items() if name not in names.OF_OBJECTS or name == "obj"}
    layout = names.of_curves(
        header, mapping, time=asked.time, zp=column, constant_zp=asked.zp is not None and column is None
    )
    if "mag" in layout and asked.zp is not None:
        raise TocsinError("--zp is of fluxes, and this table has magnitudes (AB)")
    return Rules(asked.survey, layout, zp, asked.time == "jd", asked.drop_bad)


def _judge(asked: Asked, at: Floats, settings: Settings, baseline: Mode) -> Judge:
    from broker.cli.candidates import with_models
    from broker.cli.curves import Judge, with_even_prior
    from broker.score import card as cards

    for model in asked.models:
        card = cards.read(*cards.locate(model))
        if card.survey != asked.survey:
            raise TocsinError(f"the model {card.name} is for {card.survey}, not for {asked.survey}")
    chosen = with_models(settings, ",".join(asked.models) or "live").score
    only = {"classifiers": {asked.survey: chosen.classifiers[asked.survey]}, "anomaly": chosen.anomaly}
    scorers = assemble.scorers(settings.model_copy(update={"score": chosen.model_copy(update=only)}))
    if asked.survey not in scorers:
        raise TocsinError(f"no model is configured for {asked.survey}")
    scorer = scorers[asked.survey]
    if asked.prior == "even":
        scorer = with_even_prior(scorer)
    history = epochs.HISTORY_D[asked.survey] if asked.packet else None
    return Judge(scorer, at, history, baseline, chosen.gp_threads, chosen.gp_solver)


def _baseline(asked: Asked, rules: Rules) -> Mode:
    """Return the baseline's mode; fluxes, and magnitudes of alerts, are differences already."""
    differences = "mag" not in rules.layout or rules.of_alerts
    return "none" if asked.baseline == "auto" and differences else asked.baseline


def _unknown(table: Table) -> tuple[Any, Any]:
    nothing = np.full(len(table.ids), np.nan)
    return nothing, nothing


def _printed(as_json: bool) -> Callable[[Columns], None]:
    """Return what prints rows instead of writing them: all as JSON, or the first few for people."""
    left = SHOWN

    def write_json(columns: Columns) -> None:
        listed = {
            name: column.tolist() if isinstance(column, np.ndarray) else column for name, column in columns.items()
        }
        for row in zip(*listed.values(), strict=True):
            click.echo(json.dumps({n: _or_null(v) for n, v in zip(listed, row, strict=True)}))

    def write_some(columns: Columns) -> None:
        nonlocal left
        n = min(left, len(columns["obj"]))
        if n:
            Console().print(_shown({name: column[:n] for name, column in columns.items()}))
        if 0 < left < len(columns["obj"]):
            click.echo("more objects follow; --out FILE writes all of them", err=True)
        left -= n

    return write_json if as_json else write_some


def _or_null(value: str | int | float) -> str | int | float | None:
    return None if isinstance(value, float) and math.isnan(value) else value


def _shown(columns: Columns) -> Shown:
    shown = Shown("object", "at, d", "likeliest", "p", "second", "p", "anomaly", "reason")
    classes = [name for name in columns if name.startswith("p_") and not name.endswith("_unc")]
    for row, obj in enumerate(columns["obj"]):
        p = {name.removeprefix("p_"): columns[name][row] for name in classes}
        best = sorted(p, key=lambda name: -np.nan_to_num(p[name]))[:2]
        cells = [cell for name in best for cell in ((name, f"{p[name]:.2f}") if p[name] == p[name] else ("", ""))]
        anomaly = columns["anomaly"][row] if "anomaly" in columns else np.nan
        at = columns["at"][row]
        shown.add_row(
            str(obj),
            "all" if np.isnan(at) else f"{at:g}",
            *(cells or [""] * 4),
            "" if np.isnan(anomaly) else f"{anomaly:.2f}",
            columns["reason"][row],
        )
    return shown


def _say(table: Table, rules: Rules, judge: Judge) -> None:
    """Print what was read as what, what was left out, and how the rows of the result end."""
    click.echo(f"{len(table.ids)} objects in {table.rows} rows; read: {_read_as(rules.layout)}", err=True)
    left_out = [f"{n} {what}" for what, n in (rules.dropped + judge.dropped).items() if n]
    if left_out:
        click.echo(f"rows left out: {', '.join(left_out)}", err=True)
    if judge.stars:
        click.echo(f"taken as the whole light of a star, less its median in each band: {len(judge.stars)}", err=True)
    ends = [f"{judge.counts['']} scored", *(f"{n} {reason}" for reason, n in judge.counts.items() if reason)]
    click.echo(f"results: {', '.join(ends)}", err=True)


def _read_as(layout: Layout) -> str:
    used = [name if name == column else f"{name} ({column})" for name, column in layout.columns.items()]
    return ", ".join(used) + (f"; not read: {', '.join(layout.ignored)}" if layout.ignored else "")


@contextmanager
def _bar(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show a bar on a terminal while the block runs; the function moves it."""
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=total)
        yield lambda n: progress.advance(task, n)
