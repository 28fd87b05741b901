"""The anomaly score: how badly a VRAE explains a curve and how isolated its code is, ranked among known curves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load

from broker.core.batch import AnomalyScores, Floats, Ints
from broker.core.errors import TocsinError
from broker.models.networks.vrae import squared_error
from broker.score import card as cards
from broker.score.card import Card
from broker.score.classify import CHUNK, load_network, reasons
from broker.score.forest import Forest
from broker.score.tensors import Tensors

FOREST_SCALARS = (
    "log_time_scale_d",
    "log_rise_half_d",
    "log_fall_half_d",
    "bright_fraction",
    "log_detected_d",
    "log_amplitude",
)
"""Scalars that the forest reads beside the code, which does not say how long its window is; and colours, see below."""


@dataclass(frozen=True, slots=True)
class Ranks:
    """What the parts of the score are among the reference set.

    Attributes
    ----------
    reconstruction, forest : (Q,) float64
        Quantiles of each part, from the smallest to the largest.
    combined : (Q,) float64
        Quantiles of the mean of the two parts' ranks.
    """

    reconstruction: Floats
    forest: Floats
    combined: Floats

    @classmethod
    def of(cls, reconstruction: Floats, forest: Floats, points: int = 201) -> Ranks:
        """Return the quantiles of a reference set's parts (n,)."""
        levels = np.linspace(0.0, 1.0, points)
        first, second = np.quantile(reconstruction, levels), np.quantile(forest, levels)
        combined = 0.5 * (_rank(first, reconstruction) + _rank(second, forest))
        return cls(first, second, np.quantile(combined, levels))

    def score(self, reconstruction: Floats, forest: Floats) -> Floats:
        """Return the percentile rank (A,) in [0, 1] of the two parts together."""
        combined = 0.5 * (_rank(self.reconstruction, reconstruction) + _rank(self.forest, forest))
        return _rank(self.combined, combined)


@dataclass(frozen=True, slots=True)
class Anomaly:
    """VRAE, forest and ranks with their card.

    Attributes
    ----------
    card : Card
    network : torch.nn.Module
        The autoencoder, in evaluation mode, on ``device``.
    device : torch.device
    forest : Forest
    ranks : Ranks
    """

    card: Card
    network: Any
    device: torch.device
    forest: Forest
    ranks: Ranks

    @classmethod
    def load(cls, name: str, device: torch.device, root: Path | None = None) -> Anomaly:
        """Return the model ``name``.

        Raises
        ------
        TocsinError
            No such model, not an anomaly score, or card, weights and code do not agree.
        """
        card = cards.read(name, root)
        if card.kind != "anomaly":
            raise TocsinError(f"the model {name} is no anomaly score but a {card.kind}")
        tensors = load(cards.read_weights(card, root))
        network = {key[8:]: tensors[key] for key in tensors if key.startswith("network.")}
        arrays = {key: value.numpy() for key, value in tensors.items() if not key.startswith("network.")}
        forest, ranks = unpack(card.name, arrays)
        loaded = load_network(card, network, device)
        expected = input_names(loaded.code.out_features // 2, card.scalars)
        if card.forest_inputs != expected or forest.feature.max(initial=-1) >= len(expected):
            raise TocsinError(f"model {name}: forest_inputs is {card.forest_inputs}, expected {expected}")
        return cls(card, loaded, device, forest, ranks)

    def score(self, tensors: Tensors, n_detections: Ints, min_detections: int) -> AnomalyScores:
        """Return the score (A,) with its parts; NaN where a reason says why."""
        code, reconstruction = encode(self.network, tensors, self.device)
        isolation = self.forest.score(forest_inputs(code, tensors, self.card.scalars))
        total = self.ranks.score(reconstruction, isolation)
        bad = ~tensors.finite | ~np.isfinite(reconstruction) | ~np.isfinite(isolation)
        reason = reasons(n_detections < min_detections, bad)
        unscored = np.array([r != "" for r in reason], dtype=bool)
        columns = [np.where(unscored, np.nan, x).astype(np.float32) for x in (total, isolation, reconstruction)]
        published = {"forest": columns[1], "reconstruction": columns[2]}
        names = (self.card.name, self.card.version, self.card.weights.sha256)
        return AnomalyScores(*names, columns[0], published, reason)


def forest_scalars(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return which scalars called ``names`` a forest reads: `FOREST_SCALARS`, the fluxes at the peak and at the end."""
    return (*FOREST_SCALARS, *(name for name in names if name.startswith(("at_peak_", "at_end_"))))


def forest_inputs(code: NDArray[np.float32], tensors: Tensors, names: tuple[str, ...]) -> NDArray[np.float32]:
    """Return (A, latents + scalars): the code's mean, and the `forest_scalars` of ``names`` (0 where unknown)."""
    columns = [names.index(name) for name in forest_scalars(names)]
    return np.concatenate((code, np.nan_to_num(tensors.scalars[:, columns])), axis=1)


def input_names(latents: int, names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of the columns of `forest_inputs`, as the card has them."""
    return (*(f"latent_{i}" for i in range(latents)), *forest_scalars(names))


def encode(network: Any, tensors: Tensors, device: torch.device) -> tuple[NDArray[np.float32], Floats]:
    """Return the code's mean (A, latents) and the reconstruction error (A,), a bounded number of rows at a time."""
    codes, errors = [], []
    with torch.inference_mode():
        for start in range(0, max(len(tensors), 1), CHUNK):
            rows = slice(start, start + CHUNK)
            series, mask = (torch.from_numpy(x[rows]).to(device) for x in (tensors.series, tensors.mask))
            code, _, flux = network(series, mask)
            codes.append(code.cpu().numpy())
            errors.append(squared_error(series, mask, flux).cpu().numpy().astype(np.float64))
    return np.concatenate(codes), np.concatenate(errors)


def pack(forest: Forest, ranks: Ranks) -> dict[str, NDArray[Any]]:
    """Return forest and ranks as named arrays for the weight file."""
    arrays = {f"forest.{name}": getattr(forest, name) for name in ("roots", "feature", "value", "right")}
    arrays["forest.typical"] = np.array([forest.typical])
    return arrays | {f"ranks.{name}": getattr(ranks, name) for name in ("reconstruction", "forest", "combined")}


def unpack(name: str, arrays: dict[str, NDArray[Any]]) -> tuple[Forest, Ranks]:
    """Return forest and ranks from the arrays of `pack`.

    Raises
    ------
    TocsinError
        An array is missing, or a node points outside its forest.
    """
    try:
        roots, feature, value, right = (arrays[f"forest.{part}"] for part in ("roots", "feature", "value", "right"))
        forest = Forest(roots, feature, value, right, float(arrays["forest.typical"][0]))
        ranks = Ranks(*(arrays[f"ranks.{part}"] for part in ("reconstruction", "forest", "combined")))
    except KeyError as error:
        raise TocsinError(f"model {name}: the weights have no {error.args[0]}") from error
    inside = forest.feature >= 0
    places = np.arange(len(forest.feature))
    if not ((forest.right[inside] > places[inside]).all() and (forest.right < len(places)).all()) or inside[-1:].any():
        raise TocsinError(f"model {name}: a node of the forest points outside it")
    return forest, ranks


def _rank(quantiles: Floats, values: Floats) -> Floats:
    """Return the rank (n,) in [0, 1] of values (n,) among quantiles (Q,), between them linear."""
    return np.asarray(np.interp(values, quantiles, np.linspace(0.0, 1.0, len(quantiles))))
