"""What a row of the survey models says of records, before it is encoded.

n = records. An output always has a value and, but for classes, a 1-sigma uncertainty; its form says what else there is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from broker.sidecar.product import Input, Kind, Product

Floats = NDArray[np.floating]
Form = Literal["value", "grid", "mixture", "samples", "classes"]


@dataclass(frozen=True, slots=True)
class Output:
    """One quantity.

    Attributes
    ----------
    name, unit : str
    form : str
        What ``parts`` holds. ``value``: nothing. ``grid``: ``grid`` (m,) and ``pdf`` (n, m), which integrates to 1 by
        the trapezium rule. ``mixture``: ``weights``, ``means``, ``sigmas`` (n, k), Gaussians. ``samples``: ``samples``
        (n, s), equally likely. ``classes``: ``probabilities`` (n, k), which add up to 1, by ``labels``.
    value : array, (n,)
        The point estimate (the row's file says which); of classes, the likeliest one's number. NaN without an answer.
    sigma : array, (n,)
        1-sigma uncertainty; of classes, NaN.
    parts : dict of str to array
    labels : tuple of str
        Names of the classes.
    """

    name: str
    unit: str
    form: Form
    value: Floats
    sigma: Floats
    parts: dict[str, Floats] = field(default_factory=dict)
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """What one row says of n records.

    Attributes
    ----------
    outputs : tuple of Output
    out_of_domain : array, (n,)
        Percentile rank among held-out training records of how far a record is from the training set [0 to 1];
        NaN without an answer. Above 0.99: unlike nearly all that the row was trained on.
    reason : list of str, (n,)
        '' where there is an answer, else a `broker.sidecar.product.NoAnswer`.
    """

    outputs: tuple[Output, ...]
    out_of_domain: Floats
    reason: list[str]


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where an answer comes from; told in every result.

    Attributes
    ----------
    row, variant : str
        Id of the row, and the set that its weights were trained on.
    version : str
        Of the card.
    weights_hash : str
        SHA-256 over all weights that answer, in hexadecimal digits.
    data_id, data_version : str
        The simulator, or the real set, that trained the weights.
    toy : bool
        The simulator stands for a physical one that is out of reach: believe the method, not the numbers.
    seed : int or None
        Of what is random in the answer.
    generated : bool
        The outputs are drawn by a generative model: not measurements.
    """

    row: str
    variant: str
    version: str
    weights_hash: str
    data_id: str
    data_version: str
    toy: bool
    seed: int | None = None
    generated: bool = False


class Model(Protocol):
    """What the sidecar's step calls. Rows that share a trunk share ``trunk``, and then one forward pass of it."""

    @property
    def kind(self) -> Kind:
        """The kind of products that it reads."""
        ...

    @property
    def inputs(self) -> tuple[Input, ...]:
        """What it reads of them."""
        ...

    @property
    def provenance(self) -> Provenance:
        """Where its answers come from."""
        ...

    @property
    def trunk(self) -> str:
        """Hash of the trunk's weights and of its inputs."""
        ...

    def embed(self, products: list[Product]) -> Embedded:
        """Return what the trunk makes of the records of all products, in one forward pass."""
        ...

    def answer(self, embedded: Embedded) -> Answer:
        """Return the head's answer to what a trunk with the same hash made."""
        ...


@dataclass(frozen=True, slots=True)
class Embedded:
    """A trunk's output for N records.

    Attributes
    ----------
    features : list of array
        (N, width) for each member of an ensemble; rows with a reason are meaningless.
    domain : array, (N,)
        Where the records lie among the training set's, see `Answer`.
    reason : list of str, (N,)
    """

    features: list[Floats]
    domain: Floats
    reason: list[str]
