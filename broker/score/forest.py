"""An isolation forest as plain arrays: what scikit-learn fits, without its pickle (Liu, Ting & Zhou 2008)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from broker.core.batch import Floats
from broker.core.jit import jit


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
        depth = _depth(self.roots, self.feature, self.value, self.right, np.ascontiguousarray(inputs, np.float32))
        return np.asarray(2.0 ** (-depth / (len(self.roots) * self.typical)))

    @classmethod
    def from_sklearn(cls, fitted: Any) -> Self:
        """Return the arrays of a fitted `sklearn.ensemble.IsolationForest` that uses all features in each tree."""
        roots, parts = [], []
        total = 0
        for estimator in fitted.estimators_:
            tree = estimator.tree_
            leaf = tree.children_left < 0
            # Depth-first order is how scikit-learn stores a tree; the format rests on it, so check.
            if not np.array_equal(tree.children_left[~leaf], np.flatnonzero(~leaf) + 1):
                raise ValueError("the trees are not stored depth first")
            parts.append(
                (
                    np.where(leaf, -1, tree.feature).astype(np.int16),
                    np.where(leaf, _path_lengths(tree), round_down(tree.threshold)).astype(np.float32),
                    np.where(leaf, 0, tree.children_right + total).astype(np.int32),
                )
            )
            roots.append(total)
            total += tree.node_count
        feature, value, right = (np.concatenate(column) for column in zip(*parts, strict=True))
        typical = float(_average_path(np.array([fitted.max_samples_]))[0])
        return cls(np.array(roots, np.int32), feature, value, right, typical)


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


def round_down(threshold: Floats) -> NDArray[np.float32]:
    """Return the largest float32 not above each threshold: a float32 input falls on the same side of both."""
    narrow = threshold.astype(np.float32)
    return np.where(narrow > threshold, np.nextafter(narrow, np.float32(-np.inf)), narrow)


@jit()
def _depth(
    roots: NDArray[np.int32],
    feature: NDArray[np.int16],
    value: NDArray[np.float32],
    right: NDArray[np.int32],
    inputs: NDArray[np.float32],
) -> Floats:
    """Return the summed path length (A,) over the trees."""
    out = np.zeros(len(inputs))
    for i in range(len(inputs)):
        for root in roots:
            node = root
            while feature[node] >= 0:
                node = node + 1 if inputs[i, feature[node]] <= value[node] else right[node]
            out[i] += value[node]
    return out
