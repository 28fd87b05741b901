"""``tocsin bench pipeline`` and ``tocsin bench kafka``: the whole stream, every stage on."""

from __future__ import annotations

import json
import multiprocessing
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import click
import numpy as np

from broker.cli.bench import load as loads
from broker.cli.bench import machine, worker
from broker.core.config import Settings, load
from broker.core.errors import TocsinError
from broker.core.topics import Topics

WARM_UP_S = 5.0
SPAWN = multiprocessing.get_context("spawn")
Json = dict[str, Any]

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
    settings = _settings(survey)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        place, mix = Path(name), Counter[str]()
        click.echo(f"bench: making {packets} {survey} packets ...", err=True)
        loads.to_tar(place / "night.tar", loads.packets(survey, packets, seed, mix))
        click.echo("bench: running ...", err=True)
        arguments = (settings, place / "night.tar", place / "out", place / "result.json")
        process = SPAWN.Process(target=worker.files, args=arguments)
        process.start()
        process.join()
        result = _result(process, place / "result.json")
        scored = _scored(_directory_annotations(place / "out"))
    _print({**_throughput(result), **_machine(survey), **scored, "survey": survey, "mix": dict(mix)}, as_json)


@click.command()
@survey_option
@packets_option
@seed_option
@folder_option
@json_option
@click.option("--brokers", help="Use this Kafka instead of one that is started here.")
@click.option("--latency-s", default=60.0, show_default=True, help="Seconds of the latency run; 0: none.")
def kafka(
    survey: str, packets: int, seed: int, folder: Path | None, as_json: bool, brokers: str | None, latency_s: float
) -> None:
    """Measure Kafka to Kafka: a preloaded topic, the server on the same cores, then latency at 70 % of that rate.

    \b
    Example:
      tocsin bench kafka --survey ztf --packets 40000
    """
    with tempfile.TemporaryDirectory(dir=folder) as name, _kafka(Path(name), brokers) as bootstrap:
        bench = KafkaBench(survey, bootstrap, Path(name))
        mix = Counter[str]()
        click.echo(f"bench: preloading {packets} {survey} packets ...", err=True)
        bench.preload(packets, seed, mix)
        click.echo("bench: running ...", err=True)
        found = {**bench.throughput(packets), **_machine(survey), "survey": survey, "mix": dict(mix)}
        if latency_s:
            click.echo("bench: latency at 70 % of that rate ...", err=True)
            found |= bench.latency(0.7 * found["alerts_per_s"], latency_s, packets)
    _print(found, as_json)


class KafkaBench:
    """One survey's load on one Kafka."""

    def __init__(self, survey: str, bootstrap: str, folder: Path) -> None:
        self.survey, self.folder = survey, folder
        self.client = {"bootstrap.servers": bootstrap}
        self.bootstrap = bootstrap

    def preload(self, packets: int, seed: int, mix: Counter[str]) -> None:
        """Fill the source topic."""
        self._create("bench.source")
        loads.to_topic(self.client, "bench.source", loads.packets(self.survey, packets, seed, mix))

    def throughput(self, packets: int) -> Json:
        """Run the service until it has committed ``packets``; every figure is of the time after the warm-up."""
        settings = self._settings("bench.source", "drain")
        result = self.folder / "drain.json"
        process = SPAWN.Process(target=worker.kafka, args=(settings, result))
        process.start()
        with self._consumer(Topics("drain"), Topics("drain").ledger) as ledger:
            received = 0
            while received < packets:
                received += sum(record["received"] for record, _ in _records(ledger, "ledger", process))
        process.terminate()
        process.join()
        return {**_throughput(_result(process, result)), **_scored(self._annotations("drain"))}

    def latency(self, rate: float, seconds: float, packets: int) -> Json:
        """Send at ``rate`` and read the annotations as a ``read_committed`` client: the time from produce to reader."""
        self._create("bench.paced")
        n = int(min(rate * seconds, packets))
        service = SPAWN.Process(target=worker.kafka, args=(self._settings("bench.paced", "paced"), self.folder / "p"))
        service.start()
        with self._consumer(Topics("paced"), Topics("paced").all(self.survey)) as reader:
            self._wait_ready()
            feeder = SPAWN.Process(target=loads.paced, args=(self.client, "bench.source", "bench.paced", rate, n))
            feeder.start()
            ages: list[float] = []
            while len(ages) < 0.99 * n:
                ages += [_age_s(record) for record, _ in _records(reader, "annotation", service)]
            feeder.join()
        service.terminate()
        service.join()
        settled = np.array(ages[int(rate * WARM_UP_S) :])
        p50, p99 = np.percentile(settled, [50, 99])
        return {"latency": {"rate": rate, "alerts": len(settled), "p50_s": float(p50), "p99_s": float(p99)}}

    def _settings(self, topic: str, name: str) -> Settings:
        overrides = {
            "kafka.brokers": self.bootstrap,
            "source.topics": [topic],
            "source.group": name,
            "output.prefix": name,
        }
        return _settings(self.survey, overrides)

    def _create(self, topic: str) -> None:
        from broker.deliver.topics import TopicSpec, create

        large = {"max.message.bytes": "16000000", "retention.ms": "-1"}
        create(self.client, [TopicSpec(topic, loads.PARTITIONS, large)])

    def _wait_ready(self) -> None:
        """Give the service time to load its models: latency is measured on a service that runs."""
        time.sleep(20.0)

    @contextmanager
    def _consumer(self, topics: Topics, topic: str) -> Iterator[Any]:
        """Yield a ``read_committed`` reader of one of ``topics``, which is made beforehand as an operator would."""
        from confluent_kafka import Consumer

        from broker.deliver.topics import create, spec

        create(self.client, [spec(topics, topic, 1)])
        consumer = Consumer(
            {
                **self.client,
                "group.id": f"bench-{time.time_ns()}",
                "isolation.level": "read_committed",
                "auto.offset.reset": "earliest",
            }
        )
        consumer.subscribe([topic])
        yield consumer
        consumer.close()

    def _annotations(self, prefix: str) -> Iterator[Json]:
        from broker.deliver.kafka.reader import read_records

        for record, _ in read_records(self.client, [Topics(prefix).all(self.survey)], "annotation"):
            yield record


