"""``tocsin simulate``: a night of made-up alerts in the survey's own form, to Kafka or to files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
    from broker.archive.simulate import SimulatedPacket

_VISIT_S = 39.0


@click.command()
@click.option("--survey", type=click.Choice(["ztf", "lsst"]), required=True, help="Whose packets.")
@click.option("--objects", type=click.IntRange(1), default=1000, show_default=True, help="One alert for each.")
@click.option("--rate", type=click.FloatRange(0), default=0.0, help="Alerts per second; 0: as fast as it goes.")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="Of everything random.")
@click.option("--to", "target", required=True, help="kafka:TOPIC, or DIR (new or empty).")
@click.option("--tar", is_flag=True, help="Into DIR: one ztf_public_YYYYMMDD.tar.gz instead of a file per packet.")
@click.option("--history", type=click.Choice(["real", "short"]), default="real", show_default=True, help="Its length.")
@click.option("--mix", type=click.Choice(["night", "bench"]), default="night", show_default=True, help="What alerts.")
@click.option("--live", is_flag=True, help="The night starts now; else the seed chooses a past night.")
@click.option("--config", "config", type=click.Path(path_type=Path), help="TOML file, for Kafka and the cache.")
@click.option("--brokers", help="Kafka's bootstrap servers.")
def simulate(
    survey: str,
    objects: int,
    rate: float,
    seed: int,
    target: str,
    tar: bool,
    history: Literal["real", "short"],
    mix: str,
    live: bool,
    config: Path | None,
    brokers: str | None,
) -> None:
    """Make a night of alerts: packets of the survey's form and size, one per object, with the truth beside them.

    The truth goes to the topic TOPIC.truth or to the file DIR.truth.jsonl. Rubin packets name a schema of their own,
    which is put into the disk cache of schemas. The same options give the same packets (not with --live).

    \b
    Example:
      tocsin simulate --survey ztf --objects 200 --to night/
      tocsin simulate --survey lsst --rate 300 --objects 20000 --live --to kafka:lsst-alerts-v11
    """
    from broker.archive import simulate as simulator

    settings = load(config, {"kafka.brokers": brokers})
    if survey == "lsst":
        simulator.install_schema(settings.run.cache_dir / "schemas")
    packets = simulator.night(
        survey,
        objects,
        seed,
        history=history,
        mix=simulator.BENCH if mix == "bench" else simulator.Mix(),
        start_mjd=_now_mjd() if live else None,
        per_visit=max(1, round(rate * _VISIT_S)) if live and rate else None,
    )
    send(packets, objects, target, settings, rate=rate, tar=tar, live=live)


def send(
    packets: Iterator[SimulatedPacket],
    total: int,
    target: str,
    settings: Settings,
    *,
    rate: float = 0.0,
    tar: bool = False,
    live: bool = False,
) -> None:
    """Send packets to ``kafka:TOPIC`` or into a folder at ``rate`` per second, with a progress bar.

    Raises
    ------
    TocsinError
        The folder is not empty, or Kafka is away or refuses.
    """
    from broker.archive.publish import paced

    first = next(packets)
    night = datetime.fromtimestamp(first.timestamp_ms / 1000, UTC).strftime("%Y%m%d")
    with _opened(target, settings, f"ztf_public_{night}.tar.gz" if tar else "", live) as put, _bar(total) as progress:
        task = progress.add_task("simulating", total=total)
        for packet in paced(chain([first], packets), rate):
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
    sender.put(_outgoing(packet, -1 if live else packet.timestamp_ms))
    sender.put_text(".truth", str(packet.truth.alert_id), packet.truth.as_json())


def _to_files(packet: SimulatedPacket, files: Target, truth: TextIO) -> None:
    files.put(_outgoing(packet, packet.timestamp_ms))
    truth.write(packet.truth.as_json() + "\n")


def _outgoing(packet: SimulatedPacket, timestamp_ms: int) -> Outgoing:
    from broker.archive.publish import Outgoing

    return Outgoing(f"{packet.truth.alert_id}.avro", packet.value, timestamp_ms)


def _bar(total: int) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), disable=total < 2)


def _now_mjd() -> float:
    return datetime.now(UTC).timestamp() / SECONDS_PER_DAY + MJD_UNIX_EPOCH
