"""Real servers beside the real Kafka: a schema registry, and a Kafka that asks for a password."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from broker.cli import kafkaserver
from broker.core.config import load
from broker.core.errors import TocsinError

from .apicurio import RealRegistry, fetched
from .guarded import GuardedKafka, start


def there(get: Callable[[Path], Path]) -> Path:
    """Return what is fetched once into the user's cache; skip where it cannot be (TOCSIN_REQUIRE_KAFKA=1: fail)."""
    try:
        return get(load().run.cache_dir / "kafka")
    except TocsinError as error:
        if os.environ.get("TOCSIN_REQUIRE_KAFKA") == "1":
            raise
        pytest.skip(f"no real server: {error}")


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    """Start a real schema registry."""
    server = RealRegistry(there(fetched), tmp_path_factory.mktemp("registry"))
    server.up()
    yield server
    server.down()


@pytest.fixture(scope="session")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardedKafka]:
    """Start a Kafka that asks for a password."""
    directory = tmp_path_factory.mktemp("guarded")
    server = start(directory, there(kafkaserver.jars))
    yield server
    kafkaserver.down(directory)
