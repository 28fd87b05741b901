"""Shapes of sources as numbers: concentration, asymmetry, Gini, M20, and where the peaks lie; no network.

After Conselice (2003), Lotz, Primack & Madau (2004) and Fanaroff & Riley (1974). Lengths are in units of the source's
own, brightness in units of its brightest pixel. p = pixels of a source, n = images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from broker.models.survey import stamps
from broker.models.survey.baselines import forest
from broker.models.survey.row import Baseline, Columns, Examples, Floats

FEWEST = 5
"""Pixels that a shape needs."""
_SLICES = np.array([-np.inf, -1.6, -1.2, -0.8, -0.4, 0.0, 0.4, 0.8, 1.2, 1.6, np.inf])  # of the long axis, in sigmas


def on_images(classical: Baseline | None = None, size: int = 152) -> Baseline:
    """Return a classical method (a random forest) that reads the shapes of ``image`` (n, 1, height, width)."""
    return partial(_fit, classical or forest(300), size)


def shapes(images: NDArray[np.floating]) -> Columns:
    """Return what is measured of cleaned images (n, s, s): arrays (n,); NaN of an image with nothing in it."""
    y, x = np.indices(images.shape[1:]) - 0.5 * (images.shape[1] - 1)
    home = np.exp(-0.5 * (np.hypot(x, y) / stamps.HOME) ** 4)  # beyond, a stranger's
    measured = [_shape(image * home, x, y) for image in images]
    names = next((list(shape) for shape in measured if shape), [])
    return {name: np.array([shape.get(name, np.nan) for shape in measured]) for name in names}


def _fit(classical: Baseline, size: int, train: Examples, seed: int) -> Callable[[Columns], Floats]:
    fitted = classical(Examples(_read(train.columns, size), train.truth, train.data), seed)
    return lambda columns: fitted(_read(columns, size))


def _read(columns: Columns, size: int) -> Columns:
    return shapes(stamps.cleaned(columns["image"], size)[:, 0])


@dataclass(frozen=True, slots=True)
class _Source:
    """A source's pixels (p,): along its long axis and across it from its centre of light [pixels], from there, light.

    ``host`` is how far each is from the stamp's middle, where the catalogue has the galaxy; ``long``, ``short`` the
    rms lengths of the axes; light adds up to 1.
    """

    along: Floats
    across: Floats
    away: Floats
    host: Floats
    light: Floats
    long: float
    short: float

    @classmethod
    def of(cls, x: Floats, y: Floats, light: Floats) -> _Source:
        light = light / light.sum()
        dx, dy = x - light @ x, y - light @ y
        moments = np.array([[light @ (dx * dx), light @ (dx * dy)], [light @ (dx * dy), light @ (dy * dy)]])
        variance, axes = np.linalg.eigh(moments)
        short, long = np.sqrt(np.maximum(variance, 0.01))
        across, along = axes.T @ np.stack([dx, dy])
        return cls(along, across, np.hypot(dx, dy), np.hypot(x, y), light, float(long), float(short))


def _shape(image: Floats, x: Floats, y: Floats) -> dict[str, float]:
    """Return the measures of one image (s, s), by name; none of an empty one."""
    lit = image > 0
    if lit.sum() < FEWEST:
        return {}
    source = _Source.of(x[lit], y[lit], image[lit])
    turned = float(np.abs(image - image[::-1, ::-1]).sum() / (2.0 * image.sum()))
    return {"asymmetry": turned} | _light(source) | _slices(source) | _peaks(source, _local_maxima(image)[lit])


def _light(source: _Source) -> dict[str, float]:
    """Return how the light is spread."""
    light, squares, n = source.light, source.away**2, len(source.light)
    order = np.argsort(source.away)
    r20, r50, r80, r95 = source.away[order][np.searchsorted(np.cumsum(light[order]), (0.2, 0.5, 0.8, 0.95))]
    rising = np.sort(light)
    bright = np.argsort(-light)
    first = bright[: np.searchsorted(np.cumsum(light[bright]), 0.2) + 1]
    return {
        "long": source.long,
        "axis_ratio": source.short / source.long,
        "pixels": float(np.log(n)),
        "concentration": 5.0 * np.log10((r80 + 0.5) / (r20 + 0.5)),
        "outskirts": r95 / (r50 + 0.5),
        "gini": float((2.0 * np.arange(1, n + 1) - n - 1) @ rising) / (n - 1),
        "m20": float(np.log10((light[first] @ squares[first] + 1e-3) / (light @ squares))),
        "mean": float(light.mean() / light.max()),
        "kurtosis": float(light @ source.along**4) / source.long**4,
        "bend": abs(float(light @ (source.along**2 * source.across))) / source.long**2 / source.short,
        "at_host": float(light[source.host < 5.0].max(initial=0.0) / light.max()),
    }


def _slices(source: _Source) -> dict[str, float]:
    """Return light and peak of slices across the long axis, from the end of the brighter half to the other."""
    which = np.searchsorted(_SLICES, source.along / source.long, side="right") - 1
    light = np.bincount(which, source.light, minlength=10)
    peak = np.array([source.light[which == k].max(initial=0.0) for k in range(10)]) / source.light.max()
    if light[:5].sum() < light[5:].sum():
        light, peak = light[::-1], peak[::-1]
    return {f"light_{k}": light[k] for k in range(10)} | {f"peak_{k}": peak[k] for k in range(10)}


def _peaks(source: _Source, maximum: NDArray[np.bool_]) -> dict[str, float]:
    """Return where the source is brightest: Fanaroff & Riley's ratio among others."""
    along, across, light = source.along, source.across, source.light
    extent = float(np.ptp(along[light > 0.03 * light.max()])) + 1e-3
    first, second = (int(np.where(half, light, 0.0).argmax()) for half in (along < 0, along > 0))
    peaks = np.flatnonzero(maximum & (light > 0.1 * light.max()))
    top = peaks[np.argsort(-light[peaks])][:2]
    one, other = top[0], top[-1]
    return {
        "extent": extent,
        "elongation": extent / source.long,
        "fr_ratio": float(along[second] - along[first]) / extent,
        "fainter_side": float(min(light[first], light[second]) / light.max()),
        "middle": float(light[np.abs(along) < 0.1 * extent].max(initial=0.0) / light.max()),
        "peaks": float(len(peaks)),
        "second_peak": float(light[other] / light[one]) if len(top) > 1 else 0.0,
        "apart": float(np.hypot(along[one] - along[other], across[one] - across[other])) / extent,
        "off_centre": float(source.away[one]) / extent,
        "off_host": float(source.host[one]) / extent,
    }


def _local_maxima(image: Floats) -> NDArray[np.bool_]:
    """Tell which pixels (s, s) no neighbour outshines."""
    wide = np.pad(image, 1)
    s = len(image)
    around = [wide[i : i + s, j : j + s] for i in range(3) for j in range(3) if (i, j) != (1, 1)]
    highest: NDArray[np.bool_] = image >= np.max(around, axis=0)
    return highest
