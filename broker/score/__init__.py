"""Tensors, cards and networks to probabilities and an anomaly score."""

from broker.score.scorer import Scorer
from broker.score.shadow import Shadow
from broker.score.tensors import Tensors, build
from broker.score.window import GridRequest, GridRule

__all__ = ["GridRequest", "GridRule", "Scorer", "Shadow", "Tensors", "build"]
