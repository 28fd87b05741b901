"""An isolation forest as plain arrays: what scikit-learn fits, without its pickle (Liu, Ting & Zhou 2008)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from broker.core.batch import Floats
from broker.score.trees import Nodes, one_after_other, summed


@dataclass(frozen=True, slots=True)
class Forest:
    """Trees one after the other, each in depth-first order: a node's left child is the next node.

    Attributes
    ----------
    roots : (N,) int32
        First node of each tree.
    feature : (M,) int16
        Input that a node splits, -1 at a leaf.
    value : (M,) float32
        Threshold (go left if input <= value); at a leaf the path length down to it.
    right : (M,) int32
        Right child.
    typical : float
        Path length that scales the score: of an unsuccessful search among the samples of a tree.
    """

    roots: NDArray[np.int32]
    feature: NDArray[np.int16]
    value: NDArray[np.float32]
    right: NDArray[np.int32]
    typical: float

    def score(self, inputs: NDArray[np.float32]) -> Floats:
        """Return (A,) in (0, 1), larger = stranger, of inputs (A, F): minus scikit-learn's ``score_samples``."""
        columns = (self.roots, self.feature, self.value, self.right, np.zeros(len(self.feature), np.bool_))
        depth = summed(*columns, np.ascontiguousarray(inputs, np.float32))
        return np.asarray(2.0 ** (-depth / (len(self.roots) * self.typical)))

    @classmethod
    def from_sklearn(cls, fitted: Any) -> Self:
        """Return the arrays of a fitted `sklearn.ensemble.IsolationForest` that uses all features in each tree."""
        each = (estimator.tree_ for estimator in fitted.estimators_)
        trees = [
            Nodes(t.children_left < 0, t.children_left, t.children_right, t.feature, t.threshold, _path_lengths(t))
            for t in each
        ]
        typical = float(_average_path(np.array([fitted.max_samples_]))[0])
        return cls(*one_after_other(trees), typical)


def _average_path(n: NDArray[Any]) -> Floats:
    """Return the mean path length of an unsuccessful search in a binary tree of n (n,) samples."""
    n = n.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        long = 2.0 * (np.log(n - 1.0) + np.euler_gamma) - 2.0 * (n - 1.0) / n
    return np.asarray(np.where(n <= 1, 0.0, np.where(n == 2, 1.0, long)))


def _path_lengths(tree: Any) -> Floats:
    """Return (M,): depth of each node plus what its samples would still need to be told apart."""
    depth = np.zeros(tree.node_count)
    for node in range(tree.node_count):
        if tree.children_left[node] >= 0:
            depth[[tree.children_left[node], tree.children_right[node]]] = depth[node] + 1
    return depth + _average_path(tree.n_node_samples)
