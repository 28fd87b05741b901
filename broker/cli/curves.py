"""Light curves of a table through the stream's own stages: merge, grid, Gaussian process, tensors, scorers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from broker.annotate.annotation import nearest
from broker.core.bands import SURVEYS
from broker.core.batch import Floats, Ints, LightCurves, Scores
from broker.core.reasons import Unscored
from broker.core.taxonomy import BY_ID
from broker.gp import interpolate_on
from broker.lightcurve import merge
from broker.tables import epochs
from broker.tables.baseline import Mode, subtract
from broker.tables.curves import Id, Table

if TYPE_CHECKING:
    from broker.score import Scorer

CURVES, POINTS = 1024, 200_000
"""Of a batch: light curves (objects × epochs), and their points unless one object alone has more."""

Columns = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Judge:
    """What is asked of every object.

    Attributes
    ----------
    scorer : Scorer
    at : (K,) float64
        Epochs, see `broker.tables.epochs.cuts`.
    history_d : float or None
        Days that a packet holds; None: all history.
    baseline : {"none", "median", "auto"}
        See `broker.tables.baseline.subtract`.
    gp_threads : int
    gp_solver : str
    counts : Counter
        Rows of the result by their reason ('' scored).
    dropped : Counter
        Points that the cleaning left out, by what is wrong with them.
    stars : set of str or int
        Objects of which a baseline was taken away.
    """

    scorer: Scorer
    at: Floats
    history_d: float | None = None
    baseline: Mode = "none"
    gp_threads: int = 1
    gp_solver: str = "fast"
    counts: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    stars: set[Id] = field(default_factory=set)

    def results(self, table: Table, host_z: Floats, host_z_err: Floats) -> Iterator[Columns]:
        """Yield the rows of the result, object by object and epoch by epoch, some `CURVES` at a time.

        Parameters
        ----------
        host_z, host_z_err : (A,) float64
            NaN where not known.
        """
        for rows in _batches(table.curves.counts, len(self.at)):
            yield self._batch(
                [table.ids[i] for i in rows.tolist()], table.curves.take(rows), host_z[rows], host_z_err[rows]
            )

    def _batch(self, ids: list[Id], raw: LightCurves, host_z: Floats, host_z_err: Floats) -> Columns:
        clean, dropped = merge(raw, len(SURVEYS[self.scorer.survey].bands))
        self.dropped["duplicate"] += int(dropped.duplicate.sum())
        self.dropped["not finite"] += int(dropped.not_finite.sum())
        clean, stars = subtract(clean, len(SURVEYS[self.scorer.survey].bands), self.baseline)
        self.stars.update(ids[i] for i in np.flatnonzero(stars).tolist())
        found = epochs.cuts(clean, self.at, self.history_d)
        known = np.flatnonzero(found.stop > found.start)
        # Two epochs between which nothing was seen are one light curve.
        spans, first, place = np.unique(
            np.stack((found.start[known], found.stop[known]), axis=1), axis=0, return_index=True, return_inverse=True
        )
        owner = known[first] // len(self.at)
        scores = self._scores(epochs.cut(clean, spans[:, 0], spans[:, 1]), host_z[owner], host_z_err[owner])
        why = np.where(np.repeat(clean.counts, len(self.at)) > 0, *_EMPTY)
        answers = _columns(scores, known, place.reshape(-1), why.tolist())
        self.counts.update(answers["reason"])
        k = len(self.at)
        obj = [name for name in ids for _ in range(k)]
        return {"obj": obj, "at": np.tile(self.at, len(ids)), **answers}

    def _scores(self, curves: LightCurves, host_z: Floats, host_z_err: Floats) -> Scores:
        grid = self.scorer.grid(curves)
        wavelengths = SURVEYS[self.scorer.survey].wavelengths_aa
        made = interpolate_on(self.gp_threads, grid.curves, wavelengths, grid.times, solver=self.gp_solver)
        return self.scorer(grid, made, host_z=host_z, host_z_err=host_z_err)


_EMPTY = (str(Unscored.TOO_FEW_DETECTIONS), str(Unscored.NO_POINTS))
"""Why nothing was known at an epoch: nothing was detected by then; no row of the object can be used."""


def with_even_prior(scorer: Scorer) -> Scorer:
    """Return the scorer as if all classes were as common, as they were in training."""

    def even(classifier: Any) -> Any:
        classes = tuple(
            c.model_copy(update={"prior": 1.0 / len(classifier.card.classes)}) for c in classifier.card.classes
        )
        return replace(classifier, card=classifier.card.model_copy(update={"classes": classes}))

    return replace(scorer, classifiers=tuple(map(even, scorer.classifiers)))


def _batches(counts: Ints, k: int) -> Iterator[Ints]:
    """Yield rows of consecutive objects, whose curves at k epochs are a batch."""
    share = np.maximum(counts * k / POINTS, k / CURVES)
    ends = np.cumsum(share)
    start = 0
    while start < len(counts):
        begun = ends[start - 1] if start else 0.0
        stop = max(start + 1, int(np.searchsorted(ends, begun + 1.0, side="right")))
        yield np.arange(start, stop)
        start = stop


def _columns(scores: Scores, known: Ints, place: Ints, why: list[str]) -> Columns:
    """Return the result's columns (N,): those of curve ``place`` (n,) in the rows ``known`` (n,), NaN in the others."""
    n, chosen, strange = len(why), scores.chosen, scores.anomaly
    out: Columns = {}
    if chosen is not None:
        for suffix, values in (("", chosen.probabilities), ("_unc", chosen.uncertainty)):
            slugs = [BY_ID[class_id].slug for class_id in chosen.class_ids]
            out |= {f"p_{s}{suffix}": _spread(values[:, i], known, place, n) for i, s in enumerate(slugs)}
    if strange is not None:
        out["anomaly"] = _spread(strange.score, known, place, n)
        out |= {f"anomaly_{name}": _spread(part, known, place, n) for name, part in strange.parts.items()}
        names = [BY_ID[i].slug if i in BY_ID else "" for i in nearest(scores, len(strange.score)).tolist()]
        out["anomaly_nearest"] = _texts(names, known, place, [""] * n)
    reasons = [answer.reason for answer in (chosen, strange) if answer is not None]
    out["reason"] = _texts(reasons[0], known, place, why)
    if len(reasons) > 1:
        out["reason_anomaly"] = _texts(reasons[1], known, place, why)
    return out


def _spread(values: NDArray[np.floating], known: Ints, place: Ints, n: int) -> NDArray[np.float32]:
    spread = np.full(n, np.nan, np.float32)
    spread[known] = values[place]
    return spread


def _texts(values: list[str], known: Ints, place: Ints, empty: list[str]) -> list[str]:
    texts = np.array(empty, dtype=object)
    texts[known] = np.array(values, dtype=object)[place]
    return [str(text) for text in texts]
