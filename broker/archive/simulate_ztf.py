"""ZTF alert packets: Avro containers in the form of schema 4.02.

The history is 30 days of visits in g and r (some i): a detection where the difference is 5 sigma, else an upper limit
with its depth; the last 21 visits also as forced photometry, newest first, a quarter of them failed (status 61).
Partnership visits (``programid`` 2) occur in i.
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

from broker.archive import fields, layout, neighbours, sky
from broker.archive.layout import Bytes
from broker.archive.night import Night, block, of_bytes, places, seen
from broker.archive.simulated import SimulatedPacket, Truth, of_kind
from broker.archive.stamps import pool
from broker.core.bands import SURVEYS
from broker.core.batch import Floats, Ints
from broker.core.units import JD_TO_MJD, NJY_ZERO_POINT, mag_to_njy, utc_to_tai
from broker.deliver.container import varint

_EPOCHS = 68
_HISTORY_D = 30.0
_FIELD_DEG = 3.6
_FORCED = 21
_DEPTH = np.array([20.8, 20.6, 19.9])  # median 5-sigma depth in g, r, i
_FAILED = -99999.0
_NIGHT_ZERO_JD = 2457754
_EXAMPLE_PID = 3000500001515
_FILE = "ztf_00000000000000_000000_z{band}_c00_o_q0_scimrefdiffimg.fits.gz"
_DETECTED: dict[str, fields.Value] = {
    "pid": _EXAMPLE_PID,
    "candid": _EXAMPLE_PID * 10**6,
    "tblid": 5,
    "pdiffimfilename": _FILE.format(band="r"),
}


@dataclass(frozen=True, slots=True)
class _Visits:
    """The visits of n objects, (n, m); the last columns are the field's visits at which they may alert."""

    t: Floats
    fid: Ints
    used: NDArray[np.bool_]
    sigma: Floats
    programid: Ints
    pid: Ints


def packets(night: Night) -> Iterator[SimulatedPacket]:
    """Yield the packets of one chunk of a night's objects, in the order of their visits."""
    everything = _visits(night)
    own = np.arange(len(night.numbers)), everything.t.shape[1] - night.visits_d.shape[1] + night.reference
    wavelength = SURVEYS["ztf"].wavelengths_aa[everything.fid - 1]
    objects = sky.draw("ztf", night.mix, wavelength[own], everything.sigma[own], night.rng)
    flux = objects.flux(everything.t, wavelength)
    sigma = np.hypot(everything.sigma, 0.02 * flux)
    measured = sky.measure(objects, flux, sigma, own[1], night.rng)
    found = (np.abs(measured) >= sky.DETECTED * sigma) & (objects.kind != sky.SOLAR_SYSTEM)[:, None]
    failed = night.rng.random(measured.shape) < 0.25
    place = night.positions(_FIELD_DEG)
    near = neighbours.named(objects.z, objects.kind >= 0, night.rng.spawn(1)[0])
    now = seen(night, everything.t, everything.used, found, _HISTORY_D)
    objects, place, night = objects.at(now.rows, night.now_d[now.rows]), place[now.rows], night.take(now.rows)
    visits = _Visits(*(now.of(getattr(everything, field.name)) for field in dataclass_fields(everything)))
    measured, sigma, history, failed = now.of(measured), now.of(sigma), now.past, now.of(failed)
    detected = history & now.of(found)
    rng, n = night.later, len(night.numbers)
    previous = _previous(night, visits, measured, sigma, history, detected, place)
    forced = _forced(night, visits, measured, sigma, history, failed)
    near = {name: column[now.rows] for name, column in near.items()}
    heads = _candidates(night, objects, visits, measured[:, -1], sigma[:, -1], detected.sum(axis=1), place, near)
    counts = 1 + history.sum(axis=1) + np.minimum(history.sum(axis=1), _FORCED)
    stamps = pool("ztf")
    chosen = rng.integers(0, len(stamps), n).tolist()
    sync = rng.bytes(16 * n)
    for row in range(n):
        head = heads[row]
        truth = _truth(night, objects, row, head, 1 + int(detected[row].sum()), int(counts[row]))
        body = _body(truth.object_id, head, previous[row], forced[row], stamps[chosen[row]])
        yield SimulatedPacket(
            _container(body, sync[16 * row : 16 * row + 16]), int(night.sent_ms[row]), truth, int(night.numbers[row])
        )


