"""A candidate beside the live models: it answers for the same alerts, and whatever it does hurts only itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from broker.core.batch import AnomalyScores, ClassScores, Ints, Scores
from broker.core.reasons import Unscored
from broker.core.taxonomy import BRANCH_IDS
from broker.score.average import average
from broker.score.scorer import Scorer
from broker.score.tensors import Tensors


@dataclass(frozen=True, slots=True)
class Shadow:
    """Models on trial for one survey.

    Attributes
    ----------
    name : str
        Of its topics.
    scorer : Scorer
        The models on trial.
    whole : bool
        They are a whole set, of which nothing is answered by the live models.
    """

    name: str
    scorer: Scorer
    whole: bool = False

    def answer(self, tensors: Tensors, n_detections: Ints) -> Scores:
        """Return the candidate's answer for A alerts; see `Scorer.answer`.

        Raises
        ------
        ValueError
            It has other rows or columns than the candidate's cards say.
        """
        own = self.scorer.answer(tensors, n_detections)
        found, promised = _shapes(own), _shapes(self.failed(len(n_detections)))
        if found != promised:
            raise ValueError(f"the answer has shapes {found}, not {promised}")
        return own

    def beside(self, live: Scores, own: Scores) -> Scores:
        """Return what would be published with the candidate in the place of the live models of its kind."""
        if self.whole:
            return own
        return Scores(own.classifiers or live.classifiers, own.anomaly or live.anomaly)

    def failed(self, alerts: int) -> Scores:
        """Return the answer of a candidate that raised an exception: a reason for every alert, and no number."""
        reason = [str(Unscored.SHADOW_FAILED)] * alerts
        classes = []
        for card in (classifier.card for classifier in self.scorer.classifiers):
            ids = tuple(c.id for c in card.classes)
            empty, sums = (np.full((alerts, columns), np.nan, np.float32) for columns in (len(ids), len(BRANCH_IDS)))
            prior = np.array([c.prior for c in card.classes], np.float32)
            names = card.name, card.version, card.weights.sha256
            classes.append(ClassScores(*names, ids, prior, empty, empty, sums, reason))
        if len(classes) > 1:
            classes.append(average(self.scorer.survey, classes))
        if self.scorer.anomaly is None:
            return Scores(classes, None)
        card = self.scorer.anomaly.card
        none = np.full(alerts, np.nan, np.float32)
        return Scores(classes, AnomalyScores(card.name, card.version, card.weights.sha256, none, {}, reason))


def _shapes(scores: Scores) -> list[tuple[object, ...]]:
    """Return the shapes of an answer: all that could break what the alerts of a batch share."""
    classes = [
        (c.class_ids, c.probabilities.shape, c.uncertainty.shape, c.branch_uncertainty.shape, len(c.reason))
        for c in scores.classifiers
    ]
    if (strange := scores.anomaly) is None:
        return [*classes]
    beside = [*strange.parts.values(), *(() if strange.nearest is None else (strange.nearest,))]
    parts = {part.shape for part in beside} - {strange.score.shape}
    return [*classes, (strange.score.shape, parts, len(strange.reason))]
