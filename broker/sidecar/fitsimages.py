"""FITS images to products: one file, one product of the kind cutout. p = planes.

Nothing that a file says is believed: what it and its tiles unpack to and the size of its image are checked before they
are made.
"""

from __future__ import annotations

import io
import re
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from math import isfinite, nan, prod, sqrt
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from broker.core.batch import FILE_PACKET_BYTES
from broker.core.reasons import Dead
from broker.decode import zipped
from broker.decode.limits import Limits, Reject
from broker.sidecar import tiles, units
from broker.sidecar.answer import Model
from broker.sidecar.product import ID_LENGTH, NAME_LENGTH, PRODUCT_BYTES, SCALE_WITHIN, Array, Input, Kind, Product

MAGIC = b"SIMPLE  ="
LIMITS = Limits(packet_bytes=PRODUCT_BYTES)
UNITS = 16
"""Header-data units of a file in which its image is looked for."""
PIXEL_BYTES = 8
_SUFFIX = re.compile(r"\.(fits|fit|fts|fits\.fz)(\.gz)?$", re.IGNORECASE)
_SKY = re.compile(r"\s*(RA|DEC|.LON|.LAT)\b|\s*$", re.IGNORECASE)
_ENDLESS = re.compile(rb"(Z?NAXIS|TFIELDS) *= *[+]?0*[1-9]\d{3}", re.IGNORECASE)
"""The standard allows 999; astropy would count to a thousand million."""
_BEGINS, _CARD = b"NTZntz", 80
_AVRO = (b"\0", b"Obj\x01")
_ARCSEC = 3600.0
_MATRIX = ("1_1", "1_2", "2_1", "2_2")
_KEYS = (
    "BUNIT",
    *(f"{key}{axis}" for key in ("CTYPE", "CUNIT", "CDELT") for axis in (1, 2)),
    *(f"{key}{place}" for key in ("CD", "PC") for place in _MATRIX),
)
Header = dict[str, Any]
Planes = NDArray[np.float64]
"""(p, height, width)"""


@dataclass(frozen=True, slots=True)
class Images:
    """Reads FITS files as rows want images.

    Attributes
    ----------
    layouts : list of list of Input
        Of each row that reads cutouts, its images; the planes of a file go to them in this order.
    """

    layouts: list[list[Input]]

    @classmethod
    def of(cls, models: Sequence[Model]) -> Images:
        """Return what reads images for some rows."""
        cutouts = [model for model in models if model.kind == Kind.CUTOUT]
        return cls([[one for one in model.inputs if len(one.shape) == 3] for model in cutouts])

    def are_in(self, path: str, packet: bytes) -> bool:
        """Tell whether a packet is a FITS file, or was meant to be one."""
        return _begins(packet) or (is_named(path) and not packet.startswith(_AVRO))

    def product(self, path: str, packet: bytes) -> Product:
        """Return the product in a FITS file; its record is called as the file, or tarball's member, without its suffix.

        Raises
        ------
        Reject
            It is damaged, too large, or has no image; or its pixels have no size where a row must know that.
        """
        name = Path(path).name
        try:
            if len(packet) > FILE_PACKET_BYTES:
                raise Reject(Dead.BOUND_EXCEEDED, f"the file has more than {FILE_PACKET_BYTES // 10**6} MB")
            header, planes = _image(packet)
            arrays = {
                wanted.name: _array(wanted, part, header.get("BUNIT")) for wanted, part in self._given(planes).items()
            }
            scale = _scale(header) if any(one.pixel_scale_arcsec for layout in self.layouts for one in layout) else nan
        except Reject as error:
            raise Reject(error.reason, f"{name}: {error}") from error
        record = _SUFFIX.sub("", name) or name
        return Product(path[-ID_LENGTH:], Kind.CUTOUT, [record[-ID_LENGTH:]], arrays, pixel_scale_arcsec=scale)

    def _given(self, planes: Planes) -> dict[Input, Planes]:
        """Return the planes of each image; all to the first ones where no row reads so many: these say that."""
        given: dict[str, tuple[Input, Planes]] = {}
        for layout in self.layouts:
            ends = np.cumsum([wanted.shape[0] for wanted in layout])
            if layout and ends[-1] == len(planes):
                for wanted, part in zip(layout, np.split(planes, ends[:-1]), strict=True):
                    given.setdefault(wanted.name, (wanted, part))
        for layout in self.layouts:
            if layout:
                given.setdefault(layout[0].name, (layout[0], planes))
        return dict(given.values())


def is_named(path: str) -> bool:
    """Tell whether a file is called as FITS files are."""
    return _SUFFIX.search(path) is not None


def _begins(packet: bytes) -> bool:
    if packet[:2] == zipped.MAGIC:
        try:
            return zlib.decompressobj(wbits=31).decompress(packet, len(MAGIC)) == MAGIC
        except zlib.error:
            return False
    return packet.startswith(MAGIC)


