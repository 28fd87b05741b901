"""Our own lists of what the surveys' packets hold, and the Avro writer schemas made from them.

``schemas/fields/<survey>.toml`` holds records (inner ones first) of ``[name, type, unit, what it is, typical]``. A type
is an Avro primitive, ``record:NAME`` or ``array:NAME``, ``long:LOGICAL``; a ``?`` behind it makes it nullable.
"""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import fastavro

Value = bool | int | float | str | None


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a record.

    Attributes
    ----------
    name : str
    kind : str
        Type without the question mark.
    nullable : bool
    unit, doc : str
    typical : bool, int, float, str or None
        What the simulator writes where it has nothing better; None: null.
    """

    name: str
    kind: str
    nullable: bool
    unit: str
    doc: str
    typical: Value


@dataclass(frozen=True, slots=True)
class Fields:
    """The records of one survey's packet.

    Attributes
    ----------
    survey, version, namespace : str
    records : dict of str to tuple of Field
        By name, inner records first; ``alert`` is the packet.
    schema_text : str
        The Avro writer schema as JSON.
    """

    survey: str
    version: str
    namespace: str
    records: dict[str, tuple[Field, ...]]
    schema_text: str

    @property
    def parsed(self) -> Any:
        """The parsed schema (fastavro) of the whole packet."""
        return _parsed(self.schema_text)

    def parsed_record(self, name: str) -> Any:
        """The parsed schema (fastavro) of one inner record."""
        return _parsed(json.dumps(_record_schema(self.records, self.namespace, name, set())))


@cache
def load(survey: str) -> Fields:
    """Return the field lists of a survey, ``ztf`` or ``lsst``."""
    table = tomllib.loads((files("broker") / "schemas" / "fields" / f"{survey}.toml").read_text("utf-8"))
    records = {name: tuple(_field(row) for row in record["fields"]) for name, record in table["records"].items()}
    root = _record_schema(records, table["namespace"], "alert", set())
    text = json.dumps(root | {"version": table["version"]})
    return Fields(survey, table["version"], table["namespace"], records, text)


def _field(row: list[Any]) -> Field:
    name, kind, unit, doc, *typical = row
    return Field(name, kind.removesuffix("?"), kind.endswith("?"), unit, doc, typical[0] if typical else None)


def _record_schema(records: dict[str, tuple[Field, ...]], namespace: str, name: str, done: set[str]) -> Any:
    """Return the record's schema: written out at its first use, by its name afterwards."""
    full = f"{namespace}.{name}"
    if name in done:
        return full
    done.add(name)
    fields = [_field_schema(records, namespace, field, done) for field in records[name]]
    return {"type": "record", "name": full, "fields": fields}


def _field_schema(records: dict[str, tuple[Field, ...]], namespace: str, field: Field, done: set[str]) -> Any:
    kind, _, of = field.kind.partition(":")
    schema: Any = kind
    if kind in ("record", "array"):
        inner = _record_schema(records, namespace, of, done)
        schema = inner if kind == "record" else {"type": "array", "items": inner}
    elif of:
        schema = {"type": kind, "logicalType": of}
    doc = f"{field.doc} [{field.unit}]" if field.unit else field.doc
    if field.nullable:
        return {"name": field.name, "type": ["null", schema], "default": None, "doc": doc}
    return {"name": field.name, "type": schema, "doc": doc}


@cache
def _parsed(text: str) -> Any:
    return fastavro.parse_schema(json.loads(text))
