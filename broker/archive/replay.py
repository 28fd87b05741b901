"""What of its sources a replay gives, how often and how fast: selection, rounds and pace.

All of it works on a stream of packets, in which a None says that the next one is not due yet: whoever reads it stays
free to stop, and no transaction is open while it waits.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import TypeVar

import numpy as np

from broker.archive.jitter import Jitter, shift_d
from broker.core.batch import FilePacket, PacketBatch
from broker.core.errors import Wait
from broker.core.units import SECONDS_PER_DAY
from broker.decode import Decoder
from broker.deliver.files import Skip, batch_of

T = TypeVar("T")
log = logging.getLogger(__name__)

Stream = Iterator[FilePacket | None]
Reader = Callable[[Skip], Stream]
Patient = Generator[tuple[float, None], None, T]

AHEAD, AHEAD_BYTES = 256, 32_000_000  # packets that are decoded at a time for their times
NAP_S, PAUSE_NAPS = 0.2, 25
LONGEST_GAP_D = 1.0
BEHIND_S = 1.0


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast packets go.

    Attributes
    ----------
    per_s : float
        Packets per second at most; 0: no bound.
    factor : float
        As the survey observed them, that many times faster; 0: not so.
    """

    per_s: float = 0.0
    factor: float = 0.0


@dataclass(frozen=True, slots=True)
class Selection:
    """Which packets a replay gives.

    Attributes
    ----------
    since, until : float
        MJD TAI of the observation, ``since <= mjd < until``. A packet whose time cannot be read goes with the one
        before it.
    limit : int or None
        As many packets, over all rounds and over all runs of one replay.
    loop : bool
        Again and again; each round but the first gives new objects (`broker.archive.jitter`).
    """

    since: float = -np.inf
    until: float = np.inf
    limit: int | None = None
    loop: bool = False

    @property
    def timed(self) -> bool:
        """Whether it asks for packets' times."""
        return bool(np.isfinite(self.since) or np.isfinite(self.until))


@dataclass(slots=True)
class Replay:
    """A stream of packets out of sources.

    Parameters
    ----------
    readers : sequence of callables
        Each is given ``skip`` and returns its packets; see `broker.archive.read.packets`.
    decoder : Decoder
        For the times of packets; used only where they are asked for.
    jitter : Jitter
    skipped : callable
        Told how many packets are done already.
    is_new : callable
        Asked before a packet waits for its time; False: it is done too.
    met : int
        Packets so far, those that are done included.
    """

    readers: Sequence[Reader]
    selection: Selection
    pace: Pace
    decoder: Decoder
    jitter: Jitter
    skipped: Callable[[int], None] = lambda _n: None
    is_new: Callable[[FilePacket], bool] = lambda _packet: True
    met: int = field(default=0, init=False)

    def packets(self, skip: Skip) -> Stream:
        """Yield the packets that are selected and not done, when they are due.

        Rounds after the first name their packets ``<path>#<round>``.
        """
        clock = Clock(self.pace)
        for turn in count():
            before = self.met
            clock.begin()
            for at, packet in self._round(turn, skip):
                while packet is not None and not clock.due(at):
                    yield None
                yield packet
                if self._full():
                    return
            if not self.selection.loop or self.met == before or self._full():
                return

    def _full(self) -> bool:
        return self.selection.limit is not None and self.met >= self.selection.limit

    def _round(self, turn: int, skip: Skip) -> Iterator[tuple[float, FilePacket | None]]:
        """Yield (MJD or NaN, packet) of one round."""

        def done(path: str, record: int, partition: int = 0) -> bool:
            found = skip(_named(path, turn), record, partition)
            if found:
                self.met += 1
                self.skipped(1)
            return found

        timed = self.selection.timed or self.pace.factor > 0
        for reader in self.readers:
            packets = reader(done)
            pairs = self._with_times(packets) if timed else ((np.nan, packet) for packet in packets)
            last = np.nan
            for mjd, packet in pairs:
                if packet is None:
                    yield last, None
                    continue
                last = mjd if np.isfinite(mjd) else last
                if last < self.selection.since or last >= self.selection.until:
                    continue
                if self._full():
                    return
                turned = yield from self._turned(packet, turn)
                self.met += 1
                if self.is_new(turned):
                    yield last + shift_d(turn), turned
                else:
                    self.skipped(1)

    def _turned(self, packet: FilePacket, turn: int) -> Patient[FilePacket]:
        if not turn:
            return packet
        value = yield from _patiently(lambda: self.jitter(packet.value, turn))
        return replace(packet, path=_named(packet.path, turn), value=value)

    def _with_times(self, packets: Stream) -> Iterator[tuple[float, FilePacket | None]]:
        """Yield packets with the MJD TAI of their observation, NaN where it cannot be read; decoded some at a time."""
        held: list[FilePacket] = []
        size = 0
        for packet in packets:
            if packet is not None:
                held.append(packet)
                size += len(packet.value)
            if held and (packet is None or len(held) >= AHEAD or size > AHEAD_BYTES):
                times = yield from self._times(held)
                yield from zip(times, held, strict=True)
                held, size = [], 0
            if packet is None:
                yield np.nan, None
        if held:
            times = yield from self._times(held)
            yield from zip(times, held, strict=True)

    def _times(self, packets: list[FilePacket]) -> Patient[list[float]]:
        mjd = np.full(len(packets), np.nan)
        batch: PacketBatch = batch_of(packets, 0)
        decoded, _ = yield from _patiently(lambda: self.decoder(batch))
        for part in decoded:
            mjd[part.alerts.rows] = part.alerts.mjd
        times: list[float] = mjd.tolist()
        return times


class Clock:
    """Says when packets are due.

    Parameters
    ----------
    pace : Pace
    now : callable
        Seconds.
    sleep : callable
    """

    def __init__(
        self, pace: Pace, now: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._pace, self._now, self._sleep = pace, now, sleep
        self._began = self._now()
        self._sent = 0
        self._zero = self._last = np.nan  # MJD that began at `_began`, and the latest

    def begin(self) -> None:
        """Begin a round: its first packet is due at once, where packets go by their times."""
        self._zero = self._last = np.nan

    def due(self, mjd: float) -> bool:
        """Wait a moment at most; return whether the next packet, observed at ``mjd``, may go."""
        left = self._left(mjd)
        if left > 0:
            self._sleep(min(left, NAP_S))
        if left > NAP_S:
            return False
        self._sent += 1
        return True

    def _left(self, mjd: float) -> float:
        """Return the seconds until the next packet is due; below zero: it is late."""
        now = self._now()
        if self._pace.per_s:
            left = self._began + self._sent / self._pace.per_s - now
            if left < -BEHIND_S:  # what could not be sent in time is not made up for by a flood
                self._began -= left + BEHIND_S
            return left
        if not self._pace.factor or not np.isfinite(mjd):
            return 0.0
        if not np.isfinite(self._zero) or mjd > self._last + LONGEST_GAP_D:
            self._began, self._zero = now, mjd
        self._last = mjd if not np.isfinite(self._last) else max(self._last, mjd)
        return self._began + (mjd - self._zero) * SECONDS_PER_DAY / self._pace.factor - now


def _named(path: str, turn: int) -> str:
    return f"{path}#{turn}" if turn else path


def _patiently(call: Callable[[], T]) -> Patient[T]:
    """Return ``call()``, tried again while a schema registry is away; what is yielded leaves the reader free."""
    while True:
        try:
            return call()
        except Wait as error:
            log.warning("waiting: %s", error)
        for _ in range(PAUSE_NAPS):
            time.sleep(NAP_S)
            yield np.nan, None
