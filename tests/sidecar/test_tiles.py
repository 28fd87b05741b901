"""Tile-compressed images: those that are sound are read, and those that are not cost neither memory nor the process."""

import gzip
import io
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from itertools import product
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from broker.decode.limits import Reject
from broker.sidecar import tiles
from broker.sidecar.fitsimages import Images
from broker.sidecar.product import Input

IMAGES = Images([[Input("image", "", (1, -1, -1))]])
SHAPE = (24, 20)


def read(data: bytes) -> np.ndarray[Any, Any]:
    return np.asarray(IMAGES.product("a.fits.fz", data).arrays["image"].values[0, 0])


def pixels(dtype: str) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).normal(100, 20, SHAPE).astype(dtype)


def packed(codec: str, dtype: str = "i2", tile: tuple[int, int] = (10, 8), **more: Any) -> bytes:
    """Return a file with an image in tiles."""
    out = io.BytesIO()
    image = fits.CompImageHDU(pixels(dtype), compression_type=codec, tile_shape=tile, **more)
    fits.HDUList([fits.PrimaryHDU(), image]).writeto(out)
    return out.getvalue()


def changed(data: bytes, change: Callable[[fits.BinTableHDU], None]) -> bytes:
    """Return the file with another table of tiles."""
    out = io.BytesIO()
    with fits.open(io.BytesIO(data), disable_image_compression=True) as units:
        change(units[1])
        units.writeto(out)
    return out.getvalue()


def one_tile(tile: bytes) -> bytes:
    """Return a file whose image is one tile of these bytes."""
    with fits.open(io.BytesIO(packed("GZIP_1", tile=SHAPE)), disable_image_compression=True) as units:
        header = units[1].header
    column = fits.Column("COMPRESSED_DATA", "1PB()", array=np.array([np.frombuffer(tile, "u1"), None], object)[:1])
    table = fits.BinTableHDU.from_columns([column])
    table.header.update({key: header[key] for key in header if key.startswith("Z")})
    out = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(out)
    return out.getvalue()


@pytest.mark.parametrize(("codec", "dtype"), [*product(("RICE_1", "GZIP_1", "GZIP_2"), ("u1", "i2", "i4")),
                                              ("GZIP_1", "f4"), ("GZIP_2", "f8"), ("NOCOMPRESS", "f4")])  # fmt: skip
def test_tiles_are_unpacked_as_they_were_packed(codec: str, dtype: str) -> None:
    np.testing.assert_array_equal(read(packed(codec, dtype, quantize_level=0)), pixels(dtype))


@pytest.mark.parametrize("codec", ["RICE_1", "GZIP_1", "GZIP_2"])
def test_dithered_tiles_are_nearly_what_they_were(codec: str) -> None:
    near = packed(codec, "f4", quantize_level=16, quantize_method=1, dither_seed=7)
    np.testing.assert_allclose(read(near), pixels("f4"), atol=2.0)


def test_a_tile_that_unpacks_to_more_than_its_pixels_is_refused_before_it_does() -> None:
    sound = pixels(">i2").tobytes()
    np.testing.assert_array_equal(read(one_tile(gzip.compress(sound))), pixels("i2"))
    bomb = one_tile(gzip.compress(bytes(50_000_000)))
    tracemalloc.start()
    try:
        with pytest.raises(Reject, match="a tile unpacks to more than 3,840 bytes") as caught:
            read(bomb)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()
    assert caught.value.reason == "bound_exceeded"
    with pytest.raises(Reject, match="a tile's gzip is cut, or has bytes behind its end"):
        read(one_tile(gzip.compress(sound) + gzip.compress(bytes(50_000_000))))


@pytest.mark.parametrize("codec", ["HCOMPRESS_1", "PLIO_1"])
def test_codecs_that_end_the_process_are_not_read(codec: str) -> None:
    with pytest.raises(Reject, match=f"the image is compressed by {codec}; read are RICE_1,") as caught:
        read(packed(codec))
    assert caught.value.reason == "bad_array"


def _set(key: str, value: int) -> Callable[[fits.BinTableHDU], None]:
    return lambda table: table.header.update({key: value})


@pytest.mark.parametrize(("change", "said"), [
    (_set("ZVAL1", 0), "BLOCKSIZE is not 16 or 32"),  # it would count up to the end without a step
    (_set("ZVAL2", 8), "BYTEPIX is not 1 or 2 or 4"),  # it would read twice what it made
    (_set("ZDITHER0", -20_000), "ZDITHER0 is not 1 to 10,000"),
    (_set("ZTILE1", 0), "a tile has no pixels"),
    (_set("ZTILE1", 1), "of 60 tiles there are 9"),
    (_set("THEAP", -2880), "its heap is not behind its table"),
])  # fmt: skip
def test_settings_that_the_codecs_would_believe_are_refused(
    change: Callable[[fits.BinTableHDU], None], said: str
) -> None:
    with pytest.raises(Reject, match=f"the FITS file is damaged: {said}"):
        read(changed(packed("RICE_1", "f4", quantize_level=16, quantize_method=1, dither_seed=7), change))


def test_tiles_that_lie_on_one_another_are_refused() -> None:
    """A million of them would each be the whole file."""
    data = bytearray(packed("RICE_1"))
    with fits.open(io.BytesIO(data), disable_image_compression=True) as units:
        rows, begin = units[1].header["NAXIS2"], units[1].fileinfo()["datLoc"]
    places = np.frombuffer(data, ">i4", 2 * rows, begin).reshape(rows, 2)
    for length, said in ((places[:, 0].sum(), "or lie on one another"), (10_000, "do not lie in its heap")):
        places[:] = length, 0
        with pytest.raises(Reject, match=said):
            read(bytes(data))


@pytest.mark.parametrize(("rows", "columns"), [(-1, 0), (0, 1), (9, 0), (-1, 1)])
def test_a_table_of_tiles_without_rows_is_refused(rows: int, columns: int) -> None:
    """A division by its size ended the process."""
    data = packed("RICE_1")
    for key, value in (("NAXIS2", rows), ("TFIELDS", columns)):
        at = data.index(f"{key:8}= ".encode(), 2880) + 10
        data = data[:at] + f"{value:20}".encode() + data[at + 20 :]
    with pytest.raises(Reject, match="the FITS file is damaged: its table of tiles has no rows, or others"):
        read(data)


def test_a_million_tiles_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "TILES", 8)
    with pytest.raises(Reject, match="the image has more than 8 tiles"):
        read(packed("RICE_1"))


@pytest.mark.parametrize("codec", [*tiles.CODECS, "HCOMPRESS_1", "PLIO_1"])
def test_damaged_tiles_end_in_an_image_or_a_reason(codec: str) -> None:
    good, rng = packed(codec), np.random.default_rng(1)
    for _ in range(40):
        data = bytearray(good)
        for at in rng.integers(2880, len(good), rng.integers(1, 20)):
            data[at] = rng.integers(256)
        with suppress(Reject):
            assert read(bytes(data)).ndim == 2
