"""Annotations as a reader has them, dicts of any version: the classification to go by, its branches, even classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from broker.core.taxonomy import BRANCH_IDS, BY_ID, ancestors

Annotation = Mapping[str, Any]


def chosen(annotation: Annotation) -> Mapping[str, Any] | None:
    """Return the entry of ``classifiers`` to go by: the average, or the only one; None where there is neither.

    Annotations of version 1.0 have no average: of two classifiers neither is the one.
    """
    entries: Sequence[Mapping[str, Any]] = annotation["classifiers"]
    average = [c for c in entries if c["classifierName"] == f"{annotation['survey']}-average"]
    return average[0] if average else entries[0] if len(entries) == 1 else None


def probabilities(annotation: Annotation) -> dict[int, float]:
    """Return the probability of each class id; none where the alert is not classified. It decides about class topics.

    In annotations of version 1.0 it is the mean over the classifiers, which must all answer.
    """
    entry = chosen(annotation)
    answers = [c["classifications"] for c in (annotation["classifiers"] if entry is None else [entry])]
    if not all(answers):
        return {}
    total: dict[int, float] = {}
    for row in (row for answer in answers for row in answer):
        total[row["classId"]] = total.get(row["classId"], 0.0) + row["probability"] / len(answers)
    return total


def branches(annotation: Annotation) -> dict[int, float]:
    """Return the probability of each branch by its class id: the sum over its classes; none where not classified."""
    total = dict.fromkeys(BRANCH_IDS, 0.0)
    found = {class_id: p for class_id, p in probabilities(annotation).items() if class_id in BY_ID}
    for class_id, p in found.items():
        for branch in ancestors(class_id):
            total[branch] += p
    return total if found else {}


def even(annotation: Annotation, classifier: str | None = None) -> dict[int, float]:
    """Return probabilities by class id as they are where all classes are as common, as in training.

    Parameters
    ----------
    classifier : str, optional
        Name of an entry of ``classifiers``; default: the one to go by.

    Raises
    ------
    ValueError
        The annotation has no such classifier, or, of version 1.0, does not say its prior.
    """
    entry = chosen(annotation)
    name = classifier if classifier is not None or entry is None else entry["classifierName"]
    names = [c["classifierName"] for c in annotation["classifiers"]]
    trees = annotation.get("trees") or []
    if name not in names or len(trees) != len(names):
        raise ValueError(f"no prior of {name} in an annotation by {', '.join(names) or 'no classifier'}")
    place = names.index(name)
    rows, prior = annotation["classifiers"][place]["classifications"], trees[place]["prior"]
    weighed = {row["classId"]: row["probability"] / p for row, p in zip(rows, prior, strict=True)}
    total = sum(weighed.values())
    return {class_id: p / total for class_id, p in weighed.items()}
