"""A single-node Apache Kafka for development and tests: jars by Maven or ``KAFKA_HOME``, everything in one directory.

::

    CACHE/kafka/libs-<hash of pom.xml>/*.jar
    CACHE/kafka/<name>/{server.properties, data/, server.log, pid, .lock}
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from broker.core.errors import TocsinError

USUAL_PORT = 9092
JAVA_AT_LEAST = 17


@dataclass(frozen=True, slots=True)
class Status:
    """A server as it is now.

    Attributes
    ----------
    running : bool
    bootstrap : str
        ``host:port``; '' where it was never started.
    pid : int or None
    directory : Path
        Its data, properties and log.
    """

    running: bool
    bootstrap: str
    pid: int | None
    directory: Path

    @property
    def log(self) -> Path:
        """Where the server logs to."""
        return self.directory / "server.log"


def status(directory: Path) -> Status:
    """Return the state of the server in ``directory``."""
    pid = _pid(directory)
    return Status(pid is not None, _bootstrap(directory), pid, directory)


def up(
    directory: Path,
    libs: Path,
    *,
    port: int | None = None,
    heap: str = "768m",
    wait_s: float = 90.0,
    more: Mapping[str, str] | None = None,
) -> Status:
    """Start the server in ``directory`` unless it runs, and wait until it answers.

    Parameters
    ----------
    libs : Path
        Folder of the server's jars, see `jars`.
    port : int or None
        None: the port of last time, else 9092 where that is free, else any free one.
    more : mapping
        Server properties beside ours, or instead of them; ``${port}`` and ``${controller_port}`` are filled in.

    Raises
    ------
    TocsinError
        No Java 17, or the server did not answer in ``wait_s``; the text names the log.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with _locked(directory / ".lock"):
        if _pid(directory) is None:
            java = _java()
            _configure(directory, port, more or {})
            _format(java, libs, directory)
            _start(java, libs, directory, heap)
        found = status(directory)
        _wait_until_ready(found, wait_s)
    return status(directory)


def down(directory: Path, *, wait_s: float = 20.0) -> bool:
    """Stop the server in ``directory``; return whether one was running."""
    pid = _pid(directory)
    if pid is None:
        return False
    os.kill(pid, signal.SIGTERM)
    end = time.monotonic() + wait_s
    while _pid(directory) is not None:
        if time.monotonic() > end:
            os.kill(pid, signal.SIGKILL)
            end = time.monotonic() + wait_s
        time.sleep(0.1)
    (directory / "pid").unlink(missing_ok=True)
    return True


def jars(cache: Path) -> Path:
    """Return the folder of the server's jars: ``$KAFKA_HOME/libs``, or fetched once by Maven into ``cache``.

    Raises
    ------
    TocsinError
        Neither is possible; the text says what to install.
    """
    home = os.environ.get("KAFKA_HOME")
    if home:
        libs = Path(home) / "libs"
        if not list(libs.glob("kafka_*.jar")):
            raise TocsinError(f"KAFKA_HOME={home} has no libs/kafka_*.jar: it must be a binary distribution of Kafka")
        return libs
    pom = (files("broker") / "deploy" / "kafka" / "pom.xml").read_bytes()
    libs = cache / f"libs-{hashlib.sha256(pom).hexdigest()[:12]}"
    cache.mkdir(parents=True, exist_ok=True)
    with _locked(cache / ".lock"):
        if not libs.is_dir():
            _fetch(pom, libs)
    return libs


