"""``tocsin bench scale``: how throughput goes with members, points per history, and alerts per batch."""

from __future__ import annotations

import io
import json
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import click
import fastavro
import numpy as np

from broker.cli.bench import figures, machine
from broker.cli.bench.processes import Watch
from broker.cli.bench.rig import SOURCE, Json, Rig, rig, settings
from broker.core.errors import TocsinError

MEMBERS = (1, 2, 4)
POINTS = (10, 30, 100, 200, 300, 500, 700, 1000)
BATCHES = (1, 4, 16, 64, 256, 1024, 4096)
PRELOAD = {"ztf": 60_000, "lsst": 16_000}
LARGEST = 400_000_000  # bytes of a batch: 4,096 packets of ZTF's 80 kB
HISTORIES = 64  # packets of each length
ONE_CORE = {"score.gp_threads": 1, "score.threads": 1}
WARM_S, FALL = 4.0, 0.10
LISTS = ("prvDiaSources", "prvDiaForcedSources")


@click.command()
@click.option("--survey", type=click.Choice(["ztf", "lsst"]), default="ztf", show_default=True, help="Of the packets.")
@click.option("--seconds", default=15.0, show_default=True, help="Of each measurement, after its warm-up.")
@click.option("--seed", default=7, show_default=True, help="Of the simulated night.")
@click.option("--packets", type=click.IntRange(1000), help="On the topic; default: enough.")
@click.option("--folder", type=click.Path(path_type=Path), help="Where the load lies; default: TMPDIR.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for scale-SURVEY.md and its plots.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of the tables.")
def scale(
    survey: str, seconds: float, seed: int, packets: int | None, folder: Path | None, out: Path | None, as_json: bool
) -> None:
    """Measure 1, 2 and 4 members, histories of 10 to 1,000 points, and batches of 1 to 4,096 alerts.

    Members share a topic of 4 partitions, one thread of the Gaussian process and of torch each: on two cores more would
    only stand in each other's way. What must not fall is alerts per CPU second of all members together. Histories are
    of Rubin packets, cut to length, through the stages on one thread without Kafka. Some five minutes.

    \b
    Example:
      tocsin bench scale --survey ztf --out models/results
    """
    if out is not None:
        _plots_or_raise()
    with tempfile.TemporaryDirectory(dir=folder) as name, rig(survey, Path(name)) as bench:
        count = packets or PRELOAD[survey]
        click.echo(f"bench: preloading {count} {survey} packets ...", err=True)
        bench.preload(count, seed)
        found: Json = {
            "survey": survey,
            "seed": seed,
            "cores": machine.cores(),
            "gflops": machine.gflops(),
            "members": [_members(bench, n, seconds) for n in MEMBERS],
            "batches": [_batch(bench, n, seconds) for n in BATCHES],
        }
    found["histories"] = _histories(seed)
    first, *others = (row["alerts_per_cpu_s"] for row in found["members"])
    found["worst_fall"] = max(1.0 - other / first for other in others)
    click.echo(json.dumps(found) if as_json else markdown(found))
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / f"scale-{survey}.md").write_text(markdown(found) + _pictures(survey))
        _plot(found, out)


def _members(bench: Rig, members: int, seconds: float) -> Json:
    click.echo(f"bench: {members} members ...", err=True)
    return {"members": members, **_run(bench, f"members{members}", members, seconds, ONE_CORE)}


def _batch(bench: Rig, alerts: int, seconds: float) -> Json:
    click.echo(f"bench: batches of {alerts} ...", err=True)
    bounds = {"batch.max_alerts": alerts, "batch.max_bytes": LARGEST, "batch.max_wait_ms": 2000}
    return {"batch": alerts, **_run(bench, f"batch{alerts}", 1, seconds, bounds)}


