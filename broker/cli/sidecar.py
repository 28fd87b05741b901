"""``tocsin sidecar``: survey models beside the stream, or over files."""

from __future__ import annotations

import json
import logging
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from broker.cli import listing, products
from broker.cli.run import TellReady, deliver, serve
from broker.core import logs
from broker.core.config import Settings, load
from broker.core.errors import TocsinError
from broker.core.topics import Topics
from broker.sidecar.catalogue import Plan

if TYPE_CHECKING:
    from broker.core.metrics import Metrics
    from broker.deliver.loop import Totals

log = logging.getLogger("tocsin.sidecar")
RUN = "run"
PATIENCE_MS = 3_600_000


class _Rows(click.Group):
    """A group whose first word, where it is no command, is a row: ``tocsin sidecar pz-mdn`` runs it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in (*self.commands, *ctx.help_option_names):
            args = [RUN, *args]
        return super().parse_args(ctx, args)


@click.group(cls=_Rows)
def sidecar() -> None:
    """Run survey models over products: photometric redshifts of hosts, morphologies of stamps, and more.

    'tocsin sidecar NAME...' is 'tocsin sidecar run NAME...'; options: 'tocsin sidecar run --help'.

    \b
    Example:
      tocsin sidecar list
      tocsin sidecar pz-mdn --brokers localhost:9092
      tocsin sidecar pz-mdn --input catalogue.parquet --out redshifts/ --format parquet
    """


@sidecar.command(RUN)
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--config", type=click.Path(path_type=Path), help="TOML file; [source] and [output] are the stream's.")
@click.option("--brokers", help="Kafka's bootstrap servers.")
@click.option("--topic", "topics", multiple=True, help="Source topic, instead of those of the rows; repeatable.")
@click.option("--group", help="Consumer group; default: tocsin-NAME.")
@click.option("--prefix", help="First part of every topic that is written; default: survey.NAME.")
@click.option("--port", type=int, help="Port of /healthz, /readyz and /metrics; 0 takes a free one.")
@click.option(
    "--input",
    "inputs",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    help="Catalogues (Parquet, FITS, CSV), images (FITS) or products (Avro), no topics; several, or repeatable.",
)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Directory of the results.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["avro", "parquet"]),
    default="avro",
    show_default=True,
    help="Of results in --out; parquet has one flat row per record.",
)
@click.option("--column", "columns", multiple=True, metavar="INPUT=COLUMN", help="A column's own name; repeatable.")
@click.option("--id", "record_id", help="Column of a catalogue's ids; default: id, else the row's number.")
@click.option("--missing", multiple=True, type=float, help="A number that stands for nothing, such as -99; repeatable.")
@click.option(
    "--block", type=click.IntRange(1, 65_536), default=4096, show_default=True, help="Rows of a catalogue per product."
)
def run(
    names: tuple[str, ...],
    config: Path | None,
    brokers: str | None,
    topics: tuple[str, ...],
    group: str | None,
    prefix: str | None,
    port: int | None,
    inputs: tuple[Path, ...],
    out: Path | None,
    form: str,
    columns: tuple[str, ...],
    record_id: str | None,
    missing: tuple[float, ...],
    block: int,
) -> None:
    """Answer products with the rows NAME... (pz-mdn, or pz-mdn@dc2) until SIGTERM, or files with --input and --out.

    From Kafka, every product becomes exactly one result on PREFIX.results or one dead letter, committed once, as
    'tocsin run' does with alerts. Rows that share a trunk share its forward pass.

    From files, --out gets results/*, dead_letters/*.avro and the manifest; run the same command again to go on where it
    was stopped. New products in a file or folder are answered then; a catalogue or image that grew or changed is
    refused, for it is another one: it needs another --out. Columns of a catalogue go by the names of what the row reads
    ('tocsin sidecar list'); without units in the file, the row's own are taken to be meant, and that is said. Case is
    ignored where that is clear, and no column is two inputs. The first image of a FITS file is one product, called as
    the file: its planes are the row's bands, blank pixels 0, and CDELT or CD must say the pixels' size. A word that
    names a row is that row: a file that is called so is ./NAME.

    Exit codes: 0 where everything has one end, dead letters among them (damaged products: 'tocsin dlq list OUT'); 1
    where something cannot be read or done, such as a damaged catalogue, or no row reads a file that is named (one that
    lies in a folder is left out, and that is said); 2 for usage.

    \b
    Example:
      tocsin sidecar pz-mdn pz-bins --brokers localhost:9092 --port 8081
      tocsin sidecar pz-mdn@dc2 --input galaxies.fits --out z/ --column mag_g=GMAG --missing 99
      tocsin sidecar radio-fr --input stamps/*.fits --out classes/ --format parquet
    """
    names, paths = _apart(names, inputs)
    if bool(paths) != bool(out):
        raise click.UsageError("--input and --out go together")
    if out is not None:
        if topics or group or prefix or port is not None:
            raise click.UsageError("--topic, --group, --prefix and --port are for Kafka, not for files")
        _files(names, paths, out, load(config), Plan(_pairs(columns), record_id, missing, block), form)
        return
    if columns or record_id or missing or form != "avro":
        raise click.UsageError("--column, --id, --missing and --format go with --input and --out")
    settings = load(config, {"kafka.brokers": brokers, "serve.port": port})
    settings = load(config, _overrides(names, settings, brokers, topics, group, prefix, port))
    logs.configure(settings.run.log_level)
    serve(settings, partial(service, names))


def _apart(names: tuple[str, ...], inputs: tuple[Path, ...]) -> tuple[tuple[str, ...], list[Path]]:
    """Return rows, each once, and files: what the shell makes of ``--input *.fits`` are more words.

    A word that names a row is that row: a file that is called so, as ``--out pz-mdn`` would be, is ``./pz-mdn``.
    """
    from broker.models.survey import registry

    more = [name for name in names if inputs and not registry.has(name) and Path(name).exists()]
    rows: dict[tuple[str, str], str] = {}
    for name in (name for name in names if name not in more):
        row, variant = registry.find(name)
        rows.setdefault((row.id, variant), name)
    if not rows:
        raise click.UsageError("name a row; 'tocsin sidecar list' shows them")
    return tuple(rows.values()), [*inputs, *map(Path, more)]


def _pairs(columns: tuple[str, ...]) -> dict[str, str]:
    for pair in columns:
        if not all(pair.partition("=")):
            raise click.UsageError(f"--column {pair}: expected INPUT=COLUMN, such as mag_g=GMAG")
    names = [pair.partition("=")[0] for pair in columns]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise click.UsageError(f"--column {twice}=... is given twice")
    return dict(pair.split("=", 1) for pair in columns)


def _files(names: tuple[str, ...], paths: list[Path], out: Path, settings: Settings, plan: Plan, form: str) -> None:
    from broker.cli.inputs import check_form
    from broker.cli.ledger import table
    from broker.deliver.recount import recount_directory

    check_form(out, "result", form)
    products.to_directory(names, products.load(names, settings), paths, out, settings, plan, form)
    found = recount_directory(out)
    click.echo(table(found, products.what_of(out)))
    if not found["balanced"]:
        raise TocsinError("the ledger does not balance")


def _overrides(
    names: tuple[str, ...],
    settings: Settings,
    brokers: str | None,
    topics: tuple[str, ...],
    group: str | None,
    prefix: str | None,
    port: int | None,
) -> dict[str, Any]:
    """Return what the command line and the rows say; the stream's own topics are never a sidecar's."""
    return {
        "kafka.brokers": brokers,
        "source.topics": list(topics) or products.sources(names, settings),
        "source.group": group or f"tocsin-{products.title(names)}",
        "output.prefix": prefix or products.topics(names, settings).prefix,
        "serve.port": port,
    }


def service(
    names: tuple[str, ...], settings: Settings, metrics: Metrics, stop: threading.Event, tell_ready: TellReady
) -> Totals:
    """Load the rows and deliver until ``stop``."""
    primary = frozenset({Topics(settings.output.prefix).results})
    return deliver(
        patient(settings),
        metrics,
        stop,
        tell_ready,
        lambda: products.work(names, settings, metrics).step,
        primary,
        products.bounds(settings),
    )


def patient(settings: Settings) -> Settings:
    """Return settings by which a group waits for a member that answers a large batch, if nothing else is configured.

    A thousand records a second, as some rows answer, are ten minutes a batch; thrown out in the middle, a member would
    begin it again for ever. That a process is dead is seen by its session all the same.
    """
    kafka = settings.kafka.model_copy(update={"client": {"max.poll.interval.ms": PATIENCE_MS, **settings.kafka.client}})
    return settings.model_copy(update={"kafka": kafka})


@sidecar.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per row.")
def list_(as_json: bool) -> None:
    """List every row: what it reads and gives, what it can be trained on, and what it is trained on (toy or not).

    Rows that cannot be read are named at the end, with the reason; exit 1 then.

    \b
    Example:
      tocsin sidecar list --json
    """
    from broker.models.survey import registry

    broken: list[TocsinError] = []
    for name in sorted(registry.places()):
        try:
            found = listing.about(name)
        except TocsinError as error:
            broken.append(error)
        else:
            click.echo(json.dumps(found) if as_json else listing.line(found))
    if broken:
        raise TocsinError("\n".join(map(str, broken)))
