"""Tensors, cards and networks to probabilities and an anomaly score."""

from broker.score.scorer import Scorer
from broker.score.window import GridRequest, GridRule

__all__ = ["GridRequest", "GridRule", "Scorer"]
