"""Gradient-boosted trees as plain arrays: what scikit-learn fits, without its pickle (Friedman 2001)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from broker.core.batch import Floats
from broker.score.trees import Nodes, one_after_other, summed


@dataclass(frozen=True, slots=True)
class Boosted:
    """Trees one after the other, each in depth-first order: a node's left child is the next node.

    Attributes
    ----------
    roots : (N,) int32
        First node of each tree.
    feature : (M,) int16
        Input that a node splits, -1 at a leaf.
    value : (M,) float32
        Threshold (go left if input <= value); at a leaf what it adds to the ln odds.
    right : (M,) int32
        Right child.
    missing_left : (M,) bool
        An unknown input (NaN) goes left.
    start : float
        Ln odds before the first tree.
    """

    roots: NDArray[np.int32]
    feature: NDArray[np.int16]
    value: NDArray[np.float32]
    right: NDArray[np.int32]
    missing_left: NDArray[np.bool_]
    start: float

    def score(self, inputs: NDArray[np.float32]) -> Floats:
        """Return the ln odds (A,) of the second class, of inputs (A, F): scikit-learn's ``decision_function``."""
        columns = (self.roots, self.feature, self.value, self.right, self.missing_left)
        return self.start + summed(*columns, np.ascontiguousarray(inputs, np.float32))

    @classmethod
    def from_sklearn(cls, fitted: Any) -> Self:
        """Return the arrays of a fitted two-class `sklearn.ensemble.HistGradientBoostingClassifier` of numbers."""
        each = [tree.nodes for (tree,) in fitted._predictors]
        trees = [
            Nodes(n["is_leaf"].astype(bool), n["left"], n["right"], n["feature_idx"], n["num_threshold"], n["value"])
            for n in each
        ]
        missing = np.concatenate([nodes["missing_go_to_left"].astype(bool) for nodes in each])
        start = float(np.ravel(fitted._baseline_prediction)[0])
        return cls(*one_after_other(trees), missing, start)
