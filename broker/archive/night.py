"""A chunk of one night: which objects alert and when, and the random numbers that it draws from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from broker.archive.sky import Mix
from broker.core.batch import Floats, Ints
from broker.deliver.container import varint

History = Literal["real", "short"]
_POOL = 1 << 21


@dataclass(frozen=True, slots=True)
class Night:
    """n objects of a night, in the order of their alerts.

    Attributes
    ----------
    rng : numpy Generator
        This chunk's own: its packets depend on the seed and the chunk's number alone.
    numbers : (n,) int64
        Number of each object in the night.
    mjd_utc : (n,) float64
        MJD UTC, start of the alerting exposure.
    sent_ms : (n,) int64
        When the survey sends the alert, Unix ms UTC.
    history : 'real' or 'short'
    mix : Mix
    noise : (m,) float64
        Standard normal numbers for what only needs scatter.
    """

    rng: np.random.Generator
    numbers: Ints
    mjd_utc: Floats
    sent_ms: Ints
    history: History
    mix: Mix
    noise: Floats

    def positions(self) -> tuple[Floats, Floats]:
        """Return ra and dec (n,), deg: uniform on the northern three quarters of the sky."""
        n = len(self.numbers)
        return self.rng.uniform(0.0, 360.0, n), np.degrees(np.arcsin(self.rng.uniform(-0.48, 0.98, n)))

    def some_noise(self, n: int) -> Floats:
        """Return n standard normal numbers out of the pool."""
        start = int(self.rng.integers(0, len(self.noise) - n))
        return self.noise[start : start + n]


@cache
def noise_pool() -> Floats:
    """Return the pool of normal numbers, always the same."""
    pool = np.random.default_rng(8).standard_normal(_POOL)
    pool.flags.writeable = False
    return np.clip(pool, -4.0, 4.0)


def places(mask: NDArray[np.bool_]) -> tuple[Ints, Ints]:
    """Return the rows and columns (k,) where ``mask`` (n, m) is true, row by row."""
    rows, columns = np.nonzero(mask)
    return rows.astype(np.int64), columns.astype(np.int64)


def of_bytes(data: bytes) -> bytes:
    """Return Avro bytes or text."""
    return varint(len(data)) + data


def block(items: int, data: bytes) -> bytes:
    """Return an Avro array of ``items`` items as the second branch of a union with null."""
    return b"\2" + varint(items) + data + b"\0"
