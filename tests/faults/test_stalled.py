"""A service that reads and commits nothing is not ready, says why, and is ready again when it moves."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import pytest

from broker.archive import simulate
from broker.cli.kafkaserver import free_port
from tests.conftest import RealKafka

from .service import wait_until
from .test_real import RealService

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


class NotFound(BaseHTTPRequestHandler):
    """A schema registry that knows no schema."""

    def do_GET(self) -> None:
        body = b'{"error_code": 40403, "message": "Schema not found"}'
        self.send_response(404)
        self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def registry(port: int) -> Iterator[None]:
    server = HTTPServer(("127.0.0.1", port), NotFound)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield
    server.shutdown()
    thread.join()
    server.server_close()


def get(url: str) -> tuple[int, str]:
    try:
        with urlopen(url, timeout=5) as answer:
            return answer.status, answer.read().decode().strip()
    except HTTPError as error:
        with error:
            return error.code, error.read().decode().strip()
    except URLError:
        return 0, "not listening"


@pytest.fixture
def service(kafka: RealKafka, tmp_path: Path) -> Iterator[RealService]:
    made = RealService(kafka, tmp_path)
    yield made
    made.close()


def test_a_registry_that_is_away_makes_the_service_unready_and_its_return_mends_it(service: RealService) -> None:
    away, port = free_port(), free_port()
    service.environ |= {
        "TOCSIN_REGISTRY__SURVEY_URL": f"http://127.0.0.1:{away}",
        "TOCSIN_SERVE__PORT": str(port),
        "TOCSIN_SERVE__STALLED_AFTER_S": "2",
    }
    page = f"http://127.0.0.1:{port}"
    night = [p.value for p in simulate.night("ztf", 30, 3)]
    service.kafka.send(service.topic, night)
    service.start()
    service.wait_for(len(night), 300)
    assert get(f"{page}/readyz") == (200, "ready")
    service.kafka.send(service.topic, [b"\0\0\1\0\0a packet whose schema only the registry has"])
    wait_until(lambda: get(f"{page}/readyz")[0] == 503, "it to be unready")
    assert get(f"{page}/readyz")[1].startswith("stalled: 1 packets wait, and nothing was committed for ")
    assert get(f"{page}/healthz") == (200, "alive")
    with registry(away):
        service.wait_for(len(night) + 1)
        wait_until(lambda: get(f"{page}/readyz") == (200, "ready"), "it to be ready again")
    assert service.stop(signal.SIGTERM) == 0
