"""Nights of alerts that look like the surveys': real sizes, framing, cadence and mix, with the truth beside them.

Objects alert once, or at several visits of one or more nights. The same arguments give the same bytes (on one machine:
the stamps are packed by its zlib). Each chunk of objects has random streams of its own, so a night can be made in parts
(``first``), by several processes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from broker.archive import fields, simulate_lsst, simulate_ztf
from broker.archive.night import History, Night, noise_pool
from broker.archive.simulated import SimulatedPacket, Truth, spoilt
from broker.archive.sky import BENCH, Mix
from broker.core.batch import Floats, Ints
from broker.core.errors import TocsinError
from broker.core.units import MJD_UNIX_EPOCH
from broker.decode.schemas import DiskCache

__all__ = [
    "BENCH",
    "CHUNK",
    "MOST_VISITS",
    "SIMULATED_ID",
    "VISIT_S",
    "Mix",
    "SimulatedPacket",
    "Truth",
    "install_schema",
    "night",
    "schema",
]

CHUNK = {"ztf": 256, "lsst": 64}
SIMULATED_ID = simulate_lsst.SIMULATED_ID
_PACKETS = {"ztf": simulate_ztf.packets, "lsst": simulate_lsst.packets}
VISIT_S = {"ztf": 40.0, "lsst": 39.0}
_BLOCK_S = 35 * 60.0  # of fields, before they are visited again
MOST_VISITS = 200
_DELAY_S = {"ztf": 240.0, "lsst": 75.0}  # from the shutter to the alert
_NIGHT_S = 10 * 3600.0
_LAST_NIGHT_MJD = 61284  # 2026-09-01; seeds choose one of the nights before it
_NIGHTS = 600


def night(
    survey: str,
    objects: int,
    seed: int,
    *,
    history: History = "real",
    mix: Mix | None = None,
    first: int = 0,
    start_mjd: float | None = None,
    per_visit: int | None = None,
    nights: int = 1,
    visits: int = 1,
    poison: float = 0.0,
) -> Iterator[SimulatedPacket]:
    """Yield the alerts of ``objects`` objects, visit by visit through one night or several.

    With one visit, each object gives one alert. With more, it surely alerts at one of them, and at every other one at
    which its light curve is bright enough; the histories of its packets agree and grow.

    Parameters
    ----------
    survey : 'ztf' or 'lsst'
    seed : int
        Of everything random; it also chooses the night, so alert ids of different seeds (modulo 600) differ.
    history : 'real' or 'short'
        As many points as real packets have (ZTF 20-66 visits and 21 forced; Rubin up to 391 detections and 340-780
        forced), or few, as for young objects.
    mix : Mix, optional
        Fractions of artefacts, solar-system objects and so on; `BENCH` for measurements.
    first : int
        Number of the first object, a multiple of ``CHUNK[survey]``: a night in parts, without repeating an alert id.
    start_mjd : float, optional
        MJD UTC at which the first night starts; the default is chosen by the seed.
    per_visit : int, optional
        Objects per visit (ZTF 40 s, Rubin 39 s apart); by default so many that ``first + objects`` fill ten hours.
        Give it where parts of a night are made apart.
    nights, visits : int
        Nights, and visits of each field in a night, some 35 minutes apart; at most `MOST_VISITS` in all.
    poison : float
        Fraction of packets that are spoilt, so that no broker can understand them.

    Raises
    ------
    TocsinError
        The survey is unknown, ``first`` is not a multiple of the chunk, or there are too many visits.
    """
    if survey not in CHUNK:
        raise TocsinError(f"there is no survey {survey!r}; choose one of {', '.join(CHUNK)}")
    chunk = CHUNK[survey]
    if first % chunk:
        raise TocsinError(f"first must be a multiple of {chunk}, not {first}")
    if nights * visits > MOST_VISITS:
        raise TocsinError(f"{nights} nights of {visits} visits are more than {MOST_VISITS} visits of an object")
    slots = _NIGHT_S / VISIT_S[survey] / visits
    each = per_visit or max(1, int(np.ceil((first + objects) / slots)))
    start = float(_LAST_NIGHT_MJD - seed * nights % _NIGHTS) + 0.15 if start_mjd is None else start_mjd
    plan = _Plan(survey, seed, start, each, nights, visits)
    for visit, begin in plan.chunks(first, objects):
        part = plan.night(begin, visit, history, mix or Mix())
        for packet in _spoilt(_PACKETS[survey](part), poison, [seed, begin // chunk, visit, 0xBAD]):
            if packet.number < first + objects:
                yield packet


@dataclass(frozen=True, slots=True)
class _Plan:
    """When which fields are visited.

    Attributes
    ----------
    start : float
        MJD UTC of the first night.
    each : int
        Objects of a field.
    """

    survey: str
    seed: int
    start: float
    each: int
    nights: int
    visits: int

    @property
    def block(self) -> int:
        """Objects of the fields that are visited one after the other before the first one is visited again."""
        chunk = CHUNK[self.survey]
        return chunk * -(-int(_BLOCK_S / VISIT_S[self.survey] * self.each) // chunk)

    def chunks(self, first: int, objects: int) -> Iterator[tuple[int, int]]:
        """Yield (number of the visit, first object) of every chunk, in the order of time."""
        chunk = CHUNK[self.survey]
        size = self.block if self.visits > 1 else first + objects
        for number in range(self.nights):
            for block in range(first - first % size, first + objects, size):
                for visit in range(self.visits):
                    for begin in range(max(block, first), min(block + size, first + objects), chunk):
                        yield number * self.visits + visit, begin

    def times(self, numbers: Ints) -> Floats:
        """Return the MJD UTC (n, nights * visits) at which each object's field is visited."""
        block, place = np.divmod(numbers, self.block) if self.visits > 1 else (np.zeros_like(numbers), numbers)
        width = -(-self.block // self.each)
        within = (block * self.visits * width + place // self.each)[:, None] + np.arange(self.visits) * width
        in_night = self.start + within * (VISIT_S[self.survey] / 86400.0)
        return np.asarray((np.arange(self.nights)[:, None] + in_night[:, None, :]).reshape(len(numbers), -1))

    def night(self, begin: int, visit: int, history: History, mix: Mix) -> Night:
        """Return the objects ``begin`` to ``begin + CHUNK``, always the whole chunk, at one of their visits."""
        chunk = CHUNK[self.survey]
        key = [self.seed, begin // chunk, self.survey == "lsst", 0x70C51]
        rng, later = np.random.default_rng(key), np.random.default_rng([*key, visit])
        numbers = np.arange(begin, begin + chunk)
        times = self.times(numbers)
        reference = rng.integers(0, times.shape[1], chunk)[:, None] if times.shape[1] > 1 else np.zeros((chunk, 1), int)
        mjd = np.take_along_axis(times, reference, axis=1)
        late = 1000.0 * (30.0 + _DELAY_S[self.survey]) + later.uniform(0, 20_000.0, chunk)
        sent = ((times[:, visit] - MJD_UNIX_EPOCH) * 86_400_000.0 + late).astype(np.int64)
        field = numbers // self.each + self.seed * 7919
        days = times - mjd
        return Night(
            rng, later, numbers, self.start, mjd[:, 0], days, visit, sent, field, history, mix, noise_pool()
        )  # fmt: skip


def _spoilt(packets: Iterator[SimulatedPacket], poison: float, key: list[int]) -> Iterator[SimulatedPacket]:
    """Yield packets, a fraction ``poison`` of them spoilt."""
    if not poison:
        yield from packets
        return
    rng = np.random.default_rng(key)
    for packet in packets:
        chosen, kind = rng.random(2).tolist()
        yield spoilt(packet, kind) if chosen < poison else packet


def schema(survey: str) -> bytes:
    """Return the Avro writer schema of the simulated packets, JSON."""
    return fields.load(survey).schema_text.encode()


def install_schema(cache_dir: Path) -> Path:
    """Put the schema of simulated Rubin packets into the disk cache of schemas, under its own wire id.

    The id is `SIMULATED_ID`, far from any ``major * 100 + minor``: it never stands in for a real schema.
    """
    return DiskCache(cache_dir).put(SIMULATED_ID, schema("lsst"))
