"""The instruments, run small: what they say must be plausible. Speed is not tested here."""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np
import pytest

from broker.archive import simulate
from broker.cli import assemble
from broker.cli.bench import figures, processes
from broker.cli.bench.rig import settings
from broker.core import schemas
from broker.core.batch import PacketBatch
from broker.core.metrics import Recorded
from tests.bench import peers


def batch(packets: list[bytes]) -> PacketBatch:
    n = len(packets)
    return PacketBatch(packets, ["bench"] * n, np.zeros(n, np.int32), np.arange(n), np.full(n, 1), 0)


@pytest.fixture(scope="module")
def packets() -> dict[str, list[bytes]]:
    return {survey: [p.value for p in simulate.night(survey, 12, 5)] for survey in ("ztf", "lsst")}


@pytest.mark.parametrize("survey", ["ztf", "lsst"])
def test_the_plain_way_says_what_we_say(survey: str, packets: dict[str, list[bytes]]) -> None:
    pytest.importorskip("george")
    some = packets[survey] if survey == "ztf" else packets[survey][:3]
    ours = assemble.pipeline(settings(survey), Recorded())(batch(some))
    topic = f"tocsin.{survey}.all"
    expected = {r.row: schemas.decode(r.value, None, "annotation") for r in ours.records if r.topic == topic}
    make = peers.plain_of(survey)
    for row in range(len(some)):
        answers = make(batch(some).part(row, row + 1))
        assert [name for name, _, _ in answers[:1]] == [topic] * (row in expected)
        if answers:
            compare(schemas.decode(answers[0][2], None, "annotation"), expected[row])


def compare(theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    clock = {"brokerPublishTimestamp", "brokerIngestTimestamp", "source", "classifiers", "anomaly", "summary"}
    assert {k: v for k, v in theirs.items() if k not in clock} == {k: v for k, v in ours.items() if k not in clock}
    assert theirs["summary"]["nDetections"] == ours["summary"]["nDetections"]
    for mine, other in zip(ours["classifiers"], theirs["classifiers"], strict=False):
        assert mine["reason"] == other["reason"]
        for a, b in zip(mine["classifications"], other["classifications"], strict=True):
            assert a["probability"] == pytest.approx(b["probability"], abs=0.2)  # george stops at another optimum


def test_cpu_time_of_this_process_is_found_by_kind_of_thread() -> None:
    with processes.Watch({"me": os.getpid()}) as watch:
        began = time.time()
        while time.time() < began + 0.7:
            sum(range(10_000))
        ended = time.time()
    spent = watch.cpu_s("me", began, ended)
    assert 0.1 < spent["main"] < 1.2 * (ended - began)
    assert spent["main"] <= watch.cpu_s(processes.MACHINE, began, ended)["busy"] * 1.2
    assert 20 < watch.resident_mb("me", ended) < 20_000


def test_rates_count_what_was_committed_after_the_warm_up() -> None:
    commits = [(float(second), 100) for second in range(100, 121)]
    window = figures.after_warm_up(commits)
    assert window == (105.0, 120.0)
    assert figures.rate(commits, window) == {"alerts": 1500, "seconds": 15.0, "alerts_per_s": 100.0}
