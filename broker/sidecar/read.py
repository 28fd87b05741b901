"""Packets to products: nothing in them is believed.

Counts, lengths and shapes are checked against bounds and against the bytes; what is wrong makes one dead letter.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from math import nan, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from broker.core.batch import PacketBatch
from broker.core.errors import Wait
from broker.core.outcomes import DeadLetter
from broker.core.reasons import Dead
from broker.decode.limits import Reject
from broker.decode.schemas import Ids
from broker.sidecar.fetch import Fetch
from broker.sidecar.fitsimages import Images
from broker.sidecar.framing import Installed, record
from broker.sidecar.product import ID_LENGTH, NAME_LENGTH, PRODUCT_BYTES, Array, Kind, Product

STAGE = "product"
ARRAYS, AXES, BANDS = 256, 8, 64
ELSEWHERE = 48
"""Arrays of a product at addresses: one may take a minute, and Kafka gives a batch an hour."""
RECORD_BYTES = 1000
"""Of a record beside its arrays: what rows make of it."""
KINDS = tuple(str(kind) for kind in Kind)
OURS = Installed()
DTYPES = {name: np.dtype(name) for name in ("<f4", "<f8", "<i2", "<i4", "<i8", "|u1")}


def products(
    batch: PacketBatch,
    fetch: Fetch,
    ids: Ids = OURS,
    most: int = 2 * PRODUCT_BYTES,
    late: Callable[[], bool] = lambda: False,
    images: Images | None = None,
) -> Iterator[tuple[dict[int, Product], list[DeadLetter]]]:
    """Yield the products of a batch by row, and a dead letter for every other row: all at once, or in stretches.

    A batch is bounded by the bytes of its packets; what they name elsewhere, or what is made of many small records, may
    not fit into memory together, or take too long to come.

    Parameters
    ----------
    ids : Ids
        Writer schemas by wire id.
    most : int
        Bytes of arrays and records that end a stretch.
    late : callable
        Tells that a stretch must end.
    images : Images, optional
        Reads packets that are FITS files, where there are such.

    Raises
    ------
    broker.core.errors.Wait
        What holds an array that lies elsewhere, or the schema registry, does not answer. What is before it was yielded.
    """
    found: dict[int, Product] = {}
    dead: list[DeadLetter] = []
    size = 0
    for row, packet in enumerate(batch.values):
        try:
            if images is not None and images.are_in(batch.name(row), packet):
                made = found[row] = images.product(batch.name(row), packet)
            else:
                made = found[row] = product(packet, fetch, ids)
            size += sum(array.values.nbytes for array in made.arrays.values()) + RECORD_BYTES * len(made)
        except Reject as error:
            dead.append(DeadLetter(row, STAGE, error.reason, str(error)))
        except Wait:
            if found or dead:
                yield found, dead
            raise
        if size >= most or late():
            yield found, dead
            found, dead, size = {}, [], 0
    yield found, dead


def product(packet: bytes, fetch: Fetch, ids: Ids = OURS) -> Product:
    """Return the product in a packet.

    Raises
    ------
    Reject
        It is none; `broker.core.reasons.Dead` has the codes.
    broker.core.errors.Wait
        See `products`.
    """
    found = record(packet, ids)
    records = found["records"]
    _bound("arrays", len(found["arrays"]), ARRAYS)
    _bound("bands", len(found["bands"]), BANDS)
    if not records:
        raise Reject(Dead.BAD_ARRAY, "the product has no records")
    names = (found["productId"], found["objectId"] or "", found["survey"] or "")
    _bound("characters of an id", max(map(len, (*names, *records))), ID_LENGTH)
    if found["kind"] not in KINDS:
        raise Reject(Dead.UNKNOWN_KIND, f"the kind {found['kind'][:NAME_LENGTH]!r} is none of {', '.join(KINDS)}")
    _check_layout(found["arrays"], len(records))
    return Product(
        product_id=found["productId"],
        kind=Kind(found["kind"]),
        records=records,
        arrays={array["name"]: Array(array["unit"], _values(array, fetch)) for array in found["arrays"]},
        bands=tuple(found["bands"]),
        pixel_scale_arcsec=_or_nan(found["pixelScale"]),
        psf_fwhm_arcsec=_or_nan(found["psfFwhm"]),
        zero_point=_or_nan(found["zeroPoint"]),
        survey=found["survey"],
        object_id=found["objectId"],
        alert_id=found["alertId"],
    )


def _bound(what: str, found: int, most: int) -> None:
    if found > most:
        raise Reject(Dead.BOUND_EXCEEDED, f"the product has {found:,} {what}, more than {most:,}")


def _or_nan(value: float | None) -> float:
    return nan if value is None else value


def _check_layout(arrays: list[dict[str, Any]], records: int) -> None:
    """Refuse arrays whose description is wrong, before anything of the size that they claim is made or fetched."""
    size, names = 0, set()
    _bound("arrays at addresses", sum(array["uri"] is not None for array in arrays), ELSEWHERE)
    for array in arrays:
        name, shape, dtype = array["name"], array["shape"], array["dtype"]
        for text in (name, array["unit"]):
            _bound("characters of an array's name or unit", len(text), NAME_LENGTH)
        if name in names:
            raise Reject(Dead.BAD_ARRAY, f"there are several arrays {name!r}")
        if dtype not in DTYPES:
            raise Reject(Dead.BAD_ARRAY, f"the dtype of {name!r} is {dtype[:16]!r}, none of {', '.join(DTYPES)}")
        if not 1 <= len(shape) <= AXES or min(shape) < 1 or shape[0] != records:
            told = f"the shape of {name!r} is {shape[:AXES]}"
            raise Reject(Dead.BAD_ARRAY, f"{told}: the first axis must be the {records} records, none may be empty")
        names.add(name)
        size += prod(shape) * DTYPES[dtype].itemsize
        _bound("bytes in its arrays", size, PRODUCT_BYTES)


def _values(array: dict[str, Any], fetch: Fetch) -> NDArray[Any]:
    """Return an array's values, read-only, in their shape."""
    dtype, shape = DTYPES[array["dtype"]], array["shape"]
    data = array["data"] if array["uri"] is None else _fetched(array, prod(shape) * dtype.itemsize, fetch)
    if data is None:
        raise Reject(Dead.BAD_ARRAY, f"{array['name']!r} has neither data nor uri")
    if len(data) != prod(shape) * dtype.itemsize:
        told = f"{array['name']!r} has {len(data):,} bytes"
        raise Reject(Dead.BAD_ARRAY, f"{told}, {dtype.str} of shape {shape} has {prod(shape) * dtype.itemsize:,}")
    return np.frombuffer(data, dtype).reshape(shape)


def _fetched(array: dict[str, Any], size: int, fetch: Fetch) -> bytes:
    name, uri = array["name"], array["uri"]
    if array["data"] is not None:
        raise Reject(Dead.BAD_ARRAY, f"{name!r} has both data and uri")
    if array["sha256"] is None:
        raise Reject(Dead.BAD_HASH, f"{name!r} lies at a uri and has no sha256")
    data = fetch(uri, size)
    if hashlib.sha256(data).digest() != array["sha256"]:
        raise Reject(Dead.BAD_HASH, f"what lies at {uri[:ID_LENGTH]!r} has another sha256 than {name!r} should have")
    return data
