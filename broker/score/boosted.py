"""Gradient-boosted trees as plain arrays: what scikit-learn fits, without its pickle (Friedman 2001)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from broker.core.batch import Floats
from broker.core.jit import jit
from broker.score.forest import round_down


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
        return self.start + _sum(*columns, np.ascontiguousarray(inputs, np.float32))

    @classmethod
    def from_sklearn(cls, fitted: Any) -> Self:
        """Return the arrays of a fitted two-class `sklearn.ensemble.HistGradientBoostingClassifier` of numbers."""
        roots, parts, total = [], [], 0
        for (tree,) in fitted._predictors:
            nodes, leaf = tree.nodes, tree.nodes["is_leaf"].astype(bool)
            # Depth-first order is how scikit-learn stores a tree; the format rests on it, so check.
            if not np.array_equal(nodes["left"][~leaf], np.flatnonzero(~leaf) + 1):
                raise ValueError("the trees are not stored depth first")
            parts.append(
                (
                    np.where(leaf, -1, nodes["feature_idx"]).astype(np.int16),
                    np.where(leaf, nodes["value"], round_down(nodes["num_threshold"])).astype(np.float32),
                    np.where(leaf, 0, nodes["right"].astype(np.int64) + total).astype(np.int32),
                    nodes["missing_go_to_left"].astype(bool),
                )
            )
            roots.append(total)
            total += len(nodes)
        feature, value, right, missing = (np.concatenate(column) for column in zip(*parts, strict=True))
        start = float(np.ravel(fitted._baseline_prediction)[0])
        return cls(np.array(roots, np.int32), feature, value, right, missing, start)


@jit()
def _sum(
    roots: NDArray[np.int32],
    feature: NDArray[np.int16],
    value: NDArray[np.float32],
    right: NDArray[np.int32],
    missing_left: NDArray[np.bool_],
    inputs: NDArray[np.float32],
) -> Floats:
    """Return the summed values (A,) of the leaves that the inputs fall into."""
    out = np.zeros(len(inputs))
    for i in range(len(inputs)):
        for root in roots:
            node = root
            while feature[node] >= 0:
                x = inputs[i, feature[node]]
                left = missing_left[node] if np.isnan(x) else x <= value[node]
                node = node + 1 if left else right[node]
            out[i] += value[node]
    return out
