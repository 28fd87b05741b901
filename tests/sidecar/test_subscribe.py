"""Results as `tocsin subscribe --json` prints them."""

import json

import numpy as np

from broker.cli import subscribe
from broker.core import schemas
from broker.sidecar import write
from tests.sidecar.rows import Colour, galaxies, packets, sidecar


def test_a_result_in_json_has_its_numbers_as_lists() -> None:
    three = galaxies(30, 3)
    three.arrays["mag_g"].values[1] = np.nan
    (record,) = sidecar(Colour())(packets(three)).records
    result = schemas.decode(record.value, list(record.headers), "result")
    (said,) = write.said_in(result)
    (answer,) = json.loads(json.dumps(subscribe.readable(result), default=subscribe._plain, allow_nan=False))["answers"]
    assert answer["outOfDomain"] == [0.5, None, 0.5]
    assert answer["reasons"] == ["", "not_finite", ""]
    for given, found in zip(said.answer.outputs, answer["outputs"], strict=True):
        assert np.array_equal(numbers(found["value"]), given.value, equal_nan=True)
        for part in found["parts"]:
            assert np.array_equal(numbers(part["data"]), given.parts[part["name"]], equal_nan=True)
    assert answer["outputs"][0]["value"] == [0.3, None, 0.32]


def numbers(values: list[object]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Return lists with None for NaN as an array."""
    return np.array(values, np.float32)


def test_other_records_are_as_they_are() -> None:
    product = schemas.decode(packets(galaxies(0, 1)).values[0], None, "product")
    assert subscribe.readable(product) is product
