"""Injuries to writer schemas: the sender's choice, so anything. Some keep the record readable, most do not."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from typing import Any

from tests.decode.fuzz.bodies import NUMBERS, varint
from tests.decode.fuzz.seeds import Seed
from tests.decode.generate import Maker

Pair = tuple[bytes, bytes]
Mutation = Callable[[random.Random, Seed], Pair]
TYPES = (
    "null",
    "boolean",
    "int",
    "long",
    "float",
    "double",
    "bytes",
    "string",
    "enum",
    "record",
    "array",
    "nobody",
    "",
)
NAMES = (
    "candid",
    "candidate",
    "diaSource",
    "a.b.c",
    "",
    "\ud800",
    "x" * 3000,
    "\u202e",
    "null",
    "int",
    "a b",
    "\0",
    ".",
)
LOGICAL = ("timestamp-millis", "timestamp-micros", "date", "time-micros", "decimal", "uuid", "duration", "nonsense")


def _places(schema: Any) -> list[tuple[Any, Any]]:
    """Every place of a type: the list or dict that holds it, and its key."""
    found: list[tuple[Any, Any]] = []
    pending: list[Any] = [schema]
    while pending:
        node = pending.pop()
        if isinstance(node, list):
            keys: list[Any] = list(range(len(node)))
        elif isinstance(node, dict):
            keys = [key for key in ("type", "items", "values") if key in node]
            pending += node["fields"] if isinstance(node.get("fields"), list) else []
        else:
            continue
        found += [(node, key) for key in keys]
        pending += [node[key] for key in keys]
    return found


def _records(schema: Any) -> list[Any]:
    return [schema, *(h[k] for h, k in _places(schema) if isinstance(h[k], dict) and "fields" in h[k])]


def _text(pick: random.Random, schema: Any) -> bytes:
    out = json.dumps(schema, indent=1 if pick.random() < 0.01 else None)
    return out.encode(errors="replace")


def swap(pick: random.Random, seed: Seed) -> Pair:
    """A type for another."""
    schema = json.loads(seed.schema)
    for _ in range(pick.choice((1, 1, 3))):
        holder, key = pick.choice(_places(schema))
        holder[key] = pick.choice(TYPES)
    return _text(pick, schema), seed.body


def wrap(pick: random.Random, seed: Seed) -> Pair:
    """A type within a union, an array or a map, up to 200 deep."""
    schema = json.loads(seed.schema)
    holder, key = pick.choice(_places(schema))
    for _ in range(pick.choice((1, 1, 2, 3, 31, 33, 200))):
        old = holder[key]
        shapes = (["null", old], [old, "null"], {"type": "array", "items": old}, {"type": "map", "values": old}, [old])
        holder[key] = pick.choice(shapes)
    return _text(pick, schema), seed.body


def fields(pick: random.Random, seed: Seed) -> Pair:
    """A field gone, twice, renamed, moved, or of no kind."""
    schema = json.loads(seed.schema)
    record = pick.choice(_records(schema))
    some = record["fields"]
    if not some:
        return seed.schema, seed.body
    at, kind = pick.randrange(len(some)), pick.randrange(5)
    if kind == 0:
        del some[at]
    elif kind == 1:
        some.insert(pick.randrange(len(some) + 1), copy.deepcopy(some[at]))
    elif kind == 2:
        some[at]["name"] = pick.choice(NAMES)
    elif kind == 3:
        some.append(some.pop(at))
    else:
        some[at] = pick.choice((None, 7, [], {}, {"name": "x"}, {"type": "int"}, "int"))
    return _text(pick, schema), seed.body


def front(pick: random.Random, seed: Seed) -> Pair:
    """A field of any type in front of all others, with its bytes: the record stays whole, or is full of nothing."""
    schema = json.loads(seed.schema)
    maker = Maker(pick.randrange(2**32))
    kind = pick.random()
    if kind < 0.4:
        extra = maker.any_type(4)
        body = maker.encode(extra, maker.value(extra))
        extra = json.loads(maker.text(extra))
    else:
        nothing = pick.choice(
            ("null", {"type": "fixed", "name": "zero", "size": 0}, {"type": "record", "name": "no", "fields": []})
        )
        extra = {"type": "array", "items": nothing} if kind < 0.8 else {"type": "map", "values": nothing}
        counts = [pick.choice((1, 1000, 24_000, 26_000, 10**6, *NUMBERS)) for _ in range(pick.choice((1, 1, 2, 60)))]
        body = b"".join(varint(count) for count in counts) + b"\0"
    if isinstance(schema, dict) and isinstance(schema.get("fields"), list):
        schema["fields"].insert(0, {"name": "in_front", "type": extra})
    return _text(pick, schema), body + seed.body


def names(pick: random.Random, seed: Seed) -> Pair:
    """A named type under another name, of a size that is none, without symbols, within itself, or defined twice."""
    schema = json.loads(seed.schema)
    kind = pick.randrange(5)
    if kind == 0:
        pick.choice(_records(schema))["name"] = pick.choice(NAMES)
    elif kind == 1:
        holder, key = pick.choice(_places(schema))
        size = pick.choice((*NUMBERS, 0.5, "8", None, True))
        holder[key] = {"type": "fixed", "name": f"f{pick.randrange(3)}", "size": size}
    elif kind == 2:
        holder, key = pick.choice(_places(schema))
        symbols = pick.choice(([], ["A", "A"], ["A", 7], "AB", None, ["g", "r", "i"] * 50))
        holder[key] = {"type": "enum", "name": "e", "symbols": symbols}
    elif kind == 3:
        holder, key = pick.choice(_places(schema))
        record = pick.choice(_records(schema))
        holder[key] = pick.choice(
            (record["name"], [record["name"], "null"], {"type": "array", "items": record["name"]})
        )
    else:
        holder, key = pick.choice(_places(schema))
        holder[key] = copy.deepcopy(pick.choice(_records(schema)))
    return _text(pick, schema), seed.body


def logical(pick: random.Random, seed: Seed) -> Pair:
    """A logical type, which changes nothing, on a type that it may not fit."""
    schema = json.loads(seed.schema)
    for _ in range(3):
        holder, key = pick.choice(_places(schema))
        if isinstance(holder[key], str):
            holder[key] = {"type": holder[key], "logicalType": pick.choice(LOGICAL), "precision": 4, "scale": 2}
    return _text(pick, schema), seed.body


def raw(pick: random.Random, seed: Seed) -> Pair:
    """The text itself: flipped bits, cut, doubled, deep, huge, no JSON at all."""
    out = bytearray(seed.schema)
    kind = pick.random()
    if kind < 0.6:
        for _ in range(pick.choice((1, 1, 2, 5))):
            out[pick.randrange(len(out))] ^= 1 << pick.randrange(8)
    elif kind < 0.7:
        del out[pick.randrange(len(out)) :]
    elif kind < 0.8:
        at = pick.randrange(len(out))
        out[at:at] = out[pick.randrange(len(out)) :][: pick.randrange(1, 200)]
    else:
        depth = pick.choice((10, 1000, 100_000)) if pick.random() < 0.5 else 10
        odd = (b"[" * depth, b'{"type":' * depth, b"", b"7", b"NaN", b'"int"', b"[]", b"{}", b"null", b"\xff", b"1e999")
        out = bytearray(pick.choice((*odd, b"9" * 5000, b'["int", "string"]', b'{"type": ["null"]}')))
    return bytes(out), seed.body


def large(pick: random.Random, seed: Seed) -> Pair:
    """Many fields, branches or symbols; records that double."""
    schema = json.loads(seed.schema)
    kind, size = pick.randrange(4), pick.choice((100, 1000, 4000)) if pick.random() < 0.2 else 100
    if kind == 0:
        extra: list[Any] = [{"name": f"x{i}", "type": ["null", "int"]} for i in range(size)]
    elif kind == 1:
        extra = [{"name": "x", "type": ["null", *({"type": "fixed", "name": f"w{i}", "size": i} for i in range(size))]}]
    elif kind == 2:
        extra = [{"name": "x", "type": {"type": "enum", "name": "many", "symbols": [f"s{i}" for i in range(size)]}}]
    else:
        bottom = {"type": "record", "name": "r0", "fields": [{"name": "x", "type": pick.choice(TYPES[:8])}]}
        extra = [{"name": "a0", "type": bottom}]
        for i in range(1, 30):
            inner = [{"name": side, "type": f"r{i - 1}"} for side in ("left", "right")]
            extra.append({"name": f"a{i}", "type": {"type": "record", "name": f"r{i}", "fields": inner}})
    schema["fields"] = extra + schema["fields"]
    return _text(pick, schema), bytes(pick.choice((0, 1, size))) + seed.body


ALL: tuple[Mutation, ...] = (swap, wrap, fields, front, names, logical, raw, large)
