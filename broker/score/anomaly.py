"""The anomaly score: what a judge says of a curve, how isolated its code is, how badly it is explained, as a rank."""

from __future__ import annotations

from collections.abc import Mapping
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
from broker.score import shape
from broker.score.boosted import Boosted
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
PARTS = ("exposure", "forest", "reconstruction")
"""What the score is made of: the judge's ln odds of a warped curve, the forest's score, the autoencoder's error."""
LEVELS = np.concatenate((np.linspace(0.0, 0.99, 199), [0.9925, 0.995, 0.9975, 0.999, 0.9995]))
"""Of the quantiles that a rank is read from."""


@dataclass(frozen=True, slots=True)
class Ranks:
    """What the parts of the score are among a reference set: the ordinary alerts of a night, in the mix of its classes.

    Attributes
    ----------
    parts : (P, Q) float64
        Quantiles at `LEVELS` of each of `PARTS`.
    weight : (P,) float64
        Of each part in the score; they add up to 1.
    combined : (Q,) float64
        Quantiles of `mean`.
    """

    parts: Floats
    weight: Floats
    combined: Floats

    @classmethod
    def of(cls, values: Mapping[str, Floats], weight: Mapping[str, float]) -> Ranks:
        """Return the quantiles of a reference set's parts (n,), of which the weights may be any positive numbers."""
        shares = np.array([weight.get(name, 0.0) for name in PARTS])
        draft = cls(np.stack([np.quantile(values[name], LEVELS) for name in PARTS]), shares / shares.sum(), LEVELS)
        return cls(draft.parts, draft.weight, np.quantile(draft.mean(values), LEVELS))

    def mean(self, values: Mapping[str, Floats]) -> Floats:
        """Return the weighted mean (A,) of the parts' -ln(1 - rank): Fisher's way to combine them."""
        each = [surprise(quantiles, values[name]) for name, quantiles in zip(PARTS, self.parts, strict=True)]
        return np.asarray(self.weight @ np.stack(each))

    def score(self, values: Mapping[str, Floats]) -> Floats:
        """Return the percentile rank (A,) in [0, 1] of the parts together."""
        return np.asarray(-np.expm1(-surprise(self.combined, self.mean(values))))


@dataclass(frozen=True, slots=True)
class Models:
    """What makes the parts of the score.

    Attributes
    ----------
    network : torch.nn.Module
        The autoencoder (`broker.models.networks.vrae`), in evaluation mode.
    forest : Forest
    judge : Boosted
        Trees that tell warped curves from ordinary ones.
    """

    network: Any
    forest: Forest
    judge: Boosted

    def parts(self, tensors: Tensors, names: tuple[str, ...], device: torch.device) -> dict[str, Floats]:
        """Return each of `PARTS` (A,), of tensors whose scalars are called ``names``; ``device`` is the network's."""
        code, error = encode(self.network, tensors, device)
        isolation = self.forest.score(forest_inputs(code, tensors, names))
        return dict(zip(PARTS, (self.judge.score(judge_inputs(tensors)), isolation, error), strict=True))


