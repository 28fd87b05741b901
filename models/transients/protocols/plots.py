"""The plots of the protocols' pages: arrays in, an SVG file out, the same bytes for the same arrays."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999")
"""Okabe & Ito (2008): told apart by colour-blind readers."""
MARKERS = "osD^vPX*<>hdp8"


@dataclass(frozen=True, slots=True)
class Curve:
    """One light curve with its interpolation, for `gp_examples`.

    Attributes
    ----------
    title : str
    bands : tuple of str
        B bands.
    points : mapping of str to (3, n)
        Per band: time in days, flux, error.
    times : (T,)
        Days.
    mean, sd : (B, T)
    """

    title: str
    bands: tuple[str, ...]
    points: Mapping[str, NDArray[np.floating]]
    times: NDArray[np.floating]
    mean: NDArray[np.floating]
    sd: NDArray[np.floating]


def confusion(path: Path, counts: ArrayLike, names: Sequence[str]) -> None:
    """Draw counts (K, K), true classes down, as shares of each true class."""
    table = np.asarray(counts, dtype=np.float64)
    share = table / np.maximum(table.sum(axis=1, keepdims=True), 1.0)
    with _axes(path, (0.42 * len(names) + 1.6, 0.36 * len(names) + 1.4)) as axes:
        axes.imshow(share, cmap="Blues", vmin=0.0, vmax=1.0, aspect="auto")
        for i, j in zip(*np.nonzero(share >= 0.005), strict=True):
            colour = "white" if share[i, j] > 0.5 else "black"
            axes.text(j, i, f"{100 * share[i, j]:.0f}", ha="center", va="center", fontsize=7, color=colour)
        axes.set_xticks(range(len(names)), names, rotation=60, ha="right", fontsize=8)
        axes.set_yticks(range(len(names)), names, fontsize=8)
        axes.set_xlabel("predicted")
        axes.set_ylabel("true (%)")


def early_curves(path: Path, days: ArrayLike, values: Mapping[str, ArrayLike], ylabel: str) -> None:
    """Draw figures (D,) against days after the first detection (D,), a line per name."""
    with _axes(path, (6.4, 4.4)) as axes:
        at = np.arange(len(np.asarray(days)))
        for k, (name, line) in enumerate(values.items()):
            axes.plot(at, np.asarray(line), marker=MARKERS[k % len(MARKERS)], markersize=4, lw=1.2, label=name)
        axes.set_xticks(at, [f"{day:g}" for day in np.asarray(days)])
        axes.set_xlabel("days after the first detection")
        axes.set_ylabel(ylabel)
        axes.legend(fontsize=7, ncols=1 + (len(values) > 7))


def reliability(path: Path, curves: Mapping[str, tuple[ArrayLike, ArrayLike]]) -> None:
    """Draw accuracy (B,) against confidence (B,) of bins of equal mass, a (confidence, accuracy) pair per name."""
    with _axes(path, (4.8, 4.6)) as axes:
        axes.plot([0, 1], [0, 1], color="#999999", lw=0.8)
        for k, (name, (confidence, accuracy)) in enumerate(curves.items()):
            axes.plot(np.asarray(confidence), np.asarray(accuracy), marker=MARKERS[k], markersize=4, lw=1.0, label=name)
        axes.set_xlabel("probability of the likeliest class")
        axes.set_ylabel("share that is right")
        axes.legend(fontsize=8)


def roc(path: Path, curves: Mapping[str, tuple[ArrayLike, ArrayLike]]) -> None:
    """Draw true against false positive rate, a (false, true) pair of arrays (n,) per name."""
    with _axes(path, (4.8, 4.6)) as axes:
        axes.plot([0, 1], [0, 1], color="#999999", lw=0.8)
        for name, (false, true) in curves.items():
            axes.plot(np.asarray(false), np.asarray(true), lw=1.2, label=name)
        axes.set_xlabel("false positive rate")
        axes.set_ylabel("true positive rate")
        axes.legend(fontsize=8, loc="lower right")


def ranking(path: Path, curves: Mapping[str, tuple[ArrayLike, ArrayLike]], budget: float = 0.1) -> None:
    """Draw the share of rare objects found against the share of common ones flagged, a pair of arrays (n,) per name.

    Parameters
    ----------
    budget : float
        Share of common objects that is marked: the operating point.
    """
    with _axes(path, (5.2, 4.4)) as axes:
        axes.axvline(budget, color="#999999", lw=0.8)
        for name, (common, rare) in curves.items():
            axes.plot(np.asarray(common), np.asarray(rare), lw=1.2, label=name)
        axes.set_xscale("symlog", linthresh=0.01)
        axes.set_xlim(0.0, 1.0)
        axes.set_xlabel("share of common objects flagged")
        axes.set_ylabel("share of rare objects found")
        axes.legend(fontsize=8, loc="lower right")


def errors(path: Path, series: Mapping[str, ArrayLike]) -> None:
    """Draw error rates (Q,) of Q equal parts of the objects, from certain to uncertain, a line per name."""
    with _axes(path, (5.6, 4.0)) as axes:
        for k, (name, line) in enumerate(series.items()):
            y = np.asarray(line)
            axes.plot((np.arange(len(y)) + 0.5) / len(y), y, marker=MARKERS[k], markersize=4, lw=1.0, label=name)
        axes.set_xlabel("quantile of the uncertainty")
        axes.set_ylabel("share that is wrong")
        axes.legend(fontsize=8)


def labelled(path: Path, points: Mapping[str, tuple[float, float]], axes_labels: tuple[str, str]) -> None:
    """Draw a point (x, y) per name, with its name beside it; x is drawn as a logarithm."""
    with _axes(path, (5.6, 4.0)) as axes:
        for k, (name, (x, y)) in enumerate(points.items()):
            axes.plot([x], [y], marker=MARKERS[k % len(MARKERS)], markersize=5, color=COLOURS[k % len(COLOURS)])
            axes.annotate(name, (x, y), xytext=(5, 3), textcoords="offset points", fontsize=8)
        axes.set_xscale("log")
        axes.margins(x=0.15)
        axes.set_xlabel(axes_labels[0])
        axes.set_ylabel(axes_labels[1])


def gp_examples(path: Path, curves: Sequence[Curve], columns: int = 2) -> None:
    """Draw light curves with their interpolation: points with errors, mean and one standard deviation per band."""
    rows = -(-len(curves) // columns)
    with _figure(path, (3.2 * columns, 2.3 * rows)) as figure:
        for axes, curve in zip(figure.subplots(rows, columns, squeeze=False).flat, curves, strict=False):
            for band, mean, sd, colour in zip(curve.bands, curve.mean, curve.sd, COLOURS, strict=False):
                axes.fill_between(curve.times, mean - sd, mean + sd, color=colour, alpha=0.2, lw=0)
                axes.plot(curve.times, mean, color=colour, lw=0.8)
                if band in curve.points:
                    at, flux, err = curve.points[band]
                    axes.plot(*_crosses(at, flux, err, 0.006 * np.ptp(curve.times)), color=colour, lw=0.7, label=band)
            axes.set_title(curve.title, fontsize=8)
            axes.tick_params(labelsize=6)
            axes.locator_params(nbins=4)
        figure.axes[0].legend(fontsize=6, ncols=2)
        figure.supxlabel("days", fontsize=8)
        figure.supylabel("flux", fontsize=8)


def _crosses(x: ArrayLike, y: ArrayLike, err: ArrayLike, half: float) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return one line (6 n,) that draws a cross for every point: markers and error bars one by one fill a file."""
    at, mean, sd = (np.asarray(v, dtype=np.float64) for v in (x, y, err))
    gap = np.full(len(at), np.nan)
    across = np.stack((at, at, gap, at - half, at + half, gap), axis=1)
    along = np.stack((mean - sd, mean + sd, gap, mean, mean, gap), axis=1)
    return across.ravel(), along.ravel()


@contextmanager
def _axes(path: Path, size: tuple[float, float]) -> Iterator[Any]:
    with _figure(path, size) as figure:
        axes = figure.add_subplot()
        axes.grid(visible=False)
        yield axes


@contextmanager
def _figure(path: Path, size: tuple[float, float]) -> Iterator[Any]:
    """Give an empty figure, and write what was drawn; nothing of the day or the machine enters the file."""
    import matplotlib as mpl
    from cycler import cycler
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    style = {
        "svg.hashsalt": "tocsin",
        "svg.fonttype": "none",
        "font.sans-serif": ["DejaVu Sans"],  # every text of the file repeats the list
        "axes.prop_cycle": cycler(color=COLOURS),
    }
    with mpl.rc_context(style):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
        drawn = io.StringIO()
        figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None})
    # A hundredth of a point is finer than any screen, and halves the file.
    path.write_text(re.sub(r"\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}", drawn.getvalue()))
