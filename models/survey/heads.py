"""Heads: from features to outputs. Configurations only; the networks are in `broker.models.survey.networks`.

n = records, t = targets, k = components, b = bins, s = samples. An ensemble answers with the mean of its members'
distributions, never with the mean of their parameters.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import nan
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from broker.models.survey import posterior
from broker.models.survey.posterior import Estimate
from broker.models.survey.row import Floats, Row, Target
from broker.sidecar.answer import Form, Output

if TYPE_CHECKING:
    from torch import Tensor


class HeadNetwork(Protocol):
    """What a head builds: an ``nn.Module`` with these two methods; scales of the truth are buffers in its state."""

    def loss(self, features: Tensor, truth: Tensor) -> Tensor:
        """Return the mean loss of features (n, width) for truths (n, targets) or (n,)."""
        ...

    def __call__(self, features: Tensor) -> dict[str, Tensor]:
        """Return what `Head.outputs` reads, each (n, ...), in the targets' units."""
        ...


class Head(Protocol):
    """One way to say what is known about the targets."""

    @property
    def seed(self) -> int | None:
        """Of what is random in its answer; provenance tells it. None: nothing is."""
        ...

    def build(self, width: int, row: Row, truth: NDArray[np.generic]) -> HeadNetwork:
        """Return the network for ``width`` features; ``truth`` are the training set's."""
        ...

    def outputs(self, members: list[dict[str, Floats]], row: Row) -> tuple[Output, ...]:
        """Return the outputs of an ensemble's members together: the mean of their distributions."""
        ...


@dataclass(frozen=True, slots=True)
class Point:
    """A value and a Gaussian sigma for each target, both learned.

    The value is the mean of the members' means; sigma² is the mean of their variances and the variance of their means.

    Attributes
    ----------
    hidden : int
        Width of a layer between features and answer; 0 for none.
    beta : float
        Examples count by sigma^(2 beta) (Seitzer+2022): 0 is the Gaussian likelihood, which neglects what it deems
        noisy; 1 learns the mean as the squared error does.
    """

    hidden: int = 64
    beta: float = 0.5
    seed: ClassVar[None] = None

    def build(self, width: int, row: Row, truth: NDArray[np.generic]) -> HeadNetwork:
        """Return the network for ``width`` features and truths (n, t)."""
        from broker.models.survey.networks.heads import PointNetwork

        return PointNetwork(width, self.hidden, truth, self.beta)

    def outputs(self, members: list[dict[str, Floats]], row: Row) -> tuple[Output, ...]:
        """Return values with sigmas, of members' ``mean`` and ``sigma`` (n, t)."""
        means = np.stack([member["mean"] for member in members])
        variance = np.mean([member["sigma"] ** 2 for member in members], axis=0) + means.var(axis=0)
        value, sigma = means.mean(axis=0), np.sqrt(variance)
        return tuple(
            Output(to.name, to.unit, "value", _within(to, value[:, i]), sigma[:, i]) for i, to in enumerate(row.targets)
        )


@dataclass(frozen=True, slots=True)
class Bins:
    """Probabilities of equal bins from each target's low to its high; a truth beyond them counts in the last bin.

    Attributes
    ----------
    bins : int
    hidden : int
        As of `Point`.
    smoothing : float
        The label is a Gaussian around the truth with this sigma [bins]; 0 for the truth's bin alone.
    estimate : str
        What the value is: the posterior's mean, median or mode.
    """

    bins: int = 100
    hidden: int = 64
    smoothing: float = 0.0
    estimate: Estimate = "mean"
    seed: ClassVar[None] = None

    def build(self, width: int, row: Row, truth: NDArray[np.generic]) -> HeadNetwork:
        """Return the network for ``width`` features and truths (n, t)."""
        from broker.models.survey.networks.heads import BinsNetwork

        limits = np.array([(target.low, target.high) for target in row.targets])
        return BinsNetwork(width, self.hidden, limits, self.bins, self.smoothing)

    def outputs(self, members: list[dict[str, Floats]], row: Row) -> tuple[Output, ...]:
        """Return grids, of members' ``probabilities`` (n, t, b)."""
        pooled = sum((member["probabilities"] for member in members[1:]), members[0]["probabilities"]) / len(members)
        return tuple(
            _output(target, "grid", posterior.of_bins(pooled[:, i], target.low, target.high), self.estimate)
            for i, target in enumerate(row.targets)
        )


