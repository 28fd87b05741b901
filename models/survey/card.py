"""The card beside a row's weights: what was trained on what, and the hashes without which no weight is believed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from broker.core.errors import TocsinError
from broker.models.survey import registry
from broker.models.survey.changes import changes
from broker.models.survey.row import Row

CARD_FILE = "card.json"
TRUNK_FILE = "trunk.safetensors"
HEAD_FILE = "head.safetensors"
FEW = 4
"""Differences between a row and its card that are named."""


class Changed(TocsinError):
    """The row was changed since its weights were trained."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Input(_Strict):
    """As `broker.sidecar.product.Input`."""

    name: str
    unit: str
    shape: tuple[int, ...]
    required: bool
    pixel_scale_arcsec: float | None = None


class Target(_Strict):
    """As `broker.models.survey.row.Target`."""

    name: str
    unit: str
    low: float
    high: float


class Network(_Strict):
    """A trunk's or head's configuration: the class's name, and its fields."""

    name: str
    config: dict[str, Any]


class Interface(_Strict):
    """What the row's file must say, too, for the weights to be served.

    Attributes
    ----------
    kind : str
        Of the products that it reads.
    inputs : tuple of Input
    at_least : int
        How many inputs that are not required a record must have.
    targets : tuple of Target
    classes : tuple of str
    trunk, head : Network
    """

    kind: str
    inputs: tuple[Input, ...]
    at_least: int
    targets: tuple[Target, ...]
    classes: tuple[str, ...]
    trunk: Network
    head: Network


class Data(_Strict):
    """As `broker.models.survey.row.Data`."""

    id: str
    version: str
    prior: str
    toy: bool
    real: bool
    licence: str


class Training(_Strict):
    """Where the weights come from."""

    command: str
    date: str
    seed: int
    epochs: int
    batch: int
    rate: float
    decay: float
    members: int
    few: bool = False
    examples: int
    held_out: int
    seconds: float


class File(_Strict):
    """A file beside the card, or beside that of the row whose trunk is shared (``row``, else '')."""

    file: str
    sha256: str
    bytes: int
    row: str = ""


class Card(_Strict):
    """Everything that a reader, or the service, must know to use a row's weights.

    Attributes
    ----------
    schema_version : int
        Of this card.
    row, variant, version, summary, finding : str
    papers : tuple of str
    interface : Interface
    data : Data
        What the examples were, how common what is in them, whether toy or real.
    pretraining : Data or None
        What the weights had learned before those.
    training : Training
    metrics : dict of str to float
        Of the held-out examples that also chose the epoch: a check, no result; results are the bench's. Where examples
        are few, of the first member alone: others saw them.
    trunk, head : File
    """

    schema_version: Literal[1]
    row: str
    variant: str
    version: str
    summary: str
    papers: tuple[str, ...]
    finding: str
    licence: str
    interface: Interface
    data: Data
    pretraining: Data | None = None
    training: Training
    metrics: dict[str, float]
    trunk: File
    head: File

    @property
    def name(self) -> str:
        """The row and its variant, as commands take them."""
        return f"{self.row}@{self.variant}"

    @property
    def weights_hash(self) -> str:
        """SHA-256 over the hashes of all weights that answer."""
        return hashlib.sha256(f"{self.trunk.sha256} {self.head.sha256}".encode()).hexdigest()

    @property
    def trunk_hash(self) -> str:
        """SHA-256 over the trunk's weights and all that decides what they are given."""
        reads = self.interface.model_dump_json(include={"kind", "inputs", "at_least", "trunk"})
        return hashlib.sha256(f"{self.trunk.sha256} {reads}".encode()).hexdigest()

    @property
    def bytes(self) -> int:
        """Size of the weights that are the row's own."""
        return self.head.bytes + (0 if self.trunk.row else self.trunk.bytes)

    @property
    def headline(self) -> str:
        """The first held-out figures, in a few words."""
        return ", ".join(f"{name} {value:.4g}" for name, value in list(self.metrics.items())[:2])

    def to_json(self) -> str:
        """Return the card as it lies beside the weights."""
        return json.dumps(self.model_dump(mode="json", exclude_defaults=True), indent=2, ensure_ascii=False) + "\n"


