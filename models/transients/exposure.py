"""What the judge of strangeness learns from: ordinary curves and warped ones, both observed again, as tensors."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from broker.core.bands import SURVEYS
from broker.core.batch import Ints, Kind, LightCurves
from broker.models.transients import augment
from broker.models.transients.data import Labelled
from broker.models.transients.examples import HISTORY_D, VERSION_OF, WHOLE, to_examples
from broker.models.transients.warp import Known, observed
from broker.score.anomaly import judge_inputs
from broker.score.boosted import Boosted
from broker.score.tensors import ALWAYS, Tensors, scalar_names, without_host
from broker.score.window import GridRule

AIM = 22_000
"""Curves that are made, as many ordinary as warped, in rounds of as many of each as there are objects."""
WHOLE_SHARE = 0.4
"""Curves that stay whole; the others are cut at one of their alerts, so that the judge knows young ones."""
TREES, LEAVES, RATE, SHRINK = 150, 20, 0.1, 5.0
"""Of the judge: boosting steps, leaves of a tree, learning rate, L2 of a leaf's value."""

Show = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Task:
    """What is fitted, and how.

    Attributes
    ----------
    survey : str
    seed : int
    epochs : int
        Of the autoencoder; 0 takes the recipe's.
    folder : Path
        Of the checkpoints.
    show : callable
        Told what is done, how much of it and of how much.
    host : bool
        Read the host's redshift: for comparison only, no such score is served.
    """

    survey: str
    seed: int
    epochs: int
    folder: Path
    show: Show
    host: bool = False

    @property
    def scalars(self) -> tuple[str, ...]:
        """Names of the scalars that are read."""
        return scalar_names(self.survey, host=self.host)


@dataclass(frozen=True, slots=True)
class Exposures:
    """N tensors with what they are.

    Attributes
    ----------
    tensors : Tensors
    warped : (N,) bool
    """

    tensors: Tensors
    warped: NDArray[np.bool_]


def make(objects: Labelled, task: Task) -> Exposures:
    """Return ordinary and warped curves made of these objects, all of known classes, and of nothing else.

    A warped curve has the host of its object.
    """
    rng = np.random.default_rng((task.seed, 13))
    rounds = max(1, round(AIM / (2 * len(objects))))
    parts = []
    for done in range(rounds):
        curves, z, z_err = VERSION_OF[task.survey](objects, WHOLE, rng)
        usable = np.flatnonzero(np.isfinite(augment.last_detection(curves)))
        host = Host(objects.label[usable], z[usable], z_err[usable])
        known = Known.of(task.survey, curves.take(usable))
        for warped, whole in itertools.product((False, True), (True, False)):
            parts.append((_one_kind(known, host, warped, whole, rng), warped))
        task.show("ordinary and warped curves", done + 1, rounds)
    joined = Tensors(*(np.concatenate([getattr(t, name) for t, _ in parts]) for name in ALWAYS))
    kind = np.concatenate([np.full(len(tensors), warped) for tensors, warped in parts])
    return Exposures(joined if task.host else without_host(joined), kind)


def train(exposures: Exposures, seed: int) -> Boosted:
    """Return a judge that tells warped curves from ordinary ones, as many of each."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    fitted = HistGradientBoostingClassifier(
        max_iter=TREES,
        learning_rate=RATE,
        max_leaf_nodes=LEAVES,
        l2_regularization=SHRINK,
        class_weight="balanced",
        early_stopping=False,
        random_state=seed,
    ).fit(judge_inputs(exposures.tensors), exposures.warped)
    return Boosted.from_sklearn(fitted)


@dataclass(frozen=True, slots=True)
class Host:
    """Labels (A,), redshifts and their errors (A,) of `Known` curves."""

    label: Ints
    z: NDArray[np.float64]
    z_err: NDArray[np.float64]


def _one_kind(known: Known, host: Host, warped: bool, whole: bool, rng: augment.Rng) -> Tensors:
    """Return tensors of new curves with two detections or more, of this kind."""
    rows = _drawn(host.label, WHOLE_SHARE if whole else 1.0 - WHOLE_SHARE, rng)
    new = observed(known, rows, np.full(len(rows), warped), rng)
    if not whole:
        new = augment.any_epoch(new, rng, len(SURVEYS[known.survey].bands), HISTORY_D[known.survey])
    there = np.flatnonzero(_detections(new) >= 2)
    rows = rows[there]
    made = to_examples(new.take(there), known.survey, GridRule(), host.z[rows], host.z_err[rows])
    return made.take(np.flatnonzero(made.finite))


def _drawn(label: Ints, share: float, rng: augment.Rng) -> Ints:
    """Return this share of as many rows as there are, classes evened out by their root."""
    chance = 1.0 / np.sqrt(np.bincount(label)[label])
    return np.asarray(rng.choice(len(label), round(share * len(label)), p=chance / chance.sum()))


def _detections(curves: LightCurves) -> Ints:
    alert = np.repeat(np.arange(len(curves)), curves.counts)
    return np.bincount(alert[curves.kind == Kind.DETECTION], minlength=len(curves))
