"""Passwords and logins are told to nobody: not by config show, logs, metrics, health pages or errors."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from click.testing import CliRunner

from broker.cli import kafkaserver
from broker.cli.main import tocsin
from broker.core.errors import TocsinError, Wait
from broker.core.registry import RegistryApi, split_login

from .guarded import PASSWORD, GuardedKafka
from .serving import no_models, packets

SECRET = "hunter2"


@pytest.mark.parametrize("login", ["me:%s", "me:a@%s", "me:a/%s", "me:%s@b:c/d", "%s:", "%s", "me:%%40%s"])
def test_a_login_with_any_letters_is_masked(login: str, tmp_path: Path) -> None:
    url = f"http://{login % SECRET}@127.0.0.1:9/api"
    assert split_login(url)[0] == "http://127.0.0.1:9/api"
    file = tmp_path / "a.toml"
    file.write_text(f'[registry]\nsurvey_url = "{url}"\noutput_url = "{url}"\n')
    shown = CliRunner().invoke(tocsin, ["config", "show", "--config", str(file)])
    assert shown.exit_code == 0
    assert SECRET not in shown.output
    with pytest.raises(Wait, match=r"http://127\.0\.0\.1:9/api is away") as caught:
        RegistryApi(url, timeout_s=0.5).ask("/subjects")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        '[kafka]\npassword = ["{}"]',
        '[kafka]\npasswort = "{}"',
        '[kafka]\nclient = "{}"',
        '[kafka]\npassword = "{}"\nprotocol = 7',
        '[kafka]\npassword = "{}',
        '[registry]\nsurvey_url = "me:{}@host"\nnonsense = 1',
    ],
)
def test_a_wrong_configuration_is_told_without_its_values(text: str, tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text(text.format(SECRET))
    with pytest.raises(TocsinError) as caught:
        CliRunner().invoke(tocsin, ["config", "check", "--config", str(file)], catch_exceptions=False)
    assert SECRET not in str(caught.value)


@pytest.mark.kafka
def test_a_service_in_trouble_tells_no_secret(guarded: GuardedKafka, tmp_path: Path) -> None:
    """With the most talkative log, and a registry that is away: standard error and every page."""
    from confluent_kafka.admin import NewTopic

    from broker.deliver.raw import copy_to_kafka
    from tests.real.serving import in_files

    port, login = kafkaserver.free_port(), "me:reg1stry-login"
    table = guarded.settings()
    environ = {
        **os.environ,
        **no_models(),
        "TOCSIN_KAFKA__BROKERS": table["brokers"],
        "TOCSIN_KAFKA__USERNAME": table["username"],
        "TOCSIN_KAFKA__PASSWORD": table["password"],
        "TOCSIN_KAFKA__PROTOCOL": table["protocol"],
        "TOCSIN_KAFKA__CLIENT": json.dumps({**table["client"], "debug": "security,conf,broker", "log_level": 7}),
        "TOCSIN_REGISTRY__SURVEY_URL": f"http://{login}@127.0.0.1:9",
        "TOCSIN_RUN__CACHE_DIR": str(tmp_path),
        "TOCSIN_RUN__LOG_LEVEL": "DEBUG",
        "TOCSIN_RUN__DRAIN_S": "1",
        "TOCSIN_SERVE__PORT": str(port),
    }
    admin = guarded.admin
    for future in admin.create_topics([NewTopic("secrets", 1)]).values():
        future.result()
    copy_to_kafka(in_files(packets("lsst", 1)), {"bootstrap.servers": guarded.plain}, "secrets")
    log = tmp_path / "log"
    with log.open("wb") as out:
        command = [str(Path(sys.executable).parent / "tocsin"), "run", "--topic", "secrets", "--group", "s"]
        process = subprocess.Popen([*command, "--prefix", "secrets-out"], env=environ, stdout=out, stderr=out)
        try:
            pages = until_it_waits(process, port)
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0, log.read_text()[-2000:]
    said = log.read_text()
    assert "the schema registry at http://127.0.0.1:9 is away" in said
    assert "sasl" in said, "librdkafka talked"
    for secret in (PASSWORD, login.partition(":")[2]):
        assert secret not in said
        assert secret not in pages


def until_it_waits(process: subprocess.Popen[bytes], port: int) -> str:
    """Return all pages of the service once it waits for the registry."""
    end = time.monotonic() + 90
    while True:
        assert process.poll() is None
        assert time.monotonic() < end, "it does not get to the registry"
        pages = "".join(page(port, name) for name in ("metrics", "healthz", "readyz", "nothing"))
        if re.search(r'waits_total\{what="step"\} [1-9]', pages):
            return pages
        time.sleep(0.3)


def page(port: int, name: str) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{name}", timeout=5) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        with error:
            return error.read().decode()
    except OSError:
        return ""
