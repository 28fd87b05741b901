"""A record is written in the oldest version of its schema that says all of it: who is not upgraded yet reads it."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

from broker.core import schemas


def sample(schema: schemas.OwnSchema) -> Any:
    return json.loads((files("broker") / "schemas" / schema.name / schema.version / "sample.json").read_text())


def test_a_ledger_record_that_says_nothing_new_is_written_in_the_old_version() -> None:
    old, *newer = schemas.versions("ledger").values()
    assert schemas.fitting("ledger", sample(old)) is old
    assert schemas.fitting("ledger", {**sample(old), "retried": []}) is old
    for new in newer:
        assert schemas.fitting("ledger", sample(new)) is new, "the sample of a version shows what is new in it"
