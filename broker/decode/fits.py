"""Images in FITS, as far as stamps need it: two axes, numbers of a fixed width, a few units of a few kilobytes.

Nothing that a file says is believed: the header ends within its bound, the data within the file. Source: the FITS
standard 4.0 (Pence et al. 2010, A&A 524, A42), sections 3, 4 and 5.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CARD, BLOCK = 80, 2880
MOST_CARDS = 36 * 16
MOST_UNITS = 8
LONGEST_SIDE = 256
_TYPES = {"8": ">u1", "16": ">i2", "32": ">i4", "64": ">i8", "-32": ">f4", "-64": ">f8"}


class BadImage(ValueError):
    """The bytes are no image that we read; the text is a clause."""


@dataclass(frozen=True, slots=True)
class Unit:
    """One header-data unit.

    Attributes
    ----------
    name : str
        EXTNAME, '' for none.
    header : dict of str to str
        Values of its cards as they are written, without comments.
    image : (height, width) float64
        In the header's scale; integers that stand for a missing value are NaN.
    """

    name: str
    header: dict[str, str]
    image: NDArray[np.float64]


def read(data: bytes) -> list[Unit]:
    """Return the first units of a FITS file, up to one that is no image of two axes.

    Raises
    ------
    BadImage
        The first unit already is none.
    """
    first, start = _unit(data, 0)
    units = [first]
    with suppress(BadImage):  # what follows is the sender's own
        while start < len(data) and len(units) < MOST_UNITS:
            unit, start = _unit(data, start)
            units.append(unit)
    return units


def _unit(data: bytes, start: int) -> tuple[Unit, int]:
    header, start = _header(data, start)
    image, start = _image(data, start, header)
    return Unit(header.get("EXTNAME", ""), header, image), start


def _header(data: bytes, start: int) -> tuple[dict[str, str], int]:
    """Return a header's values by keyword, and where its data start."""
    if data[start : start + 6] not in (b"SIMPLE", b"XTENSI"):
        raise BadImage("does not begin as FITS does")
    found: dict[str, str] = {}
    for number in range(MOST_CARDS):
        at = start + CARD * number
        card = data[at : at + CARD].decode("latin-1")
        if len(card) < CARD:
            raise BadImage("the header is cut")
        if card[:8].rstrip() == "END":
            return found, start + -(-CARD * (number + 1) // BLOCK) * BLOCK
        if card[8:10] == "= ":
            found.setdefault(card[:8].rstrip(), _value(card[10:]))
    raise BadImage(f"more than {MOST_CARDS} cards in a header")


def _value(text: str) -> str:
    """Return a card's value: what is between apostrophes, or what is before the comment."""
    text = text.strip()
    if text.startswith("'"):
        return text[1:].split("'", 1)[0].rstrip()
    return text.split("/", 1)[0].rstrip()


def _image(data: bytes, start: int, header: dict[str, str]) -> tuple[NDArray[np.float64], int]:
    """Return the image that a header speaks of (height, width), and where the next unit starts."""
    dtype, width, height = header.get("BITPIX", ""), _count(header, "NAXIS1"), _count(header, "NAXIS2")
    if dtype not in _TYPES or header.get("NAXIS") != "2":
        raise BadImage("not an image of two axes")
    if not (1 <= width <= LONGEST_SIDE and 1 <= height <= LONGEST_SIDE):
        raise BadImage(f"a side is not within 1 to {LONGEST_SIDE} pixels")
    if header.get("PCOUNT", "0") != "0" or header.get("GCOUNT", "1") != "1":
        raise BadImage("groups, or data behind the image")
    size = width * height * np.dtype(_TYPES[dtype]).itemsize
    if size > len(data) - start:
        raise BadImage("the image is cut")
    raw = np.frombuffer(data, _TYPES[dtype], width * height, start).reshape(height, width)
    return _scaled(raw, header), start + -(-size // BLOCK) * BLOCK


def _scaled(raw: NDArray[np.generic], header: dict[str, str]) -> NDArray[np.float64]:
    image = raw.astype(np.float64)
    blank = header.get("BLANK", "")
    if raw.dtype.kind in "iu" and blank:
        image[image == _number(blank)] = np.nan
    with np.errstate(over="ignore", invalid="ignore"):  # a sender chooses the numbers
        return image * _number(header.get("BSCALE", "1")) + _number(header.get("BZERO", "0"))


def _number(text: str) -> float:
    try:
        return float(text.replace("D", "E"))
    except ValueError as error:
        raise BadImage("a number in the header is none") from error


def _count(header: dict[str, str], name: str) -> int:
    text = header.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
