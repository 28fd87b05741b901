"""The peer table: how fast others do the same on the same packets and machine, measured in one run.

::

    python -m tests.bench.peers --out table.md

Fink's modules run where TOCSIN_FINK_ZTF and TOCSIN_FINK_LSST name interpreters that have them (tests/bench/fink.md
says how it is made); the Rust decoder where there is a cargo. What is missing is told in the table.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click
import fastavro
import numpy as np

from broker.archive import simulate
from broker.cli import assemble
from broker.cli.bench import figures, machine, worker
from broker.cli.bench.rig import SOURCE, Json, Rig, rig, settings
from broker.core.batch import PacketBatch
from broker.core.config import load
from tests.bench import plain, published

HERE = Path(__file__).parent
PRELOAD = {"ztf": 40_000, "lsst": 12_000}
DECODED = {"ztf": 512, "lsst": 128}
ROUNDS = 5
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True, slots=True)
class Bodies:
    """Packets of one survey in files that any program can read: the writer schema, and bodies after their lengths."""

    survey: str
    packets: list[bytes]
    rows: list[bytes]
    parsed: object
    schema: Path
    bodies: Path


@click.command()
@click.option("--seconds", default=40.0, show_default=True, help="Of each run from Kafka to Kafka.")
@click.option("--seed", default=7, show_default=True, help="Of the simulated night.")
@click.option("--survey", "surveys", multiple=True, default=("ztf", "lsst"), type=click.Choice(["ztf", "lsst"]))
@click.option("--kafka/--no-kafka", default=True, show_default=True, help="The runs from Kafka to Kafka.")
@click.option("--out", type=click.Path(path_type=Path), help="Also write the table there.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of the table.")
def main(seconds: float, seed: int, surveys: tuple[str, ...], kafka: bool, out: Path | None, as_json: bool) -> None:
    """Measure Tocsin, the plain way, Fink's modules and apache-avro on the same simulated packets."""
    found: Json = {"seed": seed, "cores": machine.cores(), "gflops": machine.gflops(), "surveys": {}}
    for survey in surveys:
        with tempfile.TemporaryDirectory() as name:
            of_survey: Json = decoding(bodies_of(survey, seed, Path(name)))
            if kafka:
                of_survey |= streams(survey, seed, seconds, Path(name))
        found["surveys"][survey] = of_survey
    table = markdown(found)
    click.echo(json.dumps(found) if as_json else table)
    if out is not None:
        out.write_text(table)


def say(text: str) -> None:
    """Tell what is going on."""
    click.echo(f"peers: {text}", err=True)


# -- one core: decoding, and Fink's modules --------------------------------------------------------------------------


def bodies_of(survey: str, seed: int, folder: Path, n: int | None = None) -> Bodies:
    """Write packets' bodies and their schema to files."""
    count = n or DECODED[survey]
    packets = [packet.value for packet in simulate.night(survey, count, seed, mix=simulate.BENCH)]
    text = None if survey == "ztf" else simulate.schema(survey).decode()
    rows, schema = machine.bodies(packets, text)
    made = Bodies(survey, packets, rows, schema, folder / "schema.json", folder / "bodies")
    made.schema.write_text(text or json.dumps(schema))
    made.bodies.write_bytes(b"".join(len(row).to_bytes(8, "little") + row for row in rows))
    return made


def decoding(load_: Bodies) -> Json:
    """Return microseconds of CPU per packet of each decoder, and what Fink's modules take."""
    say(f"decoding {len(load_.packets)} {load_.survey} packets ...")
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    try:
        return {
            "packets": len(load_.packets),
            "bytes": sum(map(len, load_.packets)),
            "tocsin_us": tocsin_us(load_),
            "fastavro_us": fastavro_us(load_),
            "apache_avro": apache_avro(load_),
            "fink": fink(load_),
        }
    finally:
        os.sched_setaffinity(0, cores)


def tocsin_us(load_: Bodies) -> float:
    """Return what our decoder takes, from packets to columns; `broker.decode`."""
    n = len(load_.packets)
    survey = [load_.survey] * n
    batch = PacketBatch(load_.packets, survey, np.zeros(n, np.int32), np.arange(n), np.full(n, -1), 0)
    decoder = assemble.decoder(settings(load_.survey))
    decoder(batch)
    return best(lambda: decoder(batch), ROUNDS) / n * 1e6


