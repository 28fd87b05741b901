"""Training of a row: the same for benches and for the weights that ship, and what `tocsin train ROW` does.

A tenth of the examples is held out: it chooses the epoch, unless examples are few, and calibrates how unlike the
training set a record is.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from broker.core.errors import TocsinError
from broker.models.survey import card as cards
from broker.models.survey import descend, domain, registry, serve, sound
from broker.models.survey.card import Card, File
from broker.models.survey.descend import Task
from broker.models.survey.fitted import Fitted, Trunks, read, through
from broker.models.survey.judge import JUDGES
from broker.models.survey.progress import Show, silent
from broker.models.survey.row import Examples, Row
from broker.models.survey.weights import pack_heads, pack_trunks

HELD_OUT = 0.1
FEWEST = 20
"""Examples that training needs."""
VERSION = "1.0.0"
LICENCE = "BSD-3-Clause"


@dataclass(frozen=True, slots=True)
class Options:
    """Arguments of `run`.

    Attributes
    ----------
    data : Path or None
        Folder of real sets.
    out : Path or None
        Folder of weights; None: where the row's are installed.
    seed, threads : int
    epochs : int
        0 takes the row's.
    """

    data: Path | None = None
    out: Path | None = None
    seed: int = 0
    threads: int = 1
    epochs: int = 0


def fit(
    row: Row,
    examples: Examples,
    seed: int,
    *,
    report: Show | None = None,
    threads: int = 1,
    trunks: Trunks | None = None,
) -> Fitted:
    """Return the row, trained on the examples; the same for the same seed and number of threads.

    Its parameters are rounded to half precision, as the file of weights will hold them.

    Parameters
    ----------
    report : callable, optional
        Told the member and its held-out loss, the epoch and of how many.
    threads : int
        Of torch, from now on.
    trunks : Trunks, optional
        Of the row that this one shares its trunk with; None trains them on the same examples and truths, as this row is
        trained, which is what a fold needs whose test part no weight may have seen.

    Raises
    ------
    TocsinError
        Fewer than `FEWEST` examples have what the row requires, or they cannot train the trunk that is shared.
    """
    torch.set_num_threads(threads)
    report = report or silent
    if row.shares and trunks is None:
        parent = replace(_trunk_row(row, ""), targets=row.targets, training=row.training)
        if parent.classes != row.classes:
            raise TocsinError(
                f"{row.id}: these examples cannot train the trunk of {parent.id}, which learns other truths"
            )
        trunks = fit(parent, examples, seed, report=report, threads=threads).trunks
    train, held = split(row, examples, seed)
    start = _pretrained(row, seed, report, threads)
    task = Task(row, examples.take(train), examples.take(held), report, trunks, start)
    count = row.training.members if trunks is None else len(trunks.networks)
    with _flushed():
        members = [descend.train(_of_member(task, examples, seed, k), k, seed) for k in range(count)]
    if trunks is None:
        networks = [trunk for trunk, _ in members]
        prepared = [row.trunk.prepare(read(row, part.columns).columns, row.inputs) for part in (task.train, task.held)]
        trunks = Trunks(networks, domain.fit(*(through(networks[0], x) for x in prepared)))
    return Fitted(row, trunks, [head for _, head in members])


def _of_member(task: Task, examples: Examples, seed: int, member: int) -> Task:
    """Return what a member learns: where examples are few, every member holds out others."""
    if member == 0 or not task.row.training.few:
        return task
    train, held = split(task.row, examples, seed, member)
    return replace(task, train=examples.take(train), held=examples.take(held))


@contextmanager
def _flushed() -> Iterator[None]:
    """Take denormal numbers for 0 meanwhile: small weights end as such, and they are a hundred times as slow."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def _pretrained(row: Row, seed: int, report: Show, threads: int) -> Fitted | None:
    """Return the row as its pretraining leaves it; None where it has none."""
    first = row.pretraining
    if first is None:
        return None
    report(f"{row.id}: examples to begin with", 0, 1)
    training = replace(first.training, members=row.training.members)
    begun = replace(row, pretraining=None, training=training)
    return fit(begun, first.variant.make(first.variant.n, seed, None), seed, report=report, threads=threads)


