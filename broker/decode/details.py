"""What only chosen alerts are asked for: the host's columns and the stamps. One packet at a time, by a second walk.

The stream's decoder knows nothing of this, so it costs alerts that are not chosen nothing.

ZTF: the three nearest Pan-STARRS sources within 30 arcsec; their magnitudes are AB, of PSF fits, so those of large
galaxies are too faint, and there are no errors. Stamps are gzip'd FITS in DN; ``magzpsci`` is the zero point of the
science and the difference image. Rubin: no catalogue of hosts, but the mean forced PSF flux on the visits' own images
at the object's place, which holds the host's light within the PSF and the transient's. Stamps are FITS in nJy, with
the image of the PSF behind. Source: the field docs in the packets' own schemas.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from math import isfinite, log, nan, pi, sqrt

import numpy as np

from broker.core.bands import SURVEYS
from broker.core.details import Columns, Details, Images, Missing, NotSent
from broker.core.units import NJY_ZERO_POINT
from broker.decode import fits, zipped
from broker.decode.compile import Program, compile_program
from broker.decode.fields import NULL, Column, Kind, Projection
from broker.decode.limits import Limits, Reject
from broker.decode.packets import body_of, stamp_columns, walk
from broker.decode.schemas import SchemaStore
from broker.decode.tree import Tree
from broker.decode.ztf import PIXEL_ARCSEC

IMAGES = ("science", "template", "difference")
MOST_STAMP_BYTES = 1_000_000
GALAXY = 0.5  # sgscore below it: a galaxy; ZTF writes 0.5 exactly where Pan-STARRS does not say
ON_STAR_ARCSEC = 1.5
MOST_CHANCE = 0.1
_PS1_BANDS = "griz"
_NEAREST = (1, 2, 3)
_RUBIN_ARCSEC = 0.2
_FWHM_OF_AREA = 0.663  # of sqrt(pixels) of the noise-equivalent area: LSST's effective width

_COLUMNS = {
    "ztf": (
        *(
            Column(f"candidate.{name}{n}", Kind.FLOAT)
            for n in _NEAREST
            for name in ("sgmag", "srmag", "simag", "szmag", "sgscore", "distpsnr")
        ),
        *(Column(f"candidate.objectidps{n}", Kind.INT) for n in _NEAREST),
        Column("candidate.magzpsci", Kind.FLOAT),
    ),
    "lsst": (
        *(
            Column(f"diaObject.{band}_scienceFluxMean{end}", Kind.FLOAT)
            for band in SURVEYS["lsst"].bands
            for end in ("", "Err")
        ),
        Column("diaObject.diaObjectId", Kind.INT),
    ),
}


@dataclass(frozen=True, slots=True)
class _Picked:
    """What was captured of one packet: numbers and ids by path (NaN and 0 where missing), stamps by field."""

    numbers: dict[str, float]
    ids: dict[str, int]
    stamps: dict[str, bytes]


def details(
    packet: bytes, survey: str, schemas: SchemaStore, limits: Limits | None = None, *, stamps: bool = True
) -> Details:
    """Return what a packet of ``survey`` says of the host, and its stamps.

    Nothing that a packet holds raises: what cannot be had is missing, with a reason.

    Parameters
    ----------
    stamps : bool
        Unpack and read the stamps too.

    Raises
    ------
    broker.core.errors.Wait
        The schema registry is away.
    """
    try:
        picked = _pick(packet, survey, schemas, limits or Limits())
    except Reject as reject:
        missing = Missing(NotSent.BAD_PACKET, str(reject))
        return Details(missing, missing)
    catalog = _ztf_host(picked) if survey == "ztf" else _rubin_object(picked)
    return Details(catalog, _images(picked, survey)) if stamps else Details(catalog)


def _pick(packet: bytes, survey: str, schemas: SchemaStore, limits: Limits) -> _Picked:
    text, body = body_of(packet, schemas, limits)
    program = _program(text, survey, limits)
    tables = walk(program, body, limits)
    numbers, ids, found = {}, {}, {}
    for column in program.projection.alert:
        word = program.projection.first_word[column.path]
        if column.kind == Kind.FLOAT:
            numbers[column.path] = float(tables.floats(word)[0])
        elif column.kind == Kind.INT:
            value = int(tables.alerts[0, word])
            ids[column.path] = 0 if value == NULL else value
        else:
            start, size = tables.alerts[0, word : word + 2].tolist()
            if start >= 0:
                found[column.path.split(".")[0]] = body[start : start + size]
    return _Picked(numbers, ids, found)


@lru_cache(maxsize=16)
def _program(text: bytes, survey: str, limits: Limits) -> Program:
    tree = Tree(text, limits)
    return compile_program(tree, Projection(survey, (*_COLUMNS[survey], *stamp_columns(tree)), (), 1), limits)


def _ztf_host(picked: _Picked) -> Columns | Missing:
    """Return the galaxy that is the least likely to be near by chance.

    The chance is that of a galaxy as bright or brighter within the distance (Bloom, Kulkarni & Djorgovski 2002, AJ
    123, 1111, eq. 1-3), and at most 0.1. A detection within 1.5 arcsec of a star is the star's.
    """

    def of(name: str, n: int) -> float:
        return picked.numbers[f"candidate.{name}{n}"]

    if any(of("sgscore", n) > GALAXY and 0 <= of("distpsnr", n) <= ON_STAR_ARCSEC for n in _NEAREST):
        return Missing(NotSent.NO_HOST)
    chances = {}
    for n in _NEAREST:
        seen = [mag for mag in (_mag(of(f"s{band}mag", n)) for band in "rizg") if isfinite(mag)]
        if seen and 0 <= of("sgscore", n) < GALAXY and of("distpsnr", n) >= 0:
            chances[n] = _chance(seen[0], of("distpsnr", n))
    best = min(chances, key=lambda n: chances[n], default=0)
    if not best or not chances[best] <= MOST_CHANCE:
        return Missing(NotSent.NO_HOST)
    values = {f"mag_{band}": _mag(of(f"s{band}mag", best)) for band in _PS1_BANDS}
    values |= {
        "host_distance": of("distpsnr", best),
        "host_chance": chances[best],
        "star_galaxy": of("sgscore", best),
    }
    units = dict.fromkeys(values, "") | dict.fromkeys((f"mag_{band}" for band in _PS1_BANDS), "mag")
    record = str(picked.ids[f"candidate.objectidps{best}"])
    return Columns(record, units | {"host_distance": "arcsec"}, values)


def _mag(value: float) -> float:
    """Return a magnitude, NaN where ZTF writes -999 or what is none."""
    return value if 0 < value < 40 else nan


def _chance(mag_r: float, distance_arcsec: float) -> float:
    per_arcsec2 = 10 ** (0.334 * (mag_r - 22.963) + 4.320) / (3600.0**2 * 0.334 * log(10.0))
    return float(-np.expm1(-pi * distance_arcsec * distance_arcsec * per_arcsec2))


def _rubin_object(picked: _Picked) -> Columns | Missing:
    names = {
        f"science_flux_mean{end}_{band}": f"diaObject.{band}_scienceFluxMean{old}"
        for band in SURVEYS["lsst"].bands
        for end, old in (("", ""), ("_err", "Err"))
    }
    values = {name: picked.numbers[path] for name, path in names.items()}
    if not any(isfinite(value) for value in values.values()):
        return Missing(NotSent.NO_COLUMNS)
    return Columns(str(picked.ids["diaObject.diaObjectId"]), dict.fromkeys(values, "nJy"), values)


def _images(picked: _Picked, survey: str) -> Images | Missing:
    fields = [f"cutout{name.title()}" for name in IMAGES]
    raw = [picked.stamps[field] for field in fields if picked.stamps.get(field)]
    if not raw:
        return Missing(NotSent.NO_STAMPS)
    if len(raw) < len(fields):
        return Missing(NotSent.BAD_STAMP, f"{len(raw)} of {len(fields)} stamps")
    try:
        units = [fits.read(_unpacked(stamp)) for stamp in raw]
    except (fits.BadImage, zlib.error) as error:
        return Missing(NotSent.BAD_STAMP, str(error))
    if len({unit[0].image.shape for unit in units}) != 1:
        return Missing(NotSent.BAD_STAMP, "the stamps have different sizes")
    with np.errstate(over="ignore", invalid="ignore"):  # a sender chooses the numbers
        pixels = np.stack([unit[0].image for unit in units]).astype(np.float32)
    if survey == "ztf":
        return Images(IMAGES, pixels, "adu", PIXEL_ARCSEC, nan, _mag(picked.numbers["candidate.magzpsci"]))
    return Images(IMAGES, pixels, "nJy", _RUBIN_ARCSEC, _psf_fwhm(units[0]), NJY_ZERO_POINT)


def _unpacked(stamp: bytes) -> bytes:
    """Return the FITS file in a stamp, within the bound.

    Raises
    ------
    BadImage, zlib.error
        It is too large, or is cut; its gzip is damaged.
    """
    packed = stamp[:2] == zipped.MAGIC
    engine = zlib.decompressobj(wbits=31)
    found = engine.decompress(stamp, MOST_STAMP_BYTES + 1) if packed else stamp
    if len(found) > MOST_STAMP_BYTES:
        raise fits.BadImage(f"more than {MOST_STAMP_BYTES} bytes")
    if packed and not engine.eof:
        raise fits.BadImage("the stamp's gzip is cut")
    return found


def _psf_fwhm(units: Iterable[fits.Unit]) -> float:
    """Return the effective width of the PSF, arcsec, from its image among a stamp's units; NaN without one."""
    for unit in units:
        if unit.name == "PSFIMAGE":
            with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
                area = float(unit.image.sum() ** 2 / (unit.image**2).sum())
            return _FWHM_OF_AREA * _RUBIN_ARCSEC * sqrt(area) if isfinite(area) and area > 0 else nan
    return nan