def fastavro_us(load_: Bodies) -> float:
    """Return what fastavro takes, its schema parsed once."""

    def decode() -> None:
        for row in load_.rows:
            fastavro.schemaless_reader(io.BytesIO(row), load_.parsed, None)

    return best(decode, 2) / len(load_.rows) * 1e6


def best(call: Callable[[], object], rounds: int) -> float:
    """Return the fewest CPU seconds that a call took."""
    taken = []
    for _ in range(rounds):
        began = time.process_time()
        call()
        taken.append(time.process_time() - began)
    return min(taken)


def apache_avro(load_: Bodies) -> Json:
    """Return what the Rust crate takes, or why it did not run."""
    if shutil.which("cargo") is None:
        return {"failed": "cargo is not installed"}
    place = load().run.cache_dir / "peers" / "rust"
    shutil.copytree(HERE / "rust", place, dirs_exist_ok=True)  # the lock file stays there
    built = subprocess.run(
        ["cargo", "build", "--release", "--quiet"], cwd=place, capture_output=True, text=True, check=False
    )
    if built.returncode:
        return {"failed": built.stderr.strip()[-300:]}
    return run([str(place / "target/release/apache-avro-peer"), str(load_.schema), str(load_.bodies), str(ROUNDS)])


def fink(load_: Bodies) -> Json:
    """Return what Fink's modules take, or why they did not run."""
    variable = f"TOCSIN_FINK_{load_.survey.upper()}"
    python = os.environ.get(variable)
    if python is None:
        return {"failed": f"{variable} does not name an interpreter that has fink-science"}
    return run([python, str(HERE / "fink.py"), load_.survey, str(load_.schema), str(load_.bodies)])


def run(command: list[str]) -> Json:
    """Return what a program prints as its last line, JSON, or how it failed; one thread each."""
    with one_thread_each():
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"failed": done.stderr.strip()[-300:]}
    found: Json = json.loads(done.stdout.strip().splitlines()[-1])
    return found


# -- two cores: Kafka to Kafka ---------------------------------------------------------------------------------------


def streams(survey: str, seed: int, seconds: float, folder: Path) -> Json:
    """Return the rates of Tocsin and of the plain way on one preloaded topic."""
    with rig(survey, folder) as bench:
        say(f"preloading {PRELOAD[survey]} {survey} packets ...")
        mix = bench.preload(PRELOAD[survey], seed)
        say("the plain way, two processes ...")
        with one_thread_each():
            theirs = stream(bench, "plain", 2, partial(plain.member, survey), seconds)
        say("Tocsin ...")
        ours = stream(bench, "tocsin", 1, worker.kafka, seconds)
    return {"tocsin": ours, "plain": theirs, "points": mix["points"] / PRELOAD[survey]}


def stream(bench: Rig, name: str, members: int, target: Callable[..., None], seconds: float) -> Json:
    """Let a service work for some seconds after its warm-up, or to the end of the topic."""
    with bench.running(SOURCE, name, members, target=target) as service, bench.watch(service) as watch:
        received, until = 0, np.inf
        with closing(bench.arrivals(service, service.topics.all(bench.survey))) as arrivals:
            for when, values in arrivals:
                received += len(values)
                until = min(until, when + figures.WARM_UP_S + seconds) if values else until
                if when > until or received >= 0.95 * PRELOAD[bench.survey]:
                    break
        commits = sorted(tuple(pair) for result in service.stop() for pair in result["commits"])
        window = figures.after_warm_up(commits)
    drained = figures.rate(commits, window)
    each = figures.cpu_ms_per_alert(watch, window, drained["alerts"])
    return {**drained, "cpu_ms_per_alert": each, "cores_used": figures.cores_used(watch, window)}


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Let the processes that are started meanwhile use one thread each for matrices."""
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(dict.fromkeys(ONE_THREAD, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


# -- the table -------------------------------------------------------------------------------------------------------


def markdown(found: Json) -> str:
    """Return the table, with the machine's own figures below it."""
    lines = ["| on the same packets and machine | ZTF | Rubin |", "|---|---|---|"]
    for title, cell in ROWS:
        lines.append(f"| {title} | " + " | ".join(cell(found["surveys"].get(s, {})) for s in ("ztf", "lsst")) + " |")
    lines += [f"| Fink: {name} | {cells[0]} | {cells[1]} |" for name, cells in fink_rows(found["surveys"]).items()]
    lines += ["", *published.lines(), "", machine_line(found)]
    return "\n".join(lines) + "\n"


