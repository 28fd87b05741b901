"""``tocsin diff``: which alerts another model would have classified otherwise, before it is deployed."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import track
from rich.table import Table

from broker.archive import diff as comparison
from broker.archive.diff import Side
from broker.cli import assemble, candidates
from broker.core import schemas
from broker.core.config import Settings, load
from broker.core.errors import TocsinError
from broker.core.metrics import Recorded

if TYPE_CHECKING:
    from broker.core.outcomes import Outcomes
    from broker.pipeline import Pipeline

PIPED = 132  # columns where there is no terminal
WIDE = 40  # columns that a table has at least, for its title
B = "b"  # the name that side B has as a shadow of side A


@click.command()
@click.argument("where", nargs=-1, required=True)
@click.option("--model", "models", multiple=True, help="A, then B: names or folders, comma-separated; or 'live'.")
@click.option("--limit", type=click.IntRange(1), help="Only so many packets of the night.")
@click.option("--max-moved", type=click.FloatRange(0, 1), help="Exit 1 beyond this part of alerts of another class.")
@click.option("--max-dp", type=click.FloatRange(0, 1), help="Exit 1 beyond this change of a class's probability.")
@click.option("--top", default=20, show_default=True, type=click.IntRange(0), help="Biggest moves to print.")
@click.option("--out", type=click.Path(path_type=Path), help="Every alert that changed, as .parquet or .csv.")
@click.option("--plot", type=click.Path(path_type=Path), help="A picture of the comparison, .svg or .png.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--config", type=click.Path(path_type=Path), help="TOML file with thresholds and models.")
@click.option("--brokers", help="Kafka's bootstrap servers.")
def diff(
    where: tuple[str, ...],
    models: tuple[str, ...],
    limit: int | None,
    max_moved: float | None,
    max_dp: float | None,
    top: int,
    out: Path | None,
    plot: Path | None,
    as_json: bool,
    config: Path | None,
    brokers: str | None,
) -> None:
    """Compare two sets of models alert by alert: which classes and anomaly ranks moved, biggest moves first.

    With --model twice, WHERE is a night (files, directories, ZTF's tar.gz), which is decoded and interpolated once and
    scored by both. A model is a name that `tocsin model list` prints or the folder of one (with a '/'); it takes the
    place of the configured models of its survey and kind, and the others stay; 'live' is the configured set. Without
    --model, WHERE is two results: the DIR of a `tocsin replay`, or kafka:TOPIC of annotations, as of `tocsin run
    --shadow`.

    Exit 0 within the thresholds (or without any), 1 beyond one. For --max-moved, an alert that only one side has, or
    only one classifies, has moved; for --max-dp too.

    \b
    Example:
      tocsin diff night/ --model live --model candidates/ztf-gru --max-moved 0.01 --plot moved.svg
      tocsin diff result_a/ result_b/ --out moved.parquet
      tocsin diff kafka:tocsin.ztf.all kafka:tocsin.shadow.ztf-gru.ztf
    """
    settings = load(config, {"kafka.brokers": brokers})
    if len(models) != (2 if models else 0) or (not models and len(where) != 2):
        raise click.UsageError("give a night and --model twice, or two results")
    sides = _night(where, models, settings, limit) if models else _results(where, settings, limit)
    found = comparison.compare(*sides)
    percentile = settings.output.anomaly_percentile
    names = (models[0], models[1]) if models else (where[0], where[1])
    if out is not None:
        comparison.write(comparison.table(found), out)
    if plot is not None:
        from broker.archive.diffplot import plot as draw

        draw(found, plot, names, percentile)
    summary = {"a": names[0], "b": names[1], **comparison.summary(found, percentile)}
    beyond = _beyond(summary, max_moved, max_dp)
    moves = comparison.table(found, top)
    if as_json:
        click.echo(json.dumps({**summary, "beyond": beyond, "moves": _rows(moves)}))
    else:
        _print(summary, moves)
    if beyond:
        raise TocsinError("; ".join(beyond))


def _beyond(summary: dict[str, Any], max_moved: float | None, max_dp: float | None) -> list[str]:
    """Return which thresholds are broken, in words."""
    beyond = []
    if max_moved is not None and summary["part_moved"] > max_moved:
        beyond.append(f"{summary['part_moved']:.4%} of the alerts moved, beyond {max_moved:.4%}")
    one_sided = summary["only_a"] + summary["only_b"] + summary["one_sided"]
    if max_dp is not None and (summary["max_dp"] > max_dp or one_sided):
        beyond.append(f"a probability moved by {summary['max_dp']:.4g}, {one_sided} are one-sided, beyond {max_dp:g}")
    return beyond


def _night(where: tuple[str, ...], models: tuple[str, ...], settings: Settings, limit: int | None) -> tuple[Side, Side]:
    """Run a night through the pipeline with the models of A, and those of B in their shadow.

    Raises
    ------
    TocsinError
        A path or a model is not there.
    """
    from broker.archive import read
    from broker.core.topics import Topics

    paths = [Path(path) for path in where]
    step = _pipeline(models, settings)
    primary = assemble.primary(Topics(settings.output.prefix))
    total = min(filter(None, (read.estimate(paths), limit)), default=0)
    packets = islice(track(read.packets(paths), "alerts", total or None, console=Console(stderr=True)), limit)
    a, b = Side(), Side()
    while batch := list(islice(packets, settings.batch.max_alerts)):
        outcomes = step(assemble.batch_of(batch))
        for side, on_a in ((a, True), (b, False)):
            for annotation in _annotations(outcomes, primary, on_a):
                side.add(annotation)
    return a, b


def _pipeline(models: tuple[str, ...], settings: Settings) -> Pipeline:
    from broker.score import Shadow

    chosen_a, chosen_b = (candidates.with_models(settings, model) for model in models)
    scorers = assemble.scorers(chosen_b)
    shadows = {survey: [Shadow(B, scorer, whole=True)] for survey, scorer in scorers.items()}
    return assemble.pipeline(chosen_a, Recorded(), shadows=shadows)


def _annotations(outcomes: Outcomes, primary: frozenset[str], on_a: bool) -> Iterator[dict[str, Any]]:
    """Yield the annotations of a batch: A's are the live ones, B's the shadow's."""
    for record in outcomes.records:
        if record.topic in primary if on_a else f".shadow.{B}." in record.topic:
            yield schemas.decode(record.value, list(record.headers), "annotation")


def _results(where: tuple[str, ...], settings: Settings, limit: int | None) -> tuple[Side, Side]:
    """Read two results back; ``limit``: the first annotations of each."""
    a, b = (comparison.read(islice(_result(place, settings), limit)) for place in where)
    return a, b


def _result(place: str, settings: Settings) -> Iterable[dict[str, Any]]:
    """Return the annotations of kafka:TOPIC or of the directory of a replay.

    Raises
    ------
    TocsinError
        There are none.
    """
    from broker.deliver.kafka.reader import read_records
    from broker.deliver.outputs import DirectoryOutputs

    if place.startswith("kafka:"):
        topic = place.removeprefix("kafka:")
        return (record for record, _ in read_records(settings.kafka.librdkafka(), [topic], "annotation"))
    outputs = DirectoryOutputs(Path(place))
    next(outputs.ledgers(), None)  # says so where it is no result
    return outputs.annotations()


def _rows(columns: comparison.Table) -> list[dict[str, Any]]:
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _print(summary: dict[str, Any], moves: comparison.Table) -> None:
    """Print the comparison for people."""
    console = Console(width=None if sys.stdout.isatty() else PIPED)
    console.print(_figures(summary))
    if summary["changed"]:
        console.print(_classes(summary["classes"]))
        console.print(_changes(summary["dp"]))
        console.print(_moves(moves))


def _figures(summary: dict[str, Any]) -> Table:
    shown = Table("what", "", title=f"A = {summary['a']}, B = {summary['b']}", title_justify="left", min_width=WIDE)
    anomaly = summary["anomaly"]
    correlation = anomaly["rank_correlation"]
    outcomes = (f"{a} -> {b}: {n}" for a, row in summary["outcomes"].items() for b, n in row.items())
    for name, value in (
        ("alerts in both, only in A, only in B", f"{summary['matched']}, {summary['only_a']}, {summary['only_b']}"),
        ("alerts that changed at all", str(summary["changed"])),
        ("likeliest class moved", f"{summary['class_moved']} ({summary['part_moved']:.3%}, with those of one side)"),
        ("outcomes that changed", "\n".join(outcomes) or "none"),
        ("largest change of a probability", f"{summary['max_dp']:.6f}"),
        ("anomaly ranks: rank correlation", "-" if correlation is None else f"{correlation:.6f}"),
        ("anomaly ranks: mean, largest change", f"{anomaly['mean_move']:.6f}, {anomaly['max_move']:.6f}"),
        (
            f"anomalies above {anomaly['percentile']:g}: in A, in, out",
            f"{anomaly['published_a']}, +{anomaly['moved_in']}, -{anomaly['moved_out']}",
        ),
    ):
        shown.add_row(name, value)
    return shown


def _changes(dp: dict[str, dict[str, float]]) -> Table:
    shown = Table("probability of", "mean change", "largest", title="by class", title_justify="left", min_width=WIDE)
    for slug, change in dp.items():
        shown.add_row(slug, f"{change['mean']:.6f}", f"{change['max']:.6f}")
    return shown


def _classes(classes: dict[str, dict[str, int]]) -> Table:
    shown = Table("A", "B", "alerts", title="likeliest classes that moved", title_justify="left", min_width=WIDE)
    moved = [(n, a, b) for a, row in classes.items() for b, n in row.items() if a != b]
    for alerts, a, b in sorted(moved, reverse=True):
        shown.add_row(a, b, str(alerts))
    return shown


def _moves(moves: comparison.Table) -> Table:
    shown = Table(
        "object", "alert", "A", "B", "moved", "anomaly", title="biggest moves", title_justify="left", min_width=WIDE
    )
    for row in _rows(moves):
        shown.add_row(
            row["object_id"],
            str(row["alert_id"]),
            *(f"{row[f'class_{side}'] or row[f'outcome_{side}']} {_text(row[f'probability_{side}'])}" for side in "ab"),
            f"{row['moved_class'] or ''} {_text(row['dp'], '+.3f')}",
            " -> ".join(_text(row[f"anomaly_{side}"]) for side in "ab"),
        )
    return shown


def _text(value: float | None, form: str = ".3f") -> str:
    return "-" if value is None else format(value, form)
