"""A writer schema as a tree of nodes: parsed once, named types resolved, depth and size bounded."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from broker.core.reasons import Dead
from broker.decode.limits import Limits, Reject

VARINTS = ("int", "long")
TEXTS = ("bytes", "string")
WIDTHS = {"null": 0, "boolean": 1, "float": 4, "double": 8}
PRIMITIVES = (*VARINTS, *TEXTS, *WIDTHS)
_WIDEST = 1 << 31


@dataclass(frozen=True, slots=True)
class Node:
    """One type of a schema.

    Attributes
    ----------
    type : str
        A primitive's name, record, enum, fixed, array, map, union, or ref.
    name : str
        Full name of a named type or of the one referred to.
    children : tuple of Node
        Fields of a record, branches of a union, items of an array, values of a map.
    labels : tuple of str
        Names of fields, symbols of an enum.
    size : int
        Bytes of a fixed.
    """

    type: str
    name: str = ""
    children: tuple[Node, ...] = ()
    labels: tuple[str, ...] = ()
    size: int = 0


class Tree:
    """A parsed schema.

    Parameters
    ----------
    text : bytes
        JSON.
    limits : Limits

    Raises
    ------
    Reject
        The text is no Avro schema (`Dead.BAD_SCHEMA`), or breaks a bound (`Dead.BOUND_EXCEEDED`).
    """

    def __init__(self, text: bytes, limits: Limits) -> None:
        if len(text) > limits.schema_bytes:
            words = f"the writer schema has {len(text)} bytes, more than {limits.schema_bytes}"
            raise Reject(Dead.BOUND_EXCEEDED, words)
        self._limits = limits
        self.named: dict[str, Node] = {}
        self._widths: dict[str, int | None] = {}
        self._least: dict[str, int] = {}
        try:
            self.root = self._node(json.loads(text), "", 0)
        except RecursionError as error:
            raise Reject(Dead.BOUND_EXCEEDED, "the writer schema is nested too deeply") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Reject(Dead.BAD_SCHEMA, f"the writer schema is no Avro schema: {error!r}") from error

    def resolve(self, node: Node) -> Node:
        """Return what a reference refers to, and any other node as it is.

        Raises
        ------
        Reject
            The schema does not define the name.
        """
        if node.type != "ref":
            return node
        if node.name not in self.named:
            raise Reject(Dead.BAD_SCHEMA, f"the writer schema does not define the type {node.name}")
        return self.named[node.name]

    def width(self, node: Node) -> int | None:
        """Return the bytes that every value of a type has; None where they differ, or where it contains itself."""
        node = self.resolve(node)
        if node.type in WIDTHS:
            return WIDTHS[node.type]
        if node.type == "fixed":
            return node.size
        if node.type != "record":
            return None
        if node.name not in self._widths:
            self._widths[node.name] = None  # what a type says that contains itself
            widths = [self.width(child) for child in node.children]
            total = None if None in widths else sum(width or 0 for width in widths)
            self._widths[node.name] = None if total is None or total >= _WIDEST else total
        return self._widths[node.name]

    def least(self, node: Node) -> int:
        """Return a number of bytes that no value of a type is below."""
        node = self.resolve(node)
        if node.type in WIDTHS:
            return WIDTHS[node.type]
        if node.type == "fixed":
            return node.size
        if node.type != "record":
            return 1
        if node.name not in self._least:
            self._least[node.name] = 0
            self._least[node.name] = min(_WIDEST, sum(self.least(child) for child in node.children))
        return self._least[node.name]

    def _node(self, schema: Any, namespace: str, depth: int) -> Node:
        if depth > self._limits.schema_depth:
            raise Reject(Dead.BOUND_EXCEEDED, f"the writer schema is nested deeper than {self._limits.schema_depth}")
        if isinstance(schema, str):
            return Node(schema) if schema in PRIMITIVES else Node("ref", self._full(schema, namespace))
        if isinstance(schema, list):
            return Node("union", children=tuple(self._node(branch, namespace, depth + 1) for branch in schema))
        kind = schema["type"]
        if kind == "array":
            return Node("array", children=(self._node(schema["items"], namespace, depth + 1),))
        if kind == "map":
            return Node("map", children=(self._node(schema["values"], namespace, depth + 1),))
        if kind in ("record", "error", "enum", "fixed"):
            return self._named(schema, namespace, depth)
        return self._node(kind, namespace, depth + 1)

    def _named(self, schema: dict[str, Any], namespace: str, depth: int) -> Node:
        name = self._full(schema["name"], schema.get("namespace") or namespace)
        if name in self.named:
            raise ValueError(f"the type {name} is defined twice")
        inside = name.rpartition(".")[0]
        if schema["type"] == "enum":
            node = Node("enum", name, labels=tuple(str(symbol) for symbol in schema["symbols"]))
        elif schema["type"] == "fixed":
            node = Node("fixed", name, size=_fixed_size(schema["size"]))
        else:
            self.named[name] = Node("record", name)  # so that a second definition within it is noticed
            fields = [(str(f["name"]), self._node(f["type"], inside, depth + 1)) for f in schema["fields"]]
            if len({label for label, _ in fields}) < len(fields):
                raise ValueError(f"the record {name} has two fields of one name")
            node = Node("record", name, tuple(child for _, child in fields), tuple(label for label, _ in fields))
        self.named[name] = node
        return node

    def _full(self, name: str, namespace: str) -> str:
        if "." in name or not namespace:
            return name
        full = f"{namespace}.{name}"
        # fastavro writes references without their namespace; a name that only exists without one means that.
        return name if full not in self.named and name in self.named else full


def _fixed_size(size: object) -> int:
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < _WIDEST:
        raise ValueError(f"a fixed type has the size {size!r}")
    return size
