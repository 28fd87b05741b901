"""Training of a row: the same loop for every trunk and head, for benches and for the weights that ship.

A tenth of the examples is held out: it chooses the epoch, and calibrates how unlike the training set a record is.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from broker.core.errors import TocsinError
from broker.models.survey import domain, registry
from broker.models.survey.fitted import CHUNK, Fitted, Trunks, read, through
from broker.models.survey.row import Columns, Examples, Floats, Row
from broker.models.survey.weights import rounded

Show = Callable[[str, int, int], None]
"""Told what is done, how much of it and of how much."""

HELD_OUT = 0.1
FEWEST = 20
"""Examples that training needs."""


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
        Of the row that this one shares its trunk with; None trains them on the same examples, which is what a fold
        needs whose test part no weight may have seen.

    Raises
    ------
    TocsinError
        Fewer than `FEWEST` examples have what the row requires.
    """
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)  # small weights end as denormal numbers, which are a hundred times as slow
    if row.shares and trunks is None:
        trunks = _shared(row, examples, seed, report or _silent, threads)
    train, held = split(row, examples, seed)
    task = _Task(row, examples.take(train), examples.take(held), report or _silent, trunks)
    members = [_member(task, k, seed) for k in range(row.training.members if trunks is None else len(trunks.networks))]
    if trunks is None:
        trunks = _placed(row, [trunk for trunk, _ in members], task)
    return Fitted(row, trunks, [head for _, head in members])


def split(row: Row, examples: Examples, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return which examples train, and which are held out; those that lack what the row requires are in neither.

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
    return np.sort(order[n_held:]), np.sort(order[:n_held])


@dataclass(frozen=True, slots=True)
class _Task:
    row: Row
    train: Examples
    held: Examples
    report: Show
    frozen: Trunks | None

    def inputs(self, columns: Columns, member: int) -> Tensor:
        """Return what a member's network is trained on: prepared inputs, or a frozen trunk's features of them."""
        prepared = self.row.trunk.prepare(read(self.row, columns).columns, self.row.inputs)
        return torch.from_numpy(prepared if self.frozen is None else through(self.frozen.networks[member], prepared))

    def epoch(self, member: int, rng: np.random.Generator) -> Tensor:
        """Return the training inputs of one epoch."""
        augment = self.row.augment
        return self.inputs(self.train.columns if augment is None else augment(self.train.columns, rng), member)


def _member(task: _Task, member: int, seed: int) -> tuple[nn.Module, Any]:
    """Return trunk and head of one member, as they were after their best epoch."""
    row, rng = task.row, np.random.default_rng((seed, member))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**31)))
        inputs, held = task.inputs(task.train.columns, member), task.inputs(task.held.columns, member)
        trunk = row.trunk.build(inputs.numpy()) if task.frozen is None else nn.Identity()
        head: Any = row.head.build(row.trunk.width, row, task.train.truth)
        both = nn.ModuleList([trunk, head])
        descend = _Descent.of(both, row, len(inputs))
        truth, held_truth = _tensor(row, task.train.truth), _tensor(row, task.held.truth)
        best, kept = np.inf, copy.deepcopy(both.state_dict())
        for epoch in range(row.training.epochs):
            if row.augment is not None:
                inputs = task.epoch(member, rng)
            descend.epoch(trunk, head, inputs, truth)
            loss = _loss(trunk, head, held, held_truth)
            if loss < best:
                best, kept = loss, copy.deepcopy(both.state_dict())
            task.report(f"{row.id} {member + 1}, held-out loss {loss:.4f}", epoch + 1, row.training.epochs)
        both.load_state_dict(kept)
        rounded(both)
    return trunk.eval(), head.eval()


@dataclass(frozen=True, slots=True)
class _Descent:
    """AdamW under a one-cycle schedule; gradients are clipped, because a density's can be of any size."""

    optimiser: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.OneCycleLR
    parameters: list[nn.Parameter]
    batch: int

    @classmethod
    def of(cls, network: nn.Module, row: Row, n: int) -> _Descent:
        training, parameters = row.training, list(network.parameters())
        optimiser = torch.optim.AdamW(parameters, lr=training.rate, weight_decay=training.decay)
        steps = training.epochs * len(range(0, n, training.batch))
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, training.rate, total_steps=steps + 1, pct_start=0.15)
        return cls(optimiser, schedule, parameters, training.batch)

    def epoch(self, trunk: nn.Module, head: Any, inputs: Tensor, truth: Tensor) -> None:
        trunk.train()
        head.train()
        for rows in torch.split(torch.randperm(len(inputs)), self.batch):
            self.optimiser.zero_grad(set_to_none=True)
            head.loss(trunk(inputs[rows]), truth[rows]).backward()
            nn.utils.clip_grad_norm_(self.parameters, 1.0)
            self.optimiser.step()
            self.schedule.step()


def _loss(trunk: nn.Module, head: Any, inputs: Tensor, truth: Tensor) -> float:
    """Return the mean loss of held-out examples."""
    trunk.eval()
    head.eval()
    with torch.inference_mode():
        parts = zip(torch.split(inputs, CHUNK), torch.split(truth, CHUNK), strict=True)
        total = sum([float(head.loss(trunk(x), y)) * len(x) for x, y in parts])
    return total / len(inputs)


def _placed(row: Row, networks: list[nn.Module], task: _Task) -> Trunks:
    """Return trunks that know where their training set lies."""
    features: list[Floats] = [
        through(networks[0], row.trunk.prepare(read(row, part.columns).columns, row.inputs))
        for part in (task.train, task.held)
    ]
    return Trunks(networks, domain.fit(features[0], features[1]))


def _shared(row: Row, examples: Examples, seed: int, report: Show, threads: int) -> Trunks:
    """Return the trunks of the row that this one reads, trained on the same examples.

    Raises
    ------
    TocsinError
        That row learns something else, which these examples do not tell.
    """
    parent = registry.row(row.shares)
    if not isinstance(parent, Row) or (parent.targets, parent.classes) != (row.targets, row.classes):
        raise TocsinError(f"{row.id} needs the trunk of {row.shares}, which these examples cannot train")
    return fit(parent, examples, seed, report=report, threads=threads).trunks


def _tensor(row: Row, truth: NDArray[Any]) -> Tensor:
    return torch.from_numpy(truth.astype(np.int64 if row.classes else np.float32))


def _silent(what: str, done: int, total: int) -> None:
    """Say nothing of the progress."""
