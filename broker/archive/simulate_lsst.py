"""Rubin alert packets: the wire format with a body in the form of schema 11.1.

The history is that of a deep field, as in the real alerts at hand: up to 391 earlier detections over weeks and 340-780
forced measurements, the newest that of the alert's own visit; ``short`` is the wide survey's first year. A solar-system
object has ``ssSource`` and ``mpc_orbits`` and neither object nor history; a new one has null detections and an empty
list of forced measurements.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import fields as dataclass_fields
from functools import cache
from typing import Any

import fastavro
import numpy as np
from numpy.typing import NDArray

from broker.archive import fields, layout, sky
from broker.archive.layout import Bytes
from broker.archive.night import Night, block, of_bytes, places, seen
from broker.archive.simulated import SimulatedPacket, Truth, of_kind
from broker.archive.stamps import pool
from broker.core.bands import SURVEYS
from broker.core.batch import Floats, Ints
from broker.core.schemas import frame_prefix
from broker.core.units import mag_to_njy, utc_to_tai
from broker.deliver.container import varint

SIMULATED_ID = 2_000_001_101  # "2 000 00" + 11.1: no registry counts that far, and no survey version looks like it
_EPOCHS = 780
_HISTORY_D = 365.0
_FIELD_DEG = 1.75
_NIGHTS, _RUNS = 26, 16  # at most, and the runs of a night before their bands repeat
_MAX_DETECTIONS = 391
_DEPTH = np.array([23.5, 24.4, 24.0, 23.5, 22.9, 22.1])  # median 5-sigma depth in u to y
_DEEP = [0.03, 0.25, 0.25, 0.25, 0.2, 0.02]
_WIDE = [0.07, 0.11, 0.22, 0.23, 0.21, 0.16]
_LETTERS = np.array([b"u", b"g", b"r", b"i", b"z", b"y"])
_SOURCE_ID, _OBJECT_ID, _VISIT = 170094456272322680, 170028485706776685, 2026030500055
_EPOCH_MJD = 60000


@dataclass(frozen=True, slots=True)
class _Visits:
    """The visits of n objects, (n, m); the last columns are the field's visits at which they may alert."""

    t: Floats
    band: Ints
    used: NDArray[np.bool_]
    sigma: Floats
    visit: Ints
    mjd: Floats
    number: Ints  # of the visit among all of the object's, the same in each of its packets


def packets(night: Night) -> Iterator[SimulatedPacket]:
    """Yield the packets of one chunk of a night's objects, in the order of their visits."""
    rng, n, at_alert = night.rng, len(night.numbers), night.visits_d.shape[1]
    weights = _WIDE if night.history == "short" else _DEEP
    band = rng.choice(6, (n, _EPOCHS + at_alert), p=weights)
    own = np.arange(n), _EPOCHS + night.reference
    depth = 0.2 * np.clip(night.some_noise(band.size, rng).reshape(band.shape), -3, 3)
    wavelengths = SURVEYS["lsst"].wavelengths_aa
    objects = sky.draw("lsst", night.mix, wavelengths[band[own]], mag_to_njy(_DEPTH[band[own]] + depth[own]) / 5.0, rng)
    everything = _visits(night, objects, band, depth)
    flux = objects.flux(everything.t, wavelengths[everything.band])
    sigma = np.hypot(everything.sigma, 0.01 * flux)
    measured = sky.measure(objects, flux, sigma, own[1], rng)
    scatter = night.some_noise(band.size, rng).reshape(band.shape)
    kept = 340 + (440 * rng.beta(0.7, 2.0, n)).astype(np.int64)  # forced photometry does not go back as far
    place, scores = night.positions(_FIELD_DEG), _bogus(night, objects)
    found = (np.abs(measured) >= sky.DETECTED * sigma) & (objects.kind != sky.SOLAR_SYSTEM)[:, None]
    now = seen(night, everything.t, everything.used, found, _HISTORY_D)
    objects, night = objects.at(now.rows, night.now_d[now.rows]), night.take(now.rows)
    visits = _Visits(*(now.of(getattr(everything, field.name)) for field in dataclass_fields(everything)))
    visits.used[:] = now.past
    visits.used[:, -1] = True
    detected = _detected(visits, now.of(found))
    newest = np.cumsum(visits.used[:, ::-1], axis=1)[:, ::-1]
    forced = visits.used & (newest <= kept[now.rows, None]) & (objects.kind != sky.SOLAR_SYSTEM)[:, None]
    forced &= (visits.used.sum(axis=1) > 1)[:, None]
    alone = np.zeros_like(detected)
    alone[:, -1] = True
    scores = scores[0][now.rows], scores[1][now.rows]
    common = (night, objects, visits, now.of(measured), now.of(sigma), place[now.rows], _object_ids(night, objects))
    previous, heads = _sources(*common, scores, detected), _sources(*common, scores, alone)
    measurements = _forced(*common, now.of(scatter), forced)
    yield from _assemble(*common, scores[1], detected, forced, (heads, previous, measurements))


