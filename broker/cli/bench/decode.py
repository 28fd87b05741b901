"""``tocsin bench decode``: our decoder against fastavro, on real packets, on one core."""

from __future__ import annotations

import io
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import fastavro
import numpy as np

from broker.cli.bench.machine import gflops
from broker.core.batch import PacketBatch
from broker.core.errors import TocsinError
from broker.decode import Decoder, SchemaStore, lsst, ztf
from broker.decode.fields import Projection
from broker.decode.schemas import installed

RUBIN_ID = 1000
FLOORS = {"ztf": 20.0, "lsst": 50.0}


@dataclass(frozen=True, slots=True)
class Load:
    """A set of packets to decode.

    Attributes
    ----------
    survey, what : str
    packets : list of bytes
    schema_text : str or None
        Writer schema of wire-format packets; None where the packets carry it.
    """

    survey: str
    what: str
    packets: list[bytes]
    schema_text: str | None


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--batch", default=256, show_default=True, type=click.IntRange(1), help="Packets per call, about.")
@click.option("--repeats", default=7, show_default=True, type=click.IntRange(1), help="Runs; the best of each side.")
def decode(as_json: bool, batch: int, repeats: int) -> None:
    """Compare with fastavro.schemaless_reader, its parsed schema cached: the same packets, one core, one run.

    Ours is everything from packet to columns: framing, hash and look-up of the schema, the walk, and the conversion to
    fluxes and times. The real packets are in the folder named by TOCSIN_TEST_DATA.

    \b
    Example:
      TOCSIN_TEST_DATA=data tocsin bench decode --json
    """
    folder = os.environ.get("TOCSIN_TEST_DATA")
    if folder is None:
        raise TocsinError("tocsin bench decode needs real packets: set TOCSIN_TEST_DATA to the folder that has alerts/")
    loads = [_ztf(Path(folder) / "alerts"), _lsst(Path(folder) / "alerts")]
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        result: dict[str, Any] = {load.survey: _measure(load, batch, repeats) for load in loads}
        result["gflops"] = round(gflops(), 1)
    finally:
        os.sched_setaffinity(0, cores)
    click.echo(json.dumps(result) if as_json else _table(result))


def _ztf(alerts: Path) -> Load:
    packets = [path.read_bytes() for path in sorted((alerts / "ztf" / "20231012").glob("*.avro"))]
    if not packets:
        raise TocsinError(f"no ZTF packets in {alerts / 'ztf' / '20231012'}")
    return Load("ztf", f"{len(packets)} real ZTF v4.01 packets, containers", packets, None)


def _lsst(alerts: Path) -> Load:
    """Return the real Rubin alerts with history as the survey sends them: wire format, schema 10.0."""
    text = installed(RUBIN_ID)
    if text is None:
        raise TocsinError("tocsin bench decode needs Rubin's schemas: pip install 'tocsin[rubin]'")
    schema, packets = fastavro.parse_schema(json.loads(text)), []
    with (alerts / "lsst" / "fink_lsst_v10_7alerts.avro").open("rb") as file:
        for record in fastavro.reader(file):
            if isinstance(record, dict) and record["prvDiaSources"]:
                out = io.BytesIO()
                fastavro.schemaless_writer(out, schema, {name: _plain(value) for name, value in record.items()})
                packets.append(b"\0" + RUBIN_ID.to_bytes(4, "big") + out.getvalue())
    return Load("lsst", f"{len(packets)} real Rubin alerts with history, wire format v10.0", packets, text.decode())


def _plain(value: Any) -> Any:
    """Return null for a record whose fields are all null: another broker's way to write one."""
    return None if isinstance(value, dict) and all(v is None for v in value.values()) else value


def _measure(load: Load, size: int, repeats: int) -> dict[str, Any]:
    """Return microseconds per packet of both sides, summed over the set, and their ratio."""
    rounds = max(1, round(size / len(load.packets)))
    values = [bytes(bytearray(packet)) for _ in range(rounds) for packet in load.packets]  # each at its own address
    n = len(values)
    batch = PacketBatch(values, [load.survey] * n, np.zeros(n, np.int32), np.arange(n), np.full(n, -1), 0)
    decoder = Decoder(SchemaStore())
    decoded, dead = decoder(batch)  # compiles, or loads what was compiled
    if dead:
        raise TocsinError(f"a real packet did not decode: {dead[0].text}")
    ours = min(_seconds(lambda: decoder(batch)) for _ in range(repeats)) / rounds
    theirs = _fastavro(load, min(repeats, 3))
    return {
        "ratio": round(theirs / ours, 1),
        "floor": FLOORS[load.survey],
        "what": load.what,
        "packets": len(load.packets),
        "packets_per_call": n,
        "bytes": sum(map(len, load.packets)),
        "points": sum(len(part.curves.mjd) for part in decoded) // rounds,
        "ours_us_per_packet": round(ours / len(load.packets) * 1e6, 2),
        "fastavro_ms_per_packet": round(theirs / len(load.packets) * 1e3, 3),
        "captured": captured(ztf.PROJECTION if load.survey == "ztf" else lsst.PROJECTION),
    }


def _fastavro(load: Load, repeats: int) -> float:
    """Return the seconds that fastavro takes for the set: bodies at hand, schema parsed, no record kept."""
    if load.schema_text is not None:
        bodies, schema = [packet[5:] for packet in load.packets], fastavro.parse_schema(json.loads(load.schema_text))
    else:
        blocks = [next(iter(fastavro.block_reader(io.BytesIO(packet)))) for packet in load.packets]
        bodies, schema = [block.bytes_.getvalue() for block in blocks], blocks[0].writer_schema

    def read() -> None:
        for body in bodies:
            fastavro.schemaless_reader(io.BytesIO(body), schema, None)

    return min(_seconds(read) for _ in range(repeats))


def captured(projection: Projection) -> list[str]:
    """Return the names of the fields that we read."""
    histories = [f"{history.path}.{column.path}" for history in projection.histories for column in history.columns]
    return [column.path for column in projection.alert] + histories


def _seconds(call: Any) -> float:
    """Return the processor's seconds: what other processes take of the core counts for neither side."""
    began = time.process_time()
    call()
    return time.process_time() - began


def _table(result: dict[str, Any]) -> str:
    lines = []
    for survey in FLOORS:
        row = result[survey]
        ours, theirs = row["ours_us_per_packet"], row["fastavro_ms_per_packet"]
        lines.append(f"{row['what']}: {row['points']} points, {row['bytes']:,} bytes, {row['packets_per_call']} a call")
        lines.append(f"  {row['ratio']} times fastavro (floor {row['floor']}): {ours} us a packet against {theirs} ms")
        lines.append(f"  captured: {', '.join(row['captured'])}")
    return "\n".join([*lines, f"this machine: {result['gflops']} GFLOPS in a 1024 x 1024 float32 product, one core"])
