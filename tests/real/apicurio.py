"""A real schema registry: Apicurio with Confluent's API, fetched once by Maven into the user's cache."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from broker.cli import kafkaserver
from broker.core.errors import TocsinError

VERSION = "2.6.13.Final"
ARTIFACT = f"io.apicurio:apicurio-registry-app:{VERSION}:tar.gz:all"
UNPACK = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:unpack"
API = "/apis/ccompat/v7"


class RealRegistry:
    """A registry on a port of its own, whose ids outlive its process."""

    def __init__(self, home: Path, directory: Path) -> None:
        self._home, self._directory, self.port = home, directory, kafkaserver.free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return self.at(self.port)

    def at(self, port: int) -> str:
        """Return the address of the API behind another port, a proxy's."""
        return f"http://127.0.0.1:{port}{API}"

    def up(self, wait_s: float = 60.0) -> None:
        if self._process is not None:
            return
        options = {"quarkus.http.port": self.port, "quarkus.http.host": "127.0.0.1", "quarkus.log.level": "WARN"}
        options["quarkus.datasource.jdbc.url"] = f"jdbc:h2:file:{self._directory}/registry"
        command = ["java", "-Xmx256m", "-XX:+UseSerialGC", *(f"-D{key}={value}" for key, value in options.items())]
        with (self._directory / "log").open("ab") as log:
            jar = self._home / f"apicurio-registry-app-{VERSION}-runner.jar"
            self._process = subprocess.Popen([*command, "-jar", str(jar)], stdout=log, stderr=log)
        end = time.monotonic() + wait_s
        while not self._answers():
            assert self._process.poll() is None, (self._directory / "log").read_text()[-2000:]
            assert time.monotonic() < end, "the registry does not come up"
            time.sleep(0.1)

    def down(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()
            self._process.wait(30)
            self._process = None

    def pause(self) -> None:
        """Stop answering; connections are still taken."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def register(self, subject: str, schema: str, references: list[dict[str, Any]] | None = None) -> int:
        body = {"schema": schema, **({"references": references} if references else {})}
        return int(self.ask(f"/subjects/{subject}/versions", body)["id"])

    def put(self, path: str, body: dict[str, Any]) -> Any:
        return self.ask(path, body, "PUT")

    def ask(self, path: str, body: dict[str, Any] | None = None, method: str | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.load(answer)

    def _answers(self) -> bool:
        try:
            return isinstance(self.ask("/subjects"), list)
        except OSError:
            return False


def fetched(cache: Path) -> Path:
    """Return the folder of the registry's jars, fetched at the first call (142 MB).

    Raises
    ------
    TocsinError
        Java 17 or Maven is missing, or Maven could not fetch it.
    """
    home = cache / f"apicurio-{VERSION}"
    kafkaserver._java()
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / ".apicurio.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not home.is_dir():
            _fetch(home)
    return home


def _fetch(home: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise TocsinError("Maven (mvn) is not installed")
    with tempfile.TemporaryDirectory(dir=home.parent) as folder:
        target = Path(folder) / "unpacked"
        command = [maven, "-q", "-B", UNPACK, f"-Dartifact={ARTIFACT}", f"-DoutputDirectory={target}"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode or not list(target.glob("*-runner.jar")):
            raise TocsinError(f"Maven could not fetch the registry: {(done.stdout + done.stderr).strip()[-800:]}")
        os.rename(target, home)
