"""What a sidecar reads: arrays with units about one or many records (galaxies, sources, fields).

n = records of a product. Every array's first axis is the record, so that a product is one alert's host or a block of a
catalogue, and a batch of either is columnar.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import isnan, nan
from typing import Any

import numpy as np
from numpy.typing import NDArray

SCALE_WITHIN = 0.05
"""How far a pixel's size may be from what a row reads, as a share of it."""
SMALLEST, LARGEST = 8, 512
"""Of an axis of any size, such as an image's: a table is as large as its largest image."""
MESSAGE_BYTES, RECORDS, ID_LENGTH, NAME_LENGTH = 8 * 2**20, 100_000, 256, 64
"""Of a product: bytes as a message, decompressed (what our topics take); records; characters of an id, and of the name
and unit of an array."""
PRODUCT_BYTES = 64_000_000
"""Of all arrays of a product together, those that lie elsewhere too."""

_LARGEST_NUMBER = float(np.finfo(np.float32).max)


class Kind(StrEnum):
    """What a product is; the last part of its topic's name."""

    CATALOG = "catalog"  # columns of a catalogue, arrays (n,)
    CUTOUT = "cutout"  # images, arrays (n, bands, height, width)
    SPECTRUM = "spectrum"
    MAP2D = "map2d"
    BOX3D = "box3d"
    POINTSET = "pointset"


@dataclass(frozen=True, slots=True)
class Array:
    """Values with their unit.

    Attributes
    ----------
    unit : str
        As astropy writes it ("mag", "nJy", "arcsec"), but "log10(solMass)" for "dex(solMass)"; "" for a pure number.
    values : array, (n, ...)
        First axis: the product's records. NaN where something was not measured.
    """

    unit: str
    values: NDArray[Any]


@dataclass(frozen=True, slots=True)
class Product:
    """One message of a product topic, or one block of a catalogue file.

    Attributes
    ----------
    product_id : str
        Unique; results carry it.
    kind : Kind
    records : list of str, (n,)
        The source's own id of each record.
    arrays : dict of str to Array
        By name, such as ``mag_g``, ``mag_err_g``, ``image``.
    bands : tuple of str
        Of an image's second axis.
    pixel_scale_arcsec, psf_fwhm_arcsec : float
        NaN where unknown or without meaning.
    zero_point : float
        AB magnitude of one unit of an image's flux; NaN where the arrays' units say it all.
    survey, object_id : str or None
        Of the alert that the product belongs to.
    alert_id : int or None
    """

    product_id: str
    kind: Kind
    records: list[str]
    arrays: dict[str, Array]
    bands: tuple[str, ...] = ()
    pixel_scale_arcsec: float = nan
    psf_fwhm_arcsec: float = nan
    zero_point: float = nan
    survey: str | None = None
    object_id: str | None = None
    alert_id: int | None = None

    def __len__(self) -> int:
        return len(self.records)


@dataclass(frozen=True, slots=True)
class Input:
    """One array that a row of the survey models reads.

    Attributes
    ----------
    name, unit : str
        As in `Array`.
    shape : tuple of int
        Per record: () for a number, (bands, height, width) for images; -1 takes any size from `SMALLEST` to `LARGEST`.
    required : bool
        Without it a record gets no answer. What is not required may be missing, or NaN: the network has a mask.
    pixel_scale_arcsec : float or None
        Of images: those of a product that says another, by more than a twentieth, get no answer; None takes any.
    """

    name: str
    unit: str = ""
    shape: tuple[int, ...] = ()
    required: bool = True
    pixel_scale_arcsec: float | None = None


class NoAnswer(StrEnum):
    """Why a record has no answer of a row."""

    MISSING_INPUT = "missing_input"  # an array that the row requires, or too many of those it may do without
    WRONG_UNIT = "wrong_unit"
    WRONG_SHAPE = "wrong_shape"
    WRONG_SCALE = "wrong_scale"  # pixels of another size
    NOT_FINITE = "not_finite"  # a required value, or beyond 3e38
    BLANK = "blank"  # an image without contrast, or with nothing that a row sees
    BAD_FIT = "bad_fit"  # the network gave a number that is not finite
    OTHER_KIND = "other_kind"  # the row reads another kind of product


@dataclass(frozen=True, slots=True)
class Table:
    """The records of several products, as one row of the survey models reads them.

    Attributes
    ----------
    columns : dict of str to array, (N, ...)
        By the names of the inputs, float32 or float64; NaN where missing.
    reason : list of str, (N,)
        '' or a `NoAnswer`; such a record's values mean nothing.
    """

    columns: dict[str, NDArray[Any]]
    reason: list[str]

    def __len__(self) -> int:
        return len(self.reason)


