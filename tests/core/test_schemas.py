"""Our schemas are a product: docs and units on every field, samples that round-trip, a promise that is kept."""

import io
import json
from importlib.resources import files
from itertools import pairwise
from typing import Any

import fastavro
import pytest
from fastavro.read import SchemaResolutionError
from fastavro.utils import generate_one

from broker.client.subscription import Received
from broker.core import schemas

ALL = [schema for name in schemas.NAMES for schema in schemas.versions(name).values()]


def fields_of(schema: Any) -> list[dict[str, Any]]:
    if isinstance(schema, list):
        return [f for branch in schema for f in fields_of(branch)]
    if not isinstance(schema, dict):
        return []
    nested = (
        [schema["items"]] if schema["type"] == "array" else [schema["type"]] if isinstance(schema["type"], dict) else []
    )
    own: list[dict[str, Any]] = schema.get("fields", [])
    return own + [f for s in nested for f in fields_of(s)] + [f for field in own for f in fields_of(field["type"])]


@pytest.mark.parametrize("schema", ALL, ids=lambda s: f"{s.name}-{s.version}")
def test_every_field_has_a_doc_and_the_name_is_the_folder(schema: schemas.OwnSchema) -> None:
    text = json.loads(schema.text)
    assert text["name"] == schema.name
    assert text["namespace"] == "tocsin.v" + schema.version.replace(".", "_")
    assert [f["name"] for f in fields_of(text) if not f.get("doc")] == []


@pytest.mark.parametrize("schema", ALL, ids=lambda s: f"{s.name}-{s.version}")
def test_samples_round_trip(schema: schemas.OwnSchema) -> None:
    folder = files("broker") / "schemas" / schema.name / schema.version
    samples = [f for f in folder.iterdir() if f.name.startswith("sample") and f.name.endswith(".json")]
    assert samples, f"{schema.name} {schema.version} has no sample*.json"
    for sample in samples:
        record = fastavro.json_reader(io.StringIO(json.dumps(json.loads(sample.read_text()))), schema.parsed)
        for value in record:
            message = schema.encode(value)
            assert schemas.decode(message, list(schema.headers), schema.name) == schemas.decode(
                message, None, schema.name
            )


def test_fingerprints_are_unique() -> None:
    assert len(schemas.by_fingerprint()) == len(ALL)


def test_an_unknown_fingerprint_and_a_bad_frame_are_refused() -> None:
    message = b"\0\0\0\0\x64rest"
    with pytest.raises(ValueError, match="no installed schema has the fingerprint"):
        schemas.decode(message, [(schemas.HEADER, b"x" * 32)], "annotation")
    with pytest.raises(ValueError, match="wire format"):
        schemas.decode(b"\1\0\0\0\0", None, "annotation")


def samples(schema: schemas.OwnSchema) -> list[dict[str, Any]]:
    """Return the samples of a version, as they are after one writing."""
    folder = files("broker") / "schemas" / schema.name / schema.version
    texts = [f.read_text() for f in folder.iterdir() if f.name.startswith("sample")]
    found: list[Any] = [
        r for t in texts for r in fastavro.json_reader(io.StringIO(json.dumps(json.loads(t))), schema.parsed)
    ]
    return [read_as(schema.encode(record)[5:], schema.parsed, None) for record in found]


def read_as(written: bytes, writer: Any, reader: Any) -> Any:
    """Return a record that was written in one schema as a reader of another one sees it, by Avro's rules."""
    return fastavro.schemaless_reader(io.BytesIO(written), writer, reader)


PAIRS = [
    (writer, reader)
    for writer in ALL
    for reader in ALL
    if writer.name == reader.name and writer.version.split(".")[0] == reader.version.split(".")[0]
]


@pytest.mark.parametrize(("writer", "reader"), PAIRS, ids=lambda s: f"{s.name}-{s.version}")
def test_the_promise_every_version_of_a_major_reads_every_other(
    writer: schemas.OwnSchema, reader: schemas.OwnSchema
) -> None:
    """Backward (a new reader, an old record) and forward (an old reader, a new record): what both have is the same."""
    for record in samples(writer):
        found = read_as(writer.encode(record)[5:], writer.parsed, reader.parsed)
        fields = {f["name"]: f for f in json.loads(reader.text)["fields"]}
        assert set(found) == set(fields)
        for name, value in found.items():
            assert value == (record[name] if name in record else fields[name]["default"]), name
        assert reader.encode(found), "what was read can be written again"


@pytest.mark.parametrize("schema", ALL, ids=lambda s: f"{s.name}-{s.version}")
def test_our_client_reads_every_version(schema: schemas.OwnSchema) -> None:
    for record in samples(schema):
        message = Received("t", 0, 0, 0, b"", schema.encode(record), list(schema.headers))
        assert message.decode() == record


@pytest.mark.parametrize("name", schemas.NAMES)
def test_a_version_only_adds_fields_with_a_default_at_the_end(name: str) -> None:
    found = list(schemas.versions(name).values())
    for old, new in pairwise(found):
        if old.version.split(".")[0] != new.version.split(".")[0]:
            continue
        before, after = (json.loads(s.text)["fields"] for s in (old, new))
        assert [f["name"] for f in after[: len(before)]] == [f["name"] for f in before]
        assert all("default" in f for f in after[len(before) :])


def both_ways(one: Any, other: Any) -> bool:
    for writer, reader in ((one, other), (other, one)):
        out = io.BytesIO()
        fastavro.schemaless_writer(out, writer, generate_one(writer))
        try:
            read_as(out.getvalue(), writer, reader)
        except SchemaResolutionError:
            return False
    return True


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        (lambda fields: fields.append({"name": "more", "type": "string", "default": ""}), True),
        (lambda fields: fields.append({"name": "more", "type": "string"}), False),
        (lambda fields: fields.pop(0), False),
        (lambda fields: fields[0].update(type="long"), False),
        (lambda fields: fields[0].update(name="who"), False),
    ],
)
def test_a_change_that_breaks_the_promise_is_found(change: Any, kept: bool) -> None:
    latest = schemas.latest("ledger")
    text = json.loads(latest.text)
    change(text["fields"])
    assert both_ways(latest.parsed, fastavro.parse_schema(text)) == kept
