"""Products framed in every way that the stream reads, by writers of other versions: one product, or one dead letter."""

import gzip
import io
import json
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import pytest

from broker.cli import assemble, products
from broker.core.config import load
from broker.core.errors import Wait
from broker.core.metrics import Recorded
from broker.core.topics import Topics
from broker.decode import Registry, SchemaStore
from broker.decode.limits import Reject
from broker.decode.packets import body_of
from broker.deliver.container import varint
from broker.sidecar import read
from broker.sidecar.framing import LIMITS, Installed
from broker.sidecar.product import RECORDS
from broker.sidecar.write import product_message
from tests.decode.test_packets import zstandard
from tests.sidecar.test_read import BODY, NOWHERE, SCHEMA, contained, example, fields, same
from tests.sidecar.web import reply, serving

FIELDS = fields(product_message(example()))
Schema = dict[str, Any]


def written(schema: Schema, codec: str = "null", **new: Any) -> bytes:
    """Return the example in a container, as a writer with this schema writes it."""
    out, parsed = io.BytesIO(), fastavro.parse_schema(json.loads(json.dumps(schema)))
    fastavro.writer(out, parsed, [FIELDS | new], codec=codec)
    return out.getvalue()


def ours() -> Schema:
    schema: Schema = json.loads(SCHEMA.text)
    return schema


def newer() -> Schema:
    """A version to come: it says more, of the product and of its arrays, and its name says so."""
    schema = {**ours(), "namespace": "tocsin.v2_3"}
    schema["fields"].insert(0, {"name": "weather", "type": {"type": "map", "values": "double"}, "default": {}})
    schema["fields"][-1]["type"]["items"]["fields"].insert(2, {"name": "doc", "type": "string", "default": "seen"})
    return schema


def older() -> Schema:
    """A version that knew neither alerts nor images, nor arrays that lie elsewhere."""
    schema, known = ours(), {"productId", "kind", "records", "arrays"}
    schema["fields"] = [field for field in schema["fields"] if field["name"] in known]
    schema["fields"][-1]["type"]["items"]["fields"] = schema["fields"][-1]["type"]["items"]["fields"][:5]
    return schema


def strangers() -> Schema:
    """A writer's own types that Avro promotes to ours."""
    schema = ours()
    types: dict[str, Any] = {field["name"]: field for field in schema["fields"]}
    types["productId"]["type"] = {"type": "string", "logicalType": "uuid"}
    types["pixelScale"] |= {"type": ["float", "null"], "default": 0.0}
    types["alertId"] |= {"type": "long", "default": 0}
    types["arrays"]["type"]["items"]["fields"][3]["type"]["items"] = "int"
    return schema


FRAMED = {
    "wire": product_message(example()),
    "wire, an id that is not ours": b"\0\0\1\x86\xa0" + BODY,
    "container": written(ours()),
    "deflate": written(ours(), "deflate"),
    "snappy": written(ours(), "snappy"),
    "zstandard": zstandard(written(ours())),
    "gzip of wire": gzip.compress(product_message(example())),
    "gzip of a container": gzip.compress(written(ours())),
    "newer": written(newer(), weather={"seeing": 1.0}),
}


@pytest.mark.parametrize("how", FRAMED)
def test_a_product_is_read_in_every_framing_that_the_stream_reads(how: str) -> None:
    body_of(FRAMED[how], Installed(), LIMITS)  # what the stream does
    assert same(read.product(FRAMED[how], NOWHERE), example())


def test_an_older_writer_is_read_with_the_defaults_of_what_it_did_not_know() -> None:
    found = read.product(written(older()), NOWHERE)
    assert np.array_equal(found.arrays["image"].values, example().arrays["image"].values)
    assert (found.bands, found.survey, found.alert_id) == ((), None, None)
    assert np.isnan(found.pixel_scale_arcsec)


def test_a_strangers_types_become_ours() -> None:
    name = "0b1c9a2e-5d0f-4a57-9a3e-111111111111"
    found = read.product(written(strangers(), productId=name), NOWHERE)
    assert (found.product_id, found.alert_id) == (name, 2**60)
    assert found.pixel_scale_arcsec == pytest.approx(0.2)
    assert found.arrays["image"].values.shape == (3, 2, 5, 4)


def test_a_bare_record_is_refused_as_by_the_stream() -> None:
    """Nothing says what its schema is, and any byte may be its first."""
    for refused in (lambda: body_of(BODY, Installed(), LIMITS), lambda: read.product(BODY, NOWHERE)):
        with pytest.raises(Reject, match="neither an Avro container nor in the wire format"):
            refused()


