"""``tocsin bench gp``: the Gaussian process against george."""

from __future__ import annotations

import json
import multiprocessing
import os
from pathlib import Path
from typing import Any

import click

from broker.cli.bench import machine

ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@click.command()
@click.option("--curves", default=500, show_default=True, type=click.IntRange(4), help="How many light curves.")
@click.option("--seed", default=1, show_default=True, help="Of the draw of light curves.")
@click.option(
    "--window",
    type=click.Choice(["event", "whole"]),
    default="event",
    show_default=True,
    help="Points from 50 d before the first detection to 50 d after the last, or all.",
)
@click.option("--data", type=click.Path(path_type=Path), help="Folder of lc.parquet and objects.parquet (PLAsTiCC).")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def gp(curves: int, seed: int, window: str, data: Path | None, as_json: bool) -> None:
    """Fit and interpolate PLAsTiCC light curves with george and with the fast solver: one core, one run.

    Ratios are of the sums over the set. Log likelihoods of both optima are evaluated by the dense float64 solver.
    Without --data it reads $TOCSIN_TEST_DATA/lightcurves/plasticc.

    \b
    Example:
      tocsin bench gp --curves 2000 --seed 2 --window whole
    """
    folder = data or Path(os.environ.get("TOCSIN_TEST_DATA", ".")) / "lightcurves" / "plasticc"
    os.environ.update(dict.fromkeys(ONE_THREAD, "1"))  # read when the child's numpy loads
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        figures = pool.apply(_measure, (folder, curves, seed, window))
    click.echo(json.dumps(figures) if as_json else _table(figures))


def _measure(folder: Path, curves: int, seed: int, window: str) -> dict[str, Any]:
    """Run in a process of its own, on one core."""
    from broker.gp import bench

    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[-1]})
    sample = bench.plasticc(folder, curves, seed, window)
    before = machine.gflops()
    figures = bench.measure(sample, lambda line: click.echo(f"bench: {line}", err=True))
    return {"seed": seed, "window": window, **figures, "matmul_gflops": max(before, machine.gflops())}


def _table(figures: dict[str, Any]) -> str:
    """Return the figures for people."""
    ms = figures["ms_per_curve"]
    lines = [
        f"{figures['curves']} PLAsTiCC light curves, {figures['window']} window, seed {figures['seed']}, "
        f"{figures['points']['median']:.0f} points (median; max {figures['points']['max']}); "
        f"1024² float32 product {figures['matmul_gflops']:.0f} GFLOPS",
        f"{'':24}{'george ms':>12}{'fast ms':>12}{'ratio':>10}",
    ]
    names = {"fit": "fit", "fit_mean": "fit + mean", "fit_mean_variance": "fit + mean + variance"}
    lines += [
        f"{name:24}{ms['george'][step]:12.3f}{ms['fast'][step]:12.4f}{figures['ratio'][step]:9.0f}x"
        for step, name in names.items()
    ]
    lines += [
        f"log likelihood beside george's optimum: within 0.5 {figures['within_0.5']:.2%}, within 1.0 "
        f"{figures['within_1.0']:.2%}, worse by more than 3 {figures['worse_by_3']:.2%}, worst {figures['worst']:.1f}",
        f"fast path within 1.5e-3 error bars: {figures['fast_within_1.5e-3_bars']:.2%} of curves, worst "
        f"{figures['fast_worst_bars']:.1e}; float64 path against dense: {figures['float64_relative']:.1e} relative",
    ]
    return "\n".join(lines)
