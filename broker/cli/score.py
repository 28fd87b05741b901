"""``tocsin score``: what Tocsin says of the packets in a file, or of a table of light curves."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Literal

import click
from rich.console import Console

from broker.cli import assemble
from broker.cli.scoretable import Asked, score_table
from broker.core import schemas
from broker.core.bands import SURVEYS
from broker.core.config import Settings, load
from broker.core.errors import TocsinError
from broker.tables.baseline import Mode
from broker.tables.read import is_table

BATCH = 256


@click.command()
@click.argument("file", metavar="FILE", type=click.Path(exists=True, path_type=Path))
@click.option("--survey", type=click.Choice(list(SURVEYS)), help="FILE is a table of light curves of this survey.")
@click.option("--objects", type=click.Path(exists=True, path_type=Path), help="Table of obj, z_host, z_host_err.")
@click.option("--at", help="Days after the first detection, comma-separated, and 'all'; default: all, the whole curve.")
@click.option("--packet", is_flag=True, help="Only what an alert shows: up to a detection, 30 (ZTF) or 365 days back.")
@click.option("--zp", help="AB zero point of the fluxes, a number or a column; default: 31.4, which is nJy.")
@click.option("--columns", help="Names in your table: obj=oid,mjd=hmjd,flux_err=sigma.")
@click.option("--time", type=click.Choice(["mjd", "jd"]), help="What the times are; default: mjd.")
@click.option(
    "--baseline",
    type=click.Choice(["auto", "none", "median"]),
    help="Take away each band's median: of a variable star's whole light. Default: auto, see the README.",
)
@click.option("--drop-bad", is_flag=True, help="Leave out rows that cannot be used instead of stopping at the first.")
@click.option("--model", "models", multiple=True, help="Name or folder of a model, instead of the configured ones.")
@click.option("--prior", type=click.Choice(["natural", "even"]), help="Mix of classes; default: natural, the card's.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="FILE.parquet or FILE.csv to write.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line instead of a table.")
@click.option("--config", "config", type=click.Path(path_type=Path), help="TOML file with thresholds and models.")
def score(
    file: Path,
    survey: str | None,
    objects: Path | None,
    at: str | None,
    packet: bool,
    zp: str | None,
    columns: str | None,
    time: Literal["mjd", "jd"] | None,
    baseline: Mode | None,
    drop_bad: bool,
    models: tuple[str, ...],
    prior: Literal["natural", "even"] | None,
    out: Path | None,
    as_json: bool,
    config: Path | None,
) -> None:
    """Score the packets of FILE, or the light curves of a table.

    Without --survey, FILE is an alert packet, a directory or an archive of them: the annotations are printed and
    nothing is written. Exit 1 if a packet cannot be decoded, after all others were printed.

    With --survey, FILE is a CSV or Parquet table, one row a point: obj, mjd, band, flux, flux_err (nJy) or mag, mag_err
    (AB); optionally detected (else: flux >= 5 flux_err), limit (5-sigma depth in magnitudes of a non-detection) and
    isdiffpos (the sign of a magnitude's flux). The result has one row per object and --at: p_<class> and its standard
    deviation p_<class>_unc, anomaly and its parts; 'reason' is not empty where there is no number. Column 'at' is empty
    for the whole curve.

    \b
    Example:
      tocsin score 2475433850015010009.avro
      tocsin score --json alerts/ | jq .anomaly.score
      tocsin score curves.csv --survey ztf --out scores.csv
      tocsin score curves.parquet --survey lsst --objects hosts.csv --at 0,2,5,10,20,40,all --out scores.parquet
      tocsin score snia.csv --survey ztf --columns obj=name,band=filter --zp 27.5 --packet
    """
    settings = load(config)
    of_tables = {
        "--objects": objects, "--at": at, "--packet": packet, "--zp": zp, "--columns": columns, "--time": time,
        "--baseline": baseline, "--drop-bad": drop_bad, "--model": models, "--prior": prior, "--out": out,
    }  # fmt: skip
    if survey is None:
        if is_table(file):
            raise click.UsageError(f"{file} is a table of light curves: of which survey? --survey ztf or lsst")
        if given := [name for name, value in of_tables.items() if value]:
            raise click.UsageError(f"{', '.join(given)}: only for tables of light curves, with --survey")
        _score_packets(file, as_json, settings)
        return
    if file.is_dir():
        raise click.UsageError(f"{file} is a directory; --survey goes with one table")
    if out and as_json:
        raise click.UsageError("--json prints, --out writes: take one of them")
    asked = Asked(
        survey, objects, at or "all", packet, zp, columns or "", time or "mjd", baseline or "auto", drop_bad, models,
        prior or "natural", out, as_json,
    )  # fmt: skip
    score_table(file, asked, settings)


def _score_packets(file: Path, as_json: bool, settings: Settings) -> None:
    """Print the annotation of every packet.

    Raises
    ------
    TocsinError
        A packet cannot be decoded; all others were printed.
    """
    from broker.archive import read
    from broker.cli.live import table
    from broker.core.metrics import Recorded

    pipeline = assemble.pipeline(settings, Recorded())
    primary = assemble.primary(pipeline.publishing.topics)
    source = read.packets([file])
    dead = 0
    while packets := list(islice(source, BATCH)):
        outcomes = pipeline(assemble.batch_of(packets))
        found = [
            schemas.decode(record.value, list(record.headers), "annotation")
            for record in outcomes.records
            if record.topic in primary
        ]
        if as_json:
            for annotation in found:
                click.echo(json.dumps(annotation, default=str))
        elif found:
            Console().print(table(found))
        for letter in outcomes.dead:
            click.echo(f"{letter.reason}: {letter.text}", err=True)
        dead += len(outcomes.dead)
    if dead:
        raise TocsinError(f"{dead} packets cannot be decoded")
