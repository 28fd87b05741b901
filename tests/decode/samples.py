"""Small schemas of both surveys in our own words, and records of them."""

from __future__ import annotations

from typing import Any

import fastavro

Record = dict[str, Any]


def _record(name: str, **fields: Any) -> Any:
    return {"type": "record", "name": name, "fields": [{"name": key, "type": kind} for key, kind in fields.items()]}


def _maybe(kind: Any) -> list[Any]:
    return ["null", kind]


_CUTOUT = _record("cutout", fileName="string", stampData="bytes")
ZTF_JSON = _record(
    "ztf_like",
    schemavsn="string",
    objectId="string",
    candid="long",
    candidate=_record(
        "candidate",
        jd="double",
        fid="int",
        programid="int",
        isdiffpos="string",
        ra="double",
        dec="double",
        magpsf="float",
        sigmapsf="float",
        rb=_maybe("float"),
        drb=_maybe("float"),
        sgscore1=_maybe("float"),
        distnr=_maybe("float"),
        ssdistnr=_maybe("float"),
        ssnamenr=_maybe("string"),
        exptime=_maybe("float"),
    ),
    prv_candidates=_maybe(
        {
            "type": "array",
            "items": _record(
                "prv",
                jd="double",
                fid="int",
                programid="int",
                diffmaglim=_maybe("float"),
                isdiffpos=_maybe("string"),
                magpsf=_maybe("float"),
                sigmapsf=_maybe("float"),
            ),
        }
    ),
    fp_hists=_maybe(
        {
            "type": "array",
            "items": _record(
                "fp",
                jd="double",
                fid="int",
                programid="int",
                forcediffimflux=_maybe("float"),
                forcediffimfluxunc=_maybe("float"),
                magzpsci=_maybe("float"),
                exptime=_maybe("float"),
            ),
        }
    ),
    cutoutScience=_maybe(_CUTOUT),
    cutoutTemplate=_maybe("cutout"),
)
ZTF = fastavro.parse_schema(ZTF_JSON)

_SOURCE = _record(
    "source",
    diaSourceId="long",
    diaObjectId=_maybe("long"),
    ssObjectId=_maybe("long"),
    midpointMjdTai="double",
    ra="double",
    dec="double",
    psfFlux=_maybe("float"),
    psfFluxErr=_maybe("float"),
    isNegative=_maybe("boolean"),
    reliability=_maybe("float"),
    band=_maybe("string"),
    pixelFlags_injectedCenter=_maybe("boolean"),
)
_FORCED = _record(
    "forced", midpointMjdTai="double", psfFlux=_maybe("float"), psfFluxErr=_maybe("float"), band=_maybe("string")
)
_LIMIT = _record("limit", ccdVisitId="long", midpointMjdTai="double", band="string", diaNoise="float")
LSST_JSON = _record(
    "lsst_like",
    alertId="long",
    diaSource=_SOURCE,
    prvDiaSources=_maybe({"type": "array", "items": "source"}),
    prvDiaForcedSources=_maybe({"type": "array", "items": _FORCED}),
    prvDiaNondetectionLimits=_maybe({"type": "array", "items": _LIMIT}),
    diaObject=_maybe(_record("object", diaObjectId="long", ra="double", dec="double")),
    ssObject=_maybe(_record("ss", ssObjectId=_maybe("long"))),
    ssSource=_maybe(_record("sssource", ssObjectId=_maybe("long"), designation=_maybe("string"))),
    cutoutScience=_maybe("bytes"),
)
LSST = fastavro.parse_schema(LSST_JSON)


def candidate(**changes: Any) -> Record:
    """A ZTF detection whose exposure began on 2020-01-01 at 0 h UTC."""
    plain = {
        "jd": 2458849.5,
        "fid": 1,
        "programid": 1,
        "isdiffpos": "t",
        "ra": 150.0,
        "dec": 2.0,
        "magpsf": 20.0,
        "sigmapsf": 0.1,
        "rb": 0.6,
        "drb": 0.9,
        "sgscore1": 0.2,
        "distnr": 3.0,
        "ssdistnr": -999.0,
        "ssnamenr": "null",
        "exptime": None,
    }
    return {**plain, **changes}


def previous(**changes: Any) -> Record:
    """A previous ZTF detection, a day before."""
    plain = {"jd": 2458848.5, "fid": 2, "programid": 1, "isdiffpos": "t", "magpsf": 20.5, "sigmapsf": 0.2}
    return {**plain, "diffmaglim": 21.0, **changes}


def forced(**changes: Any) -> Record:
    """A forced point of ZTF, two days before."""
    plain = {"jd": 2458847.5, "fid": 3, "programid": 1, "forcediffimflux": 100.0, "forcediffimfluxunc": 10.0}
    return {**plain, "magzpsci": 26.0, "exptime": 30.0, **changes}


def ztf(**changes: Any) -> Record:
    """A ZTF alert; ``candidate`` is merged, the rest replaced."""
    plain: Record = {
        "schemavsn": "0",
        "objectId": "ZTF20aaaaaaa",
        "candid": 1094000000015010001,
        "candidate": candidate(**changes.pop("candidate", {})),
        "prv_candidates": None,
        "fp_hists": None,
        "cutoutScience": {"fileName": "a.fits.gz", "stampData": b"\x1f\x8b science"},
        "cutoutTemplate": None,
    }
    return {**plain, **changes}


def source(**changes: Any) -> Record:
    """A Rubin detection."""
    plain: Record = {
        "diaSourceId": 170094456272322680,
        "diaObjectId": 170028485706776685,
        "ssObjectId": None,
        "midpointMjdTai": 61105.25,
        "ra": 63.5,
        "dec": -47.25,
        "psfFlux": 1500.0,
        "psfFluxErr": 100.0,
        "isNegative": False,
        "reliability": 0.75,
        "band": "i",
        "pixelFlags_injectedCenter": False,
    }
    return {**plain, **changes}


def lsst(**changes: Any) -> Record:
    """A Rubin alert; ``diaSource`` is merged, the rest replaced."""
    plain: Record = {
        "alertId": 170094456272322681,
        "diaSource": source(**changes.pop("diaSource", {})),
        "prvDiaSources": None,
        "prvDiaForcedSources": None,
        "prvDiaNondetectionLimits": None,
        "diaObject": {"diaObjectId": 170028485706776685, "ra": 63.5, "dec": -47.25},
        "ssObject": None,
        "ssSource": None,
        "cutoutScience": b"SIMPLE  =                    T",
    }
    return {**plain, **changes}
