"""A Kafka with one survey's load on it, and services that are measured on it."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.resources import files
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import click
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from broker.cli.bench import load as loads
from broker.cli.bench import worker
from broker.cli.bench.processes import Watch
from broker.core.config import Settings, load
from broker.core.errors import TocsinError
from broker.core.topics import Topics
from broker.deliver.topics import TopicSpec, create, spec

SPAWN = multiprocessing.get_context("spawn")
POOL = {"ztf": 30_000, "lsst": 10_000}  # packets kept for live runs: some 2.5 GB, in the page cache
SILENCE_S = 5.0
ELSEWHERE = {"kafka", "registry", "source"}  # what of a survey's settings is not ours to use here
SOURCE, LIVE = "bench.source", "bench.live"
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Running:
    """Members of one service, running.

    Attributes
    ----------
    processes : sequence
    results : list of Path
        What each of them writes at its end, see `broker.cli.bench.worker.Log`.
    topics : Topics
        Where they publish.
    started : float
        Unix seconds.
    """

    processes: Sequence[BaseProcess]
    results: list[Path]
    topics: Topics
    started: float

    def check(self) -> None:
        """Raise `TocsinError` if one has ended."""
        for process in self.processes:
            if process.exitcode is not None:
                raise TocsinError(f"the measured process ended with {process.exitcode}")

    def stop(self) -> list[Json]:
        """Let them drain and return what each has written."""
        for process in self.processes:
            process.terminate()
        return [result_of(process, path) for process, path in zip(self.processes, self.results, strict=True)]


@dataclass(frozen=True, slots=True)
class Rig:
    """One survey's load on one Kafka.

    Attributes
    ----------
    survey : str
    bootstrap : str
    server : int or None
        The Kafka server's process, where it is ours.
    folder : Path
    """

    survey: str
    bootstrap: str
    server: int | None
    folder: Path

    @property
    def client(self) -> Json:
        """Settings of any Kafka client."""
        return {"bootstrap.servers": self.bootstrap}

    @property
    def pool(self) -> Path:
        """The file of packets for live runs."""
        return self.folder / "packets"

    def preload(self, packets: int, seed: int) -> Counter[str]:
        """Fill the source topic and the pool; return the mix."""
        mix: Counter[str] = Counter()
        self.create(SOURCE)
        found = loads.packets(self.survey, packets, seed, mix)
        loads.to_topic(self.client, SOURCE, found, self.pool, POOL[self.survey])
        return mix

    def create(self, topic: str) -> None:
        """Make a source topic."""
        large = {"max.message.bytes": "16000000", "retention.ms": "-1"}
        create(self.client, [TopicSpec(topic, loads.PARTITIONS, large)])

    @contextmanager
    def running(
        self,
        topic: str,
        name: str,
        members: int = 1,
        overrides: Json | None = None,
        target: Callable[..., None] = worker.kafka,
    ) -> Iterator[Running]:
        """Run ``members`` of a service whose group and prefix are ``name``.

        Parameters
        ----------
        overrides : dict
            Settings, dotted.
        target : callable
            The service, `broker.cli.bench.worker.kafka`, or another that takes the same and can be pickled.
        """
        topics = Topics(name)
        create(self.client, [spec(topics, made, 1) for made in (topics.all(self.survey), topics.ledger)])
        together = SPAWN.Barrier(members) if members > 1 else None
        processes, results = [], []
        for number in range(members):
            chosen = {"kafka.brokers": self.bootstrap, "source.topics": [topic], "source.group": name}
            chosen |= {"output.prefix": name, "run.member": f"bench-{os.getpid()}-{number}"}
            chosen |= overrides or {}
            results.append(self.folder / f"{name}-{number}.json")
            arguments = (settings(self.survey, chosen), results[-1], together)
            processes.append(SPAWN.Process(target=target, args=arguments))
        started = time.time()
        for process in processes:
            process.start()
        try:
            yield Running(processes, results, topics, started)
        finally:
            for process in processes:
                process.kill()
                process.join()

    def watch(self, running: Running, **others: int) -> Watch:
        """Return a watch of the members, the Kafka server, this process and ``others`` (process ids)."""
        pids = {f"service{n or ''}": int(process.pid or 0) for n, process in enumerate(running.processes)}
        if self.server is not None:
            pids["kafka"] = self.server
        return Watch({**pids, "bench": os.getpid(), **others})

    def feed(self, n: int, rate: float, result: Path) -> BaseProcess:
        """Start to send ``n`` packets of the pool to the live topic, see `broker.cli.bench.load.feed`."""
        process = SPAWN.Process(target=loads.feed, args=(self.client, LIVE, self.pool, n, rate, result))
        process.start()
        return process

    def arrivals(self, running: Running, topic: str) -> Generator[tuple[float, list[bytes]], None, None]:
        """Yield when (Unix seconds) which committed messages came; an empty list now and then."""
        with ExitStack() as stack:
            own = {"enable.auto.commit": False, "group.id": "bench", "log_level": 2}
            waits = {"fetch.wait.max.ms": 100, "fetch.queue.backoff.ms": 5}  # those of `broker.client`
            consumer = Consumer({**self.client, **own, **waits, "isolation.level": "read_committed"})
            stack.callback(consumer.close)
            consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
            while True:
                found = [message.value() for message in consumer.consume(1000, 0.02) if message.error() is None]
                yield time.time(), found
                if not found:
                    running.check()


@contextmanager
def rig(survey: str, folder: Path, brokers: str | None = None) -> Iterator[Rig]:
    """Start a Kafka in ``folder``, unless ``brokers`` names one."""
    from broker.cli import kafkaserver

    if brokers:
        yield Rig(survey, brokers, None, folder)
        return
    click.echo("bench: starting Kafka ...", err=True)
    jars = kafkaserver.jars(load().run.cache_dir / "kafka")
    server = kafkaserver.up(folder / "kafka", jars, port=kafkaserver.free_port())
    try:
        yield Rig(survey, server.bootstrap, server.pid, folder)
    finally:
        kafkaserver.down(folder / "kafka")


def settings(survey: str, overrides: Json | None = None) -> Settings:
    """Return the survey's shipped settings without its Kafka and registry; the simulated packets' schema is at hand."""
    from broker.archive import simulate

    shipped = tomllib.loads((files("broker") / "deploy" / "config" / f"{survey}.toml").read_text())
    ours = {f"{name}.{key}": value for name in set(shipped) - ELSEWHERE for key, value in shipped[name].items()}
    found = load(None, {**ours, **(overrides or {})})
    simulate.install_schema(found.run.cache_dir / "schemas")
    return found


def result_of(process: BaseProcess, path: Path) -> Json:
    """Wait for a measured process and return what it wrote.

    Raises
    ------
    TocsinError
        It failed.
    """
    process.join()
    if process.exitcode != 0 or not path.exists():
        raise TocsinError(f"the measured process ended with {process.exitcode}")
    result: Json = json.loads(path.read_text())
    return result
