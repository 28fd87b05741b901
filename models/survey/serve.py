"""Rows that answer products: weights that their cards vouch for, behind the interface that the sidecar calls."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from broker.core.errors import TocsinError
from broker.models.survey import card as cards
from broker.models.survey import registry, weights
from broker.models.survey.card import Card
from broker.models.survey.fitted import Fitted, Trunks
from broker.models.survey.row import Row
from broker.sidecar.answer import Answer, Embedded, Provenance
from broker.sidecar.product import Input, Kind, NoAnswer, Product, Table, collect


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
        """Return what the trunk makes of the records of all products, in one forward pass."""
        table = collect(products, self.inputs, self.fitted.row.at_least)
        return self.fitted.trunks.embed(self.fitted.row, _own_kind(products, self.kind, table))

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


def _own_kind(products: list[Product], kind: Kind, table: Table) -> Table:
    """Return the table with a reason for every record of another kind of product."""
    if all(product.kind == kind for product in products):
        return table
    own = [product.kind == kind for product in products for _ in range(len(product))]
    reason = [why if same else str(NoAnswer.OTHER_KIND) for why, same in zip(table.reason, own, strict=True)]
    return replace(table, reason=reason)