def collect(products: Sequence[Product], inputs: Sequence[Input], at_least: int = 0) -> Table:
    """Return the records of ``products``, one after the other, as a row reads them.

    Parameters
    ----------
    inputs : sequence of Input
    at_least : int
        How many of the inputs that are not required a record must have.
    """
    columns = {wanted.name: _column(products, wanted) for wanted in inputs}
    reasons = [reason for product in products for reason in [_refused(product, inputs)] * len(product)]
    reason = np.array(reasons, dtype=object)
    optional = [wanted for wanted in inputs if not wanted.required]
    has = np.array([_finite(columns[wanted.name]) for wanted in optional]).reshape(len(optional), len(reason))
    for wanted in inputs:
        if wanted.required:
            reason[(reason == "") & ~_finite(columns[wanted.name])] = str(NoAnswer.NOT_FINITE)
            reason[(reason == "") & _blank(products, wanted)] = str(NoAnswer.BLANK)
    reason[(reason == "") & (has.sum(axis=0) < at_least)] = str(NoAnswer.MISSING_INPUT)
    return Table(columns, [str(why) for why in reason])


def _refused(product: Product, inputs: Sequence[Input]) -> str:
    """Return why a row cannot read a product at all, or ''."""
    for wanted in inputs:
        found = product.arrays.get(wanted.name)
        if found is None:
            if wanted.required:
                return str(NoAnswer.MISSING_INPUT)
        elif found.unit != wanted.unit:
            return str(NoAnswer.WRONG_UNIT)
        elif not has_shape(found.values.shape[1:], wanted.shape):
            return str(NoAnswer.WRONG_SHAPE)
        elif wanted.pixel_scale_arcsec and not _scaled(product.pixel_scale_arcsec / wanted.pixel_scale_arcsec):
            return str(NoAnswer.WRONG_SCALE)
    return ""


def _scaled(ratio: float) -> bool:
    """Return whether a pixel's size is as wanted, or not said."""
    return isnan(ratio) or abs(ratio - 1.0) <= SCALE_WITHIN


def has_shape(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Return whether a record's array has a shape that is wanted, see `Input`."""
    if len(shape) != len(wanted):
        return False
    return all(s == w or (w == -1 and SMALLEST <= s <= LARGEST) for s, w in zip(shape, wanted, strict=True))


def _column(products: Sequence[Product], wanted: Input) -> NDArray[Any]:
    """Return the input's values (N, ...); NaN for products that lack it or have it otherwise.

    Numbers that the networks' float32 cannot hold are NaN, too.
    """
    parts = [_part(product, wanted) for product in products]
    sizes = [part.shape[1:] for part in parts if part is not None] or [tuple(max(size, 1) for size in wanted.shape)]
    shape = tuple(int(size) for size in np.max(sizes, axis=0))
    filled = [
        np.full((len(product), *shape), np.nan) if part is None else _amid(part, shape)
        for product, part in zip(products, parts, strict=True)
    ]
    values = np.concatenate(filled) if filled else np.empty((0, *shape))
    values[np.abs(values) > _LARGEST_NUMBER] = np.nan
    return values


def _amid(values: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Return values (n, ...) amid zeros (n, *shape): products of several sizes make one batch."""
    gaps = [
        (to // 2 - have // 2, to - to // 2 - have + have // 2) for to, have in zip(shape, values.shape[1:], strict=True)
    ]
    return np.pad(values, [(0, 0), *gaps]) if values.shape[1:] != shape else values


def _part(product: Product, wanted: Input) -> NDArray[Any] | None:
    found = product.arrays.get(wanted.name)
    if found is None or found.unit != wanted.unit or not has_shape(found.values.shape[1:], wanted.shape):
        return None
    return found.values if found.values.dtype.kind == "f" else found.values.astype(np.float64)


def _blank(products: Sequence[Product], wanted: Input) -> NDArray[np.bool_]:
    """Tell for each record (N,) whether it is an image whose pixels are all alike, in every band.

    Products are looked at one by one: amid zeros an image of ones would have a contrast.
    """
    parts = [(len(product), _part(product, wanted) if len(wanted.shape) == 3 else None) for product in products]
    alike = [np.zeros(n, np.bool_) if x is None else (x == x[:, :, :1, :1]).all(axis=(1, 2, 3)) for n, x in parts]
    return np.concatenate(alike) if alike else np.empty(0, np.bool_)


def _finite(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Tell for each record (N,) whether all of its values are finite."""
    whole: NDArray[np.bool_] = np.isfinite(values).reshape(len(values), int(np.prod(values.shape[1:]))).all(axis=1)
    return whole