def _visits(night: Night, objects: sky.Objects, band: Ints, depth: Floats) -> _Visits:
    """Draw when the visits were, within the time that the object has been there; ``depth`` is beside the band's."""
    rng, n = night.rng, len(night.numbers)
    deep = night.history == "real"
    many = rng.integers(420, _EPOCHS + 1, n) if deep else rng.integers(0, 60, n)
    many[(rng.random(n) < night.mix.newborn) | (objects.kind == sky.SOLAR_SYSTEM)] = 0
    longest = rng.uniform(15.0, 75.0, n) if deep else rng.uniform(60.0, 365.0, n)
    span = np.clip(objects.age_d * rng.uniform(0.7, 1.3, n), 2.5, longest)
    dates = -np.ceil(span[:, None] * rng.random((n, _NIGHTS)))
    busy = rng.random((n, _EPOCHS)) < 0.97  # the others fall on nights of their own
    which = (rng.random((n, _EPOCHS)) * np.where(busy, rng.integers(6, 17, (n, 1)), _NIGHTS)).astype(np.int64)
    used = np.arange(_EPOCHS)[None, :] < many[:, None]
    date = np.sort(np.where(used, np.take_along_axis(dates, which, axis=1), 1.0), axis=1)
    used = date < 0
    if deep:
        t, band[:, :_EPOCHS] = _sequences(night, date)
    else:
        t = date + rng.uniform(-0.1, 0.15, date.shape)
    order = np.argsort(np.where(used, t, 1.0), axis=1)
    t, band[:, :_EPOCHS] = np.take_along_axis(t, order, axis=1), np.take_along_axis(band[:, :_EPOCHS], order, axis=1)
    t = np.concatenate([np.where(used, t, -1.0), night.visits_d], axis=1)
    used = np.concatenate([used, np.ones(night.visits_d.shape, bool)], axis=1)
    mjd = utc_to_tai(night.mjd_utc + 15.0 / 86400.0)[:, None] + t
    day = np.floor(mjd).astype(np.int64)
    visit = _yyyymmdd(day) * 100_000 + ((mjd - day) * 2600).astype(np.int64)
    number = np.tile(np.arange(t.shape[1]), (n, 1))
    return _Visits(t, band, used, mag_to_njy(_DEPTH[band] + depth) / 5.0, visit, mjd, number)


def _sequences(night: Night, date: Floats) -> tuple[Floats, Ints]:
    """Return times and bands of a deep field's visits, given their sorted dates (n, m): runs in one band, as real ones.

    In the alerts at hand a busy night has 22 to 92 visits, 75 s apart, in runs of 8 to 30 of a band; a dozen nights
    have one to three visits.
    """
    rng, (n, m) = night.rng, date.shape
    new = np.diff(date, axis=1, prepend=2.0) != 0
    number = np.cumsum(new, axis=1) - 1
    rank = np.arange(m) - np.maximum.accumulate(np.where(new, np.arange(m), 0), axis=1)
    run = rank // rng.integers(8, 25, (n, 1))
    bands = rng.choice(6, (n, _NIGHTS + 1, _RUNS), p=_DEEP)
    start = rng.uniform(-0.1, 0.1, (n, _NIGHTS + 1))
    rows = np.arange(n)[:, None]
    return date + start[rows, number] + (75.0 * rank + 120.0 * run) / 86400.0, bands[rows, number, run % _RUNS]


