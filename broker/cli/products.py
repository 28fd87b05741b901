"""What `tocsin sidecar` is made of: rows of the survey models, their step, and files of products or catalogues."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from broker import __version__
from broker.cli import assemble, note
from broker.cli.assemble import Work
from broker.cli.given import Inputs
from broker.cli.inputs import note_inputs
from broker.core.config import Settings
from broker.core.errors import TocsinError
from broker.core.metrics import Metrics, Recorded
from broker.core.topics import Topics
from broker.sidecar.catalogue import Plan

if TYPE_CHECKING:
    from broker.deliver.files import FileSink, FileSource
    from broker.deliver.loop import Totals
    from broker.deliver.notes import FileNotes
    from broker.deliver.types import Bounds
    from broker.sidecar.answer import Model
    from broker.sidecar.flat import FlatResults
    from broker.sidecar.step import Sidecar

IN_FLIGHT = "in_flight.json"
BATCH_ROWS, BATCH_BYTES = 16_384, 16_000_000


def title(names: Sequence[str]) -> str:
    """Return what a sidecar of some rows is called in topics and groups, where ``@`` is not allowed."""
    return "_".join(names).replace("@", "-")


def topics(names: Sequence[str], settings: Settings) -> Topics:
    """Return where a sidecar of some rows publishes, if nothing else is said."""
    return Topics(f"{settings.survey.prefix}.{title(names)}")


def sources(names: tuple[str, ...], settings: Settings) -> list[str]:
    """Return the topics of the kinds of products that rows read."""
    from broker.models.survey import registry

    kinds = dict.fromkeys(registry.find(name)[0].kind for name in names)
    return [Topics(settings.survey.prefix).product(str(kind)) for kind in kinds]


def load(names: Sequence[str], settings: Settings) -> list[Model]:
    """Return the rows, ready to answer.

    Raises
    ------
    TocsinError
        There is no such row, or it has no weights.
    """
    from broker.models.survey import serve

    return [serve.load(name, settings.sidecar.weights, threads=1) for name in names]


def step(models: Sequence[Model], settings: Settings, metrics: Metrics, where: Topics, *, files: bool) -> Sidecar:
    """Return what the delivery loop runs. Wire ids in files are our own: a registry's belong to topics.

    Files may be images in FITS.
    """
    from broker.sidecar.fetch import Fetch
    from broker.sidecar.fitsimages import Images
    from broker.sidecar.framing import Installed
    from broker.sidecar.step import Sidecar

    ids = Installed() if files else assemble.product_ids(settings)
    fetch = Fetch(settings.sidecar.uri_prefixes, tries=settings.sidecar.uri_tries)
    images = Images.of(models) if files else None
    return Sidecar(models, where, metrics, __version__, assemble.now_ms, fetch, ids, images, settings.sidecar.threads)


def work(names: Sequence[str], settings: Settings, metrics: Metrics, *, files: bool = False) -> Work:
    """Return the step of a sidecar that publishes under the configured prefix, and what comes of it."""
    where = Topics(settings.output.prefix)
    models = load(names, settings)
    made = step(models, settings, metrics, where, files=files)
    return Work(made, frozenset({where.results}), "result", lambda: flat(models, settings), bounds(settings))


def bounds(settings: Settings) -> Bounds:
    """Return the bounds of a batch of products: what is said of them can be a thousand times as large."""
    found = assemble.bounds(settings)
    return dataclasses.replace(found, max_bytes=min(found.max_bytes, BATCH_BYTES))


def flat(models: Sequence[Model], settings: Settings) -> FlatResults:
    """Return what writes results of rows as flat columns."""
    from broker.models.survey import posterior
    from broker.sidecar.flat import FlatResults

    names = [_name(model) for model in models]
    return FlatResults(names, posterior.quantiles, settings.sidecar.threads)


def to_directory(
    names: Sequence[str],
    models: Sequence[Model],
    paths: Sequence[Path],
    directory: Path,
    settings: Settings,
    plan: Plan,
    form: str,
) -> Totals:
    """Answer files of products, images and catalogues into ``directory``; go on where an earlier run ended.

    Raises
    ------
    TocsinError
        A catalogue lacks what the rows read, or is damaged; a catalogue or an image is another one than before; no row
        reads what there is; or the directory holds something else.
    """
    from broker.deliver.files import FileSink, FileSource
    from broker.deliver.notes import FileNotes

    inputs = Inputs.of(paths, models, plan, directory)
    for line in inputs.told():
        click.echo(line, err=True)
    note.write(directory, names, plan, inputs.catalogues, inputs.images, inputs.left_out)
    note_inputs(directory, [str(path.absolute()) for path in paths])
    where = topics(names, settings)
    made = flat(models, settings) if form == "parquet" else None
    sink = FileSink(directory, primary=frozenset({where.results}), parquet=made, schema="result")
    began, metrics, notes = time.monotonic(), Recorded(), FileNotes(directory / IN_FLIGHT)
    totals = _deliver(
        FileSource(partial(inputs.packets, partial(click.echo, err=True))),
        sink,
        models,
        inputs,
        settings,
        metrics,
        where,
        notes,
    )
    click.echo(_told(totals, metrics, _called(inputs.catalogues, inputs.files), time.monotonic() - began))
    for line in _unread(models, metrics, totals):
        click.echo(line, err=True)
    return totals


def _deliver(
    source: FileSource,
    sink: FileSink,
    models: Sequence[Model],
    inputs: Inputs,
    settings: Settings,
    metrics: Metrics,
    where: Topics,
    notes: FileNotes,
) -> Totals:
    from rich.console import Console

    from broker.cli import live
    from broker.deliver.types import Bounds

    most = min(max(1, BATCH_ROWS // inputs.plan.block), settings.batch.max_alerts)
    of_blocks = Bounds(max_alerts=most, max_bytes=BATCH_BYTES, max_wait_s=5.0)
    made, primary = step(models, settings, metrics, where, files=True), frozenset({where.results})
    what = _called(inputs.catalogues, inputs.files)
    view = live.Watched(made, primary, inputs.total, Console(stderr=True), what, tabled=False)
    allowed = of_blocks if inputs.catalogues else bounds(settings)
    return live.deliver(source, view, sink, settings, metrics, bounds=allowed, notes=notes)


def rows_of(directory: Path) -> list[str]:
    """Return which rows made a directory's results; none where it is no sidecar's."""
    found = note.read(directory)
    return found.rows if found else []


def what_of(directory: Path) -> str:
    """Return how the packets are called that a directory was made of; '' where it is no sidecar's."""
    found = note.read(directory)
    return _called(found.catalogues, note.answered_in(directory)) if found else ""