def _run(bench: Rig, name: str, members: int, seconds: float, overrides: Json) -> Json:
    """Let members drain the topic for some seconds; figures of the time in which all of them worked.

    That begins `WARM_S` after the last one's first commit and ends with the first one that has nothing left.
    """
    with (
        bench.running(SOURCE, name, members, overrides) as service,
        bench.watch(service) as watch,
        closing(bench.arrivals(service, service.topics.all(bench.survey))) as arrivals,
    ):
        until, heard = np.inf, time.time() + 120.0
        for when, values in arrivals:
            if values:
                until, heard = min(until, when + 2 * WARM_S + seconds), when
            if when > until or when > heard + WARM_S:
                break
        commits = [result["commits"] for result in service.stop()]
    if not all(commits):
        raise TocsinError(f"of {members} members only {sum(map(bool, commits))} had work: give more --packets")
    window = max(own[0][0] for own in commits) + WARM_S, min(own[-1][0] for own in commits)
    return _told(watch, commits, (window[0], min(window[1], window[0] + seconds)))


def _told(watch: Watch, commits: Sequence[figures.Commits], window: figures.Window) -> Json:
    every = sorted((when, n) for own in commits for when, n in own)
    if len([when for when, _ in every if window[0] <= when <= window[1]]) < 3:
        raise TocsinError("the members did not work long enough together: give more --packets")
    begin, end = (min(every, key=lambda pair: abs(pair[0] - edge))[0] for edge in window)  # whole batches
    found = figures.rate(every, (begin, end))
    each = figures.cpu_ms_per_alert(watch, (begin, end), found["alerts"])
    foreign = figures.cores_used(watch, (begin, end))["machine"]["foreign"]
    return {**found, "alerts_per_cpu_s": 1e3 / each["service"], "kafka_cpu_ms": each["kafka"], "foreign_cores": foreign}


# -- histories ---------------------------------------------------------------------------------------------------------


def _histories(seed: int) -> list[Json]:
    """Return what the stages take per alert on one thread, by the points in the packet."""
    from broker.cli import assemble
    from broker.cli.bench.worker import Log

    click.echo("bench: histories ...", err=True)
    metrics = Log()
    step = assemble.pipeline(settings("lsst", ONE_CORE), metrics, timer=time.process_time)
    long = _long_histories(seed)
    found = []
    for points in POINTS:
        batch = assemble.batch_of(_cut(long, points))
        step(batch)  # what numba or torch do only once
        metrics.stages.clear()
        began = time.process_time()
        for _ in range(3):
            step(batch)
        spent = (time.process_time() - began) / 3 / len(batch)
        stages = {s: sum(v for _, name, v in metrics.stages if name == s) for _, s, _ in metrics.stages}
        each = {stage: 1e3 * seconds / 3 / len(batch) for stage, seconds in stages.items()}
        found.append({"points": points, "alerts_per_cpu_s": 1 / spent, "stage_cpu_ms": each})
    return found


def _long_histories(seed: int) -> list[Json]:
    """Return decoded Rubin packets with at least as many points as the longest history."""
    from broker.archive import simulate

    parsed, found = fastavro.parse_schema(json.loads(simulate.schema("lsst"))), []
    for packet in simulate.night("lsst", 100 * HISTORIES, seed, mix=simulate.BENCH):
        if packet.truth.points >= POINTS[-1]:
            record = fastavro.schemaless_reader(io.BytesIO(packet.value[5:]), parsed, None)
            if isinstance(record, dict):
                found.append(record)
        if len(found) == HISTORIES:
            return found
    raise TocsinError(f"the simulated night has not {HISTORIES} packets of {POINTS[-1]} points")


def _cut(records: list[Json], points: int) -> list[Any]:
    """Return packets with the newest ``points`` entries of their histories, the alerting detection among them."""
    from broker.archive import simulate
    from broker.core.batch import FilePacket
    from broker.core.schemas import frame_prefix

    parsed, packets = fastavro.parse_schema(json.loads(simulate.schema("lsst"))), []
    for number, record in enumerate(records):
        times = [(item["midpointMjdTai"], name, k) for name in LISTS for k, item in enumerate(record[name])]
        kept = {(name, k) for _, name, k in sorted(times, reverse=True)[: points - 1]}
        shorter = {name: [item for k, item in enumerate(record[name]) if (name, k) in kept] for name in LISTS}
        out = io.BytesIO()
        out.write(frame_prefix(simulate.SIMULATED_ID))
        fastavro.schemaless_writer(out, parsed, {**record, **shorter})
        packets.append(FilePacket("bench", number, out.getvalue()))
    return packets