def _image(packet: bytes) -> tuple[Header, Planes]:
    """Return the header's `_KEYS` and the pixels of a file's first image, of which leading axes of 1 are nothing."""
    from astropy.io import fits

    if not packet:
        raise Reject(Dead.EMPTY, "the file has 0 bytes")
    data = zipped.unpack(packet, LIMITS)
    if not data.startswith(MAGIC):
        raise Reject(Dead.BAD_MAGIC, "this is no FITS file")
    if is_endless(data):
        raise Reject(Dead.BOUND_EXCEEDED, "a header has more than 999 axes or columns")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what a file says wrongly; where that matters, it is an error
            with fits.open(io.BytesIO(data), lazy_load_hdus=True) as found:
                images = ((number, one) for number, one in enumerate(islice(found, UNITS)) if is_image(one))
                number, unit = next(images, (0, None))
                if unit is None:
                    raise Reject(Dead.BAD_ARRAY, f"the file holds no image in its first {UNITS} units")
                _check_size(unit.shape)
                if isinstance(unit, fits.CompImageHDU):
                    tiles.check(data, number)
                pixels = np.array(unit.data, np.float64)
                header = {key: unit.header[key] for key in _KEYS if key in unit.header}
                return header, _without_blanks(pixels.reshape(-1, *pixels.shape[-2:]))
    except Reject:
        raise
    except Exception as error:  # damaged headers make it fail in many ways
        raise Reject(Dead.MALFORMED, f"the FITS file is damaged: {error or repr(error)}") from error


def is_endless(data: bytes) -> bool:
    """Tell whether a header in a file has more axes or columns than astropy should count."""
    begins = np.frombuffer(data, np.uint8)[::_CARD]
    cards = _CARD * np.flatnonzero(np.isin(begins, np.frombuffer(_BEGINS, np.uint8)))  # few: all would take seconds
    return any(_ENDLESS.match(data, at) for at in cards.tolist())


def is_image(unit: Any) -> bool:
    """Tell whether one of astropy's header-data units has an image; random groups are visibilities."""
    from astropy.io import fits

    return unit.is_image and not isinstance(unit, fits.GroupsHDU) and len(unit.shape) > 1 and 0 not in unit.shape


def _check_size(shape: tuple[int, ...]) -> None:
    if PIXEL_BYTES * prod(shape) > PRODUCT_BYTES:
        size = " x ".join(f"{n:,}" for n in shape)
        raise Reject(Dead.BOUND_EXCEEDED, f"the image has {size} pixels, more than {PRODUCT_BYTES // PIXEL_BYTES:,}")


def _without_blanks(planes: Planes) -> Planes:
    """Return planes whose blank pixels are 0, as a map's mean is; where all are blank, nothing is changed.

    Where the others are all alike, they are as these: 0 would be a contrast that the plane does not have.
    """
    blank = np.isnan(planes)
    for plane, gone in zip(planes, blank, strict=True) if not blank.all() else ():
        known = plane[~gone]
        plane[gone] = known[0] if len(known) and (known == known[0]).all() else 0.0
    return planes


def _array(wanted: Input, planes: Planes, unit: Any) -> Array:
    """Return planes as one record in the unit that is read.

    Pure numbers are read on the scale that the file has; a file without a unit is taken to be in the row's.
    """
    text = str(unit or "").strip()
    if not wanted.unit or not text:
        return Array(wanted.unit, planes[None])
    found = units.factor(_spelled(text), wanted.unit)
    return Array(text[:NAME_LENGTH], planes[None]) if found is None else Array(wanted.unit, found * planes[None])


def _spelled(unit: str) -> str:
    """Return a unit as it should be written, where radio maps write all letters large."""
    return re.sub(r"\bBEAM\b", "beam", re.sub(r"\bJY\b", "Jy", unit))


def _scale(header: Header) -> float:
    """Return the size of a pixel [arcsec], from CD, or CDELT and PC.

    Raises
    ------
    Reject
        There is none, or the pixels are not square.
    """
    try:
        steps = np.array([[_step(header, axis, pixel) for pixel in (1, 2)] for axis in (1, 2)])
    except (ValueError, TypeError) as error:
        raise Reject(Dead.BAD_ARRAY, f"the header's CD or CDELT is no number: {error}") from error
    width, height = _ARCSEC * np.hypot(*steps)
    on_sky = all(_SKY.match(str(header.get(f"CTYPE{axis}", ""))) for axis in (1, 2))
    if not (on_sky and isfinite(width * height) and width * height > 0):
        raise Reject(Dead.BAD_ARRAY, "the header does not give the pixels' size: CDELT1 and CDELT2, or CD1_1 to CD2_2")
    if abs(width / height - 1.0) > SCALE_WITHIN:
        raise Reject(Dead.BAD_ARRAY, f"the pixels are not square: {width:.3g} x {height:.3g} arcsec")
    return float(sqrt(width * height))


def _step(header: Header, axis: int, pixel: int) -> float:
    """Return how far one pixel along ``pixel`` goes along ``axis`` [deg]; 0 where that is not said."""
    degrees = units.factor(str(header.get(f"CUNIT{axis}") or "deg").strip().lower(), "deg") or nan
    if any(f"CD{place}" in header for place in _MATRIX):
        return degrees * float(header.get(f"CD{axis}_{pixel}", 0.0))
    turned = float(header.get(f"PC{axis}_{pixel}", axis == pixel))
    return degrees * turned * float(header.get(f"CDELT{axis}", 0.0))