def split(row: Row, examples: Examples, seed: int, part: int = 0) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return which examples train, and which are held out; those that lack what the row requires are in neither.

    ``part`` says which tenth is held out; after the last comes the first.

    Raises
    ------
    TocsinError
        Fewer than `FEWEST` examples can be used.
    """
    complete = np.array(read(row, examples.columns).reason, dtype=object) == ""
    known = np.isfinite(examples.truth).reshape(len(examples), -1).all(axis=1)
    usable = np.flatnonzero(complete & known)
    if len(usable) < FEWEST:
        raise TocsinError(f"{row.id}: {len(usable)} of {len(examples)} examples can be used, {FEWEST} are needed")
    order = np.random.default_rng(seed).permutation(usable)
    n_held = round(HELD_OUT * len(order))
    order = np.roll(order, -part * n_held)
    return np.sort(order[n_held:]), np.sort(order[:n_held])


def run(name: str, options: Options, report: Show) -> Card:
    """Make a row's examples, train it, judge it on what was held out, and write weights and card; return the card.

    Parameters
    ----------
    name : str
        Such as ``pz-mdn@dc2``; without ``@`` the row's first variant.

    Raises
    ------
    TocsinError
        No such row or variant, a row or examples that are not `sound`, no folder of real sets for a variant that needs
        it, too few examples, or no weights of the row whose trunk is shared.
    """
    row, variant = registry.find(name)
    sound.check(row)
    row = replace(row, training=replace(row.training, epochs=options.epochs or row.training.epochs))
    report(f"{row.id}@{variant}: examples", 0, 1)
    wanted = row.variants[variant]
    examples = wanted.make(wanted.n, options.seed, options.data)
    sound.check_examples(row, examples)
    report(f"{row.id}@{variant}: examples", 1, 1)
    trunks, trunk = _stored(row, variant, options) if row.shares else (None, None)
    begun = time.monotonic()
    fitted = fit(row, examples, options.seed, report=report, threads=options.threads, trunks=trunks)
    seconds = round(time.monotonic() - begun, 1)
    files = {cards.HEAD_FILE: pack_heads(fitted.heads)}
    if trunk is None:
        files[cards.TRUNK_FILE] = pack_trunks(fitted.trunks)
        trunk = cards.describe(cards.TRUNK_FILE, files[cards.TRUNK_FILE])
    head = cards.describe(cards.HEAD_FILE, files[cards.HEAD_FILE])
    cards.write(_card(fitted, variant, examples, options, seconds, trunk, head), files, options.out)
    return cards.read(row, variant, options.out)


def _trunk_row(row: Row, variant: str) -> Row:
    """Return the row whose trunk this one reads, on a variant; '' for any.

    Raises
    ------
    TocsinError
        That row reads something else, or otherwise, or has no trunk of its own.
    """
    parent, _ = registry.find(f"{row.shares}@{variant}")
    if parent.shares:
        raise TocsinError(f"{row.id} shares the trunk of {row.shares}, which is that of {parent.shares}: name it")
    for what in ("kind", "inputs", "at_least", "trunk"):
        if getattr(parent, what) != getattr(row, what):
            raise TocsinError(f"{row.id} shares the trunk of {row.shares}, but its {what} differs")
    return parent


def _stored(row: Row, variant: str, options: Options) -> tuple[Trunks, File]:
    """Return the trunks of the row that this one shares them with, and what the card says of their file."""
    parent = _trunk_row(row, variant)
    card = cards.read(parent, variant, options.out)
    return serve.load_trunks(parent, card, options.out), card.trunk.model_copy(update={"row": parent.id})


def _card(
    fitted: Fitted, variant: str, examples: Examples, options: Options, seconds: float, trunk: File, head: File
) -> Card:
    row, seed = fitted.row, options.seed
    other = f" --epochs {options.epochs}" if options.epochs else ""
    train, held = (examples.take(part) for part in split(row, examples, seed))
    alone = Fitted(row, Trunks(fitted.trunks.networks[:1], fitted.trunks.domain), fitted.heads[:1])
    judged = alone if row.training.few else fitted
    figures = JUDGES[row.judge](judged.answer(held.columns), held.truth, held.extra)
    training = asdict(row.training) | {"members": len(fitted.heads)}
    first = None if row.pretraining is None else row.pretraining.variant.make(8, seed, None).data
    return Card(
        schema_version=1,
        row=row.id,
        variant=variant,
        version=VERSION,
        summary=row.summary,
        papers=tuple(f"{paper.citation}, {paper.reference}" for paper in row.papers),
        finding=row.finding,
        licence=LICENCE,
        interface=cards.interface(row),
        data=cards.Data(**asdict(examples.data)),
        pretraining=None if first is None else cards.Data(**asdict(first)),
        training=cards.Training(
            command=f"tocsin train {row.id}@{variant} --seed {seed}{other}",
            date=f"{datetime.now(UTC):%Y-%m-%d}",
            seed=seed,
            examples=len(train),
            held_out=len(held),
            seconds=seconds,
            **training,
        ),
        metrics={name: float(figure.value) for name, figure in figures.items()},
        trunk=trunk,
        head=head,
    )
