"""The SOURCEs of ``replay``: what is read, which of it, how often and how fast."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from broker.cli import assemble
from broker.core.batch import FilePacket
from broker.core.config import Settings
from broker.core.units import MJD_UNIX_EPOCH, SECONDS_PER_DAY, utc_to_tai

if TYPE_CHECKING:
    from broker.archive.replay import Pace, Reader, Replay, Selection
    from broker.deliver.files import Skip
    from broker.deliver.kafka.stretch import Stretch

KAFKA = "kafka:"


def time(text: str) -> float:
    """Return MJD TAI of an ISO date or time (UTC), or of an MJD (TAI)."""
    try:
        return float(text)
    except ValueError:
        pass
    try:
        when = datetime.fromisoformat(text)
    except ValueError as error:
        raise click.BadParameter(
            f"{text!r} is neither a date like 2018-08-19 or 2018-08-19T04:00 (UTC) nor an MJD"
        ) from error
    seconds = (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    return float(utc_to_tai(np.array([seconds / SECONDS_PER_DAY + MJD_UNIX_EPOCH]))[0])


def speed(text: str) -> Pace:
    """Return the pace that ``max``, ``original``, ``10x`` or ``500`` means."""
    from broker.archive.replay import Pace

    if text in ("max", "original"):
        return Pace(factor=float(text == "original"))
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(x|/s)?", text)
    if found is None or not float(found[1]):
        raise click.BadParameter(f"{text!r} is none of max, original, 10x (times faster) and 500 (alerts per second)")
    number = float(found[1])
    return Pace(factor=number) if found[2] == "x" else Pace(per_s=number)


def options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the sources and what is taken of them to a command."""
    for option in (
        click.option("--loop", is_flag=True, help="Again and again, each round with new ids, positions and times."),
        click.option("--limit", type=click.IntRange(1), help="As many packets, over all runs of this replay."),
        click.option("--until", type=time, help="Only what was observed before: ISO date (UTC) or MJD (TAI)."),
        click.option("--since", type=time, help="Only what was observed at or after: ISO date (UTC) or MJD (TAI)."),
        click.option(
            "--speed",
            type=speed,
            default="max",
            show_default=True,
            help="'original': as observed; '10x': ten times faster than that; '500': alerts per second; 'max'.",
        ),
        click.argument("sources", nargs=-1, required=True, metavar="SOURCE..."),
    ):
        command = option(command)
    return command


@dataclass(frozen=True, slots=True)
class Sources:
    """What a replay reads.

    Attributes
    ----------
    paths : list of Path
    topics : list of Stretch
        As they were when the replay began.
    selection : Selection
    pace : Pace
    """

    paths: list[Path]
    topics: list[Stretch]
    selection: Selection
    pace: Pace

    @property
    def names(self) -> list[str]:
        """How the sources are noted: absolute paths and ``kafka:TOPIC``."""
        return [str(path.absolute()) for path in self.paths] + [KAFKA + stretch.topic for stretch in self.topics]

    @property
    def is_whole(self) -> bool:
        """Whether every packet of the sources is replayed, once."""
        chosen = self.selection
        return not (chosen.timed or chosen.loop or chosen.limit)

    @property
    def total(self) -> int | None:
        """About how many packets will come, for a bar; None: without end."""
        from broker.archive import read

        if self.selection.loop:
            return self.selection.limit
        found = read.estimate(self.paths) + sum(stretch.total for stretch in self.topics)
        return min(found, self.selection.limit or found)

    def replay(
        self,
        settings: Settings,
        skipped: Callable[[int], None],
        is_new: Callable[[FilePacket], bool] = lambda _packet: True,
    ) -> Replay:
        """Return the stream of packets; ``skipped`` is told of those that are done, ``is_new`` asked of the others."""
        from broker.archive.jitter import Jitter
        from broker.archive.replay import Replay

        readers: list[Reader] = [self._archives] if self.paths else []
        readers += [stretch.packets for stretch in self.topics]
        jitter = Jitter(assemble.store(settings))
        return Replay(readers, self.selection, self.pace, assemble.decoder(settings), jitter, skipped, is_new)

    def _archives(self, skip: Skip) -> Any:
        from broker.archive import read

        return read.packets(self.paths, skip=skip)


def sources(given: tuple[str, ...], settings: Settings, selection: Selection, pace: Pace) -> Sources:
    """Return the sources that SOURCE... names; topics end where they end now.

    Raises
    ------
    click.UsageError
        A path is not there.
    TocsinError
        A topic is not there, or Kafka is away.
    """
    from broker.deliver.kafka.stretch import stretch

    paths = [Path(name) for name in given if not name.startswith(KAFKA)]
    for path in paths:
        if not path.exists():
            raise click.UsageError(f"there is no {path}")
    topics = [name.removeprefix(KAFKA) for name in given if name.startswith(KAFKA)]
    client = settings.kafka.librdkafka()
    return Sources(paths, [stretch(client, topic) for topic in dict.fromkeys(topics)], selection, pace)
