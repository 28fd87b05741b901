"""Tile-compressed images in FITS: what may be unpacked is known before it is. r = rows of the table of tiles.

The codecs behind astropy are C that believes what a file says: damaged HCOMPRESS_1 writes beyond its memory and ends
the process, and PLIO_1 reads beyond it; these two are not read. The others are, where their settings can be.
"""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Mapping
from itertools import count, takewhile
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from broker.core.reasons import Dead
from broker.decode.limits import Reject

CODECS = ("RICE_1", "RICE_ONE", "GZIP_1", "GZIP_2", "NOCOMPRESS")
TILES = 100_000
WIDEST = 8
"""Bytes of a pixel."""
_SETTINGS = {"BLOCKSIZE": (16, 32), "BYTEPIX": (1, 2, 4)}
_PACKED = ("COMPRESSED_DATA", "GZIP_COMPRESSED_DATA")
_FORM = re.compile(r"1?[PQ]([BIJ])\b")
_BYTES = {"B": 1, "I": 2, "J": 4}


def check(data: bytes, number: int) -> None:
    """Refuse a file whose header-data unit of this number has tiles that are not what its header says.

    Parameters
    ----------
    data : bytes
        The whole FITS file.

    Raises
    ------
    Reject
        It names what is wrong; astropy's own errors come as they are.
    """
    from astropy.io import fits

    with fits.open(io.BytesIO(data), lazy_load_hdus=True, disable_image_compression=True) as units:
        header = units[number].header
        _check_settings(header)
        if header["NAXIS2"] < 1 or not 1 <= units[number].columns.dtype.itemsize == header["NAXIS1"]:
            raise _damaged("its table of tiles has no rows, or others than it says")  # numpy divides by nothing
        table, heap = np.asarray(units[number].data), _heap(data, header, units[number].fileinfo()["datLoc"])
        most = WIDEST * _pixels(header, len(table))
        gzipped = {"COMPRESSED_DATA": header["ZCMPTYPE"].startswith("GZIP"), "GZIP_COMPRESSED_DATA": True}
        for name in _PACKED if _PACKED[1] in (table.dtype.names or ()) else _PACKED[:1]:
            tiles = _tiles(header, name, table[name], len(heap))
            for begin, end in tiles if gzipped[name] else ():
                _check_gzip(heap[begin:end], most)


def _check_settings(header: Mapping[str, Any]) -> None:
    codec = header["ZCMPTYPE"]
    if codec not in CODECS:
        raise Reject(Dead.BAD_ARRAY, f"the image is compressed by {codec}; read are {', '.join(CODECS)}")
    for key in takewhile(header.__contains__, (f"ZNAME{k}" for k in count(1))):
        allowed = _SETTINGS.get(str(header[key]).strip().upper())
        if allowed and header.get(f"ZVAL{key[5:]}") not in allowed:
            raise _damaged(f"{header[key]} is not {' or '.join(map(str, allowed))}")
    if str(header.get("ZQUANTIZ", "")).startswith("SUBTRACTIVE") and header.get("ZDITHER0") not in range(1, 10_001):
        raise _damaged("ZDITHER0 is not 1 to 10,000")


def _heap(data: bytes, header: Mapping[str, Any], begin: int) -> memoryview:
    """Return the bytes that hold the tiles, in a table whose data begin there."""
    rows = header["NAXIS1"] * header["NAXIS2"]
    gap, end = header.get("THEAP", rows), rows + header["PCOUNT"]
    if not 0 <= gap <= end:
        raise _damaged("its heap is not behind its table")
    return memoryview(data)[begin + gap : begin + end]


def _pixels(header: Mapping[str, Any], rows: int) -> int:
    """Return how many pixels a tile has at most."""
    axes = range(1, header["ZNAXIS"] + 1)
    image = [header[f"ZNAXIS{k}"] for k in axes]
    tile = [header.get(f"ZTILE{k}", image[0] if k == 1 else 1) for k in axes]
    if min(tile) < 1:
        raise _damaged("a tile has no pixels")
    tiles = prod(-(-whole // part) for whole, part in zip(image, tile, strict=True))
    if max(tiles, rows) > TILES:
        raise Reject(Dead.BOUND_EXCEEDED, f"the image has more than {TILES:,} tiles")
    if tiles > rows:
        raise _damaged(f"of {tiles} tiles there are {rows}")
    return prod(map(min, image, tile))


def _tiles(header: Mapping[str, Any], name: str, places: NDArray[Any], size: int) -> list[tuple[int, int]]:
    """Return where in the heap the tiles of a column begin and end [bytes], of places (r, 2): length and begin."""
    if places.min() < 0 or places.max() > size:
        raise _damaged("its tiles do not lie in its heap")
    column = next(k for k in range(1, header["TFIELDS"] + 1) if header.get(f"TTYPE{k}") == name)
    form = _FORM.match(str(header[f"TFORM{column}"]))
    if form is None:
        raise _damaged(f"{name} has no bytes")
    lengths, begins = _BYTES[form[1]] * places[:, 0].astype(np.int64), places[:, 1].astype(np.int64)
    if (begins + lengths).max() > size or lengths.sum() > size:
        raise _damaged("its tiles do not lie in its heap, or lie on one another")
    return [(b, b + n) for b, n in zip(begins.tolist(), lengths.tolist(), strict=True) if n]


def _check_gzip(tile: memoryview, most: int) -> None:
    engine = zlib.decompressobj(wbits=31)
    found = engine.decompress(tile, most + 1)
    if len(found) > most:
        raise Reject(Dead.BOUND_EXCEEDED, f"a tile unpacks to more than {most:,} bytes, which its pixels do not take")
    if not engine.eof or engine.unused_data.strip(b"\0"):
        raise _damaged("a tile's gzip is cut, or has bytes behind its end")


def _damaged(how: str) -> Reject:
    return Reject(Dead.MALFORMED, f"the FITS file is damaged: {how}")