@dataclass(frozen=True, slots=True)
class Mixture:
    """A mixture of Gaussians for each target (Bishop 1994).

    Attributes
    ----------
    components : int
    hidden, estimate
        As of `Bins`.
    """

    components: int = 5
    hidden: int = 64
    estimate: Estimate = "mean"
    seed: ClassVar[None] = None

    def build(self, width: int, row: Row, truth: NDArray[np.generic]) -> HeadNetwork:
        """Return the network for ``width`` features and truths (n, t)."""
        from broker.models.survey.networks.heads import MixtureNetwork

        return MixtureNetwork(width, self.hidden, truth, self.components)

    def outputs(self, members: list[dict[str, Floats]], row: Row) -> tuple[Output, ...]:
        """Return mixtures of all members' components, of their ``weights``, ``means``, ``sigmas`` (n, t, k)."""
        parts = {name: np.concatenate([m[name] for m in members], axis=2) for name in ("weights", "means", "sigmas")}
        parts["weights"] = parts["weights"] / len(members)
        return tuple(
            _output(target, "mixture", {name: part[:, i] for name, part in parts.items()}, self.estimate)
            for i, target in enumerate(row.targets)
        )


@dataclass(frozen=True, slots=True)
class Flow:
    """A normalising flow over all targets together (zuko): rational-quadratic splines (Durkan+2019).

    It answers with samples. The base samples are drawn once (Sobol's, from ``seed``), and are the same for every
    record, so that an answer depends on nothing but the record. Sample i of every target is of one draw: together
    they are joint.

    Attributes
    ----------
    transforms, hidden : int
        How many splines, and the width of their two hidden layers.
    samples : int
    coupling : bool
        Couple halves of the targets: a conditional invertible network (cINN; Ardizzone+2019). Else autoregressive.
    estimate : str
        "mean" or "median".
    """

    transforms: int = 3
    hidden: int = 64
    samples: int = 128
    coupling: bool = False
    estimate: Literal["mean", "median"] = "mean"
    seed: int = 0

    def build(self, width: int, row: Row, truth: NDArray[np.generic]) -> HeadNetwork:
        """Return the network for ``width`` features and truths (n, t)."""
        from broker.models.survey.networks.flows import FlowNetwork

        return FlowNetwork(width, self.hidden, truth, self._base(len(row.targets)), self.transforms, self.coupling)

    def _base(self, targets: int) -> Floats:
        """Return the base samples (s, t): evenly spread, since an accident of so few would be every record's bias."""
        import torch

        sobol = torch.quasirandom.SobolEngine(targets, scramble=True, seed=self.seed)  # type: ignore[no-untyped-call]
        even = sobol.draw(self.samples)
        normal: Floats = torch.special.ndtri(even.double().clamp(1e-6, 1.0 - 1e-6)).numpy()
        return normal

    def outputs(self, members: list[dict[str, Floats]], row: Row) -> tuple[Output, ...]:
        """Return samples, an equal share of each member's ``samples`` (n, t, s)."""
        runs = np.array_split(np.arange(members[0]["samples"].shape[2]), len(members))  # a run of Sobol's is even, too
        shares = [member["samples"][:, :, run] for member, run in zip(members, runs, strict=True)]
        pooled = np.concatenate(shares, axis=2)
        return tuple(
            _output(target, "samples", {"samples": pooled[:, i]}, self.estimate) for i, target in enumerate(row.targets)
        )


@dataclass(frozen=True, slots=True)
class Classes:
    """Probabilities of the row's classes.

    Attributes
    ----------
    hidden : int
        As of `Point`.
    smoothing : float
        Share of a label that is spread over all classes.
    """

    hidden: int = 64
    smoothing: float = 0.0
    seed: ClassVar[None] = None

    def build(self, width: int, row: Row, truth: NDArray[np.generic]) -> HeadNetwork:
        """Return the network for ``width`` features and truths (n,), numbers of classes."""
        from broker.models.survey.networks.heads import ClassesNetwork

        return ClassesNetwork(width, self.hidden, len(row.classes), self.smoothing)

    def outputs(self, members: list[dict[str, Floats]], row: Row) -> tuple[Output, ...]:
        """Return the mean of the members' ``probabilities`` (n, k)."""
        pooled = np.mean([member["probabilities"] for member in members], axis=0)
        likeliest = pooled.argmax(axis=1).astype(np.float32)
        none = np.full(len(pooled), nan, dtype=np.float32)
        return (Output("class", "", "classes", likeliest, none, {"probabilities": pooled}, row.classes),)


def _output(target: Target, form: Form, parts: dict[str, Floats], estimate: Estimate) -> Output:
    """Return an output whose value and sigma are taken from its own distribution."""
    blank = np.empty(0, dtype=np.float32)
    bare = Output(target.name, target.unit, form, blank, blank, parts)
    value, sigma = posterior.summary(bare, estimate)
    return Output(target.name, target.unit, form, _within(target, value), sigma, parts)


def _within(target: Target, value: Floats) -> Floats:
    """Return point estimates within the target's limits: no redshift is below 0, whatever a Gaussian's tail says."""
    return np.clip(value, target.low, target.high)
