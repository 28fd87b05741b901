"""Our schemas are a product: docs and units on every field, samples that round-trip, a promise that is kept."""

import io
import json
from importlib.resources import files
from typing import Any

import fastavro
import pytest

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


@pytest.mark.parametrize("name", schemas.NAMES)
def test_the_promise_newer_readers_read_older_writers_within_a_major(name: str) -> None:
    found = list(schemas.versions(name).values())
    for old in found:
        for new in found:
            if old.version.split(".")[0] == new.version.split(".")[0] and old is not new:
                assert json.loads(new.text)["fields"][: len(json.loads(old.text)["fields"])]
