"""The README's blocks, run as they stand."""

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pyarrow.parquet as pq
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
    serve(service, place, 500)
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


def test_redshifts_of_hosts(place: tuple[Path, dict[str, str]]) -> None:
    simulate, stream, sidecar, subscribe, ledger = blocks("bash")["hosts"].splitlines()
    shell(simulate, place)
    serve(stream.split("#")[0], place, 300)
    hosts = shell("tocsin subscribe survey.catalog --json --from earliest --once", place).splitlines()
    serve(sidecar.split("#")[0].replace("8081", "18080"), place, len(hosts))
    shown = shell(subscribe, place).splitlines()
    assert len(shown) == len(hosts)
    assert sum("redshift" in line and "±" in line for line in shown) > 0.8 * len(hosts) > 20
    assert "\nbalanced" in shell(ledger, place)


def serve(command: str, place: tuple[Path, dict[str, str]], packets: int) -> None:
    """Run a service until it has committed ``packets``; it must end cleanly."""
    folder, environment = place
    line = ["bash", "-c", f"exec env {command}"]
    with subprocess.Popen(line, cwd=folder, env=environment, stderr=subprocess.PIPE) as run:
        wait_for_alerts(packets)
        run.send_signal(signal.SIGTERM)
        _, errors = run.communicate(timeout=60)
    assert run.returncode == 0, errors


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


def test_catalogue(place: tuple[Path, dict[str, str]]) -> None:
    shown = shell(blocks("bash")["catalogue"], place)
    assert "pz-mdn" in shown
    assert "NOT BALANCED" not in shown
    table = pq.read_table(place[0] / "redshifts" / "results").to_pydict()
    assert table["id"] == ["A", "B"]
    assert all(0 < redshift < 3 for redshift in table["redshift"])


def test_redshifts_of_hosts_of_an_archived_night(place: tuple[Path, dict[str, str]]) -> None:
    shell(f"[ -d night ] || tocsin simulate --survey ztf --objects 50 --to night/\n{blocks('bash')['archived']}", place)
    assert list((place[0] / "hosts" / "redshifts" / "results").glob("*.parquet"))


def test_judge(place: tuple[Path, dict[str, str]]) -> None:
    shell(f"[ -d night ] || tocsin simulate --survey ztf --objects 50 --to night/\n{blocks('bash')['judge']}", place)
    assert (place[0] / "moved.svg").stat().st_size
