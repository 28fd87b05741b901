"""A record is written in the oldest version of its schema that says all of it: who is not upgraded yet reads it."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

from broker.core import schemas


def samples(schema: schemas.OwnSchema) -> list[Any]:
    folder = files("broker") / "schemas" / schema.name / schema.version
    return [json.loads(file.read_text()) for file in folder.iterdir() if file.name.startswith("sample")]


def test_a_ledger_record_that_says_nothing_new_is_written_in_the_old_version() -> None:
    old, *newer = schemas.versions("ledger").values()
    (record,) = samples(old)
    assert schemas.fitting("ledger", record) is old
    assert schemas.fitting("ledger", {**record, "retried": []}) is old
    for new in newer:
        found = [schemas.fitting("ledger", record) for record in samples(new)]
        assert new in found, "a sample of a version shows what is new in it"