def _fetch(pom: bytes, libs: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise TocsinError(
            "Maven (mvn) is not installed: install it, or set KAFKA_HOME to a binary distribution of Kafka"
        )
    _java()
    with tempfile.TemporaryDirectory(dir=libs.parent) as folder:
        (Path(folder) / "pom.xml").write_bytes(pom)
        target = Path(folder) / "libs"
        command = [maven, "-q", "-B", "-f", f"{folder}/pom.xml", "dependency:copy-dependencies"]
        done = subprocess.run(
            [*command, f"-DoutputDirectory={target}", "-DincludeScope=runtime"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode != 0 or not list(target.glob("kafka_*.jar")):
            raise TocsinError(f"Maven could not fetch Kafka: {(done.stdout + done.stderr).strip()[-800:]}")
        target.rename(libs)


def _java() -> str:
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home) / "bin" / "java") if home else shutil.which("java")
    if java is None or not Path(java).exists():
        raise TocsinError("Java is not installed: Apache Kafka 4 needs Java 17 or newer")
    text = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "(\d+)', text)
    if found is None or int(found[1]) < JAVA_AT_LEAST:
        raise TocsinError(
            f"Apache Kafka 4 needs Java 17 or newer; {java} says: {text.splitlines()[0] if text else '-'}"
        )
    return java


def _configure(directory: Path, port: int | None, more: Mapping[str, str]) -> None:
    """Write server.properties, with the port of last time where it is still free."""
    before = _bootstrap(directory)
    wanted = [port] if port else [int(before.split(":")[1]) if before else USUAL_PORT, 0]
    chosen = next((found for found in map(_free_port, wanted) if found), None)
    if chosen is None:
        raise TocsinError(f"port {port} is taken: choose another with --port, or leave it out")
    controller = free_port()
    while controller == chosen:
        controller = free_port()
    template = (files("broker") / "deploy" / "kafka" / "server.properties").read_text()
    values = {"port": chosen, "controller_port": controller, "data": directory / "data"}
    lines = "".join(f"{key}={value}\n" for key, value in more.items())  # of two equal keys the later one counts
    (directory / "server.properties").write_text(Template(template + lines).substitute(values))


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _free_port(port: int) -> int | None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return None
        return int(probe.getsockname()[1])


def _format(java: str, libs: Path, directory: Path) -> None:
    if (directory / "data" / "meta.properties").exists():
        return
    cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "A")
    command = [*_jvm(java, libs, "256m"), "kafka.tools.StorageTool", "format", "-t", cluster]
    done = subprocess.run(
        [*command, "-c", str(directory / "server.properties")], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise TocsinError(f"Kafka could not format {directory / 'data'}: {(done.stdout + done.stderr).strip()[-800:]}")


def _start(java: str, libs: Path, directory: Path, heap: str) -> None:
    """Start the server in a session of its own: it outlives this process and its terminal."""
    command = [*_jvm(java, libs, heap), "kafka.Kafka", str(directory / "server.properties")]
    log = str(directory / "server.log")
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    pid = os.posix_spawn(java, command, os.environ, file_actions=actions, setsid=True)
    (directory / "pid").write_text(str(pid))


def _jvm(java: str, libs: Path, heap: str) -> list[str]:
    quiet = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
    stamps = "-Dorg.slf4j.simpleLogger.showDateTime=true"
    # Messages are in the page cache, not on the heap: the simplest collector leaves the cores to the broker.
    return [java, f"-Xmx{heap}", "-XX:+UseSerialGC", "-XX:-UsePerfData", quiet, stamps, "-cp", f"{libs}/*"]


def _wait_until_ready(server: Status, wait_s: float) -> None:
    end = time.monotonic() + wait_s
    host, port = server.bootstrap.split(":")
    while time.monotonic() < end and _exists(server.directory):
        with socket.socket() as probe:
            probe.settimeout(1.0)
            if probe.connect_ex((host, int(port))) == 0 and _answers(server.bootstrap):
                return
        time.sleep(0.1)
    raise TocsinError(f"Kafka did not come up; the end of {server.log}:\n{_tail(server.log)}")


def _answers(bootstrap: str) -> bool:
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0, "error_cb": lambda _error: None})
    try:
        return bool(admin.list_topics(timeout=5).brokers)
    except KafkaException:
        return False


def _tail(path: Path) -> str:
    return "\n".join(path.read_text(errors="replace").splitlines()[-15:]) if path.exists() else "(no log)"


def _pid(directory: Path) -> int | None:
    """Return the process id of the server in ``directory``, None where that process is not it any more."""
    try:
        pid = int((directory / "pid").read_text())
    except (OSError, ValueError):
        return None
    _reap(pid)
    shown = subprocess.run(
        ["ps", "-ww", "-p", str(pid), "-o", "command="], capture_output=True, text=True, check=False
    ).stdout
    return pid if str(directory / "server.properties") in shown else None


def _exists(directory: Path) -> bool:
    """Tell whether the process that was started last still is; a very young one does not show its command yet."""
    pid = int((directory / "pid").read_text())
    _reap(pid)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _reap(pid: int) -> None:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return


def _bootstrap(directory: Path) -> str:
    properties = directory / "server.properties"
    if not properties.exists():
        return ""
    found = re.search(r"^advertised\.listeners=PLAINTEXT://(\S+)$", properties.read_text(), re.MULTILINE)
    return found[1] if found else ""


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("ab") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
