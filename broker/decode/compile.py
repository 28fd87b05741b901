"""From a writer schema and the fields that we read to a program for `broker.decode.machine`.

Neighbouring fields that we skip are merged: fixed widths into one step, unions of two fixed widths into one run. A
named type that is skipped where the schema only refers to it becomes a subroutine, so a program is about as long as
its schema, and recursive types end. A program can express all of Avro, so there is no slower way to decode a packet;
a sender who chooses the schema chooses only among programs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import numpy as np

from broker.core.batch import Ints
from broker.core.reasons import Dead
from broker.decode import instructions as op
from broker.decode.fields import Column, History, Kind, Projection
from broker.decode.fields import code as code_of
from broker.decode.instructions import Code
from broker.decode.limits import Limits, Reject
from broker.decode.templates import MOST_CAPTURES
from broker.decode.tree import TEXTS, VARINTS, Node, Tree

_SKIPS = dict.fromkeys(VARINTS, op.VARINT) | dict.fromkeys(TEXTS, op.BYTES)
_CAPTURES = {
    Kind.FLOAT: {
        "float": op.CAP_FLOAT,
        "double": op.CAP_DOUBLE,
        "int": op.CAP_INT_AS_FLOAT,
        "long": op.CAP_INT_AS_FLOAT,
    },
    Kind.INT: {"int": op.CAP_INT, "long": op.CAP_INT},
    Kind.BOOL: {"boolean": op.CAP_BOOL},
    Kind.CODE: {"string": op.CAP_CODE, "enum": op.CAP_ENUM},
    Kind.SPAN: {"string": op.CAP_SPAN, "bytes": op.CAP_SPAN},
}


@dataclass(frozen=True, slots=True)
class Program:
    """A compiled projection.

    Attributes
    ----------
    projection : Projection
    code : Code
    names : tuple of str
        The field that each instruction belongs to, for messages.
    tables : tuple of int64 arrays
        What the addresses in ``code`` point into.
    """

    projection: Projection
    code: Code
    names: tuple[str, ...]
    tables: tuple[Ints, ...]


@dataclass
class _Wants:
    """What to capture below a record: columns with their first word, histories, and records further down."""

    columns: dict[str, tuple[Column, int]] = field(default_factory=dict)
    histories: dict[str, History] = field(default_factory=dict)
    records: dict[str, _Wants] = field(default_factory=dict)


def compile_program(tree: Tree, projection: Projection, limits: Limits, *, many: bool = False) -> Program:
    """Return the program that captures ``projection`` from packets written with ``tree``.

    With ``many`` a body may go on behind the record, with the next one.

    Raises
    ------
    Reject
        The schema lacks a field that we need, or has it in a type that we do not read (`Dead.MISSING_FIELD`); or it
        breaks a bound.
    """
    root = tree.resolve(tree.root)
    if root.type != "record":
        raise Reject(Dead.MISSING_FIELD, f"the writer schema is a {root.type}, not a record")
    writer = _Writer(tree, limits)
    writer.record(root, _wants(projection), "")
    writer.add(op.HALT, int(many))
    writer.subroutines()
    _require("", projection.alert, writer.found)
    for history in projection.histories:
        if history.path in writer.found:
            _require(f"{history.path}.", history.columns, writer.found)
    code, tables = writer.code(projection)
    return Program(projection, code, tuple(writer.names), tables)


def _require(prefix: str, columns: tuple[Column, ...], found: set[str]) -> None:
    missing = [prefix + column.path for column in columns if column.required and prefix + column.path not in found]
    if missing:
        raise Reject(Dead.MISSING_FIELD, f"the writer schema has no field {', '.join(missing)}")


def _wants(projection: Projection) -> _Wants:
    wants = _Wants(histories={history.path: history for history in projection.histories})
    for column in projection.alert:
        *records, name = column.path.split(".")
        node = wants
        for record in records:
            node = node.records.setdefault(record, _Wants())
        node.columns[name] = (column, projection.first_word[column.path])
    return wants


class _Writer:
    """The program while it is written."""

    def __init__(self, tree: Tree, limits: Limits) -> None:
        self._tree = tree
        self._limits = limits
        self._steps: list[list[int]] = []
        self._runs: list[tuple[int, int, int]] = []
        self._jumps: list[int] = []
        self._entries: list[tuple[int, int, int]] = []  # fixed bytes before a union, and the widths of its branches
        self._fixed = 0  # fixed bytes to skip after those
        self._skipped = ""  # the first field among them
        self._calls: dict[str, list[int]] = {}
        self.names: list[str] = []
        self.found: set[str] = set()
        self._path = ""

    def code(self, projection: Projection) -> tuple[Code, tuple[Ints, ...]]:
        """Return the finished program, and the tables that hold it."""
        blanks = np.concatenate((projection.alert_null, projection.point_null.ravel()))
        tables = tuple(np.array(table, dtype=np.int64).ravel() for table in (self._steps, self._runs, self._jumps))
        addresses = [table.ctypes.data for table in (*tables, blanks)]
        words = len(projection.alert_null), projection.point_words
        return cast(Code, (*addresses, *words)), (*tables, blanks)

    def add(self, step: int, a: int = 0, b: int = 0, c: int = -1, d: int = 0, *, name: str = "") -> int:
        """Append an instruction, after what is still to be skipped; return its number."""
        self._flush()
        return self._append([step, a, b, c, d, 0], name or self._path)

    def _append(self, step: list[int], name: str) -> int:
        if len(self._steps) >= self._limits.instructions:
            raise Reject(Dead.BOUND_EXCEEDED, f"the program has more than {self._limits.instructions} instructions")
        self._steps.append(step)
        self.names.append(name)
        return len(self._steps) - 1

    def here(self) -> int:
        """Return the number of the next instruction; nothing is left to be skipped before it."""
        self._flush()
        return len(self._steps)

    def _flush(self) -> None:
        """Write the skips that were put off."""
        if self._entries:
            most = sum(before + 1 + max(widths) for before, *widths in self._entries)
            first = len(self._runs)
            self._runs += [(before, before + 1 + zero, one - zero) for before, zero, one in self._entries]
            self._append([op.RUN, first, len(self._entries), -1, most, 0], self._skipped)
        if self._fixed:
            self._append([op.SKIP, self._fixed, 0, -1, 0, 0], self._skipped)
        self._entries, self._fixed, self._skipped = [], 0, ""

    def record(self, node: Node, wants: _Wants | None, path: str) -> None:
        """Write a record's fields."""
        for label, child in zip(node.labels, node.children, strict=True):
            inner = f"{path}.{label}" if path else label
            self._path = inner
            if wants is None:
                self.skip(child)
            elif label in wants.columns:
                self.capture(child, *wants.columns[label], inner)
            elif label in wants.histories:
                self.history(child, wants.histories[label])
            elif label in wants.records:
                self.below(child, wants.records[label], inner)
            else:
                self.skip(child)

    def skip(self, node: Node) -> None:
        """Write what passes over a value."""
        by_name = node.type == "ref"
        self._skipped = self._skipped or self._path
        node = self._tree.resolve(node)
        width = self._tree.width(node)
        if width is not None:
            self._fixed += width
        elif node.type in _SKIPS:
            self.add(_SKIPS[node.type])
        elif node.type == "enum":
            self.add(op.ENUM, len(node.labels))
        elif node.type == "union":
            self._skip_union(node)
        elif node.type in ("array", "map"):
            self._loop(node, lambda: self.skip(node.children[0]))
        elif by_name:
            self._calls.setdefault(node.name, []).append(self.add(op.CALL))
        else:
            self.record(node, None, self._path)

    def _skip_union(self, node: Node) -> None:
        widths = [self._tree.width(child) for child in node.children]
        kinds = [self._tree.resolve(child).type for child in node.children]
        if len(widths) == 2 and None not in widths:
            self._entries.append((self._fixed, widths[0] or 0, widths[1] or 0))
            self._fixed = 0
        elif len(kinds) == 2 and "null" in kinds and (set(kinds) & _SKIPS.keys()):
            null = kinds.index("null")
            self.add(_SKIPS[kinds[1 - null]], c=null)
        else:
            self._branches(node, self.skip)

    def _branches(self, node: Node, write: Callable[[Node], None]) -> None:
        """Write a union as a jump into its branches; ``write`` writes one."""
        first = len(self._jumps)
        self.add(op.UNION, len(node.children), first)
        self._jumps += [0] * len(node.children)
        path, leave = self._path, []
        for i, child in enumerate(node.children):
            self._jumps[first + i] = self.here()
            write(child)
            self._path = path
            leave.append(self.add(op.JUMP))
        for step in leave:
            self._steps[step][1] = self.here()

    def _loop(self, node: Node, write: Callable[[], None], tag: int = -1) -> None:
        """Write an array or map; ``write`` writes one item."""
        item, path = node.children[0], self._path
        width = self._tree.width(item)
        if node.type == "array" and tag < 0 and width is not None:
            self.add(op.FIXED_ARRAY, width)
            return
        self.add(op.ARRAY)
        step = self.add(op.NEXT, c=tag, d=self._tree.least(item) + (node.type == "map"))
        self._steps[step][1] = self.here()
        if node.type == "map":
            self.add(op.BYTES)
        write()
        self._path = path
        self.add(op.JUMP, step)
        self._steps[step][2] = self.here()

    def subroutines(self) -> None:
        """Write the named types that are skipped where they are referred to."""
        written: dict[str, int] = {}
        while self._calls:
            name, steps = self._calls.popitem()
            if name not in written:
                written[name] = self.here()
                self._path = name
                self.record(self._tree.named[name], None, name)
                self.add(op.RETURN)
            for step in steps:
                self._steps[step][1] = written[name]

    def capture(self, node: Node, column: Column, word: int, path: str) -> None:
        """Write what captures a value, with every branch of a union that we can read.

        Raises
        ------
        Reject
            We cannot read the type at all.
        """
        node = self._tree.resolve(node)
        kinds = [self._tree.resolve(child).type for child in node.children]
        readable = _CAPTURES[column.kind]
        if node.type == "union" and not readable.keys() & set(kinds):
            raise Reject(Dead.MISSING_FIELD, f"the field {path} is a union of {', '.join(kinds)}: not what we read")
        if node.type == "union" and len(kinds) == 2 and "null" in kinds:
            null = kinds.index("null")
            self._capture(self._tree.resolve(node.children[1 - null]), column, word, path, null)
        elif node.type == "union":
            self._branches(node, lambda child: self._capture(self._tree.resolve(child), column, word, path, -1))
        elif node.type not in readable:
            raise Reject(Dead.MISSING_FIELD, f"the field {path} is of type {node.type}: not what we read")
        else:
            self._capture(node, column, word, path, -1)
        self.found.add(path)

    def _capture(self, node: Node, column: Column, word: int, path: str, null: int) -> None:
        if node.type == "null":
            return
        step = _CAPTURES[column.kind].get(node.type)
        if step is None:
            self.add(op.FAIL, name=path)
            return
        first = len(self._jumps)
        self._jumps += [code_of(symbol) for symbol in node.labels]
        self.add(step, len(node.labels), word, null, first, name=path)

    def history(self, node: Node, history: History) -> None:
        """Write a history: an array of records, or a union of one with null.

        Raises
        ------
        Reject
            It is something else.
        """
        node = self._tree.resolve(node)
        self.found.add(history.path)
        if node.type == "union":
            self._branches(node, lambda child: self._history(self._tree.resolve(child), history))
        else:
            self._history(node, history)

    def _history(self, node: Node, history: History) -> None:
        if node.type == "null":
            return
        if node.type != "array":
            raise Reject(Dead.MISSING_FIELD, f"the field {history.path} is of type {node.type}, not an array")
        if len(history.columns) > MOST_CAPTURES:
            raise ValueError(f"{history.path}: a template has room for {MOST_CAPTURES} columns")
        wants = _Wants({column.path: (column, i) for i, column in enumerate(history.columns)})
        self._loop(node, lambda: self.below(node.children[0], wants, history.path), history.tag)

    def below(self, node: Node, wants: _Wants, path: str) -> None:
        """Write a record that holds what we read, or a union of one with null.

        Raises
        ------
        Reject
            It is something else.
        """
        node = self._tree.resolve(node)
        if node.type == "union":
            self._branches(node, lambda child: self.below(child, wants, path))
        elif node.type == "record":
            self.record(node, wants, path)
        elif node.type != "null":
            raise Reject(Dead.MISSING_FIELD, f"the field {path} is of type {node.type}, not a record")
