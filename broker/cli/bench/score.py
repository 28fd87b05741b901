"""``tocsin bench score``: the networks, the autoencoder and its forest, alert by alert, on a processor or a GPU."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from broker.cli.bench import machine
from broker.cli.bench.gp import ONE_THREAD
from broker.core.bands import SURVEYS
from broker.core.config import load
from broker.core.errors import TocsinError

if TYPE_CHECKING:
    from broker.core.batch import Ints
    from broker.score import Scorer, Tensors

PACKETS = 384
SIZES = (1, 16, 64, 256, 1024, 4096)
PRODUCTS = 25  # matrix products, of which the fastest counts
AS_IF_GFLOPS = 100.0
ENOUGH_S = 0.05  # a repeat of small batches goes on at least so long
Json = dict[str, Any]


@click.command()
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True, help="Where.")
@click.option("--survey", "surveys", multiple=True, type=click.Choice(sorted(SURVEYS)), help="Default: all surveys.")
@click.option("--batch", "sizes", multiple=True, type=click.IntRange(1, 65536), help="Alerts of a batch; repeatable.")
@click.option("--repeats", default=7, show_default=True, type=click.IntRange(1), help="The best counts.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def score(device: str, surveys: tuple[str, ...], sizes: tuple[int, ...], repeats: int, as_json: bool) -> None:
    """Time the configured models, tensors in and scores out: each network, the anomaly score's three parts, and all.

    One core, one thread; simulated alerts that every model scores. Calibration, uncertainty and reasons are included.
    'networks' are all classifiers together, with their average. The second of two figures is what the first would be
    where a 1024² float32 matrix product reaches 100 GFLOPS. Exit 1 where there is no GPU for --device cuda.

    \b
    Example:
      tocsin bench score --device cpu --batch 256
    """
    os.environ.update(dict.fromkeys(ONE_THREAD, "1"))  # read when the child's numpy loads
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        figures = pool.apply(_measure, (device, surveys or tuple(SURVEYS), sizes or SIZES, repeats))
    click.echo(json.dumps(figures) if as_json else _table(figures))


def _measure(device: str, surveys: tuple[str, ...], sizes: tuple[int, ...], repeats: int) -> Json:
    """Run in a process of its own, on one core.

    Raises
    ------
    TocsinError
        There is no such device.
    """
    from broker.cli import assemble
    from broker.score.scorer import choose_device

    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[-1]})
    place = choose_device(device)
    settings = load(None, {"score.device": place.type, "score.threads": 1})
    before = machine.gflops(PRODUCTS)
    found: dict[str, dict[str, dict[str, float]]] = {}
    for survey, scorer in assemble.scorers(settings).items():
        tensors, detections = _tensors(scorer)
        for size in sizes if survey in surveys else ():
            rows = np.arange(size) % len(tensors)
            for name, call in _calls(scorer, tensors.take(rows), detections[rows]).items():
                found.setdefault(survey, {}).setdefault(name, {})[str(size)] = _ms(call, size, repeats)
    return {
        "device": _named(place),
        "matmul_gflops": max(before, machine.gflops(PRODUCTS)),
        "repeats": repeats,
        "ms_per_alert": found,
    }


def _named(place: Any) -> str:
    import torch

    return torch.cuda.get_device_name(place) if place.type == "cuda" else "cpu, one core"


def _calls(scorer: Scorer, tensors: Tensors, detections: Ints) -> dict[str, Callable[[], object]]:
    """Return what is timed, by name, ready to be called on a batch."""
    from broker.score.anomaly import encode, forest_inputs, judge_inputs
    from broker.score.tensors import without_host

    calls: dict[str, Callable[[], object]] = {
        model.card.name: partial(model.score, tensors, detections, 1) for model in scorer.classifiers
    }
    calls["networks"] = partial(scorer.classify, tensors, detections)
    if (strange := scorer.anomaly) is not None:
        plain = without_host(tensors)
        models = strange.models
        inputs = forest_inputs(encode(models.network, plain, strange.device)[0], plain, strange.card.scalars)
        calls["autoencoder"] = partial(encode, models.network, plain, strange.device)
        calls["forest"] = partial(models.forest.score, inputs)
        calls["judge"] = lambda: models.judge.score(judge_inputs(plain))
        calls[strange.card.name] = partial(strange.score, plain, detections, 1)
    return {**calls, "all": partial(scorer.answer, tensors, detections)}


def _tensors(scorer: Scorer) -> tuple[Tensors, Ints]:
    """Return the tensors of simulated alerts that every model scores, and their numbers of detections."""
    from broker.archive import simulate
    from broker.cli import assemble
    from broker.core.batch import FilePacket
    from broker.gp import interpolate
    from broker.lightcurve import merge
    from broker.score import build

    settings, survey = load(), SURVEYS[scorer.survey]
    simulate.install_schema(settings.run.cache_dir / "schemas")
    night = simulate.night(scorer.survey, PACKETS, 0, mix=simulate.BENCH)
    decoded, _ = assemble.decoder(settings)(
        assemble.batch_of([FilePacket("bench", i, p.value) for i, p in enumerate(night)])
    )
    clean, _ = merge(decoded[0].curves, len(survey.bands))
    grid = scorer.grid(clean.take(np.flatnonzero(clean.counts)))
    tensors = build(grid, interpolate(grid.curves, survey.wavelengths_aa, grid.times), epochs=scorer.reads_epochs)
    rows = np.flatnonzero(tensors.finite & (grid.n_detections >= scorer.min_detections_anomaly))
    if not len(rows):
        raise TocsinError(f"no simulated alert of {scorer.survey} is scored by every model")
    return tensors.take(rows), grid.n_detections[rows]


def _ms(call: Callable[[], object], alerts: int, repeats: int) -> float:
    """Return the milliseconds per alert of the best repeat, after one that is not counted."""
    call()
    best = float("inf")
    for _ in range(repeats):
        calls, began = 0, time.perf_counter()
        while calls == 0 or time.perf_counter() - began < ENOUGH_S:
            call()
            calls += 1
        best = min(best, (time.perf_counter() - began) / calls)
    return 1e3 * best / alerts


def _table(figures: Json) -> str:
    """Return the figures for people."""
    scale = figures["matmul_gflops"] / AS_IF_GFLOPS
    lines = [f"{figures['device']}; 1024² float32 product on one core: {figures['matmul_gflops']:.0f} GFLOPS"]
    for survey, parts in figures["ms_per_alert"].items():
        sizes = next(iter(parts.values()))
        lines.append(f"{survey + ', ms per alert':24}" + "".join(f"{'batch ' + size:>18}" for size in sizes))
        for name, found in parts.items():
            lines.append(f"  {name:22}" + "".join(f"{ms:9.4f} {ms * scale:8.4f}" for ms in found.values()))
    return "\n".join(lines)
