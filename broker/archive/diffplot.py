"""The picture of a comparison: probabilities, anomaly ranks and classes, A against B."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from broker.archive.diff import SLUGS, Diff
from broker.core.errors import TocsinError

SHOWN = 20_000  # points: beyond, the picture is black and the file is large


def plot(diff: Diff, path: Path, names: tuple[str, str], percentile: float) -> None:
    """Write ``.svg`` or ``.png``: the probability of A's likeliest class, the anomaly rank, and the classes' confusion.

    Raises
    ------
    TocsinError
        The path's suffix is neither, or it cannot be written.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    if path.suffix not in (".svg", ".png"):
        raise TocsinError(f"{path}: a plot is .svg or .png")
    figure = Figure(figsize=(15, 5), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    _probabilities(left, diff)
    _anomalies(middle, diff, percentile)
    _classes(right, diff)
    for axes in (left, middle):
        axes.set(xlabel=f"A = {names[0]}", ylabel=f"B = {names[1]}")
    right.set(ylabel=f"A = {names[0]}", xlabel=f"B = {names[1]}")
    try:
        with rc_context({"svg.hashsalt": "tocsin"}):  # the same comparison gives the same bytes
            figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    except OSError as error:
        raise TocsinError(f"cannot write {path}: {error.strerror or error}") from error


def _probabilities(axes: Any, diff: Diff) -> None:
    both = np.flatnonzero((diff.top >= 0).all(axis=0))[:SHOWN]
    chosen = diff.top[0][both]
    a, b = (side[both, chosen] for side in diff.probabilities)
    moved = diff.moved[both]
    for rows, colour, label in ((~moved, "tab:blue", "same class"), (moved, "tab:red", "class moved")):
        axes.scatter(a[rows], b[rows], s=6, c=colour, alpha=0.5, linewidths=0, label=f"{label}: {rows.sum()}")
    axes.axline((0, 0), slope=1, color="grey", linewidth=0.8)
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", title="probability of A's likeliest class")
    axes.legend(loc="upper left")


def _anomalies(axes: Any, diff: Diff, percentile: float) -> None:
    a, b = diff.anomaly[:, ~np.isnan(diff.anomaly).any(axis=0)][:, :SHOWN]
    axes.scatter(a, b, s=6, c="tab:purple", alpha=0.5, linewidths=0)
    axes.axline((0, 0), slope=1, color="grey", linewidth=0.8)
    axes.axhline(percentile, color="grey", linewidth=0.8, linestyle="--")
    axes.axvline(percentile, color="grey", linewidth=0.8, linestyle="--")
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", title="anomaly rank; dashed: published above")


def _classes(axes: Any, diff: Diff) -> None:
    """Draw how many alerts of each class of A (rows) have each class in B (columns); the last of each is 'none'."""
    n = len(SLUGS) + 1
    counts = np.zeros((n, n), np.int64)
    np.add.at(counts, (diff.top[0] % n, diff.top[1] % n), 1)  # -1, no class, is the last
    axes.imshow(np.log1p(counts), cmap="Greys", vmax=np.log1p(counts.max()) * 1.3 + 1e-9)
    for i, j in np.argwhere(counts).tolist():
        axes.text(j, i, str(counts[i, j]), ha="center", va="center", fontsize=6, color="black" if i == j else "tab:red")
    axes.set_xticks(range(n), [*SLUGS, "none"], rotation=90, fontsize=7)
    axes.set_yticks(range(n), [*SLUGS, "none"], fontsize=7)
    axes.set_title("likeliest class")
