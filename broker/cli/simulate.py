"""``tocsin simulate``: a night of made-up alerts in the survey's own form, to Kafka or to files."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TextIO

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from broker.core.config import Settings, load
from broker.core.units import MJD_UNIX_EPOCH, SECONDS_PER_DAY

if TYPE_CHECKING:
    from broker.archive.publish import KafkaTarget, Outgoing, Target
    from broker.archive.simulate import Mix, SimulatedPacket


def rate_of(text: str) -> float:
    """Return alerts per second of ``300`` or ``300/s``."""
    try:
        rate = float(text.removesuffix("/s"))
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is no rate like 300 or 300/s") from error
    if not 0 <= rate < float("inf"):
        raise click.BadParameter(f"{text!r} is not 0 or more alerts per second")
    return rate


@click.command()
@click.option("--survey", type=click.Choice(["ztf", "lsst"]), required=True, help="Whose packets.")
@click.option("--objects", type=click.IntRange(1), default=1000, show_default=True, help="Each alerts once, or more.")
@click.option("--nights", type=click.IntRange(1), default=1, show_default=True, help="Nights of one visit or more.")
@click.option("--visits", type=click.IntRange(1), default=1, show_default=True, help="Visits of a field in a night.")
@click.option("--rate", type=rate_of, default="0", help="Alerts per second, 300 or 300/s; 0: as fast as it goes.")
@click.option(
    "--cadence",
    type=click.Choice(["even", "visits"]),
    default="even",
    show_default=True,
    help="With --rate: one by one, or all of a visit at once (ZTF every 40 s, Rubin every 39 s).",
)
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="Of everything random.")
@click.option("--to", "target", required=True, help="kafka:TOPIC, or DIR (new or empty).")
@click.option("--tar", is_flag=True, help="Into DIR: one ztf_public_YYYYMMDD.tar.gz instead of a file per packet.")
@click.option("--history", type=click.Choice(["real", "short"]), default="real", show_default=True, help="Its length.")
@click.option("--mix", default="night", show_default=True, help="night, bench, or classes: snia=0.3,tde=0.05.")
@click.option("--bogus", type=click.FloatRange(0, 1), help="Fraction of artefacts; default: 0.1.")
@click.option("--poison", type=click.FloatRange(0, 1), default=0.0, help="Fraction of packets that nobody can parse.")
@click.option("--live", is_flag=True, help="The night starts now; else the seed chooses a past night.")
@click.option("--config", "config", type=click.Path(path_type=Path), help="TOML file, for Kafka and the cache.")
@click.option("--brokers", help="Kafka's bootstrap servers.")
def simulate(
    survey: str,
    objects: int,
    nights: int,
    visits: int,
    rate: float,
    cadence: str,
    seed: int,
    target: str,
    tar: bool,
    history: Literal["real", "short"],
    mix: str,
    bogus: float | None,
    poison: float,
    live: bool,
    config: Path | None,
    brokers: str | None,
) -> None:
    """Make nights of alerts: packets of the survey's form and size, with the truth beside them.

    Objects lie in fields, and the alerts of a visit come from one field. With one visit each object alerts once; with
    more, it alerts at every visit at which it is bright enough, with a history that grows. --mix gives classes their
    parts of all real objects; the others share the rest.

    The truth (ids, class, redshift, peak, artefact, when it was sent) goes to the topic TOPIC.truth or to the file
    DIR.truth.jsonl; `tocsin recall` compares what a broker said with it. Time stamps are spread over the nights, or
    those of sending with --live. Rubin packets name a schema of their own, which is put into the disk cache of schemas.
    The same options give the same packets (not with --live).

    \b
    Example:
      tocsin simulate --survey ztf --objects 200 --to night/
      tocsin simulate --survey ztf --objects 500 --nights 5 --mix snia=0.3,kilonova=0.1 --poison 0.001 --to nights/
      tocsin simulate --survey lsst --rate 300/s --cadence visits --objects 20000 --live --to kafka:lsst-alerts-v11
    """
    from broker.archive import simulate as simulator

    settings = load(config, {"kafka.brokers": brokers})
    if cadence == "visits" and not rate:
        raise click.UsageError("--cadence visits goes with --rate")
    if survey == "lsst":
        simulator.install_schema(settings.run.cache_dir / "schemas")
    per_visit = max(1, round(rate * simulator.VISIT_S[survey])) if rate and (live or cadence == "visits") else None
    packets = simulator.night(
        survey,
        objects,
        seed,
        history=history,
        mix=_mix(mix, bogus),
        start_mjd=_now_mjd() if live else None,
        per_visit=per_visit,
        nights=nights,
        visits=visits,
        poison=poison,
    )
    total = objects if nights * visits == 1 else None
    send(packets, total, target, settings, rate=rate, tar=tar, live=live, in_bursts=cadence == "visits")


def _mix(text: str, bogus: float | None) -> Mix:
    """Return the mix of alerts that ``night``, ``bench`` or ``class=part,...`` means.

    Raises
    ------
    click.UsageError
        A class is unknown, or the parts are more than all.
    """
    from broker.archive import simulate as simulator
    from broker.archive.sky import index_of

    mix = simulator.BENCH if text == "bench" else simulator.Mix()
    if text not in ("night", "bench"):
        try:
            shares = {slug: float(part) for slug, _, part in (entry.partition("=") for entry in text.split(","))}
            for slug in shares:
                index_of(slug)
        except (ValueError, KeyError) as error:
            raise click.UsageError(
                f"--mix {text}: expected classes and parts like snia=0.3,tde=0.05: {error}"
            ) from error
        if min(shares.values()) < 0 or sum(shares.values()) > 1 + 1e-9:
            raise click.UsageError(f"--mix {text}: the parts must be at least 0 and at most 1 in all")
        mix = replace(mix, shares=tuple(shares.items()))
    return mix if bogus is None else replace(mix, artefact=bogus)


def send(
    packets: Iterator[SimulatedPacket],
    total: int | None,
    target: str,
    settings: Settings,
    *,
    rate: float = 0.0,
    tar: bool = False,
    live: bool = False,
    in_bursts: bool = False,
) -> None:
    """Send packets to ``kafka:TOPIC`` or into a folder at ``rate`` per second, with a progress bar.

    Raises
    ------
    TocsinError
        The folder is not empty, or Kafka is away or refuses.
    """
    from broker.archive.publish import bursts, paced

    first = next(packets)
    night = datetime.fromtimestamp(first.timestamp_ms / 1000, UTC).strftime("%Y%m%d")
    every = chain([first], packets)
    with _opened(target, settings, f"ztf_public_{night}.tar.gz" if tar else "", live) as put, _bar(total) as progress:
        task = progress.add_task("simulating", total=total)
        for packet in bursts(every) if in_bursts else paced(every, rate):
            put(packet)
            progress.advance(task)


@contextmanager
def _opened(target: str, settings: Settings, tar: str, live: bool) -> Iterator[Callable[[SimulatedPacket], None]]:
    """Open a topic, a folder or a tarball in it, and its side product; give the function that takes a packet."""
    from broker.archive import publish

    if target.startswith("kafka:"):
        topic, kafka = target.removeprefix("kafka:"), settings.kafka.librdkafka()
        publish.side_topic(kafka, f"{topic}.truth")
        with publish.kafka(kafka, topic) as sender:
            yield lambda packet: _to_kafka(packet, sender, live)
        return
    folder = Path(target)
    sink = publish.tarball(folder / tar) if tar else publish.directory(folder)
    with sink as files, publish.truth_file(folder.with_name(folder.name + ".truth.jsonl")) as truth:
        yield lambda packet: _to_files(packet, files, truth)


def _to_kafka(packet: SimulatedPacket, sender: KafkaTarget, live: bool) -> None:
    truth = replace(packet.truth, sent_ms=time.time_ns() // 1_000_000) if live else packet.truth
    sender.put(_outgoing(packet, -1 if live else packet.timestamp_ms))
    sender.put_text(".truth", str(truth.alert_id), truth.as_json())


def _to_files(packet: SimulatedPacket, files: Target, truth: TextIO) -> None:
    files.put(_outgoing(packet, packet.timestamp_ms))
    truth.write(packet.truth.as_json() + "\n")


def _outgoing(packet: SimulatedPacket, timestamp_ms: int) -> Outgoing:
    from broker.archive.publish import Outgoing

    return Outgoing(f"{packet.truth.alert_id}.avro", packet.value, timestamp_ms)


def _bar(total: int | None) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(
        *columns, TimeRemainingColumn(), console=Console(stderr=True), disable=total is not None and total < 2
    )


def _now_mjd() -> float:
    return datetime.now(UTC).timestamp() / SECONDS_PER_DAY + MJD_UNIX_EPOCH
