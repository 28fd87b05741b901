"""ZTF: which fields we read, and how they become columns.

Times: ``jd`` is UTC at the start of the exposure; we publish MJD TAI at its middle, half of ``exptime`` later (30 s
where the packet does not say). Fluxes: ``magpsf`` is AB and carries no sign; ``isdiffpos`` does. A previous candidate
without ``magpsf`` is an upper limit at ``diffmaglim`` (5 sigma). Forced photometry is in DN at ``magzpsci``, and
-99999 stands for missing. Source: the field docs in the packets' own schemas (IPAC).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from broker.core.batch import AlertBatch, Floats, Ints, LightCurves
from broker.core.batch import Kind as Point
from broker.core.units import JD_TO_MJD, NJY_ZERO_POINT, SECONDS_PER_DAY, mag_err_to_njy, mag_to_njy, utc_to_tai
from broker.decode.checks import check
from broker.decode.fields import Column, History, Kind, Problem, Projection, Tables, TextFault, code

EXPOSURE_S = 30.0
PIXEL_ARCSEC = 1.012
SOLAR_SYSTEM_ARCSEC = 5.0
LIMIT_SIGMA = 5.0
MISSING = -99999.0
PUBLIC = 1
_PRV, _FORCED = 1, 2
_JD, _FID, _PROGRAM, _FLUX, _ERR, _SIGN_OR_ZERO_POINT, _LIMIT_OR_EXPTIME, _TAG = range(8)

PROJECTION = Projection(
    survey="ztf",
    alert=(
        Column("objectId", Kind.SPAN, required=True),
        Column("candid", Kind.INT, required=True),
        Column("candidate.jd", Kind.FLOAT, required=True),
        Column("candidate.fid", Kind.INT, required=True),
        Column("candidate.programid", Kind.INT, required=True),
        Column("candidate.magpsf", Kind.FLOAT, required=True),
        Column("candidate.sigmapsf", Kind.FLOAT, required=True),
        Column("candidate.isdiffpos", Kind.CODE, required=True),
        Column("candidate.ra", Kind.FLOAT, required=True),
        Column("candidate.dec", Kind.FLOAT, required=True),
        Column("candidate.exptime", Kind.FLOAT),
        Column("candidate.rb", Kind.FLOAT),
        Column("candidate.drb", Kind.FLOAT),
        Column("candidate.sgscore1", Kind.FLOAT),  # from 1.8
        Column("candidate.sgscore", Kind.FLOAT),  # up to 1.6
        Column("candidate.distnr", Kind.FLOAT),
        Column("candidate.ssdistnr", Kind.FLOAT),
        Column("candidate.ssnamenr", Kind.SPAN),
    ),
    histories=(
        History(
            "prv_candidates",
            _PRV,
            (
                Column("jd", Kind.FLOAT, required=True),
                Column("fid", Kind.INT, required=True),
                Column("programid", Kind.INT, required=True),
                Column("magpsf", Kind.FLOAT, required=True),
                Column("sigmapsf", Kind.FLOAT, required=True),
                Column("isdiffpos", Kind.CODE, required=True),
                Column("diffmaglim", Kind.FLOAT, required=True),
            ),
        ),
        History(
            "fp_hists",
            _FORCED,
            (
                Column("jd", Kind.FLOAT, required=True),
                Column("fid", Kind.INT, required=True),
                Column("programid", Kind.INT, required=True),
                Column("forcediffimflux", Kind.FLOAT, required=True),
                Column("forcediffimfluxunc", Kind.FLOAT, required=True),
                Column("magzpsci", Kind.FLOAT, required=True),
                Column("exptime", Kind.FLOAT),
            ),
        ),
    ),
    point_words=8,
)
_AT = PROJECTION.first_word
_POSITIVE = np.array([code("t"), code("1")])
_NEGATIVE = np.array([code("f"), code("0")])


@np.errstate(over="ignore", invalid="ignore")  # a sender chooses the numbers: signalling NaN, too large for float32
def convert(tables: Tables) -> tuple[AlertBatch, LightCurves, list[Problem]]:
    """Return A alerts with their raw light curves, and what is wrong with some of them.

    Points of partnership data (``programid`` other than 1) in a public alert's history are left out and counted. A
    point with an unknown filter has band -1; one without a usable flux has NaN.
    """
    _place_detections(tables)
    owner = np.repeat(np.arange(len(tables.rows)), np.diff(tables.first))
    public = tables.alerts[:, _AT["candidate.programid"]] == PUBLIC
    hidden = public[owner] & (tables.points[:, _PROGRAM] != PUBLIC)
    hidden[tables.first[:-1]] = False
    curves = _curves(tables)
    alerts, problems = _alerts(tables, curves, np.bincount(owner[hidden], minlength=len(tables.rows)))
    return alerts, curves.keep(~hidden) if hidden.any() else curves, problems


def _place_detections(tables: Tables) -> None:
    """Write the alerting detections into the points' free rows, in the form of a previous candidate."""
    names = ("jd", "fid", "programid", "magpsf", "sigmapsf", "isdiffpos", "exptime")
    words = [_AT[f"candidate.{name}"] for name in names]
    tables.points[tables.first[:-1], : len(words)] = tables.alerts[:, words]
    tables.points[tables.first[:-1], _TAG] = 0


