"""Postage stamps in the surveys' forms, from a small pool that is made once: sky, a host, the new source."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from broker.core.batch import Floats

POOL = 48
_CARD, _BLOCK = 80, 2880


@dataclass(frozen=True, slots=True)
class Stamps:
    """Cutouts of one alert: FITS files, gzip'd for ZTF."""

    science: bytes
    template: bytes
    difference: bytes


@cache
def pool(survey: str) -> tuple[Stamps, ...]:
    """Return the survey's stamps; always the same ones."""
    rng = np.random.default_rng(20180601)
    make = _ztf if survey == "ztf" else _rubin
    return tuple(make(rng) for _ in range(POOL))


def _ztf(rng: np.random.Generator) -> Stamps:
    sky, host, source = _scene(63, rng, fwhm_pix=2.2)
    images = (200.0 + 6.0 * sky[0] + host + source, 190.0 + 3.0 * sky[1] + host, 7.0 * sky[2] + source)
    return Stamps(*(gzip.compress(_fits(image.astype(">f4")), 6, mtime=0) for image in images))


def _rubin(rng: np.random.Generator) -> Stamps:
    sky, host, source = _scene(30, rng, fwhm_pix=4.0)
    images = (60.0 * sky[0] + host + source, 12.0 * sky[1] + host, 62.0 * sky[2] + source)
    sizes = (55, 41, 41)  # of the PSF image, so that a packet's three stamps are as long as real ones
    return Stamps(*(_multi(image, _psf(size), rng) for image, size in zip(images, sizes, strict=True)))


def _psf(size: int) -> NDArray[np.float64]:
    y, x = np.mgrid[:size, :size] - (size - 1) / 2.0
    psf = np.exp(-4 * np.log(2) * (x**2 + y**2) / 16.0)
    return np.asarray((psf / psf.sum()).astype(">f8"))


def _multi(image: Floats, psf: NDArray[np.float64], rng: np.random.Generator) -> bytes:
    variance = 3600.0 + 40.0 * rng.standard_normal(image.shape)
    parts = [_fits(image.astype(">f4"), pad_cards=30)]
    parts += [_fits(part, extension=name) for name, part in (("UNCERT", variance.astype(">f4")), ("PSFIMAGE", psf))]
    return b"".join(parts)


def _scene(size: int, rng: np.random.Generator, fwhm_pix: float) -> tuple[Floats, Floats, Floats]:
    """Return sky noise (3, size, size), a host and a point source, both (size, size)."""
    y, x = np.mgrid[:size, :size] - (size - 1) / 2.0
    off, width = rng.normal(0, 2.0, 2), rng.uniform(1.5, 5.0)
    host = 10 ** rng.uniform(1.0, 3.5) * np.exp(-np.hypot(x - off[0], (y - off[1]) * rng.uniform(1, 2)) / width)
    source = 10 ** rng.uniform(1.5, 3.0) * np.exp(-4 * np.log(2) * (x**2 + y**2) / fwhm_pix**2)
    return rng.standard_normal((3, size, size)), host, source


def _fits(image: NDArray[np.generic], *, extension: str = "", pad_cards: int = 0) -> bytes:
    """Return one header-data unit; ``pad_cards`` comment cards stand for the survey's own."""
    height, width = image.shape
    first = f"XTENSION= '{'IMAGE':<8}'" if extension else _number("SIMPLE", "T")
    cards = [first, _number("BITPIX", -8 * image.dtype.itemsize), _number("NAXIS", 2)]
    cards += [_number("NAXIS1", width), _number("NAXIS2", height)]
    cards += [_number("PCOUNT", 0), _number("GCOUNT", 1), f"EXTNAME = '{extension:<8}'"] if extension else []
    cards += [f"COMMENT simulated stamp, card {i}" for i in range(pad_cards)] + ["END"]
    header = "".join(f"{card:<{_CARD}}" for card in cards).encode()
    return _padded(header, b" ") + _padded(image.tobytes(), b"\0")


def _number(key: str, value: object) -> str:
    return f"{key:<8}= {value!s:>20}"


def _padded(data: bytes, fill: bytes) -> bytes:
    return data + fill * (-len(data) % _BLOCK)
