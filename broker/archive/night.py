"""A chunk of some nights: which objects alert and when, and the random numbers that it draws from.

Each object is visited once or more a night at the places in time of its field. It surely alerts at one of these visits,
its reference, and at every other one at which it is detected; the light curve is drawn once, so that the histories of
its packets agree and grow.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from broker.archive.sky import Mix
from broker.core.batch import Floats, Ints
from broker.deliver.container import varint

History = Literal["real", "short"]
_POOL = 1 << 21


@dataclass(frozen=True, slots=True)
class Night:
    """n objects at one visit of their fields, in the order of the visits.

    Attributes
    ----------
    rng : numpy Generator
        For what belongs to the objects: it depends on the seed and the chunk's number alone.
    later : numpy Generator
        For what belongs to this visit's packets.
    numbers : (n,) int64
        Number of each object in the night.
    first_mjd : float
        MJD UTC at which the first night starts.
    mjd_utc : (n,) float64
        MJD UTC, start of the exposure at which the object surely alerts.
    visits_d : (n, e) float64
        Days from there to each visit of the field, in order: 0 at that one.
    visit : int
        Column of ``visits_d`` that is now.
    sent_ms : (n,) int64
        When the survey sends the alert of this visit, Unix ms UTC.
    field : (n,) int64
        Number of the pointing that the object lies in.
    history : 'real' or 'short'
    mix : Mix
    noise : (m,) float64
        Standard normal numbers for what only needs scatter.
    """

    rng: np.random.Generator
    later: np.random.Generator
    numbers: Ints
    first_mjd: float
    mjd_utc: Floats
    visits_d: Floats
    visit: int
    sent_ms: Ints
    field: Ints
    history: History
    mix: Mix
    noise: Floats

    @property
    def reference(self) -> Ints:
        """Column (n,) of ``visits_d`` at which each object surely alerts."""
        return np.asarray(np.argmin(np.abs(self.visits_d), axis=1))

    @property
    def now_d(self) -> Floats:
        """Days (n,) from an object's reference to this visit."""
        return np.asarray(self.visits_d[:, self.visit])

    def positions(self, radius_deg: float) -> Floats:
        """Return ra and dec (n, 2), deg: in fields that cover the northern three quarters of the sky evenly."""
        turn, height = (self.field[:, None] * [0.7548776662466927, 0.5698402909980532] + 0.5).T % 1.0
        around, off = self.rng.random((2, len(self.numbers)))
        off = radius_deg * np.sqrt(off)
        dec = np.degrees(np.arcsin(-0.48 + 1.44 * height)) + off * np.sin(2 * np.pi * around)
        east = off * np.cos(2 * np.pi * around) / np.cos(np.radians(dec))
        return np.stack([(360.0 * turn + east) % 360.0, np.clip(dec, -90.0, 90.0)], axis=1)

    def some_noise(self, n: int, rng: np.random.Generator | None = None) -> Floats:
        """Return n standard normal numbers out of the pool, from a place that this visit's generator chooses."""
        start = int((rng or self.later).integers(0, len(self.noise) - n))
        return self.noise[start : start + n]

    def take(self, rows: Ints) -> Night:
        """Return the objects in ``rows`` (k,)."""
        named = {name: getattr(self, name)[rows] for name in ("numbers", "mjd_utc", "visits_d", "sent_ms", "field")}
        return replace(self, **named)


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


@dataclass(frozen=True, slots=True)
class Seen:
    """Which objects alert now, and how their visits lie in time.

    Attributes
    ----------
    rows : (k,) int64
        Objects that alert.
    order : (k, m) int64
        Columns of all their visits in the order of time, that of the alert at the end.
    past : (k, m) bool
        By that order: a visit that was made before the alert's; the last column is false.
    all_in_order : bool
        Whether that is everything as it was drawn.
    """

    rows: Ints
    order: Ints
    past: NDArray[np.bool_]
    all_in_order: bool = False

    def of(self, columns: NDArray[np.generic]) -> NDArray[Any]:
        """Return columns (n, m) of the objects that alert, in the order of time, (k, m)."""
        if self.all_in_order:
            return columns
        return np.take_along_axis(columns[self.rows], self.order, axis=1)


def seen(night: Night, t: Floats, used: NDArray[np.bool_], found: NDArray[np.bool_], longest_d: float) -> Seen:
    """Return who alerts at this visit of its field.

    Parameters
    ----------
    t : (n, m) float64
        Days since the reference; the last columns are those of ``night.visits_d``.
    used : (n, m) bool
        Visits that were made at some time.
    found : (n, m) bool
        Detections.
    longest_d : float
        How far back a history reaches, days.
    """
    visits, m = night.visits_d.shape[1], t.shape[1]
    if visits == 1:
        rows, order = np.arange(len(t)), np.tile(np.arange(m), (len(t), 1))
        past = used.copy()
        past[:, -1] = False
        return Seen(rows, order, past, all_in_order=True)
    column = m - visits + night.visit
    rows = np.flatnonzero(found[:, column] | (night.reference == night.visit))
    now = t[rows, column][:, None]
    past = used[rows] & (t[rows] < now - 1e-6) & (t[rows] > now - longest_d)
    key = np.where(past, t[rows], -np.inf)
    key[:, column] = np.inf
    order = np.argsort(key, axis=1, kind="stable")
    return Seen(rows, order, np.take_along_axis(past, order, axis=1))
