"""The score of active galaxies that change their state: a judge that knows damped random walks with and without.

All galaxies are simulated, at the visits and with the errors of PLAsTiCC's: what a real change looks like nobody has
told it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from broker.core.taxonomy import CLASSES
from broker.models.transients import drw, examples, exposure, strange
from broker.models.transients.data import Labelled
from broker.models.transients.examples import Examples
from broker.models.transients.exposure import Exposures, Task
from broker.models.transients.strange import Fitted, Outcome
from broker.score.boosted import Boosted

COPIES = 8
"""Galaxies per cadence in training; a quarter of it in judging. Each is an example several times, whole and cut."""
AGN = next(k for k, c in enumerate(CLASSES) if c.slug == "agn")


@dataclass(frozen=True, slots=True)
class Galaxies:
    """N examples of galaxies with two detections or more, and which of them change their state while we look."""

    examples: Examples
    changing: NDArray[np.bool_]

    @property
    def ordinary(self) -> Examples:
        """Those that do not change."""
        return self.examples.take(np.flatnonzero(~self.changing))


def run(objects: Labelled, task: Task) -> Outcome:
    """Return the score that ships, of the cadences of all of PLAsTiCC's active galaxies, judged on halves of them."""
    cadences = objects.take(np.flatnonzero(objects.label == AGN))
    rows = []
    for k in (0, 1):
        known, judged = split(cadences, task, k)
        scores = fit(known, task, f"half{k}").score(judged.examples.tensors, task.scalars)
        rows.append(strange.figures(scores, judged.examples, judged.changing))
    known = simulated(cadences, COPIES, task, 4)
    return strange.outcome(fit(known, task, "all"), known.examples, rows, task)


def split(cadences: Labelled, task: Task, half: int) -> tuple[Galaxies, Galaxies]:
    """Return galaxies with the cadences of one half, to learn from, and others with those of the other half."""
    mine = strange.in_half(cadences.object_id, task.seed, half)
    known = simulated(cadences.take(np.flatnonzero(mine)), COPIES, task, half)
    return known, simulated(cadences.take(np.flatnonzero(~mine)), COPIES // 4, task, half + 2)


def simulated(cadences: Labelled, copies: int, task: Task, stream: int) -> Galaxies:
    """Return new galaxies, so many for each cadence, of which half change their state; ``stream`` is of the numbers."""
    rng = np.random.default_rng((task.seed, stream, 17))
    rows = np.tile(np.arange(len(cadences)), copies)
    changing = rng.permutation(np.arange(len(rows)) % 2 == 0)
    curves = drw.observe(cadences.curves.take(rows), task.survey, changing, rng)
    drawn = replace(cadences.take(rows), curves=curves, object_id=np.arange(len(rows)))
    made = strange.usable(examples.make(task.survey, drawn, task.seed, task.show))
    return Galaxies(made, changing[made.object_id])


def fit(known: Galaxies, task: Task, name: str) -> Fitted:
    """Return models and ranks: the judge of both kinds, everything else of ordinary galaxies alone."""
    ordinary = known.ordinary
    return strange.around(judge(known, task), ordinary, ordinary.tensors, task, name)


def judge(known: Galaxies, task: Task) -> Boosted:
    """Return trees that learned changing and ordinary galaxies apart."""
    return exposure.train(Exposures(known.examples.tensors, known.changing), task)
