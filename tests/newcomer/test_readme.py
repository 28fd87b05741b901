"""The README's blocks, run as they stand."""

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests.conftest import RealKafka

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
pytestmark = [pytest.mark.slow, pytest.mark.kafka]


def blocks(language: str) -> dict[str, str]:
    found = re.findall(rf"```{language}\n# test: (\w+)\n(.*?)```", README, flags=re.DOTALL)
    return dict(found)


@pytest.fixture(scope="module")
def place(kafka: RealKafka, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A folder and an environment in which the README's commands meet the tests' Kafka."""
    folder = tmp_path_factory.mktemp("readme")
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "TOCSIN_KAFKA__BROKERS": kafka.bootstrap,
        "TOCSIN_OUTPUT__PREFIX": "tocsin",
        "TOCSIN_SERVE__PORT": "18080",
    }
    return folder, environment


def shell(script: str, place: tuple[Path, dict[str, str]]) -> str:
    folder, environment = place
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_run_then_ledger_then_subscribe(place: tuple[Path, dict[str, str]]) -> None:
    lines = [line for line in blocks("bash")["run"].splitlines() if not line.startswith("tocsin kafka up")]
    prepare, service = lines[:-1], lines[-1].split("#")[0]
    shell("\n".join(prepare), place)
    folder, environment = place
    with subprocess.Popen(
        ["bash", "-c", f"exec {service}"], cwd=folder, env=environment, stderr=subprocess.PIPE
    ) as run:
        wait_for_alerts(500)
        run.send_signal(signal.SIGTERM)
        _, errors = run.communicate(timeout=60)
    assert run.returncode == 0, errors
    ledger = shell(blocks("bash")["ledger"], place)
    assert "balanced" in ledger
    assert "NOT BALANCED" not in ledger
    shown = shell(blocks("bash")["subscribe"], place)
    assert len(shown.splitlines()) == 3
    python = subprocess.run(
        [sys.executable, "-c", blocks("python")["subscribe"]],
        cwd=folder, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert python.stdout.startswith("ZTF")


def wait_for_alerts(n: int) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen("http://127.0.0.1:18080/metrics", timeout=2) as answer:
                found = re.search(r"^alerts_received_total ([\d.]+)$", answer.read().decode(), flags=re.MULTILINE)
        except OSError:
            found = None
        if found and float(found[1]) >= n:
            return
        time.sleep(0.5)
    pytest.fail(f"the service did not commit {n} alerts in two minutes")


def test_replay(place: tuple[Path, dict[str, str]]) -> None:
    shell(blocks("bash")["replay"], place)
    assert list((place[0] / "result" / "annotations").glob("*.avro"))


def test_judge(place: tuple[Path, dict[str, str]]) -> None:
    shell(f"[ -d night ] || tocsin simulate --survey ztf --objects 50 --to night/\n{blocks('bash')['judge']}", place)
    assert (place[0] / "moved.svg").stat().st_size