def _called(catalogues: Collection[object], files: Collection[object]) -> str:
    """Return what packets are called, where catalogues are all files or some."""
    return "blocks" if catalogues and all(file in catalogues for file in files) else "products"


def _told(totals: Totals, metrics: Recorded, what: str, seconds: float) -> str:
    """Return one line for each row on the records, and one on the blocks or products that they came in."""
    ended: dict[str, Counter[str]] = {}
    for (name, labels), n in metrics.counters.items():
        if name in ("records_answered_total", "records_unanswered_total"):
            found = dict(labels)
            ended.setdefault(found["row"], Counter())[found.get("reason", "")] += n
    rows = [_of_row(row, found, seconds) for row, found in ended.items()]
    came = f"{totals.received} {what if totals.received != 1 else what[:-1]}" if totals.received else f"no new {what}"
    return "\n".join([*rows, f"{came} in {seconds:.1f} s, {totals.dead_lettered} dead letters"])


def _unread(models: Sequence[Model], metrics: Recorded, totals: Totals) -> list[str]:
    """Return a line for each row that read nothing of what came, for it was of other kinds.

    Raises
    ------
    TocsinError
        None of them did.
    """
    read = {dict(labels)["row"] for (_, labels) in metrics.counters if "row" in dict(labels)}
    unread = [model for model in models if _name(model) not in read]
    if totals.received == totals.dead_lettered or not unread:
        return []
    lines = [f"{_name(model)} read nothing: it reads the kind {model.kind}, and none came" for model in unread]
    if not read:
        raise TocsinError("; ".join(lines))
    return lines


def _name(model: Model) -> str:
    return f"{model.provenance.row}@{model.provenance.variant}"


def _of_row(row: str, ended: Counter[str], seconds: float) -> str:
    """Return how many records a row answered, why not the others, and how many a second."""
    why = "".join(f", {reason} {n:,}" for reason, n in sorted(ended.items()) if reason)
    return f"{row}: {ended['']:,} of {ended.total():,} records answered{why}; {ended.total() / seconds:,.0f} records/s"
