"""Who answers in protocols D and F: networks, gradient boosting and their averages, trained on the other folds."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from broker.core.batch import Floats, Ints
from broker.models.transients import beginnings, data, evaluate, examples, train
from broker.models.transients.data import Labelled
from broker.models.transients.examples import LAST_PACKET, WHOLE, Examples
from broker.models.transients.protocols import boosting
from broker.models.transients.protocols.unit import Context
from broker.models.transients.train import Recipe
from broker.score.calibrate import probabilities

FOLDS = 5
HEADS = 4
"""Heads of a network; what has none counts as this many in an average, so that members weigh the same."""

RECIPES = {
    "gru": Recipe("gru", epochs=16),
    "transformer": Recipe("transformer", epochs=12),
    "gru-early": Recipe("gru", epochs=16),
}
"""Networks by row."""
BEGINNINGS = {"gru-early": 4}
"""Rows that are trained on this many beginnings of every object, too."""
BLENDS = {
    "average": ("gru", "transformer"),
    "average-early": ("gru-early", "transformer"),
    "average+gbm": ("gru", "transformer", "gbm"),
}
"""Rows that average other rows' probabilities for even classes."""
SHIPS = "average-early"
"""The average of what the deployed models are trained like: the pages draw it."""
TEMPERATURE = dict.fromkeys(RECIPES, 1.1) | {"gbm": 1.0}
"""What logits are divided by; chosen on seed 0."""


@dataclass(frozen=True, slots=True)
class Split:
    """The PLAsTiCC training set in five folds.

    Attributes
    ----------
    objects : Labelled
    made : Examples
        All versions of the objects, in the order of ``fold``.
    fold : (N,) int64
        Which fold holds each example out.
    seed : int
        Of examples, folds, starts and batches.
    """

    objects: Labelled
    made: Examples
    fold: Ints
    seed: int

    def training(self, part: int) -> Examples:
        """Return every version of the objects of the other folds."""
        return self.made.take(np.flatnonzero(self.fold != part))

    def grown_on(self, part: int) -> Examples:
        """Return the whole curves of the other folds' objects, and their last packets: what trees learn most from."""
        whole = (self.made.version <= LAST_PACKET) | (self.made.version % 5 == 4)
        return self.made.take(np.flatnonzero((self.fold != part) & whole))

    def held(self, part: int) -> Examples:
        """Return the whole curves of the fold's objects."""
        return self.made.take(np.flatnonzero((self.fold == part) & (self.made.version == WHOLE)))

    def held_objects(self, part: int) -> Labelled:
        """Return the fold's objects."""
        held = np.unique(self.made.object_id[self.fold == part])
        return self.objects.take(np.flatnonzero(np.isin(self.objects.object_id, held)))


def split(seed: int, context: Context) -> Split:
    """Return the set in folds: examples out of the cache, or made."""
    objects = data.load(source(context))
    made = examples.cached("lsst", objects, seed, context.cache, context.show)
    return Split(objects, made, evaluate.folds_of(made, FOLDS, seed), seed)


def source(context: Context) -> Path:
    """Return where the PLAsTiCC training set is, downloaded on first use if no folder was given."""
    return data.fetch(context.cache / "data") if context.data is None else context.data / "plasticc"


def heads(row: str, parts: Split, part: int, judged: Examples, host: bool, context: Context) -> Floats:
    """Return each head's probabilities (n, H, K) for even classes of held-out examples.

    Parameters
    ----------
    row : str
        Key of `RECIPES` or `BLENDS`, or ``gbm``.
    parts, part
        What is trained on: all folds of ``parts`` but ``part``.
    judged : Examples
        n examples of objects of the fold ``part``.
    host : bool
        Whether the host's scalars are seen.
    """
    if row in BLENDS:
        each = [heads(member, parts, part, judged, host, context) for member in BLENDS[row]]
        return np.concatenate([np.repeat(p, HEADS // p.shape[1], axis=1) for p in each], axis=1)
    return per_head(logits(row, parts, part, judged, host, context) / TEMPERATURE[row])


def logits(row: str, parts: Split, part: int, judged: Examples, host: bool, context: Context) -> NDArray[np.floating]:
    """Return logits (n, H, K) of one member, trained now or found in the cache."""
    if row == "gbm":
        kept = context.cache / "checkpoints" / "plasticc" / f"gbm-seed{parts.seed}-fold{part}-{host}.pickle"
        return boosting.logits(parts.grown_on(part), judged, host, kept)
    return train.predict(network(row, parts, part, context), judged, host)


def network(row: str, parts: Split, part: int, context: Context) -> object:
    """Return the network that was trained without a fold, out of the cache or trained now."""
    recipe = replace(RECIPES[row], seed=parts.seed)
    what = f"{row} seed {parts.seed} fold {part}"

    def report(epoch: int, loss: float) -> None:
        context.show(f"{what}, loss {loss:.3f}", epoch, recipe.epochs)

    training = parts.training(part)
    if row in BEGINNINGS:
        training = beginnings.added(training, parts.objects, BEGINNINGS[row], parts.seed, context.cache)
    return train.fit(training, recipe, checkpoint(row, recipe, part, context.cache), report)


def checkpoint(row: str, recipe: Recipe, part: int, cache: Path) -> Path:
    """Return where a fold's network lies; another recipe lies elsewhere."""
    digest = hashlib.sha256(repr(recipe).encode()).hexdigest()[:8]
    return cache / "checkpoints" / "plasticc" / f"{row}-seed{recipe.seed}-fold{part}-{digest}.pt"


def per_head(scaled: NDArray[np.floating]) -> Floats:
    """Return each head's probabilities (n, H, K) for even classes, of logits (n, H, K)."""
    return np.stack([probabilities(scaled[:, h : h + 1], 1.0)[0] for h in range(scaled.shape[1])], axis=1)
