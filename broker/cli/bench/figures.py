"""What the stream's benches tell, out of the times of commits, stages and samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from broker.cli.bench.processes import MACHINE, Watch
from broker.core import schemas
from broker.core.errors import TocsinError

WARM_UP_S = 5.0
Json = dict[str, Any]
Commits = Sequence[tuple[float, int]]
Window = tuple[float, float]


def after_warm_up(commits: Commits) -> Window:
    """Return the times (Unix seconds) of the first commit after the warm-up and of the last one.

    Raises
    ------
    TocsinError
        There are not two commits.
    """
    times = [when for when, _ in commits]
    warm = [when for when in times if when >= times[0] + WARM_UP_S]
    if len(warm) < 2:
        raise TocsinError("the run is over before the warm-up: give more --packets")
    return warm[0], warm[-1]


def within(commits: Commits, window: Window) -> int:
    """Return the alerts of the commits after the window's begin, up to its end.

    The first commit starts the clock; its own alerts were made before.
    """
    return sum(n for when, n in commits if window[0] < when <= window[1])


def rate(commits: Commits, window: Window) -> Json:
    """Return alerts, seconds and alerts per second of a window."""
    alerts, seconds = within(commits, window), window[1] - window[0]
    return {"alerts": alerts, "seconds": seconds, "alerts_per_s": alerts / seconds}


def stages(results: Sequence[Json], window: Window) -> Json:
    """Return what members did per alert, milliseconds: CPU time of each stage, wall time of reading and committing.

    ``results`` are what `broker.cli.bench.worker.Log` wrote.
    """
    alerts = sum(within(result["commits"], window) for result in results)
    spent: Counter[str] = Counter()
    for result in results:
        for when, stage, seconds in result["stages"]:
            if window[0] < when <= window[1]:
                spent[stage] += seconds
    each = {stage: 1e3 * seconds / alerts for stage, seconds in spent.items()}
    return {
        "stage_cpu_ms_per_alert": {stage: ms for stage, ms in each.items() if stage not in ("read", "commit")},
        "wall_ms_per_alert": {stage: each.get(stage, 0.0) for stage in ("read", "commit")},
        "peak_mb": max(result["peak_mb"] for result in results),
        "aborted": sum(result["aborted"] for result in results),
    }


def cores_used(watch: Watch, window: Window) -> Json:
    """Return how many cores each process used, by kind of thread, and all that run on the machine.

    ``foreign`` is what neither the service nor Kafka nor the bench used: on a quiet machine it is near 0.
    """
    seconds = window[1] - window[0]
    found: Json = {}
    for name in watch.pids:
        spent = {kind: s / seconds for kind, s in watch.cpu_s(name, *window).items()}
        found[name] = {"all": sum(spent.values()), **{kind: used for kind, used in spent.items() if used > 0.0005}}
    machine = watch.cpu_s(MACHINE, *window)
    busy = machine.get("busy", 0.0) / seconds
    ours = sum(used["all"] for used in found.values())
    return {**found, "machine": {"all": busy, "stolen": machine.get("stolen", 0.0) / seconds, "foreign": busy - ours}}


def cpu_ms_per_alert(watch: Watch, window: Window, alerts: int) -> Json:
    """Return the CPU milliseconds per alert of the service (all its members) and of the Kafka server."""
    return {
        whose: 1e3 / alerts * sum(sum(watch.cpu_s(n, *window).values()) for n in watch.pids if n.startswith(whose))
        for whose in ("service", "kafka")
    }


def memory(watch: Watch, commits: Commits, at: tuple[int, int]) -> Json:
    """Return the service's resident set, MB, when it had committed ``at`` alerts, the growth between, and the peak.

    A run with fewer alerts is measured at its end instead; then ``alerts`` says so.
    """
    counts = np.cumsum([n for _, n in commits])
    times = [when for when, _ in commits]
    places = [min(int(np.searchsorted(counts, n)), len(counts) - 1) for n in at]
    resident = [watch.resident_mb("service", times[place]) for place in places]
    return {
        "alerts": [int(counts[place]) for place in places],
        "resident_mb": resident,
        "growth_mb": resident[1] - resident[0],
        "peak_mb": watch.peak_mb("service"),
    }


def latency(got: Sequence[tuple[float, bytes]], fed: Json, rate: float, watch: Watch) -> Json:
    """Return percentiles of annotations' ages, seconds, when a reader had them.

    Parameters
    ----------
    got : sequence of (float, bytes)
        When each came (Unix seconds), and the annotation.
    fed : dict
        What `broker.cli.bench.load.feed` told.
    rate : float
        Infinite for a burst; otherwise the packets due in the first `WARM_UP_S` are left out.
    """
    came = np.array([when for when, _ in got])
    due = np.array([schemas.decode(v, None, "annotation")["source"]["timestamp"].timestamp() for _, v in got])
    settled = due >= fed["start"] + (WARM_UP_S if np.isfinite(rate) else -0.001)  # time stamps are whole ms
    if not settled.any():
        raise TocsinError("the latency run is over before the warm-up: give more --latency-s or --packets")
    window = float(due[settled].min()), float(came.max())
    percentiles = np.percentile((came - due)[settled], [50, 95, 99, 100])
    return {
        "alerts": int(settled.sum()),
        **({"rate": fed["rate"]} if np.isfinite(rate) else {"drained_s": float(came.max()) - fed["start"]}),
        **dict(zip(("p50_s", "p95_s", "p99_s", "max_s"), percentiles.tolist(), strict=True)),
        "fed_s": fed["fed_s"],
        "sent_late_p99_s": fed["late_p99_s"],
        "distinct": fed["distinct"],
        "service_peak_mb": watch.peak_mb("service"),
        "cores_used": cores_used(watch, window),
    }


def scored(annotations: Iterable[Json]) -> Json:
    """Return which part of the annotated alerts every scorer scored, and the points that the scorers used."""
    total, every, used = 0, 0, []
    for annotation in annotations:
        answers = [*annotation["classifiers"], annotation["anomaly"]]
        total += 1
        every += all(answer is not None and answer["reason"] is None for answer in answers)
        used.append(annotation["points"]["used"])
    if not total:
        raise TocsinError("the run made no annotations")
    return {"scored_by_all": every / total, "annotations": total, "points_used_median": float(np.median(used))}
