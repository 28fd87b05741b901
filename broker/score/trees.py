"""Decision trees as plain arrays: what a forest and boosted trees have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from broker.core.batch import Floats
from broker.core.jit import jit


@dataclass(frozen=True, slots=True)
class Nodes:
    """The n nodes of a tree, as scikit-learn numbers them.

    Attributes
    ----------
    leaf : (n,) bool
    left, right : (n,) int
        Children; anything at a leaf.
    feature : (n,) int
        Input that a node splits; anything at a leaf.
    threshold : (n,) float64
        Go left if input <= threshold.
    at_leaf : (n,) float64
        What a leaf says.
    """

    leaf: NDArray[np.bool_]
    left: NDArray[Any]
    right: NDArray[Any]
    feature: NDArray[Any]
    threshold: Floats
    at_leaf: Floats


def one_after_other(
    trees: Sequence[Nodes],
) -> tuple[NDArray[np.int32], NDArray[np.int16], NDArray[np.float32], NDArray[np.int32]]:
    """Return roots (N,), and of all nodes (M,) feature (-1 at a leaf), threshold or what a leaf says, right child.

    Raises
    ------
    ValueError
        A tree is not in depth-first order, in which a node's left child is the next node: the format rests on it.
    """
    roots, parts, total = [], [], 0
    for tree in trees:
        if not np.array_equal(tree.left[~tree.leaf], np.flatnonzero(~tree.leaf) + 1):
            raise ValueError("the trees are not stored depth first")
        parts.append(
            (
                np.where(tree.leaf, -1, tree.feature).astype(np.int16),
                np.where(tree.leaf, tree.at_leaf, _round_down(tree.threshold)).astype(np.float32),
                np.where(tree.leaf, 0, tree.right.astype(np.int64) + total).astype(np.int32),
            )
        )
        roots.append(total)
        total += len(tree.leaf)
    feature, value, right = (np.concatenate(column) for column in zip(*parts, strict=True))
    return np.array(roots, np.int32), feature, value, right


def _round_down(threshold: Floats) -> NDArray[np.float32]:
    """Return the largest float32 not above each threshold: a float32 input falls on the same side of both."""
    narrow = threshold.astype(np.float32)
    return np.where(narrow > threshold, np.nextafter(narrow, np.float32(-np.inf)), narrow)


@jit()
def summed(
    roots: NDArray[np.int32],
    feature: NDArray[np.int16],
    value: NDArray[np.float32],
    right: NDArray[np.int32],
    missing_left: NDArray[np.bool_],
    inputs: NDArray[np.float32],
) -> Floats:
    """Return the summed values (A,) of the leaves that inputs (A, F) fall into; NaN goes left where it is said so."""
    out = np.zeros(len(inputs))
    for i in range(len(inputs)):
        for root in roots:
            node = root
            while feature[node] >= 0:
                x = inputs[i, feature[node]]
                left = x <= value[node] or (missing_left[node] and np.isnan(x))
                node = node + 1 if left else right[node]
            out[i] += value[node]
    return out
