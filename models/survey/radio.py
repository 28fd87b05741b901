"""Simulated radio galaxies (`broker.models.simulators.radio`) as examples of rows."""

from __future__ import annotations

from pathlib import Path

from broker.models.simulators import radio
from broker.models.survey.row import Data, Examples

DATA = Data(f"{radio.ID}-fr", radio.VERSION, radio.PRIOR)


def fr_classes(n: int, seed: int, data: Path | None) -> Examples:
    """Return FR I (truth 0) and FR II (1) as FIRST maps them: ``image`` (n, 1, 150, 150)."""
    images, truth = radio.fr_classes(n, seed)
    return Examples({"image": images}, truth, DATA)
