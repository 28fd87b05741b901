"""A trained row in memory: what training returns, the bench asks and serving loads. n = records."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from broker.models.survey import domain
from broker.models.survey.row import Columns, Floats, Row
from broker.sidecar.answer import Answer, Embedded, Output
from broker.sidecar.product import Array, Kind, NoAnswer, Product, Table, collect

CHUNK, ELEMENTS = 4096, 2**20
"""Records, and numbers of theirs, per pass through a network: bounds memory whatever the batch."""


@dataclass(frozen=True, slots=True)
class Trunks:
    """The trunks of an ensemble's members, and where their training set lies.

    Attributes
    ----------
    networks : list of nn.Module
        One for each member, in evaluation mode.
    domain : dict of str to array
        What `broker.models.survey.domain.rank` reads: of the first member's features.
    """

    networks: list[nn.Module]
    domain: dict[str, NDArray[Any]]

    def embed(self, row: Row, table: Table) -> Embedded:
        """Return what the trunks make of a table of the row's inputs, `CHUNK` records at a time."""
        parts: list[list[Floats]] = [[] for _ in self.networks]
        reason = list(table.reason)
        for start in range(0, max(len(table), 1), CHUNK):
            some = {name: column[start : start + CHUNK] for name, column in table.columns.items()}
            prepared = row.trunk.prepare(some, row.inputs)
            if row.kind == Kind.CUTOUT:
                for k in np.flatnonzero(empty(prepared)) + start:
                    reason[k] = reason[k] or str(NoAnswer.BLANK)
            for own, network in zip(parts, self.networks, strict=True):
                own.append(through(network, prepared))
        features = [np.concatenate(own) for own in parts]
        rank = domain.rank(self.domain, features[0]) if len(table) else np.empty(0)
        answered = np.array(reason, dtype=object) == ""
        return Embedded(features, np.where(answered, rank, np.nan), reason)


@dataclass(frozen=True, slots=True)
class Fitted:
    """A row with its weights.

    Attributes
    ----------
    row : Row
    trunks : Trunks
    heads : list
        `broker.models.survey.heads.HeadNetwork` of each member, in evaluation mode.
    """

    row: Row
    trunks: Trunks
    heads: list[Any]

    def answer(self, columns: Columns) -> Answer:
        """Return the answer to n records, by the names and in the units of the row's inputs."""
        return self.finish(self.trunks.embed(self.row, read(self.row, columns)))

    def finish(self, embedded: Embedded) -> Answer:
        """Return the heads' answer to what the trunks made."""
        members = [through_head(head, features) for head, features in zip(self.heads, embedded.features, strict=True)]
        outputs = self.row.head.outputs(members, self.row)
        finite = np.all([np.isfinite(output.value) for output in outputs], axis=0)
        reason = [
            why or ("" if good else str(NoAnswer.BAD_FIT)) for why, good in zip(embedded.reason, finite, strict=True)
        ]
        silent = np.array([why != "" for why in reason], dtype=bool)
        rank = np.where(silent, np.nan, embedded.domain).astype(np.float32)
        return Answer(tuple(_silenced(output, silent) for output in outputs), rank, reason)


def read(row: Row, columns: Columns) -> Table:
    """Return columns of n records as the row reads a product that holds them."""
    return collect([as_product(row, columns)], row.inputs, row.at_least)


def as_product(row: Row, columns: Columns) -> Product:
    """Return columns of n records as a product without ids."""
    units = {wanted.name: wanted.unit for wanted in row.inputs}
    arrays = {name: Array(units[name], np.asarray(x)) for name, x in columns.items() if name in units}
    n = len(next(iter(arrays.values())).values) if arrays else 0
    return Product("", row.kind, [""] * n, arrays)


def empty(prepared: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Tell of which images, as a trunk sees them (n, ...), nothing is left: it is as if there were none."""
    dark: NDArray[np.bool_] = (prepared == 0.0).reshape(len(prepared), prod(prepared.shape[1:])).all(axis=1)
    return dark


def through(network: nn.Module, prepared: NDArray[np.float32]) -> Floats:
    """Return a trunk's features (n, width) of prepared inputs, a bounded number of records at a time."""
    parts: list[Floats] = chunked(network, prepared)
    return np.concatenate(parts)


def through_head(head: Callable[[Tensor], dict[str, Tensor]], features: Floats) -> dict[str, Floats]:
    """Return what a head says of features (n, width), a bounded number of records at a time."""
    parts: list[dict[str, Tensor]] = chunked(head, features)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def chunked(network: Callable[[Tensor], Any], rows: Floats) -> list[Any]:
    """Return what a network says of the rows, chunk by chunk, as arrays; of no rows one empty chunk."""
    step = chunk(rows.shape)
    with torch.inference_mode():
        return [
            _arrays(network(torch.from_numpy(rows[start : start + step])))
            for start in range(0, max(len(rows), 1), step)
        ]


def chunk(shape: Sequence[int]) -> int:
    """Return how many of n records (n, ...) go through a network at a time."""
    return max(min(CHUNK, ELEMENTS // max(prod(shape[1:]), 1)), 1)


def _arrays(said: Any) -> Any:
    return {name: x.numpy() for name, x in said.items()} if isinstance(said, dict) else said.numpy()


def _silenced(output: Output, silent: NDArray[np.bool_]) -> Output:
    """Return an output that is NaN for records without an answer."""
    if not silent.any():
        return output
    parts = {name: part if name == "grid" else _blank(part, silent) for name, part in output.parts.items()}
    return replace(output, value=_blank(output.value, silent), sigma=_blank(output.sigma, silent), parts=parts)


def _blank(values: Floats, silent: NDArray[np.bool_]) -> Floats:
    """Return values (n, ...), NaN where ``silent`` (n,)."""
    return np.where(silent.reshape(-1, *[1] * (values.ndim - 1)), values.dtype.type(np.nan), values)
