"""A row of the survey models as `tocsin sidecar list` shows it."""

from __future__ import annotations

import re
from itertools import groupby
from typing import Any

from broker.core.errors import TocsinError

FEW = 8
"""Numbered names that the list prints in full."""


def about(name: str) -> dict[str, Any]:
    """Return what a row states, and which of its variants have weights."""
    from broker.models.survey import card, registry
    from broker.models.survey.row import Capability

    row, place = registry.row(name), registry.places()[name]
    family = place.module.split(".")[3] if place.package == registry.OURS else place.package
    found: dict[str, Any] = {"id": row.id, "family": family, "summary": row.summary}
    if isinstance(row, Capability):
        return {**found, "service": True}
    cards, changed = {}, []
    for variant in row.variants:
        try:
            cards[variant] = card.read(row.on(variant), variant)
        except card.Changed:
            changed.append(variant)
        except TocsinError:  # it has no weights, or no card that can be read
            continue
    return {
        **found,
        "service": False,
        "kind": str(row.kind),
        "reads": [{"name": i.name, "unit": i.unit, "shape": i.shape, "required": i.required} for i in row.inputs],
        "gives": [{"name": t.name, "unit": t.unit} for t in row.targets] or list(row.classes),
        "variants": list(row.variants),
        "trained": {variant: {"toy": c.data.toy, "data": c.data.id} for variant, c in cards.items()},
        "changed": changed,
    }


def line(found: dict[str, Any]) -> str:
    """Return a row for people."""
    head = f"{found['id']:<16} {found['family']:<10}"
    if found["service"]:
        return f"{head} a service to other rows: {found['summary']}"
    gives = ", ".join(g if isinstance(g, str) else f"{g['name']} {g['unit']}".strip() for g in found["gives"])
    states = [f"{variant} ({_state(found, variant)})" for variant in found["variants"]]
    reads = "; ".join(_named(unit, list(alike)) for unit, alike in groupby(found["reads"], lambda one: one["unit"]))
    return (
        f"{head} {found['kind']} -> {gives}; {', '.join(states)}\n{'':<27} {found['summary']}\n{'':<27} reads {reads}"
    )


def _state(found: dict[str, Any], variant: str) -> str:
    if variant in found["trained"]:
        return "toy" if found["trained"][variant]["toy"] else "trained"
    return "changed since training" if variant in found["changed"] else "not trained"


def _named(unit: str, inputs: list[dict[str, Any]]) -> str:
    """Return inputs of one unit."""
    return ", ".join(_shortened([one["name"] for one in inputs])) + (f" [{unit}]" if unit else "")


def _shortened(names: list[str]) -> list[str]:
    """Return names in their order, but of many that differ in their last number the first and the last."""
    found: list[str] = []
    for _, alike in groupby(names, lambda name: re.sub(r"\d+$", "", name)):
        run = list(alike)
        found += run if len(run) <= FEW else [f"{run[0]} … {run[-1]} ({len(run)})"]
    return found
