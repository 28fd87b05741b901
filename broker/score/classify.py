"""A classifier: card, weights and network; tensors in, class probabilities out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load

from broker.core.batch import ClassScores, Ints
from broker.core.errors import TocsinError
from broker.core.reasons import Unscored
from broker.core.taxonomy import over_branches
from broker.models.networks import create, reads
from broker.score import card as cards
from broker.score import epochs
from broker.score.calibrate import heads, mixed, spread
from broker.score.card import Card
from broker.score.tensors import Tensors

CHUNK = 1024
"""Rows per pass through a network: bounds memory whatever the batch."""


@dataclass(frozen=True, slots=True)
class Classifier:
    """One trained network with its card.

    Attributes
    ----------
    card : Card
    network : torch.nn.Module
        In evaluation mode, on ``device``.
    device : torch.device
    """

    card: Card
    network: Any
    device: torch.device

    @classmethod
    def load(cls, name: str, device: torch.device, root: Path | None = None) -> Classifier:
        """Return the model ``name``.

        Raises
        ------
        TocsinError
            No such model, not a classifier, or card, weights and code do not agree.
        """
        card = cards.read(name, root)
        if card.kind != "classifier":
            raise TocsinError(f"the model {name} is no classifier but an {card.kind} score")
        network = load_network(card, load(cards.read_weights(card, root)), device)
        if (card.channels == epochs.names(card.survey)) != (reads(network) == "epochs"):
            raise TocsinError(
                f"model {name}: the network {card.network} reads {reads(network)}, the card's channels not"
            )
        return cls(card, network, device)

    def score(self, tensors: Tensors, n_detections: Ints, min_detections: int) -> ClassScores:
        """Return probabilities (A, K) at the card's prior and their uncertainty; NaN rows where a reason says why."""
        each = heads(run(self.network, tensors, self.device), self.card.calibration)
        prior = np.array([c.prior for c in self.card.classes])
        p, each = mixed(each.mean(axis=1), prior), mixed(each, prior)
        ids = tuple(c.id for c in self.card.classes)
        reason = reasons(n_detections < min_detections, ~tensors.finite | ~np.isfinite(p).all(axis=1))
        unscored = np.array([r != "" for r in reason], dtype=bool)[:, None]
        published = [
            np.where(unscored, np.nan, x).astype(np.float32)
            for x in (p, spread(each), spread(over_branches(each, ids)))
        ]
        names = self.card.name, self.card.version, self.card.weights.sha256
        return ClassScores(*names, ids, prior.astype(np.float32), published[0], published[1], published[2], reason)


def load_network(card: Card, tensors: dict[str, torch.Tensor], device: torch.device) -> Any:
    """Return the card's network with the weights ``tensors`` in it, ready to evaluate.

    Raises
    ------
    TocsinError
        The weights do not fit the network that the card describes.
    """
    try:
        network = create(card.network, card.config)
        network.load_state_dict(tensors)
    except (ValueError, TypeError, RuntimeError) as error:
        raise TocsinError(f"model {card.name}: the weights do not fit the card's network: {error}") from error
    return network.to(device).eval()


def run(network: Any, tensors: Tensors, device: torch.device) -> NDArray[np.float32]:
    """Return logits (A, H, K) of the tensors, a bounded number of rows at a time."""
    out = []
    with torch.inference_mode():
        for start in range(0, max(len(tensors), 1), CHUNK):
            inputs = tensors.inputs(reads(network), slice(start, start + CHUNK))
            out.append(network(*(torch.from_numpy(x).to(device) for x in inputs)).cpu().numpy())
    return np.concatenate(out)


def reasons(few: NDArray[np.bool_], bad: NDArray[np.bool_]) -> list[str]:
    """Return a reason (A,) per alert, '' where it is scored; too few detections is said first."""
    codes = np.where(few, str(Unscored.TOO_FEW_DETECTIONS), np.where(bad, str(Unscored.BAD_FIT), ""))
    return [str(code) for code in codes]