def _curves(tables: Tables) -> LightCurves:
    words, values = tables.points, tables.points.view(np.float64)
    tag = words[:, _TAG]
    forced = np.flatnonzero(tag == _FORCED)
    flux, err = _magnitudes(words, values)
    scale = 10.0 ** (0.4 * (NJY_ZERO_POINT - _known(values[forced, _SIGN_OR_ZERO_POINT])))
    flux[forced] = _known(values[forced, _FLUX]) * scale
    err[forced] = _known(values[forced, _ERR]) * scale
    limit = (tag == _PRV) & np.isnan(values[:, _FLUX])
    kind = np.where(limit, np.int8(Point.LIMIT), np.int8(Point.DETECTION))
    kind[forced] = Point.FORCED
    exposure = np.where(tag == _PRV, np.nan, values[:, _LIMIT_OR_EXPTIME])
    return LightCurves(tables.first, _middle(values[:, _JD], exposure), flux, err, _band(words[:, _FID]), kind)


def _magnitudes(words: Ints, values: Floats) -> tuple[Floats, Floats]:
    """Return flux and error (D,), nJy, of all points as if they were candidates."""
    mag, limit = values[:, _FLUX], values[:, _LIMIT_OR_EXPTIME]
    is_limit = np.isnan(mag) & (words[:, _TAG] == _PRV)
    flux = mag_to_njy(np.where(is_limit, limit, mag))
    err = np.where(is_limit, flux / LIMIT_SIGMA, mag_err_to_njy(flux, values[:, _ERR]))
    return np.where(is_limit, np.where(np.isnan(flux), np.nan, 0.0), flux * _sign(words[:, _SIGN_OR_ZERO_POINT])), err


def _sign(isdiffpos: Ints) -> Floats:
    """Return +1 for 't' and '1', -1 for 'f' and '0', NaN for anything else."""
    negative = np.where(np.isin(isdiffpos, _NEGATIVE), -1.0, np.nan)
    return np.where(np.isin(isdiffpos, _POSITIVE), 1.0, negative)


def _known(values: Floats) -> Floats:
    return np.where(values == MISSING, np.nan, values)


def _middle(jd: Floats, exposure_s: Floats) -> Floats:
    """Return MJD TAI (n,) at mid-exposure of JD UTC (n,) at its start; an unknown exposure time is 30 s."""
    usable = (exposure_s > 0) & (exposure_s < SECONDS_PER_DAY)
    half = np.where(usable, exposure_s, EXPOSURE_S) / (2.0 * SECONDS_PER_DAY)
    return utc_to_tai(jd - JD_TO_MJD + half)


def _band(fid: Ints) -> NDArray[np.int8]:
    return np.where((fid >= 1) & (fid <= 3), fid - 1, -1).astype(np.int8)


def _alerts(tables: Tables, curves: LightCurves, not_public: Ints) -> tuple[AlertBatch, list[Problem]]:
    at = tables.first[:-1]
    candid = tables.alerts[:, _AT["candid"]].copy()
    ra, dec = tables.floats(_AT["candidate.ra"]).copy(), tables.floats(_AT["candidate.dec"]).copy()
    object_id, bad_object = tables.strings(_AT["objectId"])
    solar, solar_id, bad_name = _solar_system(tables)
    alerts = AlertBatch(
        survey="ztf",
        rows=tables.rows,
        alert_id=candid,
        dia_source_id=candid,
        object_id=object_id,
        ra_deg=ra,
        dec_deg=dec,
        mjd=curves.mjd[at],
        band=curves.band[at],
        flux_njy=curves.flux_njy[at],
        flux_err_njy=curves.flux_err_njy[at],
        real_bogus=_first_score(tables, "candidate.drb", "candidate.rb"),
        star_galaxy=_first_score(tables, "candidate.sgscore1", "candidate.sgscore"),
        ref_distance_arcsec=_not_negative(tables.floats(_AT["candidate.distnr"])) * np.float32(PIXEL_ARCSEC),
        solar_system=solar,
        solar_system_id=solar_id,
        negative=np.isin(tables.alerts[:, _AT["candidate.isdiffpos"]], _NEGATIVE),
        test=np.zeros(len(candid), dtype=np.bool_),
        programid=_programid(tables),
        published_ms=np.full(len(candid), -1),
        not_public=not_public,
    )
    text = [("objectId", bad_object), ("candidate.ssnamenr", bad_name)]
    return alerts, check(ra, dec, alerts.mjd, "candidate.ra, candidate.dec", "candidate.jd", text)


def _solar_system(tables: Tables) -> tuple[NDArray[np.bool_], list[str], list[TextFault]]:
    """Return whether a known object is within 5 arcsec, its name, and the faults of the names."""
    names, bad = tables.strings(_AT["candidate.ssnamenr"])
    distance = tables.floats(_AT["candidate.ssdistnr"])
    near = (distance >= 0) & (distance <= SOLAR_SYSTEM_ARCSEC)
    named = np.array([name not in ("", "null") for name in names], dtype=np.bool_)
    solar = near & named
    return solar, [name if is_near else "" for name, is_near in zip(names, solar.tolist(), strict=True)], bad


def _first_score(tables: Tables, newer: str, older: str) -> NDArray[np.float32]:
    """Return the score ``newer`` where there is one, else ``older``, (A,)."""
    values = tables.floats(_AT[newer])
    return _not_negative(np.where(np.isfinite(values), values, tables.floats(_AT[older])))


def _not_negative(values: Floats) -> NDArray[np.float32]:
    """Return scores and distances (A,), NaN where ZTF writes -999 or nothing."""
    return np.where(values >= 0, values, np.nan).astype(np.float32)


def _programid(tables: Tables) -> NDArray[np.int16]:
    """Return ``programid`` (A,); what is not a small number is -1, so never public."""
    value = tables.alerts[:, _AT["candidate.programid"]]
    return np.where((value >= 0) & (value < 1000), value, -1).astype(np.int16)
