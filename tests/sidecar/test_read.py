"""Products of every bad sort: each is one dead letter with one reason, and its neighbours are unhurt."""

import hashlib
import io
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import pytest

from broker.core import schemas
from broker.core.batch import PacketBatch
from broker.core.errors import TocsinError, Wait
from broker.decode.limits import Reject
from broker.deliver.container import container, varint
from broker.sidecar import read
from broker.sidecar.fetch import Fetch
from broker.sidecar.product import MESSAGE_BYTES, Array, Kind, Product
from broker.sidecar.write import product_message

SCHEMA = schemas.latest("product")
NOWHERE = Fetch()


def example(records: int = 3) -> Product:
    rng = np.random.default_rng(1)
    return Product(
        "field/7",
        Kind.CUTOUT,
        [f"galaxy {n}" for n in range(records)],
        {
            "image": Array("nJy", rng.normal(size=(records, 2, 5, 4)).astype(np.float32)),
            "mag_g": Array("mag", np.where(np.arange(records) == 1, np.nan, 20.0)),
            "flags": Array("", np.arange(records, dtype=np.int16)),
        },
        ("g", "r"),
        0.2,
        0.7,
        31.4,
        "lsst",
        "123",
        2**60,
    )


def fields(packet: bytes) -> dict[str, Any]:
    return schemas.decode(packet, None, "product")


def message(change: Callable[[dict[str, Any]], object] = lambda fields: None) -> bytes:
    """Return a product with one thing wrong."""
    found = fields(product_message(example()))
    change(found)
    return SCHEMA.encode(found)


def batch(*values: bytes) -> PacketBatch:
    n = len(values)
    return PacketBatch(
        list(values), ["in"] * n, np.zeros(n, np.int32), np.arange(n), np.full(n, -1, np.int64), 1_600_000_000_000
    )


def same(one: Product, other: Product) -> bool:
    named = [name for name in Product.__slots__ if name != "arrays"]
    return (
        [getattr(one, name) for name in named] == [getattr(other, name) for name in named]
        and list(one.arrays) == list(other.arrays)
        and all(
            a.unit == b.unit and a.values.dtype == b.values.dtype and np.array_equal(a.values, b.values, equal_nan=True)
            for a, b in zip(one.arrays.values(), other.arrays.values(), strict=True)
            if a.values.dtype.kind == "f"
        )
    )


def test_a_product_is_read_as_it_was_written() -> None:
    assert same(read.product(product_message(example()), NOWHERE), example())


def test_what_is_not_known_is_nan() -> None:
    found = read.product(product_message(Product("p", Kind.CATALOG, ["a"], {})), NOWHERE)
    assert np.isnan([found.pixel_scale_arcsec, found.psf_fwhm_arcsec, found.zero_point]).all()
    assert (found.survey, found.object_id, found.alert_id) == (None, None, None)


@pytest.mark.parametrize("order", [">f4", ">i8", "<f8"])
def test_any_byte_order_and_layout_can_be_written(order: str) -> None:
    values = np.arange(12).astype(order).reshape(4, 3).T
    packet = product_message(Product("p", Kind.CATALOG, list("abc"), {"x": Array("", values)}))
    assert np.array_equal(read.product(packet, NOWHERE).arrays["x"].values, values)


def test_a_dtype_that_the_schema_lacks_is_not_written() -> None:
    with pytest.raises(ValueError, match="the array x is complex128"):
        product_message(Product("p", Kind.CATALOG, ["a"], {"x": Array("", np.ones(1, complex))}))


def contained(text: str, bodies: list[bytes]) -> bytes:
    return container(text, bodies, "name")


def bomb() -> bytes:
    packed = zlib.compress(bytes(MESSAGE_BYTES + 1), wbits=-15)
    return contained(SCHEMA.text, [packed]).replace(b"\x08null", b"\x0edeflate")


def nothing(found: dict[str, Any]) -> dict[str, Any]:
    array: dict[str, Any] = found["arrays"][0]
    array["data"] = None
    return array


def scattered(found: dict[str, Any]) -> None:
    array = nothing(found) | {"uri": "file:///x", "sha256": b""}
    found["arrays"] = [array | {"name": f"x{k}"} for k in range(49)]


