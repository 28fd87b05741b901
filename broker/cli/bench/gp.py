"""``tocsin bench gp``: the Gaussian process against george."""

from __future__ import annotations

import json
import multiprocessing
import os
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from broker.cli.bench import machine

ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@click.command()
@click.option("--curves", default=2000, show_default=True, type=click.IntRange(4), help="Light curves of each draw.")
@click.option("--seed", "seeds", multiple=True, default=(1, 2, 3), show_default=True, type=int, help="Of a draw.")
@click.option(
    "--window",
    type=click.Choice(["event", "whole"]),
    default="event",
    show_default=True,
    help="Points from 50 d before the first detection to 50 d after the last, or all.",
)
@click.option("--data", type=click.Path(path_type=Path), help="Folder of lc.parquet and objects.parquet (PLAsTiCC).")
@click.option("--check", is_flag=True, help="Exit with 1 if the worst draw breaks a floor of speed or accuracy.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def gp(curves: int, seeds: tuple[int, ...], window: str, data: Path | None, check: bool, as_json: bool) -> None:
    """Fit and interpolate PLAsTiCC light curves with george and with the fast solver: one core, one run.

    Each draw has SN-like objects to others 3 : 1; of several draws the worst counts. Ratios are of the sums of CPU
    time over the set, both sides in turn. Log likelihoods of both optima are evaluated by the dense float64 solver.
    george has the field's start and bounds, its analytic gradient, one thread. With 2,000 light curves a draw takes one
    or two minutes. Without --data it reads $TOCSIN_TEST_DATA/lightcurves/plasticc.

    \b
    Example:
      tocsin bench gp --curves 500 --seed 2 --window whole
    """
    folder = data or Path(os.environ.get("TOCSIN_TEST_DATA", ".")) / "lightcurves" / "plasticc"
    os.environ.update(dict.fromkeys(ONE_THREAD, "1"))  # read when the child's numpy loads
    context = multiprocessing.get_context("spawn")
    done, runs = context.Value("q", 0), []
    with context.Pool(1, _share, (done,)) as pool, _progress() as bar:
        for seed in seeds:
            task = bar.add_task(f"draw {seed}", total=curves)
            answer = pool.apply_async(_measure, (folder, curves, seed, window))
            while not answer.ready():
                answer.wait(0.5)
                bar.update(task, completed=done.value)
            runs.append(answer.get())
            bar.update(task, completed=curves)
    _tell(runs, window, check, as_json)


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True))


def _share(done: Any) -> None:
    """Keep the counter of light curves that are done, in the measuring process."""
    global _done  # noqa: PLW0603
    _done = done


_done: Any = None


def _measure(folder: Path, curves: int, seed: int, window: str) -> dict[str, Any]:
    """Run in a process of its own, on one core."""
    from broker.gp import bench

    _done.value = 0
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[-1]})
    sample = bench.plasticc(folder, curves, seed, window)
    before = machine.gflops()
    figures = bench.measure(sample, lambda count: setattr(_done, "value", count))
    return {"seed": seed, "window": window, **figures, "matmul_gflops": max(before, machine.gflops())}


def _tell(runs: list[dict[str, Any]], window: str, check: bool, as_json: bool) -> None:
    """Print the figures; raise click's exit with 1 where floors are to be checked and one is broken."""
    from broker.gp import bench

    worst = bench.worst(runs)
    speed = 1.0 if machine.has_avx512() else 0.5
    broken = bench.broken(worst, window, speed)
    if as_json:
        click.echo(json.dumps({"window": window, "draws": runs, "worst": worst, "broken": broken}))
    else:
        for run in runs:
            click.echo(_table(run))
        click.echo(
            f"worst of {len(runs)}: fit {worst['fit']:.0f}x, with mean {worst['fit_mean']:.0f}x, "
            f"with mean and variance {worst['fit_mean_variance']:.0f}x; floors broken: {'; '.join(broken) or 'none'}"
        )
    if check and broken:
        raise click.exceptions.Exit(1)


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