def interface(row: Row) -> Interface:
    """Return what a row's file says of its inputs, outputs and networks."""
    return Interface(
        kind=str(row.kind),
        inputs=tuple(Input(**dataclasses.asdict(wanted)) for wanted in row.inputs),
        at_least=row.at_least,
        targets=tuple(Target(**dataclasses.asdict(target)) for target in row.targets),
        classes=row.classes,
        trunk=_network(row.trunk),
        head=_network(row.head),
    )


def folder(row: str, variant: str, root: Path | None = None) -> Path:
    """Return where the weights of a row's variant are: below ``root``, or where the row's are installed."""
    return (registry.weights_of(row) if root is None else root) / row / variant


def installed(root: Path | None = None) -> list[str]:
    """Return the names (``pz-mdn@dc2``) of the rows' variants that have weights, sorted."""
    roots = {root} if root is not None else set()
    for row in registry.places() if root is None else ():
        with suppress(TocsinError):  # of a broken row there is nothing to serve; who names it is told
            roots.add(registry.weights_of(row))
    found = {path.parent for place in roots for path in place.glob(f"*/*/{CARD_FILE}")}
    return sorted(f"{path.parent.name}@{path.name}" for path in found)


def read(row: Row, variant: str, root: Path | None = None) -> Card:
    """Return the card of a row's weights; the weights are not read.

    Raises
    ------
    TocsinError
        There are no weights, the card does not follow its schema, or (`Changed`) the row is not the one it is of.
    """
    path = folder(row.id, variant, root) / CARD_FILE
    try:
        card = Card.model_validate_json(path.read_text())
    except FileNotFoundError:
        name = f"{row.id}@{variant}"
        raise TocsinError(f"{name} has no weights in {path.parent}: make them with `tocsin train {name}`") from None
    except (ValidationError, UnicodeDecodeError) as error:
        raise TocsinError(f"the card {path} does not follow its schema: {error}") from error
    _same(card, row, variant)
    return card


def read_file(card: Card, which: File, root: Path | None = None) -> bytes:
    """Return the bytes of a card's trunk or head, their SHA-256 equal to the card's.

    Raises
    ------
    TocsinError
        The file is missing or is another one.
    """
    path = folder(which.row or card.row, card.variant, root) / which.file
    try:
        data = path.read_bytes()
    except OSError as error:
        raise TocsinError(f"{card.name}: cannot read {path}: {error.strerror}") from error
    if (found := hashlib.sha256(data).hexdigest()) != which.sha256:
        raise TocsinError(f"{card.name}: SHA-256 of {path} is {found}, the card says {which.sha256}")
    return data


def describe(file: str, data: bytes) -> File:
    """Return what a card says of a file's bytes."""
    return File(file=file, sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))


def write(card: Card, weights: dict[str, bytes], root: Path | None = None) -> Path:
    """Write weights by their files' names in place of those that are there, then the card; return the folder."""
    place = folder(card.row, card.variant, root)
    place.mkdir(parents=True, exist_ok=True)
    for old in place.glob("*.safetensors"):
        old.unlink()
    for name, data in weights.items():
        (place / name).write_bytes(data)
    (place / CARD_FILE).write_text(card.to_json())
    return place


def _network(config: Any) -> Network:
    return Network(name=type(config).__name__, config=json.loads(json.dumps(dataclasses.asdict(config))))


def _same(card: Card, row: Row, variant: str) -> None:
    """Refuse a card of another row, or of a row that has changed since.

    Raises
    ------
    Changed
    """
    told = {"row": card.row, "variant": card.variant, "shares": card.trunk.row, **card.interface.model_dump()}
    says = {"row": row.id, "variant": variant, "shares": row.shares, **interface(row).model_dump()}
    if found := list(changes(told, says)):
        more = f"; and {len(found) - FEW} more" if len(found) > FEW else ""
        name = f"{row.id}@{variant}"
        raise Changed(
            f"{name}: the row was changed since it was trained: {'; '.join(found[:FEW])}{more}; "
            f"train it again: `tocsin train {name}`"
        )
