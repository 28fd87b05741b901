"""The Gaussian process on light curves of the PLAsTiCC training set: how it looks, how well it passes the points."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from broker import gp
from broker.core.bands import SURVEYS
from broker.core.batch import Floats, Interpolated, LightCurves
from broker.core.taxonomy import CLASSES
from broker.models.transients import data
from broker.models.transients.protocols import members, plots
from broker.models.transients.protocols.unit import Column, Context, Protocol, Result, Unit
from broker.score.window import GridRequest, GridRule, request

SHOWN = ("snia", "snii", "tde", "agn")
BANDS = SURVEYS["lsst"].bands
POINTS = (25, 60)
"""An example has as many points in its window, bounds included."""


def units(row: str) -> tuple[Unit, ...]:
    """Return the only unit: nothing is drawn at random."""
    return (Unit("curves", row, 0, 0),)


def run(unit: Unit, context: Context) -> Result:
    """Interpolate every curve of the set; keep the first of each shown class that has enough points."""
    begun = time.monotonic()
    objects = data.load(members.source(context))
    grid = request(objects.curves, GridRule())
    answer = gp.interpolate(grid.curves, SURVEYS["lsst"].wavelengths_aa, grid.times)
    fits = (grid.curves.counts >= POINTS[0]) & (grid.curves.counts <= POINTS[1])
    slugs = np.array([c.slug for c in CLASSES])[objects.label]
    first = {slug: int(np.flatnonzero((slugs == slug) & fits)[0]) for slug in SHOWN if ((slugs == slug) & fits).any()}
    metrics = {
        "chi2": float(np.median(misfit(grid.curves, grid.times, answer))),
        "time_scale_d": float(np.median(answer.time_scale_d)),
    }
    curves = {slug: _example(grid, answer, i) for slug, i in first.items()}
    rounded = {name: round(value, 4) for name, value in metrics.items()}
    seconds = round(time.monotonic() - begun, 1)
    return {"metrics": rounded, "curves": curves, "command": "tocsin evaluate curves", "seconds": seconds}


def misfit(curves: LightCurves, times: Floats, answer: Interpolated) -> Floats:
    """Return the mean squared residual (A,) of the points, in their errors, from the mean drawn between grid times."""
    out = np.full(len(curves), np.nan)
    for i in np.flatnonzero(curves.counts > 0):
        rows = slice(curves.offsets[i], curves.offsets[i + 1])
        mjd, band = curves.mjd[rows], curves.band[rows]
        mean = np.array([np.interp(mjd, times[i], answer.flux[i, b]) for b in range(len(BANDS))])
        residual = (curves.flux_njy[rows] - mean[band, np.arange(len(mjd))]) / curves.flux_err_njy[rows]
        inside = (mjd >= times[i, 0]) & (mjd <= times[i, -1])
        out[i] = float(np.mean(residual[inside] ** 2)) if inside.any() else np.nan
    return np.asarray(out[np.isfinite(out)])


def draw(found: Mapping[Unit, Result], folder: Path) -> list[tuple[str, str]]:
    """Draw the examples."""
    names = {c.slug: c.name for c in CLASSES}
    kept = next(iter(found.values()))["curves"]
    drawn = [
        plots.Curve(
            names[slug],
            tuple(one["bands"]),
            {band: np.array(points) for band, points in one["points"].items()},
            np.array(one["times"]),
            np.array(one["mean"]),
            np.array(one["sd"]),
        )
        for slug, one in kept.items()
    ]
    plots.gp_examples(folder / "examples.svg", drawn)
    return [("examples.svg", "Points, mean and one standard deviation of the Gaussian process; flux over its peak")]


def _example(grid: GridRequest, answer: Interpolated, i: int) -> dict[str, object]:
    """Return points and interpolation of one curve in the three bands with most points; flux over its peak."""
    curves = grid.curves
    rows = slice(curves.offsets[i], curves.offsets[i + 1])
    start, scale = grid.times[i, 0], float(np.abs(answer.flux[i]).max())
    chosen = np.sort(np.argsort(-np.bincount(curves.band[rows], minlength=len(BANDS)), kind="stable")[:3])
    columns = np.stack((curves.mjd[rows] - start, curves.flux_njy[rows] / scale, curves.flux_err_njy[rows] / scale))
    return {
        "bands": [BANDS[b] for b in chosen],
        "points": {BANDS[b]: _short(columns[:, curves.band[rows] == b]) for b in chosen},
        "times": _short(grid.times[i] - start),
        "mean": _short(answer.flux[i, chosen] / scale),
        "sd": _short(np.sqrt(answer.variance[i, chosen]) / scale),
    }


def _short(values: Floats) -> list[float]:
    shortened: list[float] = np.round(values.astype(np.float64), 3).tolist()
    return shortened


PROTOCOL = Protocol(
    name="curves",
    title="The Gaussian process on PLAsTiCC light curves",
    about=(
        "Every curve of the PLAsTiCC training set on its 40 grid times, as the networks read it. The misfit is the "
        "mean squared residual of a curve's points from the mean, drawn straight between grid times, in units of their "
        "errors; the median over curves. The examples are the first object of each class with 25 to 60 points."
    ),
    columns=(
        Column("chi2", "misfit, median"),
        Column("time_scale_d", "time scale in days, median"),
    ),
    rows=("gp",),
    units=units,
    run=run,
    plots=draw,
)
