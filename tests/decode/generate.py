"""Writer schemas and packets made at random around the fields that we read; and an Avro encoder that is no fastavro.

The encoder writes what a conforming writer may, and fastavro never does: arrays in several blocks, blocks with
negative counts and their sizes, and numbers in more bytes than they need.
"""

from __future__ import annotations

import json
import random
import struct
from typing import Any

from broker.decode.fields import Column, History, Kind, Projection

Schema = Any
_TYPES = {
    Kind.FLOAT: ("float", "double", "int", "long"),
    Kind.INT: ("int", "long"),
    Kind.BOOL: ("boolean",),
    Kind.CODE: ("string", "string", "enum"),
    Kind.SPAN: ("string",),
}
_PRIMITIVES = ("null", "boolean", "int", "long", "float", "double", "bytes", "string")


class Maker:
    """Makes a schema, and records of it."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self._named = 0
        self._defined: dict[str, Schema] = {}

    def schema(self, projection: Projection) -> Schema:
        """A writer schema in which a projection's fields are somewhere."""
        tree: dict[str, Any] = {}
        for column in projection.alert:
            if column.required or self.random.random() < 0.6:
                *records, name = column.path.split(".")
                node = tree
                for record in records:
                    node = node.setdefault(record, {})
                node[name] = column
        fields = self._fields(tree)
        for history in projection.histories:
            if self.random.random() < 0.8:
                fields.append({"name": history.path, "type": self._history(history)})
        return self._record(fields)

    def text(self, schema: Schema) -> bytes:
        """The schema as a sender writes it."""
        return json.dumps(normal(schema, set(), self._defined)).encode()

    def _fields(self, tree: dict[str, Any]) -> list[Schema]:
        fields = []
        for name, node in tree.items():
            kind = self._column(node) if isinstance(node, Column) else self._record(self._fields(node))
            if not isinstance(node, Column) and name.startswith("ss"):
                kind = self._maybe_null(kind)
            fields.append({"name": name, "type": kind})
        return fields

    def _history(self, history: History) -> Schema:
        columns = [column for column in history.columns if column.required or self.random.random() < 0.5]
        item = self._record([{"name": column.path, "type": self._column(column)} for column in columns])
        if self.random.random() < 0.2:
            item = self._maybe_null(item)
        return self._maybe_null({"type": "array", "items": item})

    def _record(self, fields: list[Schema]) -> Schema:
        """A record with these fields and others, in any order; sometimes with a field of its own type."""
        name = self._name()
        extra = [{"name": f"x{i}", "type": self.any_type(3)} for i in range(self.random.randrange(6))]
        if self.random.random() < 0.1:
            extra.append({"name": "again", "type": ["null", name]})
        both = extra + fields
        self.random.shuffle(both)
        record = {"type": "record", "name": name, "fields": both}
        self._defined[name] = record
        return record

    def _column(self, column: Column) -> Schema:
        kind: Schema = self.random.choice(_TYPES[column.kind])
        if kind == "enum":
            kind = {"type": "enum", "name": self._name(), "symbols": ["g", "r", "i", "t", "f", "a_long_symbol"]}
            self._defined[kind["name"]] = kind
        chance = self.random.random()
        if chance < 0.4:
            return self._maybe_null(kind)
        if chance < 0.5 and column.kind is Kind.FLOAT:
            return ["double", "null", "float", "long"]
        return kind

    def _maybe_null(self, kind: Schema) -> Schema:
        return self.random.choice([kind, ["null", kind], [kind, "null"]])

    def any_type(self, depth: int) -> Schema:
        """Any type at all."""
        chance = self.random.random()
        if depth == 0 or chance < 0.5:
            return self.random.choice(_PRIMITIVES)
        if chance < 0.7:
            return [*self.random.sample(_PRIMITIVES, self.random.choice((1, 2, 2, 2, 3)))]
        if chance < 0.76:
            return {"type": "array", "items": self.any_type(depth - 1)}
        if chance < 0.82:
            return {"type": "map", "values": self.any_type(depth - 1)}
        if chance < 0.86:
            return self._define({"type": "fixed", "name": self._name(), "size": self.random.choice((0, 1, 7, 40))})
        if chance < 0.9:
            return self._define({"type": "enum", "name": self._name(), "symbols": ["A", "B", "C"]})
        if chance < 0.95 and self._defined:
            return self.random.choice(sorted(self._defined))
        return self._record([])

    def _define(self, kind: Schema) -> Schema:
        self._defined[kind["name"]] = kind
        return kind

    def _name(self) -> str:
        self._named += 1
        return f"test.v1_0.type{self._named}"

    def value(self, schema: Schema, depth: int = 0) -> Any:
        """A value of a type, as fastavro reads it."""
        if isinstance(schema, list):
            if depth > 6 and "null" in schema:
                return None
            return self.value(self.random.choice(schema), depth + 1)
        if isinstance(schema, str) and schema in self._defined:
            schema = self._defined[schema]
        kind = schema if isinstance(schema, str) else schema["type"]
        if kind == "record":
            return {field["name"]: self.value(field["type"], depth + 1) for field in schema["fields"]}
        if kind == "array":
            return [self.value(schema["items"], depth + 1) for _ in range(self._size(depth))]
        if kind == "map":
            return {f"k{i}": self.value(schema["values"], depth + 1) for i in range(self._size(depth))}
        if kind == "enum":
            return self.random.choice(schema["symbols"])
        return self.random.randbytes(schema["size"]) if kind == "fixed" else self._primitive(kind)

    def _size(self, depth: int) -> int:
        return self.random.choice((0, 1, 2, 5, 30)) if depth < 3 else self.random.choice((0, 1, 2))

    def _primitive(self, kind: str) -> Any:
        pick = self.random
        if kind == "null":
            return None
        if kind == "boolean":
            return pick.random() < 0.5
        if kind in ("int", "long"):
            bits = pick.choice((3, 6, 13, 31 if kind == "int" else 63))
            return pick.randrange(-(2**bits), 2**bits)
        if kind == "bytes":
            return pick.randbytes(pick.choice((0, 1, 70)))
        if kind == "string":
            return pick.choice(("", "r", "t", "0", "ZTF18abcdefg", "é", "a string that is longer than seven bytes" * 3))
        number = pick.choice((0.0, -0.0, pick.gauss(0, 1e3), pick.gauss(0, 1), float("nan"), float("inf")))
        return struct.unpack("<f", struct.pack("<f", number))[0] if kind == "float" else number

    def encode(self, schema: Schema, value: Any) -> bytes:
        """A value in Avro's binary form, one of the many."""
        if isinstance(schema, list):
            index = next(i for i, branch in enumerate(schema) if self._is(branch, value))
            return self._long(index) + self.encode(schema[index], value)
        if isinstance(schema, str) and schema in self._defined:
            schema = self._defined[schema]
        kind = schema if isinstance(schema, str) else schema["type"]
        if kind == "record":
            return b"".join(self.encode(field["type"], value[field["name"]]) for field in schema["fields"])
        if kind == "array":
            return self._blocks([self.encode(schema["items"], item) for item in value])
        if kind == "map":
            pairs = [self.encode("string", key) + self.encode(schema["values"], v) for key, v in value.items()]
            return self._blocks(pairs)
        if kind == "enum":
            return self._long(schema["symbols"].index(value))
        return value if kind == "fixed" else self._encode_primitive(kind, value)

    def _encode_primitive(self, kind: str, value: Any) -> bytes:
        if kind == "null":
            return b""
        if kind == "boolean":
            return bytes([value])
        if kind in ("int", "long"):
            return self._long(value)
        if kind in ("bytes", "string"):
            raw = value.encode() if isinstance(value, str) else value
            return self._long(len(raw)) + raw
        return struct.pack("<f" if kind == "float" else "<d", value)

    def _is(self, branch: Schema, value: Any) -> bool:
        """Whether a branch of a union can hold a value."""
        if isinstance(branch, str) and branch in self._defined:
            branch = self._defined[branch]
        kind = branch if isinstance(branch, str) else branch["type"]
        if isinstance(value, float):
            return kind == "double" or (kind == "float" and _is_single(value))
        if isinstance(value, str):
            return kind == "string" or (kind == "enum" and value in branch["symbols"])
        if isinstance(value, dict):
            return kind in ("record", "map")
        if isinstance(value, int) and not isinstance(value, bool):
            return kind == "long" or (kind == "int" and -(2**31) <= value < 2**31)
        holds = {type(None): "null", bool: "boolean", list: "array"}
        if isinstance(value, bytes):
            return kind == "bytes" or (kind == "fixed" and branch["size"] == len(value))
        return holds[type(value)] == kind

    def _blocks(self, items: list[bytes]) -> bytes:
        out = b""
        while items:
            n = self.random.randrange(1, len(items) + 1)
            block, items = b"".join(items[:n]), items[n:]
            out += (
                self._long(n) + block if self.random.random() < 0.5 else self._long(-n) + self._long(len(block)) + block
            )
        return out + self._long(0)

    def _long(self, value: int) -> bytes:
        left, out = (value << 1) ^ (value >> 63), bytearray()
        left &= 2**64 - 1
        while left > 0x7F:
            out.append(left & 0x7F | 0x80)
            left >>= 7
        out.append(left)
        if len(out) < 4 and self.random.random() < 0.02:  # a number in one byte more than it needs
            out[-1] |= 0x80
            out.append(0)
        return bytes(out)


def _is_single(value: float) -> bool:
    packed = struct.pack("<f", value) if abs(value) < 3e38 or value in (float("inf"), -float("inf")) else b""
    return value != value or (packed != b"" and struct.unpack("<f", packed)[0] == value)  # noqa: PLR0124


def normal(schema: Schema, seen: set[str], defined: dict[str, Schema]) -> Schema:
    """The same type as JSON has it: a definition where a name is first met, and the name after that."""
    if isinstance(schema, list):
        return [normal(branch, seen, defined) for branch in schema]
    if isinstance(schema, str):
        return normal(defined[schema], seen, defined) if schema in defined and schema not in seen else schema
    if schema.get("name") in seen:
        return schema["name"]
    seen.add(schema.get("name", ""))
    inner = {key: normal(schema[key], seen, defined) for key in ("items", "values") if key in schema}
    if "fields" in schema:
        inner["fields"] = [{**field, "type": normal(field["type"], seen, defined)} for field in schema["fields"]]
    return {**schema, **inner}
