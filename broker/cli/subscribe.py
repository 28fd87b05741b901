"""``tocsin subscribe``: read a topic of ours in the terminal."""

from __future__ import annotations

import base64
import io
import json
import math
import signal
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import Any

import click
import numpy as np

from broker.cli.inputs import make
from broker.client import Received, Subscription
from broker.client import subscribe as open_subscription
from broker.core import schemas
from broker.core.errors import TocsinError
from broker.core.reading import branches, probabilities
from broker.core.taxonomy import BRANCHES, BY_ID


@click.command()
@click.argument("topic")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line; default: one line for people.")
@click.option("--from", "from_", default="latest", show_default=True, help="latest, earliest or an ISO time (UTC).")
@click.option("--group", help="Consumer group: keep the position, share the stream.")
@click.option("--limit", type=click.IntRange(min=1), help="Stop after so many.")
@click.option("--once", is_flag=True, help="Stop at what is the end now.")
@click.option("--save", type=click.Path(path_type=Path), help="Also write each message to a file in this folder.")
@click.option("--config", type=click.Path(path_type=Path), help="TOML file with [kafka].")
@click.option("--brokers", help="Kafka's bootstrap servers.")
def subscribe(
    topic: str,
    as_json: bool,
    from_: str,
    group: str | None,
    limit: int | None,
    once: bool,
    save: Path | None,
    config: Path | None,
    brokers: str | None,
) -> None:
    """Read TOPIC: annotations, products for sidecars, their results, dead letters, the ledger, or raw packets (--save).

    Only committed messages are shown; no schema registry is needed. With --json the numbers of a result are lists, one
    number for each of its records. Credentials come from the configuration, from TOCSIN_KAFKA__USERNAME and
    TOCSIN_KAFKA__PASSWORD, or from KAFKA_* variables.

    \b
    Example:
      tocsin subscribe tocsin.ztf.all --json --from earliest --once
      tocsin subscribe tocsin.lsst.class.snia --group my-followup
    """
    signal.signal(signal.SIGTERM, _interrupt)
    if save is not None:
        make(save)
    with open_subscription(
        topic, brokers=brokers, group=group, from_=from_, limit=limit, once=once, config=config
    ) as subscription:
        try:
            _print_all(subscription, as_json, save)
        except KeyboardInterrupt:
            return


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _print_all(subscription: Subscription, as_json: bool, save: Path | None) -> None:
    for received in subscription.received():
        if save is not None:
            _save(received, save)
        try:
            record = received.decode()
        except (ValueError, EOFError, IndexError, OverflowError) as error:  # whatever foreign bytes make Avro say
            if save is None:
                raise TocsinError(f"{_place(received)} is not a record of ours; --save writes it: {error}") from error
            click.echo(json.dumps({"saved": _place(received)}) if as_json else f"saved {_place(received)}")
            continue
        click.echo(json.dumps(readable(record), default=_plain) if as_json else line(record))


def readable(record: dict[str, Any]) -> dict[str, Any]:
    """Return a result with its float32 as lists of numbers, null for NaN; other records as they are."""
    return _listed(record) if "answers" in record else record


def _listed(found: Any) -> Any:
    """Return values with bytes as lists, nested as ``shape`` beside them says."""
    if isinstance(found, dict):
        shape = found.get("shape", -1)
        return {name: _numbers(one, shape) if isinstance(one, bytes) else _listed(one) for name, one in found.items()}
    return [_listed(one) for one in found] if isinstance(found, list) else found


def _numbers(data: bytes, shape: Any) -> Any:
    values = np.frombuffer(data, "<f4").astype(str).astype(np.float64).reshape(shape)  # as few digits as will do
    listed = values.astype(object)
    listed[~np.isfinite(values)] = None
    return listed.tolist()


def line(record: dict[str, Any]) -> str:
    """Return one line for people: an annotation's object, best class and anomaly; of other records, the main fields."""
    if "packet" in record:
        return f"dead  {record['stage']} {record['reason']}  {record['topic']}/{record['partition']}/{record['offset']}"
    if "sources" in record:
        dead, filtered = sum(record["deadLettered"].values()), len(record["filtered"])
        counts = f"{record['received']} received, {record['scored']} scored, {filtered} filtered, {dead} dead"
        return f"ledger {record['member']}: {counts}"
    if "arrays" in record:
        return _product(record)
    if "productId" in record:
        return _result(record)
    best = _best(record) or record["unscoredReason"] or "-"
    anomaly = record.get("anomaly") or {}
    strange = f"anomaly {anomaly['score']:.2f}" if anomaly.get("score") is not None else ""
    where = f"{record['ra']:9.5f} {record['dec']:+9.5f}"
    return f"{record['objectId']:<20} {where}  mjd {record['mjd']:.4f} {record['band']:<2} {best}  {strange}".rstrip()


def _product(product: dict[str, Any]) -> str:
    """Return whose a product is, and the names, shapes and units of its arrays."""
    of = product["objectId"] or (product["records"] or ["-"])[0]
    arrays = (f"{one['name']} {tuple(one['shape'])} {one['unit']}".rstrip() for one in product["arrays"])
    return f"{of:<20} {product['kind']}: {', '.join(arrays)}"


def _result(result: dict[str, Any]) -> str:
    """Return what each row says of a product's first record; of classes the likeliest."""
    from broker.sidecar.write import said_in

    told = []
    for said in said_in(result):
        for output in said.answer.outputs:
            value, sigma = float(output.value[0]), float(output.sigma[0])
            text = f"{value:.4g}" if math.isnan(sigma) else f"{value:.4g} ± {sigma:.2g} {output.unit}".rstrip()
            if output.labels and not math.isnan(value):
                text = f"{output.labels[int(value)]} {output.parts['probabilities'][0].max():.2f}"
            told.append(f"{said.provenance.row}: {output.name} {said.answer.reason[0] or text}")
        told[-1:] = [told[-1] + " (toy)"] if said.provenance.toy and told else told[-1:]
    more = len(result["records"]) - 1
    of = result["objectId"] or result["records"][0]
    return f"{of:<20} {'; '.join(told) or result['unscoredReason']}{f'  and {more} more records' if more else ''}"


def _best(annotation: dict[str, Any]) -> str:
    """Return the likeliest class and its branch, with their probabilities; '' where there is none."""
    if not (found := probabilities(annotation)):
        return ""
    best = max(found, key=found.__getitem__)
    if best not in BY_ID:
        return f"{best} {found[best]:.2f}"
    leaf, sums = BY_ID[best], branches(annotation)
    return f"{leaf.short} {found[best]:.2f} ({BRANCHES[leaf.parent][0]} {sums[leaf.parent]:.2f})"


def _save(received: Received, folder: Path) -> None:
    """Write a message as an Avro container with its schema; what is not ours (a survey's packet) as it is."""
    stem = f"{received.topic}-{received.partition}-{received.offset:010d}"
    schema = schemas.by_fingerprint().get(dict(received.headers).get(schemas.HEADER, b""))
    if schema is None:
        suffix = ".avro" if received.value[:4] == b"Obj\x01" else ".bin"
        (folder / (stem + suffix)).write_bytes(received.value)
        return
    import fastavro

    out = io.BytesIO()
    fastavro.writer(out, schema.parsed, [received.decode()])
    (folder / (stem + ".avro")).write_bytes(out.getvalue())


def _place(received: Received) -> str:
    return f"{received.topic}/{received.partition}/{received.offset}"


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat(timespec="milliseconds")
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    raise TypeError(f"not for JSON: {type(value).__name__}")
