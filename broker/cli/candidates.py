"""Models on trial: which ones an operator names, as `tocsin diff` and `tocsin run --shadow` take them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from broker.cli import assemble
from broker.core.config import Settings
from broker.core.errors import TocsinError
from broker.core.topics import Topics

if TYPE_CHECKING:
    from broker.score import Shadow


def with_models(settings: Settings, models: str) -> Settings:
    """Return the settings with ``models`` in the place of the configured ones.

    Parameters
    ----------
    models : str
        Names or folders of models, comma-separated. Those of a survey and kind that is not named stay as configured;
        ``live`` changes nothing.

    Raises
    ------
    TocsinError
        There is no such model, or two anomaly scores are named for one survey.
    """
    if models == "live":
        return settings
    classifiers, anomaly = dict(settings.score.classifiers), dict(settings.score.anomaly)
    for survey, (named, strange) in _by_survey(models).items():
        classifiers[survey] = named or classifiers[survey]
        anomaly[survey] = strange or anomaly[survey]
    score = settings.score.model_copy(update={"classifiers": classifiers, "anomaly": anomaly})
    return settings.model_copy(update={"score": score})


def shadows(settings: Settings) -> dict[str, list[Shadow]]:
    """Return the candidates on trial of every survey that has any.

    Raises
    ------
    TocsinError
        There is no such model, or two candidates would share a topic.
    """
    from broker.score import Shadow

    found: dict[str, list[Shadow]] = {}
    for models in settings.score.shadow:
        alone = settings.score.model_copy(update={"classifiers": {}, "anomaly": {}, "shadow": []})
        for survey, (named, strange) in _by_survey(models).items():
            score = alone.model_copy(update={"classifiers": {survey: named}, "anomaly": {survey: strange}})
            candidate = assemble.scorers(settings.model_copy(update={"score": score}))
            found.setdefault(survey, []).append(Shadow(shadow_name(named, strange), candidate[survey]))
    for survey, candidates in found.items():
        names = [candidate.name for candidate in candidates]
        if len(set(names)) < len(names):
            raise TocsinError(f"two shadows of {survey} share a topic: {', '.join(names)}")
    return found


def shadow_topics(settings: Settings) -> list[str]:
    """Return the topics of the candidates on trial, without loading their weights."""
    topics = Topics(settings.output.prefix)
    return [
        topics.shadow(shadow_name(*named), survey)
        for models in settings.score.shadow
        for survey, named in _by_survey(models).items()
    ]


def shadow_name(classifiers: list[str], anomaly: str) -> str:
    """Return what a candidate's topics are called: the names of its models."""
    from broker.score.card import locate

    names = [locate(model)[0] for model in (*classifiers, anomaly) if model]
    return re.sub(r"[^a-zA-Z0-9._-]", "-", "_".join(names))


def _by_survey(models: str) -> dict[str, tuple[list[str], str]]:
    """Return the classifiers and the anomaly score ('' for none) that are named for each survey."""
    from broker.score import card as cards

    found: dict[str, tuple[list[str], str]] = {}
    for model in filter(None, (part.strip() for part in models.split(","))):
        card = cards.read(*cards.locate(model))
        named, strange = found.get(card.survey, ([], ""))
        if card.kind == "anomaly" and strange:
            raise TocsinError(f"{models} names two anomaly scores for {card.survey}")
        found[card.survey] = (named, model) if card.kind == "anomaly" else ([*named, model], strange)
    if not found:
        raise TocsinError(f"{models!r} names no model")
    return found