def _yyyymmdd(mjd: Ints) -> Ints:
    days = np.datetime64("1858-11-17") + mjd.astype("timedelta64[D]")
    months = days.astype("datetime64[M]").astype(np.int64)
    in_month = (days - days.astype("datetime64[M]")).astype(np.int64) + 1
    return np.asarray((1970 + months // 12) * 10_000 + (months % 12 + 1) * 100 + in_month)


def _object_ids(night: Night, objects: sky.Objects) -> Ints:
    """Return diaObjectId, or ssObjectId of solar-system objects, (n,): different for other first nights."""
    base = np.where(objects.kind == sky.SOLAR_SYSTEM, 21_163_000_000_000_000, 170_000_000_000_000_000)
    return np.asarray(base + int(night.first_mjd) % 10_000 * 10_000_000_000 + night.numbers)


def _source_ids(night: Night, rows: Ints, visits: Ints) -> Ints:
    """Return ids of detections and forced measurements: first night, number of the object, number of its visit."""
    nights = int(night.first_mjd) - _EPOCH_MJD
    return np.asarray(160_000_000_000_000_000 + nights * 10**13 + night.numbers[rows] * 1000 + visits)


def _detected(visits: _Visits, found: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which earlier visits (n, m) gave a detection; at most `_MAX_DETECTIONS` of an object."""
    found = visits.used & found
    found[:, -1] = False
    return found & (np.cumsum(found[:, ::-1], axis=1)[:, ::-1] <= _MAX_DETECTIONS)


@cache
def _layouts() -> dict[str, layout.Layout]:
    records = fields.load("lsst").records
    source: dict[str, fields.Value] = {
        "diaSourceId": _SOURCE_ID,
        "visit": _VISIT,
        "band": "g",
        "midpointMjdTai": 61000.0,
    }
    source |= {"timeProcessedMjdTai": 61000.0, "parentDiaSourceId": 0}
    forced: dict[str, fields.Value] = {
        "diaForcedSourceId": _SOURCE_ID,
        "diaObjectId": _OBJECT_ID,
        "visit": _VISIT,
        "band": "g",
    }
    forced |= {"midpointMjdTai": 61000.0, "timeProcessedMjdTai": 61000.0}
    return {
        "object": layout.make(records["diaSource"], source | {"diaObjectId": _OBJECT_ID, "ssObjectId": 0}),
        "solar": layout.make(records["diaSource"], source | {"diaObjectId": 0, "ssObjectId": 21_163_624_394_469_969}),
        "forced": layout.make(records["diaForcedSource"], forced),
    }


def _sources(
    night: Night, objects: sky.Objects, visits: _Visits, measured: Floats, sigma: Floats, place: Floats, ids: Ints,
    scores: tuple[Floats, NDArray[np.bool_]], where: NDArray[np.bool_],
) -> list[bytes]:  # fmt: skip
    """Return the ``diaSource`` records where ``where`` (n, m), those of an object end to end."""
    solar = objects.kind == sky.SOLAR_SYSTEM
    order = np.cumsum(where.ravel()).reshape(where.shape) - 1
    parts = []
    for name, column, mask in (("object", "diaObjectId", ~solar), ("solar", "ssObjectId", solar)):
        at = places(where & mask[:, None])
        if not len(at[0]):
            continue
        flux, err = measured[at], sigma[at]
        columns = _common(night, visits, at, flux, err) | _reliability(night, scores, at[0])
        jitter = place[at[0]] + 1e-5 * night.later.standard_normal((len(flux), 2))
        columns |= {"diaSourceId": _source_ids(night, at[0], visits.number[at]), column: ids[at[0]]}
        columns |= {"ra": jitter[:, 0], "dec": jitter[:, 1], "trailRa": jitter[:, 0], "trailDec": jitter[:, 1]}
        columns |= {"snr": np.abs(flux) / err, "isNegative": flux < 0, "apFlux": flux * 1.01, "apFluxErr": 1.8 * err}
        parts.append((_layouts()[name].rows(len(flux), columns, night.noise), order[at]))
    return _per_object(parts, where.sum(axis=1))


def _bogus(night: Night, objects: sky.Objects) -> tuple[Floats, NDArray[np.bool_]]:
    """Return each object's reliability and whether it is an injected source, (n,)."""
    n, rng = len(objects.kind), night.rng
    real = np.where(rng.random(n) < 0.02, 0.1 + 0.3 * rng.random(n), rng.beta(9, 2, n))
    score = np.where(objects.kind == sky.ARTEFACT, rng.beta(1.2, 12.0, n), real)
    score = np.where(objects.kind == sky.SOLAR_SYSTEM, 1.0 - 1e-3 * rng.random(n), score)
    return score, rng.random(n) < night.mix.test


def _reliability(night: Night, scores: tuple[Floats, NDArray[np.bool_]], rows: Ints) -> dict[str, Any]:
    """Return reliability and the flag of injected sources of detections of the objects ``rows`` (k,), with scatter."""
    score, test = scores[0][rows], scores[1][rows]
    value = np.clip(score + np.where(score > 0.4, 0.02 * night.some_noise(len(rows)), 0.0), 0.0, 1.0)
    return {"reliability": value, "pixelFlags_injectedCenter": test, "pixelFlags_injected": test}


def _common(night: Night, visits: _Visits, at: tuple[Ints, Ints], flux: Floats, err: Floats) -> dict[str, Any]:
    host = 10 ** (3.0 + 2.0 * ((night.numbers[at[0]] * 0.618) % 1.0))
    return {
        "midpointMjdTai": visits.mjd[at],
        "timeProcessedMjdTai": visits.mjd[at] + 0.0017,
        "visit": visits.visit[at],
        "detector": 64 + (night.numbers[at[0]] * 7 + visits.visit[at]) % 125,
        "band": _LETTERS[visits.band[at]],
        "psfFlux": flux,
        "psfFluxErr": err,
        "scienceFlux": flux + host,
        "scienceFluxErr": 1.02 * err,
    }


def _forced(
    night: Night, objects: sky.Objects, visits: _Visits, measured: Floats, sigma: Floats, place: Floats, ids: Ints,
    scatter: Floats, where: NDArray[np.bool_],
) -> list[bytes]:  # fmt: skip
    """Return the ``diaForcedSource`` records where ``where`` (n, m), those of an object end to end."""
    at = places(where)
    flux, err = measured[at] + 0.3 * sigma[at] * scatter[at], sigma[at] * 0.98
    columns = _common(night, visits, at, flux, err)
    columns |= {"diaForcedSourceId": _source_ids(night, at[0], visits.number[at]), "diaObjectId": ids[at[0]]}
    columns |= {"ra": place[at[0], 0], "dec": place[at[0], 1]}
    rows = _layouts()["forced"].rows(len(flux), columns, night.noise)
    return _per_object([(rows, np.arange(len(flux)))], where.sum(axis=1))


def _per_object(parts: list[tuple[Bytes, Ints]], counts: Ints) -> list[bytes]:
    if len(parts) == 1:  # one layout, so one size: the records lie end to end as they are
        rows = parts[0][0]
        bounds, whole = (np.concatenate(([0], np.cumsum(counts))) * rows.shape[1]).tolist(), rows.reshape(-1)
    else:
        whole, starts = layout.interleave(parts, int(counts.sum()))
        bounds = starts[np.concatenate(([0], np.cumsum(counts)))].tolist()
    return [whole[bounds[i] : bounds[i + 1]].tobytes() for i in range(len(counts))]


def _assemble(
    night: Night, objects: sky.Objects, visits: _Visits, measured: Floats, sigma: Floats, place: Floats, ids: Ints,
    tests: NDArray[np.bool_], detected: NDArray[np.bool_], forced: NDArray[np.bool_],
    parts: tuple[list[bytes], list[bytes], list[bytes]],
) -> Iterator[SimulatedPacket]:  # fmt: skip
    rng, n = night.later, len(ids)
    stamps, source_ids = pool("lsst"), _source_ids(night, np.arange(n), visits.number[:, -1]).tolist()
    chosen = rng.integers(0, len(stamps), n).tolist()
    counts, forced_counts = detected.sum(axis=1).tolist(), forced.sum(axis=1).tolist()
    frame = frame_prefix(SIMULATED_ID)
    for row in range(n):
        solar = int(objects.kind[row]) == sky.SOLAR_SYSTEM
        flux, band = measured[row, detected[row]], visits.band[row, detected[row]]
        around = (
            b"\0" + b"\0" + _solar(source_ids[row], int(ids[row]), rng)
            if solar
            else _previous(counts[row], parts[1][row])
            + (block(forced_counts[row], parts[2][row]) if forced_counts[row] else b"\2\0")
            + _object(int(ids[row]), place[row], flux, band, float(visits.mjd[row, -1]))
        )
        stamp = stamps[chosen[row]]
        cutouts = [b"\2" + of_bytes(image) for image in (stamp.difference, stamp.science, stamp.template)]
        value = b"".join((frame, _opening(source_ids[row]), parts[0][row], around, *cutouts))
        mjd, entries = float(visits.mjd[row, -1]), (1 + counts[row], 1 + counts[row] + forced_counts[row])
        truth = _truth(night, objects, row, source_ids[row], int(ids[row]), mjd, *entries, test=bool(tests[row]))
        yield SimulatedPacket(value, int(night.sent_ms[row]), truth, int(night.numbers[row]))


def _truth(
    night: Night, objects: sky.Objects, row: int, source_id: int, own_id: int, mjd: float, detections: int, points: int,
    *, test: bool,
) -> Truth:  # fmt: skip
    class_id, name, transient = of_kind(int(objects.kind[row]))
    z, peak = float(objects.z[row]), float(objects.peak_d[row])
    object_id = f"ss{own_id}" if int(objects.kind[row]) == sky.SOLAR_SYSTEM else str(own_id)
    return Truth(
        "lsst", source_id, object_id, class_id, name, transient, z if np.isfinite(z) else None, mjd,
        float(objects.snr[row]), detections, points, 1, test=test, peak_mjd=mjd + peak if np.isfinite(peak) else None,
        artefact=int(objects.kind[row]) == sky.ARTEFACT, sent_ms=int(night.sent_ms[row]),
    )  # fmt: skip


def _previous(count: int, records: bytes) -> bytes:
    return block(count, records) if count else b"\0"


def _opening(source_id: int) -> bytes:
    return varint(source_id) + b"\2" + of_bytes(b"simulated") + b"\2" + of_bytes(b"simulated, tocsin")


def _object(object_id: int, place: Floats, flux: Floats, band: Ints, mjd: float) -> bytes:
    """Return ``diaObject`` in its union, with the statistics of the bands that have detections."""
    record: dict[str, Any] = dict(_empty_object())
    record |= {"diaObjectId": object_id, "ra": float(place[0]), "dec": float(place[1]), "nDiaSources": len(flux) + 1}
    record |= {"validityStartMjdTai": mjd + 0.002}
    for index, letter in enumerate("ugrizy"):
        own = flux[band == index]
        if len(own):
            record[f"{letter}_psfFluxNdata"] = len(own)
            record[f"{letter}_psfFluxMean"], record[f"{letter}_psfFluxSigma"] = float(own.mean()), float(own.std())
            record[f"{letter}_psfFluxMin"], record[f"{letter}_psfFluxMax"] = float(own.min()), float(own.max())
    out = io.BytesIO(b"\2")
    out.seek(1)
    fastavro.schemaless_writer(out, _schema("diaObject"), record)
    return out.getvalue() + b"\0\0"  # neither ssSource nor mpc_orbits


@cache
def _empty_object() -> dict[str, Any]:
    bands = tuple(f"{letter}_" for letter in "ugrizy")
    return {
        field.name: 0 if field.name.endswith("Ndata") else None if field.name.startswith(bands) else field.typical
        for field in fields.load("lsst").records["diaObject"]
    }


def _solar(source_id: int, object_id: int, rng: np.random.Generator) -> bytes:
    """Return a null ``diaObject``, ``ssSource`` and ``mpc_orbits``."""
    name = f"20{rng.integers(10, 26)} {chr(65 + int(rng.integers(0, 24)))}{chr(65 + int(rng.integers(0, 25)))}"
    name += str(rng.integers(1, 400))
    source = {f.name: f.typical for f in fields.load("lsst").records["ssSource"]}
    source |= {"diaSourceId": source_id, "ssObjectId": object_id, "designation": name}
    orbit: dict[str, Any] = {f.name: f.typical for f in fields.load("lsst").records["mpc_orbits"]}
    orbit |= {"id": object_id % 1_000_000, "designation": name, "packed_primary_provisional_designation": name}
    orbit |= {"unpacked_primary_provisional_designation": name, "e": float(rng.beta(2, 10)), "h": 18.0}
    out = io.BytesIO()
    out.write(b"\0\2")
    fastavro.schemaless_writer(out, _schema("ssSource"), source)
    out.write(b"\2")
    fastavro.schemaless_writer(out, _schema("mpc_orbits"), orbit)
    return out.getvalue()


@cache
def _schema(name: str) -> Any:
    return fields.load("lsst").parsed_record(name)
