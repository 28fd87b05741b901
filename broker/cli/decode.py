"""``tocsin decode``: one file of packets, for people."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from broker.cli import assemble
from broker.core.config import load
from broker.core.errors import TocsinError

if TYPE_CHECKING:
    from broker.core.batch import FilePacket

LONGEST_SHOWN = 64


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--columns", is_flag=True, help="Show what the broker reads (nJy, MJD TAI) instead of the whole record.")
@click.option("--config", "config", type=click.Path(path_type=Path), help="TOML file, for the schema registry.")
def decode(file: Path, columns: bool, config: Path | None) -> None:
    """Print every packet of FILE as one line of JSON; long binary fields (stamps) are shown by their length.

    Exit 1 at the first packet that cannot be decoded.

    \b
    Example:
      tocsin decode 2475433850015010009.avro
      tocsin decode --columns 2475433850015010009.avro
    """
    from broker.archive import read

    settings = load(config)
    store, decoder = assemble.store(settings), assemble.decoder(settings)
    for packet in read.packets([file]):
        shown = _columns(packet, decoder) if columns else _record(packet, store)
        click.echo(json.dumps(_plain(shown)))


def _record(packet: FilePacket, store: Any) -> dict[str, Any]:
    from broker.decode import read
    from broker.decode.limits import Reject

    try:
        return read(packet.value, store)
    except Reject as reject:
        raise TocsinError(f"{packet.path}, record {packet.record}: {reject.reason}: {reject}") from reject


def _columns(packet: FilePacket, decoder: Any) -> dict[str, Any]:
    """Return the one alert in a packet as the stages see it: scalars, and its points as columns."""
    found, dead = decoder(assemble.batch_of([packet]))
    for letter in dead:
        raise TocsinError(f"{letter.reason}: {letter.text}")
    alerts, curves = found[0].alerts, found[0].curves
    scalars = {name: getattr(alerts, name) for name in alerts.__slots__ if name != "survey"}
    points = {name: getattr(curves, name).tolist() for name in curves.__slots__ if name != "offsets"}
    first = {name: column[0] if isinstance(column, list) else column[0].item() for name, column in scalars.items()}
    return {"survey": alerts.survey, **first, "points": points}


def _plain(value: object) -> object:
    """Return ``value`` as JSON knows it: NaN as null, long bytes by their length, the rest as text."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>" if len(value) > LONGEST_SHOWN else value.hex()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, int | str | None) else str(value)
