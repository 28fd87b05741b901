"""SCRAM and TLS on a real Kafka: who may come in does, with the ready-made files; who may not is told why, once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from broker.archive import simulate
from broker.cli.main import tocsin
from broker.cli.run import service
from broker.client import subscribe
from broker.core.config import load
from broker.core.errors import Stop, TocsinError
from broker.core.metrics import Recorded
from broker.core.topics import Topics
from broker.deliver.kafka import sink
from broker.deliver.raw import copy_to_kafka
from tests.faults.verifier import verify_kafka

from .apicurio import RealRegistry
from .guarded import PASSWORD, USER, GuardedKafka
from .serving import SURVEYS, in_files, no_models, packets, serving

pytestmark = pytest.mark.kafka

CONFIGS = Path(__file__).parents[2] / "deploy" / "config"
FAULTS: dict[str, tuple[str, dict[str, Any], str]] = {
    "wrong password": ("GOOD", {"password": "Passw0rd-wrong"}, r"refuses the login: .*invalid credentials"),
    "unknown user": ("GOOD", {"username": "nobody"}, r"refuses the login: .*invalid credentials"),
    "wrong mechanism": ("GOOD", {"mechanism": "SCRAM-SHA-256"}, r"refuses the login: .*SCRAM-SHA-512"),
    "wrong authority": ("GOOD", {"client": {"ssl.ca.location": "other"}}, r"not signed by an authority .*ssl\.ca\.loc"),
    "expired": ("EXPIRED", {}, r"the certificate of Kafka at 127\.0\.0\.1:\d+ has expired"),
    "other host": ("ELSEWHERE", {}, r"another host's: .*127\.0\.0\.1"),
    "no authority's file": (
        "GOOD",
        {"client": {"ssl.ca.location": "/none.pem"}},
        r"settings: .*ssl\.ca\.location failed",
    ),
}


def environment(guarded: GuardedKafka, listener: str = "GOOD", **more: Any) -> dict[str, str]:
    """Return the variables that send the ready-made files to the local server."""
    table = guarded.settings(listener, **more)
    if table["client"].get("ssl.ca.location") == "other":
        table["client"] = {"ssl.ca.location": str(guarded.other_ca)}
    text = {name: value if isinstance(value, str) else json.dumps(value) for name, value in table.items()}
    return {**{f"TOCSIN_KAFKA__{name.upper()}": value for name, value in text.items()}, **no_models()}


@pytest.fixture
def come(guarded: GuardedKafka, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Return what makes this process come as somebody, by a listener."""

    def come(listener: str = "GOOD", **more: Any) -> None:
        for name, value in environment(guarded, listener, **more).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("TOCSIN_RUN__CACHE_DIR", str(tmp_path))

    return come


