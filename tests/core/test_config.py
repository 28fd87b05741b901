"""Settings: order of sources, wrong keys, secrets."""

from pathlib import Path

import pytest

from broker.core.config import load
from broker.core.errors import TocsinError


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "tocsin.toml"
    path.write_text(text)
    return path


def test_the_command_line_beats_the_environment_beats_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, '[kafka]\nbrokers = "file:1"\n[batch]\nmax_alerts = 7\n[output]\nprefix = "file"\n')
    monkeypatch.setenv("TOCSIN_KAFKA__BROKERS", "environment:2")
    monkeypatch.setenv("TOCSIN_OUTPUT__PREFIX", "environment")
    settings = load(path, {"output.prefix": "line", "batch.max_bytes": None})
    assert (settings.kafka.brokers, settings.batch.max_alerts, settings.output.prefix) == ("environment:2", 7, "line")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("[kafka]\nbroker = 'x'", "kafka.broker"),
        ("[nonsense]\n", "nonsense"),
        ("[batch]\nmax_alerts = 0", "batch.max_alerts"),
        ("[batch\n", "not TOML"),
    ],
)
def test_a_wrong_file_is_one_clear_error(tmp_path: Path, text: str, names: str) -> None:
    with pytest.raises(TocsinError, match=names):
        load(write(tmp_path, text))


def test_a_missing_file_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(TocsinError, match="cannot read the configuration"):
        load(tmp_path / "none.toml")


def test_a_wrong_override_is_an_error_too(tmp_path: Path) -> None:
    with pytest.raises(TocsinError):
        load(None, {"batch.max_alerts": -1})


def test_secrets_are_masked_and_reach_librdkafka(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOCSIN_KAFKA__PASSWORD", "hunter2")
    monkeypatch.setenv("TOCSIN_KAFKA__USERNAME", "reader")
    settings = load()
    assert "hunter2" not in settings.model_dump_json() + repr(settings)
    client = settings.kafka.librdkafka({"KAFKA_FETCH_MIN_BYTES": "7", "KAFKA_HOME": "/opt"})
    assert client["sasl.password"] == "hunter2"
    assert client["fetch.min.bytes"] == "7"
    assert client["security.protocol"] == "SASL_PLAINTEXT"
    assert "home" not in client


def test_ready_made_configurations_are_valid() -> None:
    found = sorted((Path(__file__).parents[2] / "deploy" / "config").glob("*.toml"))
    assert [path.name for path in found] == ["demo.toml", "lsst.toml", "ztf.toml"]
    for path in found:
        load(path)
