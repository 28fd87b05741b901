"""Nights of alerts that look like the surveys': real sizes, framing, cadence and mix, with the truth beside them.

The same arguments give the same bytes (on one machine: the stamps are packed by its zlib). Each chunk of objects has a
random stream of its own, so a night can be made in parts (``first``), by several processes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from broker.archive import fields, simulate_lsst, simulate_ztf
from broker.archive.night import History, Night, noise_pool
from broker.archive.simulated import SimulatedPacket, Truth
from broker.archive.sky import BENCH, Mix
from broker.core.errors import TocsinError
from broker.decode.schemas import DiskCache

__all__ = ["BENCH", "CHUNK", "SIMULATED_ID", "Mix", "SimulatedPacket", "Truth", "install_schema", "night", "schema"]

CHUNK = {"ztf": 256, "lsst": 64}
SIMULATED_ID = simulate_lsst.SIMULATED_ID
_PACKETS = {"ztf": simulate_ztf.packets, "lsst": simulate_lsst.packets}
_VISIT_S = {"ztf": 40.0, "lsst": 39.0}
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
) -> Iterator[SimulatedPacket]:
    """Yield one alert for each of ``objects`` objects, visit by visit through one night.

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
        MJD UTC at which the night starts; the default is chosen by the seed.
    per_visit : int, optional
        Alerts per visit (ZTF 40 s, Rubin 39 s apart); by default so many that ``first + objects`` fill ten hours.
        Give it where parts of a night are made apart.

    Raises
    ------
    TocsinError
        The survey is unknown, or ``first`` is not a multiple of the chunk.
    """
    if survey not in CHUNK:
        raise TocsinError(f"there is no survey {survey!r}; choose one of {', '.join(CHUNK)}")
    chunk = CHUNK[survey]
    if first % chunk:
        raise TocsinError(f"first must be a multiple of {chunk}, not {first}")
    visits = _NIGHT_S / _VISIT_S[survey]
    each = per_visit or max(1, int(np.ceil((first + objects) / visits)))
    start = float(_LAST_NIGHT_MJD - seed % _NIGHTS) + 0.15 if start_mjd is None else start_mjd
    for begin in range(first, first + objects, chunk):
        part = _chunk(survey, seed, begin, start, each, history, mix or Mix())
        for packet, _ in zip(_PACKETS[survey](part), range(first + objects - begin), strict=False):
            yield packet


def schema(survey: str) -> bytes:
    """Return the Avro writer schema of the simulated packets, JSON."""
    return fields.load(survey).schema_text.encode()


def install_schema(cache_dir: Path) -> Path:
    """Put the schema of simulated Rubin packets into the disk cache of schemas, under its own wire id.

    The id is `SIMULATED_ID`, far from any ``major * 100 + minor``: it never stands in for a real schema.
    """
    return DiskCache(cache_dir).put(SIMULATED_ID, schema("lsst"))


def _chunk(survey: str, seed: int, begin: int, start: float, each: int, history: History, mix: Mix) -> Night:
    """Return the objects ``begin`` to ``begin + CHUNK``, always the whole chunk."""
    rng = np.random.default_rng([seed, begin // CHUNK[survey], survey == "lsst", 0x70C51])
    numbers = np.arange(begin, begin + CHUNK[survey])
    mjd = np.asarray(start + (numbers // each) * _VISIT_S[survey] / 86400.0, np.float64)
    sent = (mjd - 40587.0) * 86_400_000.0 + 1000.0 * (30.0 + _DELAY_S[survey]) + rng.uniform(0, 20_000.0, len(numbers))
    return Night(rng, numbers, mjd, sent.astype(np.int64), history, mix, noise_pool())
