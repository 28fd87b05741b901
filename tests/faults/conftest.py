"""A Kafka of our own to be mistreated, ways into it, a service on it, and the table of recovery times."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from broker.cli.kafkaserver import free_port
from tests.conftest import RealKafka, real_kafka

from .clock import Clock
from .proxy import Proxy
from .service import Service, peaks, recoveries

USER, PASSWORD = "few-rights", "secret"


@pytest.fixture(scope="session")
def ports() -> dict[str, int]:
    """Return the ports of the listeners: behind a proxy, of the proxy, and for a user with a login."""
    return {name: free_port() for name in ("hidden", "proxy", "login")}


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory, ports: dict[str, int]) -> Iterator[RealKafka]:
    """Start a real Kafka that tells those who come through the proxy to stay there, and that has a user to refuse."""
    login = f'org.apache.kafka.common.security.plain.PlainLoginModule required user_{USER}="{PASSWORD}";'
    named = "PLAINTEXT://127.0.0.1:${port},LOGIN://127.0.0.1:" + str(ports["login"]) + ",PROXIED://127.0.0.1:"
    more = {
        "listeners": f"{named}{ports['hidden']},CONTROLLER://127.0.0.1:${{controller_port}}",
        "advertised.listeners": f"{named}{ports['proxy']}",
        "listener.security.protocol.map": (
            "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,PROXIED:PLAINTEXT,LOGIN:SASL_PLAINTEXT"
        ),
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.login.plain.sasl.jaas.config": login,
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
    }
    with real_kafka(tmp_path_factory.mktemp("kafka"), more) as running:
        yield running


@pytest.fixture
def proxy(ports: dict[str, int]) -> Iterator[Proxy]:
    made = Proxy(ports["hidden"], ports["proxy"])
    yield made
    made.close()


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    return Clock(tmp_path)


@pytest.fixture
def service(kafka: RealKafka, tmp_path: Path) -> Iterator[Service]:
    made = Service(kafka, tmp_path)
    yield made
    made.close()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print how long the service took to deliver again after each fault."""
    if not recoveries:
        return
    terminalreporter.section("recovery: seconds from the end of the fault to the next commit")
    faults = dict.fromkeys(fault for fault, _ in recoveries)
    for fault in faults:
        times = sorted(seconds for name, seconds in recoveries if name == fault)
        middle, worst = times[len(times) // 2], times[-1]
        terminalreporter.write_line(f"{fault:<58} {len(times):>4} times  median {middle:6.2f}  longest {worst:6.2f}")
    for bound, peak in sorted(peaks.items()):
        terminalreporter.write_line(f"largest resident set of a member: {peak:.0f} MB of {bound:.0f}")
