"""The reader of stamps: what astropy writes, and what nobody should have sent."""

from __future__ import annotations

import io

import numpy as np
import pytest
from numpy.typing import NDArray

from broker.decode import fits


def written(image: NDArray[np.generic], extension: NDArray[np.generic] | None = None, **cards: object) -> bytes:
    """Return a FITS file as astropy writes it."""
    astropy = pytest.importorskip("astropy.io.fits", reason="astropy is not installed: no FITS to compare with")
    units = [astropy.PrimaryHDU(image)]
    for key, value in cards.items():
        units[0].header[key] = value
    if extension is not None:
        units.append(astropy.ImageHDU(extension, name="PSFIMAGE"))
    out = io.BytesIO()
    astropy.HDUList(units).writeto(out)
    return out.getvalue()


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "int64", "float32", "float64"])
def test_reads_what_astropy_writes(dtype: str) -> None:
    rng = np.random.default_rng(1)
    image, psf = (100 * rng.random((7, 5))).astype(dtype), rng.random((3, 4))
    first, second = fits.read(written(image, psf, BUNIT="it''s DN"))
    np.testing.assert_array_equal(first.image, image)
    np.testing.assert_array_equal(second.image, psf)
    assert (first.name, second.name) == ("", "PSFIMAGE")


def test_integers_are_scaled_and_blanks_are_nan() -> None:
    image = np.array([[1, 2, -9]], dtype=np.int16)
    (unit,) = fits.read(written(image, BSCALE=0.5, BZERO=10.0, BLANK=-9))
    np.testing.assert_array_equal(unit.image, [[10.5, 11.0, np.nan]])


def test_an_extension_that_is_no_image_ends_the_reading() -> None:
    whole = written(np.ones((4, 4), np.float32))
    assert len(fits.read(whole + b"XTENSION= 'BINTABLE'" + b" " * 4000)) == 1


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"NAXIS1  =                    4", b"NAXIS1  =         999999999999"),
        (b"NAXIS1  =                    4", b"NAXIS1  =                   -4"),
        (b"NAXIS1  =                    4", b"NAXIS1  =                  250"),
        (b"NAXIS   =                    2", b"NAXIS   =                    3"),
        (b"BITPIX  =                  -32", b"BITPIX  =                   64"),
        (b"SIMPLE", b"COMPLX"),
        (b"END", b"AND"),
    ],
)
def test_what_is_no_image_is_refused(old: bytes, new: bytes) -> None:
    whole = written(np.ones((4, 4), np.float32))[: 2880 + 64]
    assert len(fits.read(whole)) == 1
    assert old in whole
    with pytest.raises(fits.BadImage):
        fits.read(whole.replace(old, new))


def test_no_damage_raises_anything_else() -> None:
    rng = np.random.default_rng(2)
    whole = written(np.ones((4, 4), np.int16), np.ones((3, 3)), BSCALE=0.5, BZERO=10.0, BLANK=-9)
    headers = [i for i in range(len(whole)) if i % 2880 < 12 * 80]
    refused = 0
    for _ in range(2000):
        damaged = bytearray(whole[: int(rng.integers(1, len(whole) + 1))] if rng.random() < 0.2 else whole)
        for at in rng.choice(headers, 4).tolist():
            damaged[min(at, len(damaged) - 1)] = int(rng.integers(0, 256))
        try:
            assert all(max(unit.image.shape) <= fits.LONGEST_SIDE for unit in fits.read(bytes(damaged)))
        except fits.BadImage:
            refused += 1
    assert 100 < refused < 2000