@pytest.mark.parametrize("survey", SURVEYS)
def test_a_ready_made_file_lacks_the_password_only(survey: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOCSIN_KAFKA__PASSWORD", PASSWORD)
    settings = load(CONFIGS / f"{survey}.toml")
    client = settings.kafka.librdkafka({})
    assert client["sasl.password"] == PASSWORD
    assert (client["sasl.mechanism"], client["security.protocol"]) == ("SCRAM-SHA-512", "SASL_PLAINTEXT")
    assert "localhost" not in client["bootstrap.servers"]
    assert settings.source.topics
    assert settings.source.group.startswith(client["sasl.username"])


@pytest.mark.parametrize(("survey", "listener"), [("ztf", "NOTLS"), ("lsst", "GOOD")])
def test_the_service_runs_with_the_ready_made_file(
    guarded: GuardedKafka,
    registry: RealRegistry,
    come: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    survey: str,
    listener: str,
) -> None:
    come(listener)
    prefix, topic = f"{survey}-{listener.lower()}", f"night-{listener.lower()}"
    if survey == "lsst":
        monkeypatch.setenv("TOCSIN_REGISTRY__SURVEY_URL", registry.url)
    overrides = {"source.topics": [topic], "source.group": f"{USER}-{prefix}", "output.prefix": prefix}
    settings = load(CONFIGS / f"{survey}.toml", overrides)
    number = registry.register("alert-packet", simulate.schema("lsst").decode()) if survey == "lsst" else None
    values = in_files(packets(survey, 40, schema_id=number))
    assert copy_to_kafka(values, settings.kafka.librdkafka(), topic, partitions=2) == 40
    with serving(settings) as running:
        running.until(lambda: running.received == 40)
    assert verify_kafka(guarded.plain, [topic], prefix, SURVEYS).sound
    with subscribe(Topics(prefix).all(survey), from_="earliest", once=True) as alerts:
        assert {alert["source"]["topic"] for alert in alerts} == {topic}
    result = CliRunner().invoke(tocsin, ["ledger", "kafka", "--topics", prefix, "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert (found["received"], found["dead_lettered"]) == (40, {})


@pytest.mark.parametrize("fault", FAULTS)
def test_every_way_in_tells_what_is_wrong(
    come: Callable[..., None], fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sink, "CALL_S", 1.5)
    listener, more, text = FAULTS[fault]
    come(listener, **more)
    settings = load(None, {"source.topics": ["any"]})
    ways: dict[str, Callable[[], object]] = {
        "service": lambda: service(settings, Recorded(), threading.Event()),
        "client": lambda: list(subscribe("any", once=True)),
        "follower": lambda: next(iter(subscribe("any"))),
        "member": lambda: next(iter(subscribe("any", group=f"{USER}-x"))),
        "topics": lambda: invoke("topics", "create"),
        "ledger": lambda: invoke("ledger", "kafka"),
        "dlq": lambda: invoke("dlq", "list", "kafka"),
        "simulate": lambda: invoke("simulate", "--survey", "ztf", "--objects", "1", "--to", "kafka:x"),
        "replay": lambda: invoke("replay", str(packet(tmp_path)), "--raw", "--to", "kafka:x"),
    }
    for way in ways if fault == "expired" else ("service", "client"):
        with pytest.raises(TocsinError, match=text) as caught:
            ways[way]()
        assert "Passw0rd" not in str(caught.value) + repr(caught.value.__cause__), way
        if way == "service" and listener != "GOOD":
            assert isinstance(caught.value, Stop)


def invoke(*arguments: str) -> None:
    result = CliRunner().invoke(tocsin, arguments, catch_exceptions=False)
    pytest.fail(f"{arguments} came in: {result.output}")


def packet(folder: Path) -> Path:
    (one,) = simulate.night("ztf", 1, 3)
    (folder / "one.avro").write_bytes(one.value)
    return folder / "one.avro"


def test_the_process_ends_with_one_sentence_and_no_password(guarded: GuardedKafka, tmp_path: Path) -> None:
    secrets = ("Passw0rd-wrong", "k3y-phrase", "reg1stry")
    client = {"ssl.ca.location": str(guarded.ca), "ssl.key.password": secrets[1], "debug": "security,conf"}
    environ = {
        **os.environ,
        **environment(guarded, password=secrets[0], client=client),
        "TOCSIN_RUN__CACHE_DIR": str(tmp_path),
        "TOCSIN_RUN__LOG_LEVEL": "DEBUG",
        "TOCSIN_REGISTRY__SURVEY_URL": f"http://me:{secrets[2]}@127.0.0.1:9",
        "TOCSIN_REGISTRY__OUTPUT_URL": f"http://me:{secrets[2]}@127.0.0.1:9",
        "TOCSIN_SERVE__PORT": "0",
    }
    command = [str(Path(sys.executable).parent / "tocsin"), "run", "--config", str(CONFIGS / "lsst.toml")]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    said = [line for line in done.stderr.splitlines() if line.startswith("tocsin: ")]
    assert len(said) == 1, done.stderr
    assert "Kafka refuses the login" in said[0]
    assert "Traceback" not in done.stderr
    assert not [secret for secret in secrets if secret in done.stdout + done.stderr]