@dataclass(frozen=True, slots=True)
class Anomaly:
    """Models and ranks with their card.

    Attributes
    ----------
    card : Card
    models : Models
        The network on ``device``.
    device : torch.device
    ranks : Ranks
    """

    card: Card
    models: Models
    device: torch.device
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
        forest, judge, ranks = unpack(card.name, arrays)
        loaded = load_network(card, network, device)
        expected = input_names(loaded.code.out_features // 2, card.scalars)
        if card.forest_inputs != expected or forest.feature.max(initial=-1) >= len(expected):
            raise TocsinError(f"model {name}: forest_inputs is {card.forest_inputs}, expected {expected}")
        if judge.feature.max(initial=-1) >= len(card.scalars) + len(shape.names(card.bands)):
            raise TocsinError(f"model {name}: the judge reads inputs that there are not")
        return cls(card, Models(loaded, forest, judge), device, ranks)

    def score(self, tensors: Tensors, n_detections: Ints, min_detections: int) -> AnomalyScores:
        """Return the score (A,) with its parts; NaN where a reason says why."""
        parts = self.models.parts(tensors, self.card.scalars, self.device)
        total = self.ranks.score(parts)
        bad = ~tensors.finite | ~np.isfinite(np.stack(list(parts.values()))).all(axis=0)
        reason = reasons(n_detections < min_detections, bad)
        unscored = np.array([r != "" for r in reason], dtype=bool)

        def published(values: Floats) -> NDArray[np.float32]:
            return np.where(unscored, np.nan, values).astype(np.float32)

        columns = {name: published(values) for name, values in parts.items()}
        names = (self.card.name, self.card.version, self.card.weights.sha256)
        return AnomalyScores(*names, published(total), columns, reason)


def judge_inputs(tensors: Tensors) -> NDArray[np.float32]:
    """Return what the judge may read (A, S + F): every scalar, NaN where unknown, and the shape around the peak.

    Its trees read no cadence: in training those scalars do not vary (`broker.models.transients.exposure.CADENCE`).
    """
    return np.concatenate((tensors.scalars, shape.of_tensors(tensors)), axis=1)


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


_FOREST = ("roots", "feature", "value", "right")
_JUDGE = (*_FOREST, "missing_left")
_RANKS = ("parts", "weight", "combined")


def pack(forest: Forest, judge: Boosted, ranks: Ranks) -> dict[str, NDArray[Any]]:
    """Return forest, judge and ranks as named arrays for the weight file."""
    arrays = {f"forest.{name}": getattr(forest, name) for name in _FOREST}
    arrays |= {f"judge.{name}": getattr(judge, name) for name in _JUDGE}
    arrays |= {"forest.typical": np.array([forest.typical]), "judge.start": np.array([judge.start])}
    return arrays | {f"ranks.{name}": getattr(ranks, name) for name in _RANKS}


def unpack(name: str, arrays: dict[str, NDArray[Any]]) -> tuple[Forest, Boosted, Ranks]:
    """Return forest, judge and ranks from the arrays of `pack`.

    Raises
    ------
    TocsinError
        An array is missing, or a node points outside its trees.
    """
    try:
        trees = {part: arrays[f"forest.{part}"] for part in _FOREST}
        forest = Forest(**trees, typical=float(arrays["forest.typical"][0]))
        trees = {part: arrays[f"judge.{part}"] for part in _JUDGE}
        judge = Boosted(**trees, start=float(arrays["judge.start"][0]))
        ranks = Ranks(*(arrays[f"ranks.{part}"] for part in _RANKS))
    except KeyError as error:
        raise TocsinError(f"model {name}: the weights have no {error.args[0]}") from error
    for what, feature, right in (("forest", forest.feature, forest.right), ("judge", judge.feature, judge.right)):
        if not _inside(feature, right):
            raise TocsinError(f"model {name}: a node of the {what} points outside it")
    return forest, judge, ranks


def _inside(feature: NDArray[np.int16], right: NDArray[np.int32]) -> bool:
    """Return whether every node's children come after it and are there: no walk is endless or leaves the arrays."""
    inner, places = feature >= 0, np.arange(len(feature))
    return bool((right[inner] > places[inner]).all() and (right < len(places)).all() and not inner[-1:].any())


def surprise(quantiles: Floats, values: Floats) -> Floats:
    """Return -ln(1 - rank) (n,) of values (n,) among quantiles (Q,) at `LEVELS`, between them linear in the rank.

    Beyond the last quantile it goes on growing, so that the strangest of all still have an order.
    """
    top, width = quantiles[-1], max(float(quantiles[-1] - quantiles[len(quantiles) // 2]), 1e-12)
    inside = -np.log1p(-np.interp(values, quantiles, LEVELS))
    return np.asarray(inside + np.maximum(values - top, 0.0) / width)
