"""``tocsin simulate``: packets and truth where they were asked for."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from confluent_kafka import Consumer

from broker.archive import publish, read, simulate
from broker.cli.simulate import simulate as command
from broker.core.errors import TocsinError


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Any]:
    """Return a function that runs the command with a cache of its own."""
    monkeypatch.setenv("TOCSIN_RUN__CACHE_DIR", str(tmp_path / "cache"))

    def invoke(*arguments: str) -> Any:
        return CliRunner().invoke(command, [*arguments, "--objects", "12", "--seed", "9"], catch_exceptions=False)

    return invoke


@pytest.mark.parametrize("survey", ["ztf", "lsst"])
def test_files_hold_the_night_and_the_truth_is_beside_them(
    run: Callable[..., Any], tmp_path: Path, survey: str
) -> None:
    folder = tmp_path / "night"
    assert run("--survey", survey, "--to", str(folder)).exit_code == 0
    expected = {f"{p.truth.alert_id}.avro": p for p in simulate.night(survey, 12, 9)}
    assert {Path(p.path).name: p.value for p in read.packets([folder])} == {n: p.value for n, p in expected.items()}
    lines = (tmp_path / "night.truth.jsonl").read_text().splitlines()
    assert [json.loads(line)["alert_id"] for line in lines] == [p.truth.alert_id for p in expected.values()]
    assert (tmp_path / "cache/schemas" / f"{simulate.SIMULATED_ID}.avsc").exists() == (survey == "lsst")
    with pytest.raises(TocsinError, match="not empty"):
        run("--survey", survey, "--to", str(folder))


def test_a_tarball_is_an_archive(run: Callable[..., Any], tmp_path: Path) -> None:
    assert run("--survey", "ztf", "--tar", "--to", str(tmp_path / "archive")).exit_code == 0
    (path,) = (tmp_path / "archive").iterdir()
    assert path.name.startswith("ztf_public_20")
    assert [p.value for p in read.packets([path])] == [p.value for p in simulate.night("ztf", 12, 9)]
    with pytest.raises(TocsinError, match="there already"):
        run("--survey", "ztf", "--tar", "--to", str(tmp_path / "archive"))


def test_the_rate_is_kept() -> None:
    packets = list(simulate.night("ztf", 12, 9))
    began = time.monotonic()
    assert list(publish.paced(packets, 50.0)) == packets
    assert 0.2 < time.monotonic() - began < 2.0


def test_a_visit_comes_at_once_when_its_time_has_come() -> None:
    packets = list(simulate.night("ztf", 12, 9, per_visit=4, nights=2))
    clock = [100.0]
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        clock[0] += seconds

    found = [(clock[0], packet) for packet in publish.bursts(iter(packets), lambda: clock[0], sleep)]
    assert [packet for _, packet in found] == packets
    times = {packet.truth.mjd: when for when, packet in found}
    assert len(times) == 6
    assert sorted(times.values()) == pytest.approx([100.0, 140.0, 180.0, 180.0, 220.0, 260.0], abs=0.01)
    assert sum(slept) == pytest.approx(160.0, abs=0.01)


def test_the_options_of_a_night(run: Callable[..., Any], tmp_path: Path) -> None:
    options = ("--nights", "2", "--mix", "snia=0.6,tde=0.4", "--bogus", "0.25", "--poison", "0.2", "--rate", "900/s")
    assert run("--survey", "ztf", *options, "--to", str(tmp_path / "night")).exit_code == 0
    truths = [json.loads(line) for line in (tmp_path / "night.truth.jsonl").read_text().splitlines()]
    assert len(truths) > 12
    assert {t["class_name"] for t in truths} <= {"SN Ia", "TDE", "artefact", "solar system"}
    assert len(truths) == len(list((tmp_path / "night").iterdir()))
    for wrong in (("--mix", "snia=0.9,tde=0.2"), ("--mix", "nova=0.1"), ("--rate", "-3"), ("--cadence", "visits")):
        result = run("--survey", "ztf", *wrong, "--to", str(tmp_path / "other"))
        assert result.exit_code == 2, result.output


@pytest.mark.kafka
def test_kafka_gets_packets_times_and_truth(run: Callable[..., Any], kafka: Any) -> None:
    topic = f"simulated-{time.time_ns()}"
    result = run("--survey", "lsst", "--to", f"kafka:{topic}", "--brokers", kafka.bootstrap)
    assert result.exit_code == 0
    found = drained(kafka.bootstrap, topic)
    assert {(m.value(), m.timestamp()[1]) for m in found} == {
        (p.value, p.timestamp_ms) for p in simulate.night("lsst", 12, 9)
    }
    assert {m.key() for m in found} == {None}
    truths = [json.loads(m.value()) for m in drained(kafka.bootstrap, f"{topic}.truth")]
    assert {t["alert_id"] for t in truths} == {p.truth.alert_id for p in simulate.night("lsst", 12, 9)}


def drained(bootstrap: str, topic: str) -> list[Any]:
    """Return a topic's twelve messages, and whatever comes within a second after them."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": topic, "auto.offset.reset": "earliest",
                         "fetch.message.max.bytes": 10_000_000})  # fmt: skip
    consumer.subscribe([topic])
    found: list[Any] = []
    until = time.monotonic() + 20
    while time.monotonic() < until:
        message = consumer.poll(0.2)
        if message is not None and message.error() is None:
            found.append(message)
        if len(found) == 12:
            until = min(until, time.monotonic() + 1.0)
    consumer.close()
    return found
