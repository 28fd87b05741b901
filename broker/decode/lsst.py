"""Rubin: which fields we read, and how they become columns.

Times are ``midpointMjdTai``, the middle of the visit, and fluxes ``psfFlux`` of the difference image, nJy, as they
are. The position is that of the detection (``diaSource``), also for a solar-system object. An id of 0 is no id. A point
that Rubin has withdrawn (``timeWithdrawnMjdTai``) is no measurement: its flux is NaN, so it is dropped and counted.
Source: the field docs of lsst-alert-packet, schemas 7.0 to 11.1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from broker.core.bands import SURVEYS
from broker.core.batch import AlertBatch, Ints, LightCurves
from broker.core.batch import Kind as Point
from broker.decode.checks import check
from broker.decode.fields import NULL, Column, History, Kind, Problem, Projection, Tables

_PRV, _FORCED, _LIMIT = 1, 2, 3
_MJD, _BAND, _FLUX, _ERR, _WITHDRAWN, _TAG = range(6)
_SOURCE = (
    Column("midpointMjdTai", Kind.FLOAT, required=True),
    Column("band", Kind.CODE, required=True),
    Column("psfFlux", Kind.FLOAT, required=True),
    Column("psfFluxErr", Kind.FLOAT, required=True),
    Column("timeWithdrawnMjdTai", Kind.FLOAT),  # from 9.0
)

PROJECTION = Projection(
    survey="lsst",
    alert=(
        Column("alertId", Kind.INT),  # up to 7.x
        Column("diaSource.midpointMjdTai", Kind.FLOAT, required=True),
        Column("diaSource.band", Kind.CODE, required=True),
        Column("diaSource.psfFlux", Kind.FLOAT, required=True),
        Column("diaSource.psfFluxErr", Kind.FLOAT, required=True),
        Column("diaSource.timeWithdrawnMjdTai", Kind.FLOAT),
        Column("diaSource.diaSourceId", Kind.INT, required=True),
        Column("diaSource.diaObjectId", Kind.INT),
        Column("diaSource.ssObjectId", Kind.INT),
        Column("diaSource.ra", Kind.FLOAT, required=True),
        Column("diaSource.dec", Kind.FLOAT, required=True),
        Column("diaSource.reliability", Kind.FLOAT),
        Column("diaSource.isNegative", Kind.BOOL),  # from 8.0
        Column("diaSource.pixelFlags_injectedCenter", Kind.BOOL),
        Column("diaObject.diaObjectId", Kind.INT),
        Column("ssObject.ssObjectId", Kind.INT),
        Column("ssSource.ssObjectId", Kind.INT),
        Column("ssSource.designation", Kind.SPAN),  # from 10.0
    ),
    histories=(
        History("prvDiaSources", _PRV, _SOURCE),
        History("prvDiaForcedSources", _FORCED, _SOURCE),
        History(
            "prvDiaNondetectionLimits",  # 7.x
            _LIMIT,
            (
                Column("midpointMjdTai", Kind.FLOAT, required=True),
                Column("band", Kind.CODE, required=True),
                Column("flux", Kind.FLOAT),  # no such field: keeps the place of the flux
                Column("diaNoise", Kind.FLOAT, required=True),
            ),
        ),
    ),
    point_words=6,
)
_AT = PROJECTION.first_word
_ONE_LETTER = 1
_BAND_OF_LETTER = np.full(256, -1, dtype=np.int8)
_BAND_OF_LETTER[[ord(band) for band in SURVEYS["lsst"].bands]] = range(len(SURVEYS["lsst"].bands))
_KINDS = np.array([Point.DETECTION, Point.DETECTION, Point.FORCED, Point.LIMIT], dtype=np.int8)


@np.errstate(over="ignore", invalid="ignore")  # a sender chooses the numbers: signalling NaN, too large for float32
def convert(tables: Tables) -> tuple[AlertBatch, LightCurves, list[Problem]]:
    """Return A alerts with their raw light curves, and what is wrong with some of them.

    A history that is null is the same as an empty one. A point with an unknown band has band -1.
    """
    first = tables.first[:-1]
    words = [_AT[f"diaSource.{column.path}"] for column in _SOURCE]
    tables.points[first, : len(words)] = tables.alerts[:, words]
    tables.points[first, _TAG] = 0
    values = tables.points.view(np.float64)
    tag = tables.points[:, _TAG]
    flux, err = values[:, _FLUX].copy(), values[:, _ERR].copy()
    flux[tag == _LIMIT] = 0.0
    flux[~np.isnan(values[:, _WITHDRAWN])] = np.nan
    band = _band(tables.points[:, _BAND])
    curves = LightCurves(tables.first, values[:, _MJD].copy(), flux, err, band, _KINDS[tag])
    alerts, problems = _alerts(tables, curves)
    return alerts, curves, problems


def _band(codes: Ints) -> NDArray[np.int8]:
    return np.where(codes >> 56 == _ONE_LETTER, _BAND_OF_LETTER[codes & 0xFF], np.int8(-1))


def _alerts(tables: Tables, curves: LightCurves) -> tuple[AlertBatch, list[Problem]]:
    at = tables.first[:-1]
    source_id = tables.alerts[:, _AT["diaSource.diaSourceId"]].copy()
    alert_id = tables.alerts[:, _AT["alertId"]]
    ra, dec = tables.floats(_AT["diaSource.ra"]).copy(), tables.floats(_AT["diaSource.dec"]).copy()
    designation, bad = tables.strings(_AT["ssSource.designation"])
    solar_id = _solar_system_id(tables)
    flux = curves.flux_njy[at]
    is_negative = tables.alerts[:, _AT["diaSource.isNegative"]]
    alerts = AlertBatch(
        survey="lsst",
        rows=tables.rows,
        alert_id=np.where(alert_id == NULL, source_id, alert_id),
        dia_source_id=source_id,
        object_id=_object_id(tables, solar_id, source_id),
        ra_deg=ra,
        dec_deg=dec,
        mjd=curves.mjd[at],
        band=curves.band[at],
        flux_njy=flux,
        flux_err_njy=curves.flux_err_njy[at],
        real_bogus=tables.floats(_AT["diaSource.reliability"]).astype(np.float32),
        star_galaxy=np.full(len(ra), np.nan, dtype=np.float32),
        ref_distance_arcsec=np.full(len(ra), np.nan, dtype=np.float32),
        solar_system=(solar_id != 0) | np.array([name != "" for name in designation], dtype=np.bool_),
        solar_system_id=[
            name or (str(number) if number else "") for name, number in zip(designation, solar_id.tolist(), strict=True)
        ],
        negative=np.where(is_negative == NULL, flux < 0, is_negative == 1),
        test=tables.alerts[:, _AT["diaSource.pixelFlags_injectedCenter"]] == 1,
        programid=np.ones(len(ra), dtype=np.int16),
        published_ms=np.full(len(ra), -1),
        not_public=np.zeros(len(ra), dtype=np.int64),
    )
    names = "diaSource.ra, diaSource.dec", "diaSource.midpointMjdTai"
    return alerts, check(ra, dec, alerts.mjd, *names, [("ssSource.designation", bad)])


def _solar_system_id(tables: Tables) -> Ints:
    """Return the solar-system object's id (A,), 0 for none: a record whose fields are all null is none."""
    source = tables.ints(_AT["ssSource.ssObjectId"], 0)
    whole = tables.ints(_AT["ssObject.ssObjectId"], 0)
    own = tables.ints(_AT["diaSource.ssObjectId"], 0)
    return np.where(source != 0, source, np.where(whole != 0, whole, own))


def _object_id(tables: Tables, solar_id: Ints, source_id: Ints) -> list[str]:
    """Return the state keys (A,): diaObjectId, else 'ss' and ssObjectId, else 'src' and diaSourceId."""
    whole = tables.ints(_AT["diaObject.diaObjectId"], 0)
    own = tables.ints(_AT["diaSource.diaObjectId"], 0)
    ids = np.where(whole != 0, whole, own)
    rows = zip(ids.tolist(), solar_id.tolist(), source_id.tolist(), strict=True)
    return [str(dia) if dia else f"ss{solar}" if solar else f"src{source}" for dia, solar, source in rows]
