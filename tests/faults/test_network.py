"""A network that stalls, drops, delays, throttles, resets and cuts, between the service and Kafka."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import RealKafka

from .proxy import CLEAR, Kind, Proxy, Weather
from .service import FULL, Service

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

STORM_S = 180.0 if FULL else 10.0
LONG_S = 8.0


@pytest.fixture
def behind(kafka: RealKafka, proxy: Proxy, tmp_path: Path) -> Iterator[Service]:
    """A service that knows Kafka only through the proxy."""
    through = {"bootstrap.servers": f"127.0.0.1:{proxy.port}", "transaction.timeout.ms": 5000}
    service = Service(kafka, tmp_path, more=through)
    yield service
    proxy.set(CLEAR)
    service.close()


def test_a_storm(behind: Service, proxy: Proxy) -> None:
    members = [behind.start(name, pause_s=0.01, batch=20) for name in ("one", "two")]
    with behind.feeding():
        for member in members:
            member.wait_for_batches(2)
        proxy.storm(5, STORM_S)
        behind.recovered("a storm of the network", time.monotonic(), *members)
    behind.finish(*members)
    behind.judge()
    assert {weather.kind for weather in proxy.seen} > {"clear", "drop"}


@pytest.mark.parametrize("kind", ["stall", "drop", "truncate", "reset"] if FULL else ["drop"])
def test_for_longer_than_session_and_transaction(behind: Service, proxy: Proxy, kind: Kind) -> None:
    """Requests arrive and answers do not: what the service asked for, a commit too, may be done or not."""
    members = [behind.start(name, pause_s=0.01, batch=20) for name in ("one", "two")]
    with behind.feeding():
        for member in members:
            member.wait_for_batches(5)
        proxy.set(Weather(kind, "back"))
        time.sleep(LONG_S)
        proxy.set(CLEAR)
        behind.recovered(f"no answers for {LONG_S:.0f} s ({kind})", time.monotonic(), *members)
    behind.finish(*members)
    behind.judge()
