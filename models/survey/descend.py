"""One member of an ensemble: the loop that trains a trunk with its head, or a head on a frozen trunk."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from broker.models.survey.fitted import Fitted, Trunks, chunk, read, through
from broker.models.survey.progress import Show
from broker.models.survey.row import Columns, Examples, Row
from broker.models.survey.weights import rounded


@dataclass(frozen=True, slots=True)
class Task:
    """What all members learn.

    Attributes
    ----------
    row : Row
    train, held : Examples
        Held-out examples choose the epoch, unless examples are few.
    report : Show
    frozen : Trunks or None
        Of the row whose trunk is shared.
    start : Fitted or None
        What training starts from: weights, and the scales of inputs and truths.
    """

    row: Row
    train: Examples
    held: Examples
    report: Show
    frozen: Trunks | None
    start: Fitted | None = None

    def inputs(self, columns: Columns, member: int) -> Tensor:
        """Return what a member's network is trained on: prepared inputs, or a frozen trunk's features of them."""
        prepared = self.row.trunk.prepare(read(self.row, columns).columns, self.row.inputs)
        return torch.from_numpy(prepared if self.frozen is None else through(self.frozen.networks[member], prepared))

    def truth(self, examples: Examples) -> Tensor:
        """Return the truth of examples: numbers of classes, or targets."""
        return torch.from_numpy(examples.truth.astype(np.int64 if self.row.classes else np.float32))


def train(task: Task, member: int, seed: int) -> tuple[nn.Module, Any]:
    """Return trunk and head of one member, as they were after the epoch that held-out examples liked best.

    Where examples are few, as they were after the last.
    Of a frozen trunk the head alone is trained, and the trunk that is returned does nothing.
    """
    row, rng = task.row, np.random.default_rng((seed, member))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**31)))
        inputs, held = task.inputs(task.train.columns, member), task.inputs(task.held.columns, member)
        trunk = row.trunk.build(inputs.numpy()) if task.frozen is None else nn.Identity()
        head: Any = row.head.build(row.trunk.width, row, task.train.truth)
        if task.start is not None:
            trunk.load_state_dict(task.start.trunks.networks[member].state_dict())
            head.load_state_dict(task.start.heads[member].state_dict())
        both = nn.ModuleList([trunk, head])
        descent = _Descent.of(both, row, len(inputs))
        truth, held_truth = task.truth(task.train), task.truth(task.held)
        best, kept = np.inf, copy.deepcopy(both.state_dict())
        for epoch in range(row.training.epochs):
            if row.augment is not None:
                inputs = task.inputs(row.augment(task.train.columns, rng), member)
            descent.epoch(trunk, head, inputs, truth)
            loss = _loss(trunk, head, held, held_truth)
            if loss < best or row.training.few:
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
        step = chunk(inputs.shape)
        parts = zip(torch.split(inputs, step), torch.split(truth, step), strict=True)
        total = sum([float(head.loss(trunk(x), y)) * len(x) for x, y in parts])
    return total / len(inputs)
