"""``tocsin demo``: the main job on a small simulated night, files to files."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from broker.core import schemas
from broker.core.config import Settings, load
from broker.core.errors import TocsinError

if TYPE_CHECKING:
    from broker.archive.simulate import SimulatedPacket

MARK = ".tocsin-demo"


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("demo-out"), show_default=True, help="Directory.")
@click.option("--ztf", default=600, show_default=True, type=click.IntRange(1), help="ZTF packets.")
@click.option("--lsst", default=200, show_default=True, type=click.IntRange(1), help="Rubin packets.")
@click.option("--seed", default=1, show_default=True, help="Of everything random.")
@click.option("--picture", type=click.Path(path_type=Path), help="Also draw the last alerts and the ledger as SVG.")
def demo(out: Path, ztf: int, lsst: int, seed: int, picture: Path | None) -> None:
    """Simulate a small night of ZTF and Rubin packets, run it through every stage, and show the ledger.

    One packet of each survey is cut in half on the way, so that the dead letters have something to show.
    OUT gets packets/, truth.jsonl, annotations/, dead_letters/ and the manifest; the last demo there is replaced.

    \b
    Example:
      tocsin demo
      tocsin demo --ztf 5000 --lsst 1000 --out /tmp/night
    """
    from broker.cli.replay import to_directory

    _fresh(out)
    with as_file(files("broker") / "deploy" / "config" / "demo.toml") as path:
        settings = load(path)
    click.echo(f"demo: simulating {ztf} ZTF and {lsst} Rubin packets into {out}/packets ...")
    transients = _simulate(out, {"ztf": ztf, "lsst": lsst}, seed, settings)
    click.echo("demo: decode, light curves, Gaussian process, networks, annotations ...")
    to_directory([out / "packets"], out, settings)
    scored = _scored_ids(out)
    share = sum(alert_id in scored for alert_id in transients) / max(1, len(transients))
    click.echo(f"{share:.1%} of the night's {len(transients)} real transients (whole public packets) are scored")
    if picture is not None:
        _draw(out, picture)
    click.echo(f"annotations: {out}/annotations/*.avro   ask again: tocsin ledger {out} --verify-source")


def _fresh(out: Path) -> None:
    """Empty the directory of an earlier demo; anything else there is not ours to remove."""
    if out.exists() and any(out.iterdir()) and not (out / MARK).exists():
        raise TocsinError(f"{out} is not empty and not from a demo: choose another --out")
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    (out / MARK).touch()


def _simulate(out: Path, objects: dict[str, int], seed: int, settings: Settings) -> set[int]:
    """Write the packets and the truth; return the ids of transients that a broker is due to score."""
    from broker.archive import simulate

    simulate.install_schema(settings.run.cache_dir / "schemas")
    due = set()
    (out / "packets").mkdir()
    with (out / "truth.jsonl").open("w") as truth:
        for survey, n in objects.items():
            for number, packet in enumerate(simulate.night(survey, n, seed, history="short")):
                whole = number != n // 2
                size = len(packet.value) if whole else len(packet.value) // 2
                # a name that begins with the time mixes the surveys as a night does
                name = f"{packet.timestamp_ms}-{survey}-{packet.truth.alert_id}.avro"
                (out / "packets" / name).write_bytes(packet.value[:size])
                truth.write(packet.truth.as_json() + "\n")
                if whole and _is_due(packet):
                    due.add(packet.truth.alert_id)
    return due


def _draw(out: Path, picture: Path) -> None:
    from broker.cli import live
    from broker.cli.ledger import table
    from broker.deliver.recount import recount_directory

    scored = [a for a in _annotations(out) if a["outcome"] == "scored"]
    live.picture(picture, scored[:: max(1, len(scored) // live.ROWS)][: live.ROWS], table(recount_directory(out)))


def _is_due(packet: SimulatedPacket) -> bool:
    return packet.truth.transient and packet.truth.programid == 1 and not packet.truth.test


def _scored_ids(out: Path) -> set[int]:
    return {a["diaSourceId"] for a in _annotations(out) if a["outcome"] == "scored"}


def _annotations(out: Path) -> Iterator[dict[str, Any]]:
    import fastavro

    reader = schemas.latest("annotation").parsed
    for path in sorted((out / "annotations").glob("*.avro")):
        with path.open("rb") as file:
            yield from fastavro.reader(file, reader)