def machine_line(found: Json) -> str:
    """Return what the machine did in the same run."""
    speed = f"{found['gflops']:.0f} GFLOPS (1024² float32 product)"
    parts = [f"This machine: {found['cores']} cores, {speed}, seed {found['seed']}"]
    for survey, result in found["surveys"].items():
        parts.append(f"{survey} packets of {result['bytes'] / result['packets'] / 1e3:.0f} kB")
        if "plain" in result:
            busy = max(result[way]["cores_used"]["machine"]["foreign"] for way in ("tocsin", "plain"))
            parts.append(f"{result['points']:.0f} points each, at most {busy:.2f} cores busy with something else")
    return "; ".join(parts) + "."


def _rate(way: str) -> Callable[[Json], str]:
    return lambda result: f"{result[way]['alerts_per_s']:,.1f}" if way in result else "-"


def _cpu(way: str) -> Callable[[Json], str]:
    return lambda result: f"{result[way]['cpu_ms_per_alert']['service']:.2f}" if way in result else "-"


def _ratio(result: Json) -> str:
    if "plain" not in result:
        return "-"
    rates = [result[way]["alerts_per_s"] for way in ("tocsin", "plain")]
    each = [result[way]["cpu_ms_per_alert"]["service"] for way in ("tocsin", "plain")]
    return f"**{rates[0] / rates[1]:.0f}** ({each[1] / each[0]:.0f} by CPU)"


def _us(name: str) -> Callable[[Json], str]:
    return lambda result: f"{result[name]:,.0f}" if name in result else "-"


def _rust(result: Json) -> str:
    found = result.get("apache_avro", {"failed": "-"})
    return f"{found['us_per_packet']:,.0f}" if "us_per_packet" in found else f"not run: {found['failed']}"


ROWS: tuple[tuple[str, Callable[[Json], str]], ...] = (
    ("**Tocsin**, Kafka to Kafka, alerts/s", _rate("tocsin")),
    ("the plain way, two processes, alerts/s", _rate("plain")),
    ("ratio", _ratio),
    ("CPU ms per alert: Tocsin", _cpu("tocsin")),
    ("CPU ms per alert: the plain way", _cpu("plain")),
    ("decoding, us of CPU per packet: Tocsin", _us("tocsin_us")),
    ("decoding: `apache-avro` (Rust)", _rust),
    ("decoding: `fastavro`", _us("fastavro_us")),
)


def fink_rows(surveys: Json) -> dict[str, tuple[str, ...]]:
    """Return a cell per survey for each of Fink's modules: alerts per second and core, of the alerts given to it."""
    modules = {survey: result.get("fink", {}).get("modules", {}) for survey, result in surveys.items()}
    names = dict.fromkeys(name for found in modules.values() for name in found)
    if not names:
        why = {survey: result.get("fink", {}).get("failed", "-") for survey, result in surveys.items()}
        return {"its modules": tuple(f"not run: {why.get(survey, '-')}" for survey in ("ztf", "lsst"))}
    return {
        f"{name}, alerts/s/core": tuple(_fink(modules.get(survey, {}).get(name)) for survey in ("ztf", "lsst"))
        for name in names
    }


def _fink(found: Json | None) -> str:
    if found is None:
        return "-"
    if "failed" in found:
        return f"not run: {found['failed'][:80]}"
    answered = found.get("answered", found["alerts"])
    return f"{found['alerts'] / found['cpu_s']:,.0f}" + (
        f" ({answered / found['alerts']:.0%} passed its cuts)" if answered < found["alerts"] else ""
    )


def plain_of(survey: str) -> plain.Plain:
    """Return the plain way, with the shipped models."""
    return plain.made(survey, settings(survey))


if __name__ == "__main__":
    main()
