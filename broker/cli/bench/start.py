"""``tocsin bench start``: from the command to the first annotation, and where the time goes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import click
from confluent_kafka import Consumer, Producer

from broker.cli.bench import processes
from broker.cli.bench.rig import rig
from broker.core.bands import SURVEYS
from broker.core.config import load
from broker.core.errors import TocsinError
from broker.core.topics import Topics

TOCSIN = (sys.executable, "-c", "from broker.cli.main import main; main()")
TIMEOUT_S = 300.0  # the first start may compile
PACKETS = 64
MILESTONES = {"listening": "listening", "partitions assigned": "group joined", "models loaded": "models loaded"}
LAST = "first annotation"
IMPORTS = "import broker.cli.run, broker.pipeline, broker.deliver.kafka, broker.deliver.loop, broker.serve.http"
IMPORT_LINE = re.compile(r"import time:\s+(\d+) \|\s+\d+ \|\s+([\w]+)")
Json = dict[str, Any]


@click.command()
@click.option("--survey", type=click.Choice(sorted(SURVEYS)), default="ztf", show_default=True, help="Whose packets.")
@click.option("--runs", default=3, show_default=True, type=click.IntRange(1), help="Starts; the best counts.")
@click.option("--brokers", help="Use this Kafka instead of one that is started here.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def start(survey: str, runs: int, brokers: str | None, as_json: bool) -> None:
    """Start `tocsin run` on a real Kafka with packets waiting: seconds until a subscriber has the first annotation.

    Caches are warm: the first start is not counted. The seconds of a start are told at its milestones; models are
    loaded while the group is joined. Imports are the best of as many interpreters, by package.

    \b
    Example:
      tocsin bench start --runs 5
    """
    with tempfile.TemporaryDirectory() as name, rig(survey, Path(name), brokers) as place:
        bootstrap = place.bootstrap
        _preload(bootstrap, survey)
        click.echo("bench: a first start, to warm the caches ...", err=True)
        _start(bootstrap, survey)
        starts = []
        for number in range(runs):
            click.echo(f"bench: start {number + 1} of {runs} ...", err=True)
            starts.append(_start(bootstrap, survey))
    found = {"survey": survey, "runs": runs, "load_average": os.getloadavg()[0], "imports_s": _imports(runs)}
    found["best"] = min(starts, key=lambda start: float(start["seconds"][LAST]))
    found["all_s"] = [start["seconds"][LAST] for start in starts]
    click.echo(json.dumps(found) if as_json else _table(found))


def _table(found: Json) -> str:
    """Return the figures for people."""
    lines = [f"best of {found['runs']} starts ({found['survey']}, load average {found['load_average']:.1f}), seconds:"]
    lines += [f"  {name:24}{seconds:7.2f}" for name, seconds in found["best"]["seconds"].items()]
    lines += [f"  {'CPU time of the service':24}{found['best']['cpu_s']:7.2f}"]
    lines += ["imports in a start, seconds of each package's own modules:"]
    lines += [f"  {name:24}{seconds:7.2f}" for name, seconds in found["imports_s"].items()]
    lines += ["all starts: " + ", ".join(f"{seconds:.2f}" for seconds in found["all_s"])]
    return "\n".join(lines)


def _start(bootstrap: str, survey: str) -> Json:
    """Start the service under a new name; return its CPU seconds, and the seconds to each milestone in their order.

    Raises
    ------
    TocsinError
        The service ends, or nothing comes.
    """
    name = f"start-{time.time_ns()}"
    with _reader(bootstrap, survey, name) as reader:
        began = time.time()
        command = [*TOCSIN, "run", "--brokers", bootstrap, "--topic", survey, "--group", name, "--prefix", name]
        lines: list[str] = []
        with subprocess.Popen([*command, "--port", "0"], stderr=subprocess.PIPE, text=True) as service:
            listening = threading.Thread(target=lambda: lines.extend(service.stderr or ()))
            listening.start()
            try:
                first = _first(reader, service)
                spent = processes.sample(service.pid)
            finally:
                service.terminate()
                listening.join()
    reached = {name: when - began for name, when in _milestones(lines)} | {LAST: first - began}
    cpu_s = sum(spent.cpu_s.values()) if spent is not None else None
    return {"cpu_s": cpu_s, "seconds": dict(sorted(reached.items(), key=lambda item: item[1]))}


def _first(reader: Consumer, service: subprocess.Popen[str]) -> float:
    """Return when the first annotation was read, Unix seconds."""
    end = time.monotonic() + TIMEOUT_S
    while time.monotonic() < end and service.poll() is None:
        message = reader.poll(0.02)
        if message is not None and message.error() is None:
            return time.time()
    raise TocsinError(f"no annotation: the service ended with {service.poll()}, or took longer than {TIMEOUT_S:.0f} s")


def _milestones(lines: list[str]) -> Iterator[tuple[str, float]]:
    """Yield what the service's log says it had reached, and when, Unix seconds."""
    for line in filter(lambda line: line.startswith("{"), lines):
        entry = json.loads(line)
        for words, name in MILESTONES.items():
            if words in entry["message"]:
                yield name, datetime.fromisoformat(entry["time"]).timestamp()


@contextmanager
def _reader(bootstrap: str, survey: str, prefix: str) -> Iterator[Consumer]:
    """Yield a subscriber to the annotations under ``prefix``, whose topics are made as an operator would."""
    from broker.core.taxonomy import CLASSES
    from broker.deliver.topics import create, specs

    topics, client = Topics(prefix), {"bootstrap.servers": bootstrap}
    create(client, specs(topics, [survey], [c.slug for c in CLASSES], 1, raw=False))
    reader = Consumer(
        {**client, "group.id": f"{prefix}-reader", "isolation.level": "read_committed", "auto.offset.reset": "earliest"}
    )
    reader.subscribe([topics.all(survey)])
    end = time.monotonic() + TIMEOUT_S
    while not reader.assignment() and time.monotonic() < end:
        reader.poll(0.1)
    yield reader
    reader.close()


def _preload(bootstrap: str, survey: str) -> None:
    """Fill the source topic, and install the schema that its packets refer to."""
    from broker.archive import simulate
    from broker.deliver.topics import TopicSpec, create

    client = {"bootstrap.servers": bootstrap}
    simulate.install_schema(load().run.cache_dir / "schemas")
    create(client, [TopicSpec(survey, 4)])
    producer = Producer(client)
    for packet in simulate.night(survey, PACKETS, 1):
        producer.produce(survey, packet.value)
    producer.flush()


def _imports(runs: int) -> dict[str, float]:
    """Return the seconds in which a new interpreter imports the service, by package; the best of ``runs``."""
    best: Counter[str] = Counter()
    for _ in range(runs):
        command = [sys.executable, "-X", "importtime", "-c", IMPORTS]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found: Counter[str] = Counter()
        for microseconds, package in IMPORT_LINE.findall(done.stderr):
            found[package] += int(microseconds)
        best = found if not best or found.total() < best.total() else best
    shown = {package: microseconds / 1e6 for package, microseconds in best.most_common(6)}
    return {**shown, "others": best.total() / 1e6 - sum(shown.values()), "all": best.total() / 1e6}