def test_a_large_product_is_read_as_a_small_one() -> None:
    large = example(RECORDS // 50)
    assert same(read.product(product_message(large), NOWHERE), large)


def change(edit: Callable[[Schema], object], **new: Any) -> bytes:
    schema = ours()
    edit(schema)
    return written(schema, **new)


def nested(depth: int) -> str:
    """Return a schema that says forty to the power of ``depth`` nulls in a few lines."""
    kind: Any = "null"
    for level in range(depth):
        again = kind if isinstance(kind, str) else kind["name"]
        fields = [{"name": f"f{n}", "type": kind if n == 0 else again} for n in range(40)]
        kind = {"type": "record", "name": f"r{level}", "fields": fields}
    return json.dumps(kind)


def itself() -> str:
    return json.dumps({**ours(), "fields": [*ours()["fields"], {"name": "next", "type": ["null", "product"]}]})


REFUSED = {
    "no kind": (change(lambda s: s["fields"].pop(1)), "missing_field", "No default value for field kind"),
    "records": (change(lambda s: s["fields"][2].update(type="string"), records="a"), "missing_field", "not resolved"),
    "name": (change(lambda s: s.update(name="galaxy")), "missing_field", "not resolved"),
    "bytes": (
        change(lambda s: s["fields"][0].update(type="bytes"), productId=b"\xff"),
        "malformed",
        "UnicodeDecodeError",
    ),
    "nulls": (contained(nested(5), [b""]), "bound_exceeded", "more than 300 parts"),
    "itself": (contained(itself(), [BODY + b"\0"]), "bound_exceeded", "contains itself"),
    "type": (contained('{"type": "record", "name": "product", "fields": 7}', [BODY]), "bad_schema", "no Avro schema"),
    "long": (contained(json.dumps({**ours(), "doc": "x" * 70_000}), [BODY]), "bound_exceeded", "writer schema has"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_writer_schema_that_is_none_of_a_product_is_one_dead_letter(what: str) -> None:
    packet, reason, text = REFUSED[what]
    began = time.process_time()
    with pytest.raises(Reject, match=text) as caught:
        read.product(packet, NOWHERE)
    assert caught.value.reason == reason
    assert time.process_time() - began < 1


NESTED: Any = "int"
for level in range(20):
    NESTED = {"type": "record", "name": f"level{level}", "fields": [{"name": "below", "type": NESTED}]}


def repeated(fields: list[Any], body: bytes = b"", count: int = 99_000) -> bytes:
    """Return a product behind which an array has so many records."""
    schema = ours()
    named = [{"name": f"n{i}", "type": kind} for i, kind in enumerate(fields)]
    items = {"type": "record", "name": "item", "fields": named}
    schema["fields"].append({"name": "more", "type": {"type": "array", "items": items}})
    return contained(json.dumps(schema), [BODY + varint(count) + body * count + varint(0)])


@pytest.mark.parametrize(
    "packet",
    [
        repeated(["null"] * 240),
        repeated(["null"] * 240 + ["int"], b"\2"),
        repeated([{"type": "fixed", "name": "none", "size": 0}, *["none"] * 239]),
        repeated([{"type": "record", "name": "none", "fields": []}, *["none"] * 239]),
        repeated([["int", {"type": "record", "name": "none", "fields": []}], *[["int", "none"]] * 99], b"\2" * 100, 9),
        repeated([NESTED], b"\2"),
    ],
    ids=["nulls", "nulls and a byte", "fixed", "records", "records in unions", "nested"],
)
def test_many_items_of_nothing_are_refused(packet: bytes) -> None:
    """110,000 items of ten parts are the most that few bytes make us read."""
    began = time.process_time()
    with pytest.raises(Reject, match="more than 10 parts without bytes in its arrays and maps") as caught:
        read.product(packet, NOWHERE)
    assert caught.value.reason == "bound_exceeded"
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize("fields", [["null"] * 8, [["null", "int"]] * 9])
def test_items_of_little_are_read(fields: list[Any]) -> None:
    packet = repeated(fields, b"" if "null" in fields else b"\0" * 9)
    began = time.process_time()
    assert same(read.product(packet, NOWHERE), example())
    assert time.process_time() - began < 2


def test_a_wire_id_is_the_registrys_where_there_is_one(tmp_path: Path) -> None:
    said = {"/schemas/ids/7": newer(), "/schemas/ids/100": {"type": "string"}}

    def answer(to: BaseHTTPRequestHandler) -> None:
        found = said.get(to.path)
        body = {"schema": json.dumps(found)} if found else {"error_code": 40403}
        reply(to, 200 if found else 404, json.dumps(body).encode())

    body = body_of(FRAMED["newer"], Installed(), LIMITS)[1]
    with serving(answer) as url:
        ids = SchemaStore(Registry(url), tmp_path, package=False)
        assert same(read.product(b"\0\0\0\0\7" + body, NOWHERE, ids), example())
        for number, reason in ((100, "missing_field"), (8, "unknown_schema")):
            with pytest.raises(Reject) as caught:
                read.product(b"\0\0\0\0" + bytes([number]) + BODY, NOWHERE, ids)
            assert caught.value.reason == reason
    away = SchemaStore(Registry("http://127.0.0.1:9", timeout_s=0.5), None, package=False)
    with pytest.raises(Wait, match="registry"):
        read.product(product_message(example()), NOWHERE, away)


def test_what_the_stream_registers_is_what_the_sidecar_looks_up(tmp_path: Path) -> None:
    """The feed's products carry the ids of the registry that our configuration names."""
    registered: dict[int, str] = {}

    def answer(to: BaseHTTPRequestHandler) -> None:
        if to.command == "POST":
            registered[7] = json.loads(to.rfile.read(int(to.headers["Content-Length"])))["schema"]
            reply(to, 200, b'{"id": 7}')
        else:
            reply(to, 200, json.dumps({"schema": registered[int(to.path.rpartition("/")[2])]}).encode())

    with serving(answer) as url:
        settings = load(None, {"registry.output_url": url, "run.cache_dir": tmp_path})
        writer = assemble.output_registry(settings)
        assert writer is not None
        framed = writer.frame("survey.catalog", product_message(example()), SCHEMA.headers)
        assert framed[:5] == b"\0\0\0\0\7"
        on_topics = products.step([], settings, Recorded(), Topics("t"), files=False)
        assert same(read.product(framed, NOWHERE, on_topics.ids), example())
    in_files = products.step([], settings, Recorded(), Topics("t"), files=True)
    assert same(read.product(product_message(example()), NOWHERE, in_files.ids), example())