@contextmanager
def _kafka(folder: Path, brokers: str | None) -> Iterator[str]:
    from broker.cli import kafkaserver

    if brokers:
        yield brokers
        return
    click.echo("bench: starting Kafka ...", err=True)
    server = kafkaserver.up(
        folder / "kafka", kafkaserver.jars(load().run.cache_dir / "kafka"), port=kafkaserver.free_port()
    )
    try:
        yield server.bootstrap
    finally:
        kafkaserver.down(folder / "kafka")


def _records(consumer: Any, schema: str, process: BaseProcess) -> Iterator[tuple[Json, Any]]:
    from broker.core import schemas

    _alive(process)
    for message in consumer.consume(500, timeout=0.2):
        if message.error() is None:
            yield schemas.decode(message.value(), message.headers(), schema), message


def _age_s(annotation: Json) -> float:
    sent: float = annotation["source"]["timestamp"].timestamp()
    return time.time() - sent


def _alive(process: BaseProcess) -> None:
    if process.exitcode is not None:
        raise TocsinError(f"the measured process ended with {process.exitcode}")


def _settings(survey: str, overrides: Json | None = None) -> Settings:
    from importlib.resources import as_file, files

    from broker.archive import simulate

    with as_file(files("broker") / "deploy" / "config" / f"{survey}.toml") as path:
        settings = load(path, overrides)
    simulate.install_schema(settings.run.cache_dir / "schemas")
    return settings


def _result(process: BaseProcess, path: Path) -> Json:
    if process.exitcode != 0 or not path.exists():
        raise TocsinError(f"the measured process ended with {process.exitcode}")
    result: Json = json.loads(path.read_text())
    return result


def _throughput(result: Json) -> Json:
    """Return rates of the commits after the warm-up, and CPU milliseconds per alert of each stage."""
    times = np.array([when for when, _ in result["commits"]])
    alerts = np.array([n for _, n in result["commits"]])
    warm = times >= times[0] + WARM_UP_S
    if warm.sum() < 2:
        raise TocsinError("the run is over before the warm-up: give more --packets")
    # the first commit after the warm-up starts the clock; its own alerts were made before
    seconds, counted, total = times[-1] - times[warm][0], alerts[warm][1:].sum(), alerts.sum()
    return {
        "alerts": int(counted),
        "seconds": float(seconds),
        "alerts_per_s": float(counted / seconds),
        "cpu_ms_per_alert": 1e3 * result["cpu_s"] / total,
        "stage_cpu_ms_per_alert": {stage: 1e3 * s / total for stage, s in result["stage_cpu_s"].items()},
        "wall_ms_per_alert": {stage: 1e3 * s / total for stage, s in result["wall_s"].items()},
        "peak_mb": result["peak_mb"],
        "aborted": result["aborted"],
    }


def _machine(survey: str) -> Json:
    from broker.archive import simulate

    packets = [packet.value for packet in simulate.night(survey, 64, 0, mix=simulate.BENCH)]
    schema = None if survey == "ztf" else simulate.schema(survey).decode()
    return {
        "cores": machine.cores(),
        "gflops": machine.gflops(),
        "fastavro_ms": machine.fastavro_ms(packets, schema),
    }


def _scored(annotations: Iterator[Json]) -> Json:
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


def _directory_annotations(directory: Path) -> Iterator[Json]:
    import fastavro

    for path in sorted((directory / "annotations").glob("*.avro")):
        with path.open("rb") as file:
            yield from fastavro.reader(file)


def _print(found: Json, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(found))
        return
    for name, value in found.items():
        click.echo(f"{name:24} {_text(value)}")


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return "  ".join(f"{key} {_text(item)}" for key, item in value.items())
    return f"{value:.3f}" if isinstance(value, float) else str(value)
