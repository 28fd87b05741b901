"""Selection, rounds and pace of a replay."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from broker.archive import simulate
from broker.archive.jitter import Jitter
from broker.archive.replay import Clock, Pace, Replay, Selection
from broker.core.batch import FilePacket
from broker.core.errors import Wait
from broker.decode import Decoder, SchemaStore
from broker.deliver.files import Skip

PACKETS = [
    FilePacket("/night", n, p.value)
    for n, p in enumerate(simulate.night("ztf", 40, 3, history="short", start_mjd=61000.0))
]
MJD = [p.truth.mjd for p in simulate.night("ztf", 40, 3, history="short", start_mjd=61000.0)]


class Everything:
    """A reader that gives what is not done."""

    def __init__(self, packets: list[FilePacket] | None = None) -> None:
        self.packets = PACKETS if packets is None else packets

    def __call__(self, skip: Skip) -> Iterator[FilePacket | None]:
        for packet in self.packets:
            yield None
            if not skip(packet.path, packet.record):
                yield packet


def replay(selection: Selection, pace: Pace | None = None, packets: list[FilePacket] | None = None) -> Replay:
    schemas = SchemaStore(package=False)
    return Replay([Everything(packets)], selection, pace or Pace(), Decoder(schemas), Jitter(schemas))


def given(chosen: Replay, done: set[tuple[str, int]] | None = None) -> list[tuple[str, int]]:
    found = chosen.packets(lambda path, record, _partition=0: (path, record) in (done or set()))
    return [(p.path, p.record) for p in found if p is not None]


def test_everything_once_and_nothing_that_is_done() -> None:
    every = [("/night", n) for n in range(40)]
    assert given(replay(Selection())) == every
    assert given(replay(Selection()), set(every[:7])) == every[7:]


@pytest.mark.parametrize("already", [0, 1, 5, 9, 10])
def test_a_limit_counts_what_is_done(already: int) -> None:
    since = sorted(MJD)[12]
    every = [("/night", n) for n in range(40) if MJD[n] >= since]
    chosen = Selection(since=since, limit=10)
    assert given(replay(chosen)) == every[:10]
    assert given(replay(chosen), set(every[:already])) == every[already:10]


def test_times_select_and_what_has_none_goes_with_the_one_before() -> None:
    poisoned = [*PACKETS[:20], FilePacket("/night", 100, b"nonsense"), *PACKETS[20:], FilePacket("/night", 101, b"")]
    chosen = Selection(since=MJD[10], until=MJD[30])
    expected = [("/night", n) for n in (*range(10, 20), 100, *range(20, 30))]
    assert given(replay(chosen, packets=poisoned)) == expected


def test_rounds_name_their_packets_and_end_at_the_limit() -> None:
    chosen = Selection(loop=True, limit=95)
    every = [(f"/night{turn}", n) for turn in ("", "#1", "#2") for n in range(40)][:95]
    assert given(replay(chosen)) == every
    assert given(replay(chosen), set(every[:60])) == every[60:]
    assert given(replay(Selection(loop=True), packets=[])) == []


class FakeTime:
    """A clock that sleeping moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def sent_at(pace: Pace, times: list[float], late: dict[int, float] | None = None) -> list[float]:
    """Return when packets go, seconds after the first; before some of them the reader is away for a while."""
    fake = FakeTime()
    clock, found = Clock(pace, fake, fake.sleep), []
    for number, mjd in enumerate(times):
        fake.now += (late or {}).get(number, 0.0)
        while not clock.due(mjd):
            pass
        found.append(fake.now - 100.0)
    return found


def test_a_rate_is_kept_and_a_delay_is_no_flood() -> None:
    assert sent_at(Pace(per_s=10.0), [np.nan] * 5) == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])
    found = sent_at(Pace(per_s=10.0), [np.nan] * 200, {50: 30.0})
    assert found[-1] == pytest.approx(30.0 + 19.9 - 1.0, abs=0.11)
    assert found[60] == found[50]  # a second's worth at once
    assert found[80] > found[50]


def test_the_original_gaps_are_kept_or_shortened() -> None:
    seconds = [0.0, 39.0, 39.0, 78.0, 60.0, 100.0]
    times = [61000.0 + s / 86400.0 for s in seconds]
    assert sent_at(Pace(factor=1.0), times) == pytest.approx([0.0, 39.0, 39.0, 78.0, 78.0, 100.0], abs=1e-3)
    assert sent_at(Pace(factor=10.0), times) == pytest.approx([0.0, 3.9, 3.9, 7.8, 7.8, 10.0], abs=1e-3)
    assert sent_at(Pace(factor=1.0), [61000.0, np.nan, 61003.0]) == pytest.approx([0.0, 0.0, 0.0], abs=1e-3)
    assert sent_at(Pace(), times) == [0.0] * 6


@pytest.mark.parametrize("chosen", [Selection(since=0.0), Selection(loop=True, limit=60)])
def test_a_registry_that_is_away_leaves_the_reader_free(chosen: Selection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.archive.replay.NAP_S", 0.001)
    away = [True]

    class Away(SchemaStore):
        def get(self, schema_id: int) -> bytes:
            if away[0]:
                raise Wait("the registry is away")
            return super().get(schema_id)

    wire = [FilePacket("/night", n, b"\0\0\0\0\1" + bytes(20)) for n in range(40)]
    schemas = Away(package=False)
    made = Replay([Everything(wire)], chosen, Pace(), Decoder(schemas), Jitter(schemas))
    stream = made.packets(lambda *_packet: False)
    first = [next(stream) for _ in range(200)]
    assert first[-100:] == [None] * 100
    away[0] = False
    found = [p for p in (*first, *stream) if p is not None]
    assert len(found) == (chosen.limit or 40)


def test_waiting_leaves_the_reader_free(tmp_path: Path) -> None:
    stream = replay(Selection(), Pace(per_s=2.0)).packets(lambda *_packet: False)
    found = [next(stream) for _ in range(8)]
    assert sum(p is not None for p in found) <= 3
    assert sum(p is None for p in found) >= 4