# -- what is told ------------------------------------------------------------------------------------------------------


def markdown(found: Json) -> str:
    """Return the three tables."""
    head = (
        f"`tocsin bench scale --survey {found['survey']} --seed {found['seed']}`: {found['cores']} cores, "
        f"{found['gflops']:.0f} GFLOPS (1024² float32 product), the Kafka server on the same cores."
    )
    members, batches = (_rows(found[name], key) for name, key in (("members", "members"), ("batches", "batch")))
    histories = [
        f"| {row['points']:,} | {row['alerts_per_cpu_s']:,.0f} | {row['stage_cpu_ms']['decode']:.3f} | "
        f"{row['stage_cpu_ms']['gp']:.3f} | {1e3 / row['alerts_per_cpu_s']:.3f} |"
        for row in found["histories"]
    ]
    columns = "alerts/s | alerts per CPU second of the service | Kafka's CPU ms per alert |\n|---|---|---|---|"
    fall = f"Alerts per CPU second fall by {max(0.0, found['worst_fall']):.0%} at most (bound {FALL:.0%})."
    parts = [
        f"# How throughput scales: {found['survey']}\n\n{head}",
        f"## Members on 4 partitions, one thread each\n\n{fall}\n\n| members | {columns}\n" + "\n".join(members),
        f"## Alerts per batch\n\n| at most | {columns}\n" + "\n".join(batches),
        "## Points per history: Rubin packets, the stages alone, one thread\n\n"
        "| points | alerts per CPU second | decode, ms | Gaussian process, ms | all, ms |\n|---|---|---|---|---|\n"
        + "\n".join(histories),
    ]
    return "\n\n".join(parts) + "\n"


def _rows(rows: list[Json], key: str) -> list[str]:
    return [
        f"| {row[key]:,} | {row['alerts_per_s']:,.0f} | {row['alerts_per_cpu_s']:,.0f} | {row['kafka_cpu_ms']:.2f} |"
        for row in rows
    ]


def _pictures(survey: str) -> str:
    names = ("members", "batches", "histories")
    return "\n" + "\n".join(f"![{name}](scale-{survey}-{name}.svg)" for name in names) + "\n"


def _plots_or_raise() -> None:
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise TocsinError("the plots need: pip install 'tocsin[train]'") from error


def _plot(found: Json, out: Path) -> None:
    """Draw alerts per CPU second, and per second where there is one, against each of the three."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "tocsin"  # the same figures give the same file
    from matplotlib import pyplot

    axes = {"members": "members", "batches": "batch", "histories": "points"}
    labels = {"members": "members", "batches": "alerts per batch, at most", "histories": "points per history"}
    for name, key in axes.items():
        rows = found[name]
        figure, axis = pyplot.subplots(figsize=(5, 3.2), layout="constrained")
        for what, label in (("alerts_per_cpu_s", "per CPU second"), ("alerts_per_s", "per second")):
            if what in rows[0]:
                axis.plot([row[key] for row in rows], [row[what] for row in rows], marker="o", label=label)
        axis.set_xscale("log", base=2 if name != "histories" else 10)
        axis.set_ylim(bottom=0)
        axis.set_xlabel(labels[name])
        axis.set_ylabel("alerts")
        axis.legend(frameon=False)
        axis.set_xticks([row[key] for row in rows], [f"{row[key]:,}" for row in rows], fontsize=8)
        axis.minorticks_off()
        figure.savefig(out / f"scale-{found['survey']}-{name}.svg", metadata={"Date": None})
        pyplot.close(figure)
