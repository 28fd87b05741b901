"""What a row of the survey models states of itself: all that training, serving, the bench and the suite need.

A row is one file ``models/survey/<family>/rows/<id>.py`` with one value ``ROW``. It imports no torch: trunks and heads
are named by small configurations, whose networks are built where they are trained or served. n = examples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from broker.sidecar.product import Input, Kind

if TYPE_CHECKING:
    from broker.models.survey.heads import Head
    from broker.models.survey.trunks import Trunk

Floats = NDArray[np.floating]
Columns = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Paper:
    """A paper that the row stands for: "D'Isanto & Polsterer 2018" and where it is."""

    citation: str
    reference: str


@dataclass(frozen=True, slots=True)
class Target:
    """A quantity that a row gives.

    Attributes
    ----------
    name, unit : str
    low, high : float
        Where the truth can lie; grids and bins go from low to high.
    """

    name: str
    unit: str = ""
    low: float = 0.0
    high: float = 1.0


@dataclass(frozen=True, slots=True)
class Data:
    """Where examples come from; the card and every result repeat it.

    Attributes
    ----------
    id, version : str
        Of the simulator or of the real set, e.g. "sed-rows", "1.0"; the version rises when the examples change.
    prior : str
        What is how common in it, in a sentence: answers are posteriors under this prior.
    toy : bool
        Stands for a physical simulation that is out of reach.
    real : bool
        Observed, not simulated.
    licence : str
    """

    id: str
    version: str
    prior: str
    toy: bool = False
    real: bool = False
    licence: str = "simulated here"


@dataclass(frozen=True, slots=True)
class Examples:
    """Examples as one set gives them.

    Attributes
    ----------
    columns : dict of str to array, (n, ...)
        By the names of the row's inputs, in their units; NaN where not measured. The same as a product would hold.
    truth : array
        (n, targets) float; of a classifier (n,) int, numbers of its classes.
    data : Data
    extra : dict of str to array, (n, ...)
        What only judges see (for example the true magnitude to bin by); never an input.
    """

    columns: Columns
    truth: NDArray[Any]
    data: Data
    extra: Columns = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.truth)

    def take(self, rows: NDArray[Any]) -> Examples:
        """Return the examples of some rows, in that order."""
        return Examples(
            {name: column[rows] for name, column in self.columns.items()},
            self.truth[rows],
            self.data,
            {name: column[rows] for name, column in self.extra.items()},
        )


@dataclass(frozen=True, slots=True)
class Variant:
    """One set that a row can be trained on.

    Attributes
    ----------
    make : callable
        ``make(n, seed, data)`` returns `Examples`; ``n`` is how many a simulator makes (a real set returns all it has),
        ``data`` the folder of real sets (``$TOCSIN_TEST_DATA/survey``) or None.
    n : int
        How many training takes.
    real : bool
        Needs the folder of real sets.
    training : Training or None
        Of this set, where the row's is not right for it.
    targets : tuple of Target
        Of this set, where the truth lies within other limits than the row's; empty: the row's.
    shares : str
        Id of a row whose trunk of this variant is read frozen; '' for what the row says.
    """

    make: Callable[[int, int, Path | None], Examples]
    n: int = 20_000
    real: bool = False
    training: Training | None = None
    targets: tuple[Target, ...] = ()
    shares: str = ""


@dataclass(frozen=True, slots=True)
class Unseen:
    """A set that only judges a row: none of its weights is trained on it, and it has none.

    Attributes
    ----------
    make : callable
        As of `Variant`, but nothing that it returns is in that variant's set.
    of : str
        The variant whose weights answer, as they ship.
    real : bool
        Needs the folder of real sets.
    """

    make: Callable[[int, int, Path | None], Examples]
    of: str
    real: bool = False


class Baseline(Protocol):
    """A classical method to judge a row by.

    It is called with training examples and returns a function from columns to estimates of the targets (n, targets),
    or of a classifier's probabilities (n, classes).
    """

    def __call__(self, train: Examples, seed: int) -> Callable[[Columns], Floats]:
        """Return the fitted method."""
        ...


@dataclass(frozen=True, slots=True)
class Training:
    """How a row is trained: epochs, batch size, learning rate, weight decay; ``members`` networks are averaged.

    Where examples are ``few``, held-out ones are too few to choose the epoch: the last one counts. And they are too
    many to go without: each member holds out others.
    """

    epochs: int = 40
    batch: int = 256
    rate: float = 2e-3
    decay: float = 1e-4
    members: int = 1
    few: bool = False


@dataclass(frozen=True, slots=True)
class Pretraining:
    """What a row learns before the examples of its variants: where there are many, to be tuned on few."""

    variant: Variant
    training: Training


@dataclass(frozen=True, slots=True)
class Row:
    """A system of the review.

    Attributes
    ----------
    id : str
        As in the inventory, e.g. ``pz-mdn``.
    summary : str
        One line for lists.
    papers : tuple of Paper
    finding : str
        What the papers, or the review, report; the table prints it beside what is measured here.
    kind : Kind
        Of the products that it reads.
    inputs : tuple of Input
    at_least : int
        How many inputs that are not required a record must have.
    trunk : Trunk
        Inputs to features; see `broker.models.survey.trunks`.
    head : Head
        Features to outputs, and the loss; see `broker.models.survey.heads`.
    targets : tuple of Target
        What a regression gives; empty for a classifier.
    classes : tuple of str
        What a classifier tells apart; empty for a regression.
    variants : dict of str to Variant
        By name; the first is the default.
    baselines : dict of str to Baseline
        By name; the first is the one that the table prints.
    training : Training
    shares : str
        Id of a row whose trunk (of the same variant) this one reads frozen; '' for its own.
    judge : str
        Which figures count: a key of `broker.models.survey.judge.JUDGES`.
    pretraining : Pretraining or None
        Every training starts from what these examples taught; None: from random weights.
    augment : callable or None
        ``augment(columns, rng)`` returns other columns that could as well have been observed; in training only.
    unseen : dict of str to Unseen
        Sets that only judge, by names that no variant has.
    """

    id: str
    summary: str
    papers: tuple[Paper, ...]
    finding: str
    kind: Kind
    inputs: tuple[Input, ...]
    trunk: Trunk
    head: Head
    variants: dict[str, Variant]
    baselines: dict[str, Baseline]
    judge: str
    targets: tuple[Target, ...] = ()
    classes: tuple[str, ...] = ()
    at_least: int = 0
    training: Training = Training()
    shares: str = ""
    pretraining: Pretraining | None = None
    augment: Callable[[Columns, np.random.Generator], Columns] | None = None
    unseen: dict[str, Unseen] = field(default_factory=dict)

    @property
    def sets(self) -> dict[str, Variant | Unseen]:
        """All that the row is judged on, by name: its variants, each with the sets that only judge it behind it."""
        found: dict[str, Variant | Unseen] = {}
        for name, variant in self.variants.items():
            found[name] = variant
            found |= {other: only for other, only in self.unseen.items() if only.of == name}
        return found

    def on(self, variant: str) -> Row:
        """Return the row as it is for one of its variants, with that set's training, targets and trunk."""
        own = self.variants[variant]
        training, targets = own.training or self.training, own.targets or self.targets
        return replace(self, training=training, targets=targets, shares=own.shares or self.shares)


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of a bench: a figure of the row and of the baseline on the same inputs.

    Attributes
    ----------
    metric, unit : str
    better : str
        "less" or "more".
    model, baseline : float
    interval : tuple of float
        95 % interval of the model's figure.
    """

    metric: str
    unit: str
    better: str
    model: float
    baseline: float
    interval: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Capability:
    """A row that is a service to other rows: it has no weights, and works when it shows what it claims.

    Attributes
    ----------
    id, summary, papers, finding
        As of `Row`.
    show : callable
        ``show(seed, data)`` measures the claim (never a stored figure) and returns the findings, and a sentence that
        says what they mean.
    pages : callable or None
        ``pages(seed, data)`` returns more to lie beside the result, such as a page and a picture: texts by file name.
    """

    id: str
    summary: str
    papers: tuple[Paper, ...]
    finding: str
    show: Callable[[int, Path | None], tuple[list[Finding], str]]
    pages: Callable[[int, Path | None], dict[str, str]] | None = None
