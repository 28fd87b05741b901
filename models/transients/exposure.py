"""What the judge of strangeness learns from: ordinary supernovae and warped ones, both observed again, and the rest.

The rest are variables and flares, as they are: ordinary too, where the judge is to serve a whole night.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from broker.core.bands import SURVEYS
from broker.core.batch import Ints
from broker.core.taxonomy import CLASSES, COMMON, RARE
from broker.models.transients import augment
from broker.models.transients.data import Labelled
from broker.models.transients.examples import HISTORY_D, LAST_PACKET, VERSION_OF, WHOLE, Progress, to_examples
from broker.models.transients.warp import Known, observed
from broker.score.anomaly import judge_inputs
from broker.score.boosted import Boosted
from broker.score.tensors import ALWAYS, Tensors, scalar_names, without_host
from broker.score.window import GridRule

AIM = 22_000
"""Curves that are made, as many ordinary as warped, in rounds of as many of each as there are objects."""
WHOLE_SHARE = 0.4
"""Curves that stay whole; the others are cut at one of their alerts, so that the judge knows young ones."""
OTHERS = {"lsst": 0.15, "ztf": 0.0}
"""Curves of other ordinary classes, where there are any, for each ordinary curve of a supernova: enough to know them
by, and so few that telling supernovae apart stays the judge's business. In ZTF's three bands a twentieth is too many
already: of SLSN-I and TDE against SN Ia, whole curves, the area fell from 0.87 to 0.81; there, ranks must do."""
CADENCE = (
    *("log_points", "log_detections", "detected_fraction", "limit_fraction", "log_history_d", "log_quiet_d"),
    *("log_since_detection_d", "log_longest_gap_d", "log_likelihood", "points_", "detections_"),
)
"""Starts of the names of scalars that say how often a survey looks and how long, not what it sees: the judge reads none
of them, so that a deep field's thousand points are not strange to it."""
TREES, LEAVES, RATE, SHRINK = 150, 20, 0.1, 5.0
"""Of the judge: boosting steps, leaves of a tree, learning rate, L2 of a leaf's value."""


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
    show: Progress
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
    """Return ordinary and warped curves made of these objects, none of a rare class, and of nothing else.

    A warped curve has the host of its object. Only supernovae are warped; the others are ordinary as they are.
    """
    rng = np.random.default_rng((task.seed, 13))
    common = member(objects.label, COMMON)
    others = objects.take(np.flatnonzero(~common & ~member(objects.label, RARE)))
    objects = objects.take(np.flatnonzero(common))
    rounds = max(1, round(AIM / (2 * len(objects))))
    parts: list[tuple[Tensors, bool]] = []
    for done in range(rounds):
        curves, z, z_err = VERSION_OF[task.survey](objects, WHOLE, rng)
        usable = np.flatnonzero(np.isfinite(augment.last_detection(curves)))
        host = Host(objects.label[usable], z[usable], z_err[usable])
        known = Known.of(task.survey, curves.take(usable))
        for warped, whole in itertools.product((False, True), (True, False)):
            parts.append((_one_kind(known, host, warped, whole, rng), warped))
        count = round(OTHERS[task.survey] * len(usable))
        if count and len(others):
            for tensors in _others(others, task.survey, count, rng):
                parts.append((tensors, False))
        task.show("ordinary and warped curves", done + 1, rounds)
    joined = Tensors(*(np.concatenate([getattr(t, name) for t, _ in parts]) for name in ALWAYS))
    kind = np.repeat([warped for _, warped in parts], [len(tensors) for tensors, _ in parts])
    return Exposures(joined if task.host else without_host(joined), kind)


def member(label: Ints, classes: frozenset[int]) -> NDArray[np.bool_]:
    """Return which labels (N,) are of these class ids."""
    return np.isin(label, [k for k, c in enumerate(CLASSES) if c.id in classes])


def train(exposures: Exposures, task: Task) -> Boosted:
    """Return a judge that tells warped curves from ordinary ones, of which in all either counts as much."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    inputs = judge_inputs(exposures.tensors)
    # A column that does not vary is never split on: the trees that serve do not read it.
    inputs[:, [k for k, name in enumerate(task.scalars) if name.startswith(CADENCE)]] = 0.0
    # scikit-learn stumbles over a column without a number.
    inputs[:, np.isnan(inputs).all(axis=0)] = 0.0
    fitted = HistGradientBoostingClassifier(
        max_iter=TREES,
        learning_rate=RATE,
        max_leaf_nodes=LEAVES,
        l2_regularization=SHRINK,
        class_weight="balanced",
        early_stopping=False,
        random_state=task.seed,
    ).fit(inputs, exposures.warped)
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
    there = np.flatnonzero(augment.detections(new) >= 2)
    rows = rows[there]
    made = to_examples(new.take(there), known.survey, GridRule(), host.z[rows], host.z_err[rows])
    return made.take(np.flatnonzero(made.finite))


def _others(objects: Labelled, survey: str, count: int, rng: augment.Rng) -> list[Tensors]:
    """Return tensors of so many curves, each class as often, with two detections or more: some whole, some cut."""
    share = 1.0 / np.bincount(objects.label)[objects.label]
    out = []
    for version, part in ((WHOLE, WHOLE_SHARE), (LAST_PACKET + 1, 1.0 - WHOLE_SHARE)):
        rows = rng.choice(len(objects), round(part * count), p=share / share.sum())
        curves, z, z_err = VERSION_OF[survey](objects.take(rows), version, rng)
        there = np.flatnonzero(augment.detections(curves) >= 2)
        made = to_examples(curves.take(there), survey, GridRule(), z[there], z_err[there])
        out.append(made.take(np.flatnonzero(made.finite)))
    return out


def _drawn(label: Ints, share: float, rng: augment.Rng) -> Ints:
    """Return this share of as many rows as there are, classes evened out by their root."""
    chance = 1.0 / np.sqrt(np.bincount(label)[label])
    return np.asarray(rng.choice(len(label), round(share * len(label)), p=chance / chance.sum()))
