"""A simulated night, sent live through Kafka and the service, against its truth."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import RealKafka

pytestmark = [pytest.mark.kafka, pytest.mark.slow]
TOCSIN = str(Path(sys.executable).parent / "tocsin")


def test_a_live_night_is_judged_end_to_end(kafka: RealKafka, tmp_path: Path) -> None:
    topic, prefix = kafka.topic("night", 2), f"live-{time.time_ns()}"
    environment = {
        **os.environ, "TOCSIN_KAFKA__BROKERS": kafka.bootstrap, "TOCSIN_OUTPUT__PREFIX": prefix,
        "TOCSIN_SOURCE__GROUP": prefix, "TOCSIN_SERVE__PORT": "0",
    }  # fmt: skip

    def start(*arguments: str, out: int = subprocess.DEVNULL) -> subprocess.Popen[str]:
        command = [TOCSIN, *arguments]
        return subprocess.Popen(
            command, cwd=tmp_path, env=environment, text=True, stdout=out, stderr=subprocess.DEVNULL
        )

    def recall(*arguments: str) -> tuple[int, str]:
        process = start("recall", "kafka", "--truth", f"kafka:{topic}.truth", "--json", *arguments, out=subprocess.PIPE)
        out, _ = process.communicate(timeout=200)
        return process.returncode, out

    def judged(*arguments: str) -> dict[str, Any]:
        code, out = recall(*arguments)
        assert code == 0, out
        found: dict[str, Any] = json.loads(out)
        return found

    service = start("run", "--topic", topic)
    try:
        options = ("--survey", "ztf", "--objects", "120", "--nights", "2", "--poison", "0.05", "--bogus", "0.2")
        simulate = start("simulate", *options, "--live", "--rate", "40/s", "--to", f"kafka:{topic}")
        found = judged("--follow", "12")
        assert simulate.wait(1) == 0
    finally:
        service.send_signal(signal.SIGTERM)
        service.wait(60)
    coverage = found["coverage"]
    assert coverage["complete"] is True
    assert coverage["sent"] == coverage["annotated"] + coverage["filtered"] + coverage["poison"] > 120
    assert coverage["dead_lettered"] == coverage["poison"] > 0
    latency = found["latency"]
    assert latency["published"]["alerts"] == coverage["annotated"]
    for which in ("published", "arrived"):
        assert 0 < latency[which]["p50_s"] <= latency[which]["p99_s"] < 120
    later = judged()
    assert later["latency"]["published"] == latency["published"]
    assert {k: later[k] for k in ("coverage", "classes", "anomaly")} == {
        k: found[k] for k in ("coverage", "classes", "anomaly")
    }
    assert recall("--topics", "elsewhere") == (1, "")
