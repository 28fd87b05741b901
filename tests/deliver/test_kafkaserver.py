"""`tocsin kafka`: it starts, says where it is, and says what is missing."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest
from click.testing import CliRunner

from broker.cli import kafkaserver
from broker.cli.kafka import kafka as command
from broker.core.errors import TocsinError
from tests.conftest import RealKafka


@pytest.mark.kafka
def test_up_is_idempotent_and_status_tells(kafka: RealKafka) -> None:
    before = kafkaserver.status(kafka.directory)
    result = CliRunner().invoke(command, ["up", "--directory", str(kafka.directory), "--json"])
    assert result.exit_code == 0
    shown = json.loads(result.stdout)
    assert (shown["pid"], shown["bootstrap"], shown["running"]) == (before.pid, before.bootstrap, True)
    result = CliRunner().invoke(command, ["status", "--directory", str(kafka.directory)])
    assert f"running at {before.bootstrap}" in result.output


@pytest.mark.kafka
def test_kafka_home_is_taken(kafka: RealKafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_HOME", str(tmp_path))
    with pytest.raises(TocsinError, match="must be a binary distribution"):
        kafkaserver.jars(tmp_path / "cache")
    (tmp_path / "libs").symlink_to(kafka.libs)
    assert kafkaserver.jars(tmp_path / "cache") == tmp_path / "libs"


def test_an_instance_that_was_never_started_is_not_running(tmp_path: Path) -> None:
    found = kafkaserver.status(tmp_path)
    assert (found.running, found.pid, found.bootstrap) == (False, None, "")
    assert not kafkaserver.down(tmp_path)
    (tmp_path / "pid").write_text(str(os.getpid()))
    assert kafkaserver.status(tmp_path).pid is None, "another process has that number now"


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.delenv("KAFKA_HOME", raising=False)
    with pytest.raises(TocsinError, match=r"Maven \(mvn\) is not installed: install it, or set KAFKA_HOME"):
        kafkaserver.jars(tmp_path / "cache")
    with pytest.raises(TocsinError, match="Java is not installed: Apache Kafka 4 needs Java 17"):
        kafkaserver.up(tmp_path / "server", tmp_path)
    java = tmp_path / "java"
    java.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\" 2019-01-15' >&2\n")
    java.chmod(0o755)
    with pytest.raises(TocsinError, match=r"needs Java 17 or newer; .*11\.0\.2"):
        kafkaserver.up(tmp_path / "server", tmp_path)


@pytest.mark.kafka
def test_a_port_that_is_taken_is_named(kafka: RealKafka, tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(TocsinError, match=f"port {port} is taken"):
            kafkaserver.up(tmp_path, kafka.libs, port=port)
