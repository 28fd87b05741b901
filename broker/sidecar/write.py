"""Products and results to Avro, in the wire format of `broker.core.schemas`."""

from __future__ import annotations

from math import isnan
from typing import Any

import numpy as np

from broker.core import schemas
from broker.sidecar.product import Array, Product

LITTLE = {"f4": "<f4", "f8": "<f8", "i2": "<i2", "i4": "<i4", "i8": "<i8", "u1": "|u1"}


def product_message(product: Product) -> bytes:
    """Return a product as a message; its headers are ``schemas.latest("product").headers``.

    Raises
    ------
    ValueError
        An array's dtype is none of those that the schema names.
    """
    return schemas.latest("product").encode(
        {
            "productId": product.product_id,
            "kind": str(product.kind),
            "records": product.records,
            "survey": product.survey,
            "objectId": product.object_id,
            "alertId": product.alert_id,
            "bands": list(product.bands),
            "pixelScale": _known(product.pixel_scale_arcsec),
            "psfFwhm": _known(product.psf_fwhm_arcsec),
            "zeroPoint": _known(product.zero_point),
            "arrays": [_array(name, array) for name, array in product.arrays.items()],
        }
    )


def _known(value: float) -> float | None:
    return None if isnan(value) else float(value)


def _array(name: str, array: Array) -> dict[str, Any]:
    values = array.values
    dtype = LITTLE.get(values.dtype.str[1:])
    if dtype is None:
        raise ValueError(f"the array {name} is {values.dtype}, which is none of {', '.join(LITTLE.values())}")
    data = np.ascontiguousarray(values, dtype=dtype).tobytes()
    return {"name": name, "unit": array.unit, "dtype": dtype, "shape": list(values.shape), "data": data}
