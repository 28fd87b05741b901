"""Rows that answer products: weights that their cards vouch for, behind the interface that the sidecar calls."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from broker.core.errors import TocsinError
from broker.models.survey import card as cards
from broker.models.survey import registry, weights
from broker.models.survey.card import Card
from broker.models.survey.fitted import Fitted, Trunks
from broker.models.survey.row import Row
from broker.sidecar.answer import Answer, Embedded, Provenance
from broker.sidecar.product import LARGEST, Input, Kind, NoAnswer, Product, Table, collect

AT_ONCE = 2**24
"""Numbers of a table that several products share."""


@dataclass(frozen=True, slots=True)
class Served:
    """A row with its weights and card: a `broker.sidecar.answer.Model`."""

    card: Card
    fitted: Fitted

    @property
    def kind(self) -> Kind:
        """The kind of products that it reads."""
        return self.fitted.row.kind

    @property
    def inputs(self) -> tuple[Input, ...]:
        """What it reads of them."""
        return self.fitted.row.inputs

    @property
    def provenance(self) -> Provenance:
        """Where its answers come from."""
        card, data = self.card, self.card.data
        seed = self.fitted.row.head.seed
        return Provenance(
            card.row, card.variant, card.version, card.weights_hash, data.id, data.version, data.toy, seed
        )

    @property
    def trunk(self) -> str:
        """Hash of the trunk's weights and of its inputs."""
        return self.card.trunk_hash

    def embed(self, products: list[Product]) -> Embedded:
        """Return what the trunk makes of the records of all products, in one forward pass where they fit together."""
        row, parts = self.fitted.row, []
        for some in portions(products, self.inputs):
            table = collect(some, self.inputs, row.at_least)
            parts.append(self.fitted.trunks.embed(row, _own_kind(some, self.kind, table)))
        return parts[0] if len(parts) == 1 else _joined(parts)

    def answer(self, embedded: Embedded) -> Answer:
        """Return the head's answer to what a trunk with the same hash made."""
        return self.fitted.finish(embedded)


def load(name: str, root: Path | None = None, threads: int = 1) -> Served:
    """Return a row, ready to answer.

    Parameters
    ----------
    name : str
        Such as ``pz-mdn@dc2``; without ``@`` the row's first variant.
    root : Path, optional
        Folder of weights; None: where the row's are installed.
    threads : int
        Of torch, from now on.

    Raises
    ------
    TocsinError
        No such row or weights, or row, card and weights do not agree.
    """
    torch.set_num_threads(threads)
    row, variant = registry.find(name)
    card = cards.read(row, variant, root)
    trunks = load_trunks(row, card, root)
    data = cards.read_file(card, card.head, root)
    try:
        return Served(card, Fitted(row, trunks, weights.unpack_heads(row, data)))
    except (RuntimeError, ValueError) as error:
        raise TocsinError(f"{card.name}: the weights do not fit the row's head: {error}") from error


def load_trunks(row: Row, card: Card, root: Path | None = None) -> Trunks:
    """Return the trunks that a card names: the row's own, or those of the row that it shares them with.

    Raises
    ------
    TocsinError
        The file is missing, is another one, or does not fit the row's trunk.
    """
    data = cards.read_file(card, card.trunk, root)
    try:
        return weights.unpack_trunks(row, data)
    except (RuntimeError, ValueError) as error:
        raise TocsinError(f"{card.name}: the weights do not fit the row's trunk: {error}") from error


def portions(products: list[Product], inputs: tuple[Input, ...]) -> Iterator[list[Product]]:
    """Yield the products in runs whose tables hold at most `AT_ONCE` numbers; one product may be more by itself.

    A table is as wide as its largest image: a single large one beside many small ones would make a hundred gigabytes.
    """
    free = [wanted for wanted in inputs if -1 in wanted.shape]
    fixed = sum(prod(wanted.shape) for wanted in inputs if wanted not in free)
    run: list[Product] = []
    records, sizes = 0, [np.ones(len(wanted.shape), np.int64) for wanted in free]
    for product in products:
        own = [_sizes(product, wanted) for wanted in free]
        wider = [np.maximum(one, other) for one, other in zip(sizes, own, strict=True)]
        if run and (records + len(product)) * (fixed + sum(int(size.prod()) for size in wider)) > AT_ONCE:
            yield run
            run, records, wider = [], 0, own
        run.append(product)
        records, sizes = records + len(product), wider
    yield run


def _sizes(product: Product, wanted: Input) -> NDArray[np.int64]:
    """Return the axes (axes,) of a product's array behind the records; 1 where it is not as the row wants it."""
    found = product.arrays.get(wanted.name)
    if found is None or found.values.ndim != len(wanted.shape) + 1:
        return np.ones(len(wanted.shape), np.int64)
    return np.minimum(np.array(found.values.shape[1:], np.int64), LARGEST)


def _joined(parts: list[Embedded]) -> Embedded:
    features = [np.concatenate(members) for members in zip(*(part.features for part in parts), strict=True)]
    reason = [why for part in parts for why in part.reason]
    return Embedded(features, np.concatenate([part.domain for part in parts]), reason)


def _own_kind(products: list[Product], kind: Kind, table: Table) -> Table:
    """Return the table with a reason for every record of another kind of product."""
    if all(product.kind == kind for product in products):
        return table
    own = [product.kind == kind for product in products for _ in range(len(product))]
    reason = [why if same else str(NoAnswer.OTHER_KIND) for why, same in zip(table.reason, own, strict=True)]
    return replace(table, reason=reason)
