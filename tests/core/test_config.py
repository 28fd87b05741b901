"""Settings: order of sources, wrong keys, secrets."""

import json
from pathlib import Path

import pytest

from broker.core.config import load, masked
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


def test_an_explicit_address_beats_kafka_variables(tmp_path: Path) -> None:
    environ = {"KAFKA_BOOTSTRAP_SERVERS": "production:1", "KAFKA_LOG4J_OPTS": "x", "KAFKA_JMX_PORT": "7"}
    assert load().kafka.librdkafka(environ) == {"bootstrap.servers": "production:1"}
    assert load(None, {"kafka.brokers": "test:2"}).kafka.librdkafka(environ)["bootstrap.servers"] == "test:2"
    in_file = load(write(tmp_path, '[kafka]\nbrokers = "file:3"\n'), {"output.prefix": "x"})
    assert in_file.kafka.librdkafka(environ)["bootstrap.servers"] == "file:3"


def test_settings_by_survey_keep_the_other_surveys_defaults(tmp_path: Path) -> None:
    path = write(tmp_path, '[score]\nclassifiers = { lsst = ["mine"] }\n[cuts]\nmin_real_bogus = { lsst = 0.5 }\n')
    settings = load(path)
    assert settings.score.classifiers == {"ztf": ["ztf-gru", "ztf-transformer"], "lsst": ["mine"]}
    assert settings.score.anomaly == {"ztf": "ztf-anomaly", "lsst": "lsst-anomaly"}
    assert settings.cuts.min_real_bogus == {"ztf": 0.3, "lsst": 0.5}


def test_show_masks_every_secret(tmp_path: Path) -> None:
    text = """
[kafka]
password = "hunter1"
client = { "sasl.password" = "hunter2", "ssl.key.pem" = "hunter3", "client.id" = "me" }
[registry]
survey_url = "https://user:hunter4@registry"
password = "hunter5"
"""
    shown = json.dumps(masked(load(write(tmp_path, text))))
    assert "hunter" not in shown
    assert "me" in shown
    assert "@registry" in shown


def test_a_variable_that_cannot_be_read_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOCSIN_KAFKA__CLIENT", "{nonsense")
    with pytest.raises(TocsinError, match="cannot be read"):
        load()