def nothings(count: int, blocks: int = 1) -> bytes:
    """Return a product of so many arrays of nothing, seven bytes each."""
    whole = message(lambda f: f.update(arrays=[]))
    return whole[:-1] + (varint(count) + bytes(7) * count) * blocks + b"\0"


BODY = product_message(example())[5:]
BAD = {
    "empty": (b"", "empty", "0 bytes"),
    "cut frame": (b"\0\0\0", "malformed", "five bytes"),
    "magic": (b"\1" + message()[1:], "bad_magic", "neither"),
    "cut": (message()[:-3], "malformed", "ends before the record does"),
    "trailing": (message() + b"\0", "trailing_bytes", "behind the end of the record"),
    "large": (bytes(MESSAGE_BYTES + 1), "bound_exceeded", "larger than the bound"),
    "bomb": (bomb(), "bound_exceeded", "more than 8388608 bytes"),
    "two": (contained(SCHEMA.text, [BODY, BODY]), "malformed", "exactly one record"),
    "foreign": (
        contained(json.dumps({**json.loads(SCHEMA.text), "name": "other"}), [BODY]),
        "missing_field",
        "not resolved",
    ),
    "no schema": (contained("[[[", [BODY]), "bad_schema", "no Avro schema"),
    "deep": (contained('{"type":"array","items":' * 2000 + '"int"' + "}" * 2000, [BODY]), "bound_exceeded", "nested"),
    "count": (b"\0\0\0\0\x64\x02a\x02c" + b"\xff" * 8 + b"\x7f" + b"\x02a" * 9, "bound_exceeded", "(at records)"),
    "text": (message().replace(b"galaxy 0", b"galaxy \xff"), "malformed", "UnicodeDecodeError"),
    "kind": (message(lambda f: f.update(kind="catalogue")), "unknown_kind", "'catalogue' is none of catalog,"),
    "no records": (message(lambda f: f.update(records=[])), "bad_array", "no records"),
    "records": (message(lambda f: f["records"].extend([""] * 100_000)), "bound_exceeded", "(at records)"),
    "arrays": (message(lambda f: f.update(arrays=f["arrays"] * 100)), "bound_exceeded", "300 arrays"),
    "many arrays": (nothings(1_000_000), "bound_exceeded", "(at arrays)"),
    "many blocks": (nothings(1, blocks=1_000_000), "bound_exceeded", "(at arrays)"),
    "bands": (message(lambda f: f.update(bands=["g"] * 65)), "bound_exceeded", "65 bands"),
    "id": (message(lambda f: f["records"].__setitem__(1, "x" * 257)), "bound_exceeded", "257 characters of an id"),
    "name": (message(lambda f: f["arrays"][0].update(name="x" * 65)), "bound_exceeded", "65 characters of an array"),
    "twice": (message(lambda f: f["arrays"][1].update(name="image")), "bad_array", "several arrays 'image'"),
    "dtype": (message(lambda f: f["arrays"][0].update(dtype="|O")), "bad_array", "dtype of 'image' is '|O'"),
    "axes": (message(lambda f: f["arrays"][0].update(shape=[3] + [1] * 8)), "bad_array", "shape of 'image'"),
    "no axis": (message(lambda f: f["arrays"][0].update(shape=[])), "bad_array", "shape of 'image'"),
    "first axis": (message(lambda f: f["arrays"][0].update(shape=[2, 60])), "bad_array", "must be the 3 records"),
    "negative": (message(lambda f: f["arrays"][0].update(shape=[3, -2, -20])), "bad_array", "none may be empty"),
    "shape": (message(lambda f: f["arrays"][0].update(shape=[3, 41])), "bad_array", "480 bytes, <f4 of shape [3, 41]"),
    "huge": (message(lambda f: f["arrays"][0].update(shape=[3, 2**62, 2**62])), "bound_exceeded", "bytes in its array"),
    "no data": (message(nothing), "bad_array", "neither data nor uri"),
    "both": (message(lambda f: f["arrays"][0].update(uri="file:///x", sha256=b"")), "bad_array", "both data and uri"),
    "addresses": (message(scattered), "bound_exceeded", "49 arrays at addresses"),
    "no hash": (message(lambda f: nothing(f).update(uri="file:///etc/passwd")), "bad_hash", "no sha256"),
    "uri": (message(lambda f: nothing(f).update(uri="file:///etc/passwd", sha256=b"")), "bad_uri", "uri_prefixes"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_product_is_one_dead_letter_and_its_neighbours_are_unhurt(what: str) -> None:
    packet, reason, text = BAD[what]
    ((found, dead),) = read.products(batch(product_message(example()), packet, product_message(example(1))), NOWHERE)
    assert [(row, len(product)) for row, product in found.items()] == [(0, 3), (2, 1)]
    assert [(letter.row, letter.stage, letter.reason) for letter in dead] == [(1, "product", reason)]
    assert text in dead[0].text
    assert len(dead[0].text) < 500


def elsewhere(uri: str, data: bytes) -> bytes:
    return message(lambda f: nothing(f).update(uri=uri, sha256=hashlib.sha256(data).digest()))


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    (tmp_path / "open").mkdir()
    path = tmp_path / "open" / "image.f4"
    path.write_bytes(example().arrays["image"].values.tobytes())
    return path


def reason_of(packet: bytes, fetch: Fetch) -> str:
    with pytest.raises(Reject) as caught:
        read.product(packet, fetch)
    return str(caught.value.reason)


def test_an_array_elsewhere_is_read_where_it_is_allowed(stored: Path) -> None:
    packet = elsewhere(f"file://{stored}", stored.read_bytes())
    assert same(read.product(packet, Fetch([f"file://{stored.parent}"])), example())
    assert same(read.product(elsewhere(str(stored), stored.read_bytes()), Fetch([str(stored.parent)])), example())
    assert reason_of(packet, Fetch([f"file://{stored.parent}x"])) == "bad_uri"
    assert reason_of(packet, Fetch([f"file://{str(stored.parent)[:-1]}"])) == "bad_uri"


def test_no_way_leads_out_of_an_allowed_folder(stored: Path) -> None:
    secret = stored.parent.parent / "secret"
    secret.write_bytes(stored.read_bytes())
    (stored.parent / "link").symlink_to(secret)
    inside = f"file://{stored.parent}"
    ways = ("link", "../secret", "./../secret", "%2e%2e/secret", "x::file://" + str(secret), "..\\secret", "link\n")
    for uri in (*(f"{inside}/{way}" for way in ways), f"simplecache::{inside}/image.f4", f"local://{secret}"):
        assert reason_of(elsewhere(uri, secret.read_bytes()), Fetch([inside])) == "bad_uri", uri


def test_what_lies_elsewhere_must_be_what_its_hash_says(stored: Path) -> None:
    fetch, packet = Fetch([str(stored.parent)]), elsewhere(str(stored), stored.read_bytes())
    for wrong in (stored.read_bytes()[::-1], stored.read_bytes()[:-1], stored.read_bytes() + b"\0", b""):
        stored.write_bytes(wrong)
        assert reason_of(packet, fetch) == "bad_hash"
    stored.unlink()
    assert reason_of(packet, fetch) == "bad_uri"
    stored.mkdir()
    assert reason_of(packet, fetch) == "bad_uri"


def test_a_short_array_with_the_right_hash_is_still_no_array(stored: Path) -> None:
    stored.write_bytes(b"1234")
    assert reason_of(elsewhere(str(stored), b"1234"), Fetch([str(stored.parent)])) == "bad_array"


def test_a_store_that_is_away_is_waited_for() -> None:
    import fsspec

    class Away(fsspec.AbstractFileSystem):  # type: ignore[misc]
        protocol = "away"

        def _open(self, path: str, **_: object) -> None:
            raise ConnectionError("nobody answers")

    fsspec.register_implementation("away", Away, clobber=True)
    with pytest.raises(Wait, match="away://store/x does not answer"):
        read.product(elsewhere("away://store/x", b""), Fetch(["away://store"]))


def test_a_prefix_that_nothing_reads_is_refused_at_the_start() -> None:
    with pytest.raises(TocsinError, match="nothing-like-this"):
        Fetch(["nothing-like-this://x/"])


def test_the_samples_of_the_schema_are_products() -> None:
    found = json.loads((Path(__file__).parents[2] / "schemas/product/1.0/sample.json").read_text())
    value = next(iter(fastavro.json_reader(io.StringIO(json.dumps(found)), SCHEMA.parsed)))
    assert reason_of(SCHEMA.encode(value), NOWHERE) == "bad_uri"
    value["arrays"].pop()
    assert read.product(SCHEMA.encode(value), NOWHERE).arrays["mag_r"].values == 17.25
