"""``tocsin bench pipeline`` and ``tocsin bench kafka``: the whole stream, every stage on."""

from __future__ import annotations

import json
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import click
import numpy as np

from broker.cli.bench import figures, machine, worker
from broker.cli.bench import load as loads
from broker.cli.bench.rig import LIVE, SILENCE_S, SOURCE, SPAWN, Json, Rig, Running, result_of, rig, settings
from broker.core import schemas

WARM_PACKETS = 2_000  # through a new service before anything is measured on it
START_S = 90.0  # a service has for its start
MEMORY_AT = (10_000, 100_000)

survey_option = click.option(
    "--survey", type=click.Choice(["ztf", "lsst"]), default="ztf", show_default=True, help="Whose packets."
)
packets_option = click.option("--packets", default=20_000, show_default=True, type=click.IntRange(100), help="Packets.")
seed_option = click.option("--seed", default=7, show_default=True, help="Of the simulated night.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
folder_option = click.option("--folder", type=click.Path(path_type=Path), help="Where the load lies; default: TMPDIR.")


@click.command()
@survey_option
@packets_option
@seed_option
@folder_option
@json_option
def pipeline(survey: str, packets: int, seed: int, folder: Path | None, as_json: bool) -> None:
    """Measure files to files: a tar archive of distinct simulated packets in, segments and manifest out.

    \b
    Example:
      tocsin bench pipeline --survey lsst --packets 20000
    """
    with tempfile.TemporaryDirectory(dir=folder) as name:
        place, mix = Path(name), Counter[str]()
        click.echo(f"bench: making {packets} {survey} packets ...", err=True)
        loads.to_tar(place / "night.tar", loads.packets(survey, packets, seed, mix))
        click.echo("bench: running ...", err=True)
        arguments = (settings(survey), place / "night.tar", place / "out", place / "result.json")
        process = SPAWN.Process(target=worker.files, args=arguments)
        process.start()
        result = result_of(process, place / "result.json")
        scored = figures.scored(_directory_annotations(place / "out"))
    window = figures.after_warm_up(result["commits"])
    found = {**figures.rate(result["commits"], window), **figures.stages([result], window), **scored}
    _print({**found, **_machine(survey), "survey": survey, "mix": dict(mix)}, as_json)


@click.command()
@survey_option
@packets_option
@seed_option
@folder_option
@json_option
@click.option("--brokers", help="Use this Kafka instead of one that is started here.")
@click.option("--latency-s", default=60.0, show_default=True, help="Seconds of the latency run; 0: none.")
@click.option("--share", default=0.7, show_default=True, help="Of the measured rate, in the latency run.")
@click.option("--burst", default=0, show_default=True, help="Packets that arrive at once on an idle service; 0: none.")
def kafka(
    survey: str,
    packets: int,
    seed: int,
    folder: Path | None,
    as_json: bool,
    brokers: str | None,
    latency_s: float,
    share: float,
    burst: int,
) -> None:
    """Measure Kafka to Kafka, the server and the load's sender on the same cores.

    First a preloaded topic is drained: rate, where the cores go, memory at 10,000 and 100,000 alerts. Then packets are
    sent at a share of that rate, and in a burst. Latency is from when a packet was due at the source topic to when a
    read_committed client in another process has its annotation: what the sender or Kafka delays is in it. The first 5 s
    of a run are left out.

    \b
    Example:
      tocsin bench kafka --survey ztf --packets 120000
      tocsin bench kafka --survey lsst --packets 20000 --burst 10000
    """
    with tempfile.TemporaryDirectory(dir=folder) as name, rig(survey, Path(name), brokers) as bench:
        click.echo(f"bench: preloading {packets} {survey} packets ...", err=True)
        mix = bench.preload(packets, seed)
        click.echo("bench: draining them ...", err=True)
        found = {**_drain(bench, packets), **_machine(survey), "survey": survey, "seed": seed, "mix": dict(mix)}
        if latency_s or burst:
            found |= _live(bench, share * found["alerts_per_s"], latency_s, burst)
    _print(found, as_json)


def _drain(bench: Rig, packets: int) -> Json:
    """Run the service on the preloaded topic until it has committed everything."""
    with (
        bench.running(SOURCE, "drain") as service,
        bench.watch(service) as watch,
        closing(bench.arrivals(service, service.topics.ledger)) as arrivals,
    ):
        received = 0
        for _, values in arrivals:
            received += sum(schemas.decode(value, None, "ledger")["received"] for value in values)
            if received >= packets:
                break
        results = service.stop()
        annotations = _annotations(bench, service)
    commits = results[0]["commits"]
    window = figures.after_warm_up(commits)
    drained = figures.rate(commits, window)
    return {
        **drained,
        "cpu_ms_per_alert": figures.cpu_ms_per_alert(watch, window, drained["alerts"]),
        **figures.stages(results, window),
        "cores_used": figures.cores_used(watch, window),
        "memory": figures.memory(watch, commits, MEMORY_AT),
        "first_commit_s": commits[0][0] - service.started,
        **figures.scored(annotations),
    }


def _live(bench: Rig, rate: float, seconds: float, burst: int) -> Json:
    """Send packets to a service that runs: at ``rate`` for ``seconds``, then ``burst`` of them at once."""
    bench.create(LIVE)
    found: Json = {}
    with (
        bench.running(LIVE, "live") as service,
        closing(bench.arrivals(service, service.topics.all(bench.survey))) as arrivals,
    ):
        _send(bench, service, arrivals, WARM_PACKETS, np.inf)
        if seconds:
            click.echo(f"bench: latency at {rate:.0f} alerts/s ...", err=True)
            found["latency"] = _send(bench, service, arrivals, int(rate * seconds), rate)
        if burst:
            click.echo(f"bench: {burst} alerts at once ...", err=True)
            found["burst"] = _send(bench, service, arrivals, burst, np.inf)
        service.stop()
    return found


def _send(bench: Rig, service: Running, arrivals: Iterator[tuple[float, list[bytes]]], n: int, rate: float) -> Json:
    """Send ``n`` packets and return how old their annotations were when a reader had them."""
    result = bench.folder / "fed.json"
    result.unlink(missing_ok=True)
    feeder = bench.feed(n, rate, result)
    got: list[tuple[float, bytes]] = []
    with bench.watch(service, sender=int(feeder.pid or 0)) as watch:
        heard = time.time() + START_S
        for when, values in arrivals:
            got += [(when, value) for value in values]
            heard = when if values else heard
            if len(got) >= n or when > heard + SILENCE_S:  # filtered packets have no annotation
                break
    fed = result_of(feeder, result)
    return figures.latency(got, fed, rate, watch)


def _annotations(bench: Rig, service: Running) -> Iterator[Json]:
    from broker.deliver.kafka.reader import read_records

    for record, _ in read_records(bench.client, [service.topics.all(bench.survey)], "annotation"):
        yield record


def _directory_annotations(directory: Path) -> Iterator[Json]:
    import fastavro

    for path in sorted((directory / "annotations").glob("*.avro")):
        with path.open("rb") as file:
            yield from fastavro.reader(file)


def _machine(survey: str) -> Json:
    from broker.archive import simulate

    packets = [packet.value for packet in simulate.night(survey, 64, 0, mix=simulate.BENCH)]
    schema = None if survey == "ztf" else simulate.schema(survey).decode()
    return {
        "cores": machine.cores(),
        "gflops": machine.gflops(),
        "fastavro_ms": machine.fastavro_ms(packets, schema),
    }


def _print(found: Json, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(found))
        return
    for name, value in found.items():
        _print_item(name, value, "")


def _print_item(name: str, value: Any, indent: str) -> None:
    if isinstance(value, dict) and any(isinstance(item, dict) for item in value.values()):
        click.echo(f"{indent}{name}")
        for key, item in value.items():
            _print_item(key, item, indent + "  ")
    else:
        click.echo(f"{indent + name:26} {_text(value)}")


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return "  ".join(f"{key} {_text(item)}" for key, item in value.items())
    return f"{value:.3f}" if isinstance(value, float) else str(value)
