"""`tocsin dlq retry` on the result of a replay, with the real pipeline: a schema that was missing is installed."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from broker.archive import simulate
from broker.cli.main import tocsin
from broker.core.batch import FilePacket
from broker.deliver.raw import copy_to_directory
from tests.faults.verifier import verify_directory

PACKETS = 5


def call(*arguments: str) -> str:
    result = CliRunner().invoke(tocsin, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_a_retry_into_parquet_adds_parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOCSIN_RUN__CACHE_DIR", str(tmp_path / "cache"))
    night, out = tmp_path / "night", tmp_path / "out"
    packets = [FilePacket(s, n, p.value) for s in ("ztf", "lsst") for n, p in enumerate(simulate.night(s, 3, 3))]
    assert copy_to_directory(packets, night) == 6
    call("replay", str(night), "--to", str(out), "--format", "parquet")
    simulate.install_schema(tmp_path / "cache" / "schemas")
    assert "3 dead letters retried" in call("dlq", "retry", str(out))
    assert {path.suffix for path in (out / "annotations").iterdir()} == {".parquet"}
    assert len(pytest.importorskip("pandas").read_parquet(out / "annotations")) == 6
    assert "balanced" in call("ledger", str(out), "--verify-source")


def test_a_schema_that_was_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOCSIN_RUN__CACHE_DIR", str(tmp_path / "cache"))
    night, out = tmp_path / "night", tmp_path / "out"
    packets = [FilePacket("made", n, p.value) for n, p in enumerate(simulate.night("lsst", PACKETS, 3))]
    copy_to_directory(packets, night)
    inputs = [(str(path), 0, 0) for path in sorted(night.iterdir())]
    assert f"dead-lettered: unknown_schema {PACKETS:>10}" in call("replay", str(night), "--to", str(out))
    assert f"{PACKETS} dead letters retried: {PACKETS} dead again" in call("dlq", "retry", str(out))
    simulate.install_schema(tmp_path / "cache" / "schemas")
    assert "2 dead letters retried" in call("dlq", "retry", str(out), "--number", "1-2")
    report = verify_directory(out, inputs)
    assert report.sound, str(report)
    assert report.ended["dead_lettered"] == PACKETS - 2
    assert "3 dead letters retried" in call("dlq", "retry", str(out))
    assert "0 dead letters retried" in call("dlq", "retry", str(out))
    report = verify_directory(out, inputs)
    assert report.sound, str(report)
    assert report.ended["dead_lettered"] == 0
    assert "balanced" in call("ledger", str(out), "--verify-source")