def _visits(night: Night) -> _Visits:
    rng, n, now = night.rng, len(night.numbers), night.visits_d
    m, own = _EPOCHS + now.shape[1], now.shape
    many = np.array([20, 42, 64])[rng.choice(3, n, p=[0.42, 0.3, 0.28])] + rng.integers(-1, 3, n)
    if night.history == "short":
        many = rng.integers(0, 8, n)
    many[rng.random(n) < night.mix.newborn] = 0
    nights = np.clip(many // 2, 1, 28)
    order = np.argsort(rng.random((n, 29)), axis=1) + 1.0  # which nights of the last 29, at random
    k = np.arange(_EPOCHS)[None, :]
    t = -np.take_along_axis(order, k % nights[:, None], axis=1) + rng.uniform(-0.09, 0.09, (n, _EPOCHS))
    fid = np.where((k // nights[:, None]) % 2 == 0, 2, 1)
    fid = np.where(rng.random((n, _EPOCHS)) < 0.06, 3, fid)
    used = k < many[:, None]
    sort = np.argsort(np.where(used, t, np.inf), axis=1)
    t, fid, used = (np.take_along_axis(a, sort, axis=1) for a in (t, fid, used))
    t, fid = np.where(used, t, -1.0), fid.astype(np.int64)
    t, fid, used = (np.concatenate([a, last], axis=1) for a, last in (
        (t, now), (fid, rng.integers(1, 3, own)), (used, np.ones(own, bool))))  # fmt: skip
    moon = 0.5 * np.cos(2 * np.pi * (night.mjd_utc[:, None] + t) / 29.53)
    depth = _DEPTH[fid - 1] - np.maximum(moon, 0.0) + 0.2 * np.clip(rng.standard_normal((n, m)), -3, 3)
    partner = (rng.random((n, m)) < 0.5) & (fid == 3)
    partner[:, _EPOCHS:] = rng.random((n, 1)) < night.mix.partnership
    jd = night.mjd_utc[:, None] + t + JD_TO_MJD
    pid = _pid(jd, rng.integers(0, 64, (n, 1)))
    return _Visits(t, fid, used, mag_to_njy(depth) / 5.0, 1 + partner.astype(np.int64), pid)


def _pid(jd: Floats, rcid: Ints) -> Ints:
    """Return image ids: night, fraction of the day in five digits, readout channel, 15."""
    nid = np.floor(jd).astype(np.int64) - _NIGHT_ZERO_JD
    return np.asarray(nid * 10**9 + ((jd % 1.0) * 1e5).astype(np.int64) * 10**4 + rcid * 100 + 15)


@cache
def _layouts() -> dict[str, layout.Layout]:
    records = fields.load("ztf").records
    kept = {"jd", "fid", "pid", "diffmaglim", "pdiffimfilename", "programpi", "programid", "nid", "rcid", "field"}
    kept |= {"magzpsci", "magzpsciunc", "magzpscirms", "clrcoeff", "clrcounc", "rbversion"}
    nothing = {field.name: None for field in records["prv_candidate"] if field.name not in kept}
    detected: dict[str, fields.Value] = {**_DETECTED, "jd": 2.46e6, "ssnamenr": "null"}
    return {
        "detected": layout.make(records["prv_candidate"], detected),
        "limit": layout.make(records["prv_candidate"], detected | nothing),
        "forced": layout.make(records["fp_hist"], {"pid": _EXAMPLE_PID, "jd": 2.46e6, "procstatus": "0"}),
        "failed": layout.make(records["fp_hist"], {"pid": _EXAMPLE_PID, "jd": 2.46e6, "procstatus": "61"}),
    }


def _common(night: Night, visits: _Visits, at: tuple[Ints, Ints]) -> dict[str, Any]:
    pid = visits.pid[at]
    return {
        "jd": night.mjd_utc[at[0]] + visits.t[at] + JD_TO_MJD,
        "fid": visits.fid[at],
        "pid": pid,
        "programid": visits.programid[at],
        "rcid": pid // 100 % 100,
    }


def _previous(
    night: Night, visits: _Visits, measured: Floats, sigma: Floats, history: Any, detected: Any, place: Floats
) -> list[bytes]:
    """Return ``prv_candidates`` of each object as Avro: a union with an array, or null."""
    order = np.cumsum(history.ravel()).reshape(history.shape) - 1
    parts = []
    for name, where in (("detected", detected), ("limit", history & ~detected)):
        at = places(where)
        columns = _common(night, visits, at) | {"nid": visits.pid[at] // 10**9}
        columns["diffmaglim"] = NJY_ZERO_POINT - 2.5 * np.log10(5.0 * sigma[at])
        columns["pdiffimfilename"] = _file_names(columns["fid"])
        if name == "detected":
            columns |= _detection(night, measured[at], sigma[at], place[at[0]])
            columns["candid"] = _candid(visits.pid[at], night.numbers[at[0]])
        rows = _layouts()[name].rows(len(at[0]), columns, night.noise)
        parts.append((rows, order[at]))
    return _arrays(parts, history.sum(axis=1), night)


def _detection(night: Night, flux: Floats, sigma: Floats, place: Floats) -> dict[str, Any]:
    """Return the columns of n detections that follow from flux and sigma (n,), nJy, at ``place`` (n, 2), deg."""
    mag = NJY_ZERO_POINT - 2.5 * np.log10(np.abs(flux))
    jitter = place + 3e-5 * night.later.standard_normal(place.shape)
    return {
        "magpsf": mag,
        "sigmapsf": 2.5 / np.log(10.0) * sigma / np.abs(flux),
        "magap": mag + 0.02 * night.some_noise(len(flux)),
        "isdiffpos": np.where(flux > 0, b"t", b"f"),
        "ra": jitter[:, 0],
        "dec": jitter[:, 1],
        "ranr": place[:, 0],
        "decnr": place[:, 1],
        "scorr": np.abs(flux) / sigma,
    }


def _file_names(fid: Ints) -> NDArray[np.bytes_]:
    names = np.array([_FILE.format(band=band) for band in "gri"], dtype="S")
    return np.asarray(names[fid - 1])


def _forced(
    night: Night, visits: _Visits, measured: Floats, sigma: Floats, history: Any, failed: NDArray[np.bool_]
) -> list[bytes]:
    """Return ``fp_hists`` of each object as Avro: the last visits, newest first."""
    recent = history & (np.cumsum(history[:, ::-1], axis=1)[:, ::-1] <= _FORCED)
    counts = recent.sum(axis=1)
    first = np.concatenate(([0], np.cumsum(counts)))[:-1]
    order = first[:, None] + counts[:, None] - np.cumsum(recent, axis=1)
    failed = recent & failed
    parts = []
    for name, where in (("forced", recent & ~failed), ("failed", failed)):
        at = places(where)
        zero_point = (26.2 + 0.08 * night.some_noise(len(at[0]))).astype(np.float32).astype(np.float64)
        scale = 10 ** (-0.4 * (NJY_ZERO_POINT - zero_point))
        columns = _common(night, visits, at) | {"magzpsci": zero_point}
        columns["diffmaglim"] = NJY_ZERO_POINT - 2.5 * np.log10(5.0 * sigma[at])
        columns["forcediffimflux"] = measured[at] * scale if name == "forced" else _FAILED
        columns["forcediffimfluxunc"] = sigma[at] * scale if name == "forced" else _FAILED
        parts.append((_layouts()[name].rows(len(at[0]), columns, night.noise), order[at]))
    return _arrays(parts, counts, night)


def _arrays(parts: list[tuple[Bytes, Ints]], counts: Ints, night: Night) -> list[bytes]:
    """Return each object's array in its union; without an item it is null for two of three, else empty."""
    flat, starts = layout.interleave(parts, int(counts.sum()))
    ends = np.concatenate(([0], np.cumsum(counts)))
    bounds, whole = starts[ends].tolist(), flat.tobytes()
    null = (night.later.random(len(counts)) < 0.67).tolist()
    return [
        block(many, whole[bounds[i] : bounds[i + 1]]) if many else b"\0" if null[i] else b"\2\0"
        for i, many in enumerate(counts.tolist())
    ]


def _candidates(
    night: Night,
    objects: sky.Objects,
    visits: _Visits,
    flux: Floats,
    sigma: Floats,
    detections: Ints,
    place: Floats,
    near: dict[str, Any],
) -> list[dict[str, Any]]:
    """Return the ``candidate`` record of each of n alerts."""
    rng, n = night.later, len(flux)
    records = fields.load("ztf").records["candidate"]
    columns: dict[str, Any] = {f.name: f.typical for f in records}
    for f in records:
        if layout.scatters(f):
            columns[f.name] = float(f.typical or 0.0) * (1.0 + layout.SCATTER * night.some_noise(n))
    pid = visits.pid[:, -1]
    solar, bogus = objects.kind == sky.SOLAR_SYSTEM, objects.kind == sky.ARTEFACT
    columns |= _detection(night, flux, sigma, place)
    jd = night.mjd_utc + visits.t[:, -1] + JD_TO_MJD
    columns |= {
        "jd": jd,
        "fid": visits.fid[:, -1],
        "pid": pid,
        "candid": _candid(pid, night.numbers),
        "programid": visits.programid[:, -1],
        "nid": pid // 10**9,
        "rcid": pid // 100 % 100,
        "tblid": rng.integers(1, 60, n),
        "diffmaglim": NJY_ZERO_POINT - 2.5 * np.log10(5.0 * sigma),
        "isdiffpos": np.where(flux > 0, "t", "f"),
        "drb": np.where(bogus, rng.beta(1.2, 14.0, n), _real(rng, n)),
        "rb": np.where(bogus, rng.beta(2.0, 6.0, n), np.clip(rng.normal(0.68, 0.12, n), 0.05, 1.0)),
        "ssdistnr": np.where(solar, np.round(rng.exponential(0.5, n)), -999.0),
        "ssmagnr": np.where(solar, columns["magpsf"] - 0.1, -999.0),
        "ssnamenr": np.where(solar, rng.integers(1000, 400_000, n).astype(str), "null"),
        "ndethist": detections + 1,
        "ncovhist": rng.integers(100, 2400, n),
        "jdstarthist": jd - np.where(np.isfinite(objects.age_d), np.minimum(objects.age_d, 900.0), 900.0),
        "jdendhist": jd,
        "distnr": np.where(np.isfinite(objects.z), rng.exponential(4.0, n), rng.exponential(0.4, n)),
        "exptime": 30.0,
        "pdiffimfilename": _file_names(visits.fid[:, -1]).astype(str),
        **near,
    }
    listed = {k: v.tolist() if isinstance(v, np.ndarray) else [v] * n for k, v in columns.items()}
    return [dict(zip(listed, values, strict=True)) for values in zip(*listed.values(), strict=True)]


def _real(rng: np.random.Generator, n: int) -> Floats:
    """Return real-bogus scores of real sources: nearly 1, and low for two in a hundred."""
    return np.where(rng.random(n) < 0.02, rng.random(n) * 0.6, 1.0 - np.minimum(rng.exponential(0.015, n), 0.5))


def _candid(pid: Ints, numbers: Ints) -> Ints:
    """Return ids of alerts and detections: the image and the object's number."""
    return np.asarray(pid * 10**6 + 15000 + numbers % 985_000)


def _truth(night: Night, objects: sky.Objects, row: int, head: dict[str, Any], detections: int, points: int) -> Truth:
    class_id, name, transient = of_kind(int(objects.kind[row]))
    z = float(objects.z[row])
    mjd = float(utc_to_tai(np.array([head["jd"] - JD_TO_MJD + 15.0 / 86400.0]))[0])
    peak = float(objects.peak_d[row])
    return Truth(
        "ztf", head["candid"], _object_id(night.first_mjd, int(night.numbers[row])), class_id, name, transient,
        z if np.isfinite(z) else None, mjd, float(objects.snr[row]), detections, points, head["programid"], test=False,
        peak_mjd=mjd + peak if np.isfinite(peak) else None, artefact=int(objects.kind[row]) == sky.ARTEFACT,
        sent_ms=int(night.sent_ms[row]),
    )  # fmt: skip


def _object_id(first_mjd: float, number: int) -> str:
    """Return a ZTF name for the object: year and seven letters, different for the objects of a night and of others."""
    nid = int(first_mjd + JD_TO_MJD) - _NIGHT_ZERO_JD
    number, letters = (nid * 985_000 + number % 985_000) * 2_654_435_761 % 26**7, []
    for _ in range(7):
        number, rest = divmod(number, 26)
        letters.append(chr(97 + rest))
    return "ZTF26" + "".join(letters)


def _body(object_id: str, head: dict[str, Any], previous: bytes, forced: bytes, stamps: Any) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, _candidate_schema(), head)
    pid, candid = head["pid"], head["candid"]
    named = (
        (f"candid{candid}_pid{pid}_targ_sci.fits.gz", stamps.science),
        (f"candid{candid}_ref.fits.gz", stamps.template),
        (f"candid{candid}_pid{pid}_targ_scimref.fits.gz", stamps.difference),
    )
    cutouts = [b"\2" + of_bytes(name.encode()) + of_bytes(stamp) for name, stamp in named]
    start = of_bytes(b"4.02") + of_bytes(b"ZTF (simulated by Tocsin)") + of_bytes(object_id.encode()) + varint(candid)
    return b"".join((start, out.getvalue(), previous, forced, *cutouts))


@cache
def _candidate_schema() -> Any:
    return fields.load("ztf").parsed_record("candidate")


@cache
def _header() -> bytes:
    text = fields.load("ztf").schema_text.encode()
    pairs = of_bytes(b"avro.codec") + of_bytes(b"null") + of_bytes(b"avro.schema") + of_bytes(text)
    return b"Obj\x01" + varint(2) + pairs + b"\0"


def _container(body: bytes, sync: bytes) -> bytes:
    return b"".join((_header(), sync, varint(1), varint(len(body)), body, sync))
