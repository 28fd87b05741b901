"""Products and results to Avro, in the wire format of `broker.core.schemas`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import isnan, prod
from typing import Any

import numpy as np

from broker.core import schemas
from broker.sidecar.answer import Answer, Floats, Output, Provenance
from broker.sidecar.product import Array, Product

SHARED = "grid"
"""The part of an output that all records have in common."""
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
            **_whose(product),
            "bands": list(product.bands),
            "pixelScale": _known(product.pixel_scale_arcsec),
            "psfFwhm": _known(product.psf_fwhm_arcsec),
            "zeroPoint": _known(product.zero_point),
            "arrays": [_array(name, array) for name, array in product.arrays.items()],
        }
    )


def _whose(product: Product) -> dict[str, Any]:
    """Return the fields that a product and its result have in common."""
    return {
        "productId": product.product_id,
        "kind": str(product.kind),
        "records": product.records,
        "survey": product.survey,
        "objectId": product.object_id,
        "alertId": product.alert_id,
    }


def _known(value: float) -> float | None:
    return None if isnan(value) else float(value)


def _array(name: str, array: Array) -> dict[str, Any]:
    values = array.values
    dtype = LITTLE.get(values.dtype.str[1:])
    if dtype is None:
        raise ValueError(f"the array {name} is {values.dtype}, which is none of {', '.join(LITTLE.values())}")
    data = np.ascontiguousarray(values, dtype=dtype).tobytes()
    return {"name": name, "unit": array.unit, "dtype": dtype, "shape": list(values.shape), "data": data}


@dataclass(frozen=True, slots=True)
class Said:
    """What one row of the survey models says of the records of several products, one after the other.

    Attributes
    ----------
    provenance : Provenance
    answer : Answer
        Of N records.
    wall_time_s : float
        Of the batch, per record.
    """

    provenance: Provenance
    answer: Answer
    wall_time_s: float


@dataclass(frozen=True, slots=True)
class Context:
    """Of a result: where its product came from, and when it was read and answered.

    Attributes
    ----------
    source : (str, int, int, int)
        Topic, partition, offset and time stamp [Unix ms UTC].
    ingest_ms, publish_ms : int
        Unix ms UTC.
    version : str
        Of tocsin.
    """

    source: tuple[str, int, int, int]
    ingest_ms: int
    publish_ms: int
    version: str


def result(product: Product, answers: list[dict[str, Any]], reason: str, context: Context) -> dict[str, Any]:
    """Return the record, in the schema ``result``, of one product.

    Parameters
    ----------
    answers : list of dict
        Of the product, from `split`.
    reason : str
        '' where at least one record has an answer of at least one row.
    """
    return {
        **_whose(product),
        "outcome": "unscored" if reason else "scored",
        "unscoredReason": reason or None,
        "answers": answers,
        "source": dict(zip(("topic", "partition", "offset", "timestamp"), context.source, strict=True)),
        "brokerIngestTimestamp": context.ingest_ms,
        "brokerPublishTimestamp": context.publish_ms,
        "brokerName": "tocsin",
        "brokerVersion": context.version,
    }


def split(said: Said, sizes: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Yield what a row says of each product, as the schema's ``answer``; ``sizes`` are their numbers of records.

    Raises
    ------
    ValueError
        The answer is not of so many records.
    """
    whole, begin = _whole(said, sum(sizes)), 0
    for size in sizes:
        yield whole(begin, begin + size)
        begin += size


Part = Callable[[int, int], dict[str, Any]]
Bytes = Callable[[int, int], bytes]


def _whole(said: Said, records: int) -> Part:
    """Return what gives the answer of records ``begin`` to ``end``; all numbers are converted here, once."""
    origin, answer = said.provenance, said.answer
    if len(answer.reason) != records:
        raise ValueError(f"{origin.row} answers {len(answer.reason)} records of {records}")
    about = {
        "row": origin.row,
        "variant": origin.variant,
        "modelVersion": origin.version,
        "weightsHash": origin.weights_hash,
        "dataId": origin.data_id,
        "dataVersion": origin.data_version,
        "toy": origin.toy,
        "generated": origin.generated,
        "seed": origin.seed,
        "wallTime": said.wall_time_s,
    }
    domain, outputs = _rows(answer.out_of_domain, records), [_output(output, records) for output in answer.outputs]

    def part(begin: int, end: int) -> dict[str, Any]:
        reasons = answer.reason[begin:end]
        return {
            **about,
            "reasons": reasons if any(reasons) else [],
            "outOfDomain": domain(begin, end),
            "outputs": [output(begin, end) for output in outputs],
        }

    return part


def _output(output: Output, records: int) -> Part:
    about = {"name": output.name, "unit": output.unit, "form": output.form, "labels": list(output.labels)}
    value, sigma = _rows(output.value, records), _rows(output.sigma, records)
    parts = [_part(name, values, records) for name, values in output.parts.items()]

    def part(begin: int, end: int) -> dict[str, Any]:
        found = [one(begin, end) for one in parts]
        return {**about, "value": value(begin, end), "sigma": sigma(begin, end), "parts": found}

    return part


def _part(name: str, values: Floats, records: int) -> Part:
    """Return what gives a part's records; a grid is the same for all."""
    if name == SHARED:
        whole = {"name": name, "shape": list(values.shape), "data": np.asarray(values, "<f4").tobytes()}
        return lambda begin, end: whole
    data, axes = _rows(values, records), list(values.shape[1:])
    return lambda begin, end: {"name": name, "shape": [end - begin, *axes], "data": data(begin, end)}


def _rows(values: Floats, records: int) -> Bytes:
    """Return what gives records ``begin`` to ``end`` of ``values`` (records, ...) as float32, little endian."""
    if len(values) != records:
        raise ValueError(f"an array of an answer has {len(values)} records instead of {records}")
    data = memoryview(np.ascontiguousarray(values, "<f4").tobytes())
    width = len(data) // records if records else 0
    return lambda begin, end: bytes(data[begin * width : end * width])


def bytes_of_record(nothing: Answer) -> int:
    """Return how many bytes a record's share of a result is at least, given an answer to no records."""
    parts = [part for output in nothing.outputs for name, part in output.parts.items() if name != SHARED]
    numbers = 1 + 2 * len(nothing.outputs) + sum(prod(part.shape[1:]) for part in parts)
    return 4 * numbers


def said_in(record: dict[str, Any]) -> list[Said]:
    """Return the answers in a record of the schema ``result``, float32; the inverse of `split`."""
    return [_said(answer, len(record["records"])) for answer in record["answers"]]


def _said(answer: dict[str, Any], records: int) -> Said:
    origin = Provenance(
        answer["row"],
        answer["variant"],
        answer["modelVersion"],
        answer["weightsHash"],
        answer["dataId"],
        answer["dataVersion"],
        answer["toy"],
        answer["seed"],
        answer["generated"],
    )
    outputs = tuple(
        Output(
            output["name"],
            output["unit"],
            output["form"],
            np.frombuffer(output["value"], "<f4"),
            np.frombuffer(output["sigma"], "<f4"),
            {part["name"]: np.frombuffer(part["data"], "<f4").reshape(part["shape"]) for part in output["parts"]},
            tuple(output["labels"]),
        )
        for output in answer["outputs"]
    )
    domain = np.frombuffer(answer["outOfDomain"], "<f4")
    return Said(origin, Answer(outputs, domain, answer["reasons"] or [""] * records), answer["wallTime"])
