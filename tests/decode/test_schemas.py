"""Wire ids: registry, disk cache, package; what is unknown is dead, what is away is waited for."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fastavro
import pytest

from broker.core.errors import TocsinError, Wait
from broker.core.reasons import Dead
from broker.decode import Decoder, Limits, Registry, Reject, SchemaStore
from broker.decode.schemas import DiskCache, inline, installed, installed_ids
from tests.decode import samples
from tests.decode.oracle import batch, container, wire

TEXT = json.dumps(samples.LSST_JSON)


@dataclass
class Server:
    """A registry that a test tells what to answer."""

    url: str = ""
    answers: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    def has(self, schema_id: int, **answer: Any) -> None:
        self.answers[f"/schemas/ids/{schema_id}"] = (200, json.dumps(answer or {"schema": TEXT}).encode())


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked.append(self.path)
            state.headers.append(dict(self.headers))
            status, body = state.answers.get(self.path, (404, b'{"error_code": 40403}'))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    state.url = f"http://127.0.0.1:{http.server_address[1]}/api/"
    state.answers = {}
    yield state
    http.shutdown()
    thread.join()
    http.server_close()


def registry(server: Server) -> Registry:
    """The registry, below the path of its API."""
    server.answers = {f"/api{path}": answer for path, answer in server.answers.items()}
    return Registry(server.url, timeout_s=2.0)


def away() -> Registry:
    return Registry("http://127.0.0.1:9", timeout_s=0.5)


PACKET = wire(7, samples.LSST, samples.lsst())


def test_each_id_is_asked_for_once(server: Server) -> None:
    server.has(7)
    decoder = Decoder(SchemaStore(registry(server)))
    for _ in range(3):
        (found,), dead = decoder(batch([PACKET] * 20))
        assert len(found.alerts) == 20
        assert dead == []
    assert server.asked == ["/api/schemas/ids/7"]


def test_unknown_id_is_dead_and_asked_for_again_after_a_while(server: Server) -> None:
    now = [100.0]
    decoder = Decoder(SchemaStore(registry(server), clock=lambda: now[0]))
    unknown = b"\0\0\0\0\x08" + PACKET[5:]
    for _ in range(3):
        decoded, dead = decoder(batch([unknown, unknown]))
        assert decoded == []
        assert [letter.reason for letter in dead] == [Dead.UNKNOWN_SCHEMA] * 2
        assert "does not have id 8" in dead[0].text
    assert len(server.asked) == 1
    now[0] += 31
    server.has(8)
    registry(server)
    assert decoder(batch([unknown]))[1] == []


@pytest.mark.parametrize("status", [500, 503, 429, 401, 403, 404])  # 404 in nobody's words: no registry
def test_a_registry_in_trouble_is_waited_for(server: Server, status: int) -> None:
    server.answers["/schemas/ids/7"] = (status, b"")
    store = SchemaStore(registry(server))
    with pytest.raises(Wait, match=str(status)):
        Decoder(store)(batch([PACKET]))
    server.answers["/api/schemas/ids/7"] = (200, json.dumps({"schema": TEXT}).encode())
    assert Decoder(store)(batch([PACKET]))[1] == []


def test_a_registry_that_is_away_is_waited_for_and_says_so() -> None:
    with pytest.raises(Wait, match=r"127\.0\.0\.1:9 is away"):
        Decoder(SchemaStore(away()))(batch([PACKET, container(samples.ZTF, samples.ztf())]))


def test_no_wait_without_wire_packets() -> None:
    (found,), dead = Decoder(SchemaStore(away()))(batch([container(samples.ZTF, samples.ztf())]))
    assert len(found.alerts) == 1
    assert dead == []


def test_the_disk_cache_is_filled_by_the_registry_and_helps_while_it_is_away(server: Server, tmp_path: Path) -> None:
    server.has(7)
    folder = tmp_path / "deep" / "schemas"
    SchemaStore(registry(server), folder).get(7)
    assert DiskCache(folder / Registry(server.url).folder).ids() == [7]
    server.answers = {f"/api/schemas/ids/{number}": (503, b"") for number in (7, 8)}
    assert SchemaStore(Registry(server.url), folder).get(7) == TEXT.encode()
    with pytest.raises(Wait):
        SchemaStore(Registry(server.url), folder).get(8)


def test_an_id_of_another_registry_is_another_schema(server: Server, tmp_path: Path) -> None:
    server.has(5)
    SchemaStore(registry(server), tmp_path).get(5)
    assert SchemaStore(Registry(server.url.replace("//", "//me:secret@")), tmp_path).get(5) == TEXT.encode()
    with pytest.raises(Wait):
        SchemaStore(away(), tmp_path).get(5)
    DiskCache(tmp_path).put(5, b'"added by hand"')
    with pytest.raises(Wait):
        SchemaStore(away(), tmp_path).get(5)
    assert SchemaStore(None, tmp_path, package=False).get(5) == b'"added by hand"'
    assert not any("secret" in path.name for path in tmp_path.iterdir())


@pytest.mark.parametrize("body", [b"not json", b'{"schema": 7}', b"{}"])
def test_an_answer_that_is_no_schema_is_waited_for(server: Server, body: bytes) -> None:
    server.answers["/schemas/ids/7"] = (200, body)
    with pytest.raises(Wait):
        SchemaStore(registry(server)).get(7)


@pytest.mark.parametrize("status", [400, 422])
def test_an_id_that_the_registry_refuses_is_dead(server: Server, status: int) -> None:
    server.answers[f"/schemas/ids/{2**32 - 1}"] = (status, b'{"error_code": 40001}')
    refused = b"\0" + (2**32 - 1).to_bytes(4, "big") + PACKET[5:]
    decoded, (letter,) = Decoder(SchemaStore(registry(server)))(batch([refused]))
    assert decoded == []
    assert letter.reason == Dead.UNKNOWN_SCHEMA
    assert str(status) in letter.text


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        ({"name": "source"}, Dead.BAD_SCHEMA),
        ({"name": "source", "subject": "a", "version": 3}, Dead.UNKNOWN_SCHEMA),
        ({"name": "source", "subject": "a", "version": -3}, Dead.UNKNOWN_SCHEMA),
        ({"name": "source", "subject": "a", "version": 4}, Dead.BAD_SCHEMA),
    ],
    ids=["no subject", "404", "422", "not Avro"],
)
def test_references_that_do_not_resolve_are_dead(server: Server, reference: dict[str, Any], reason: Dead) -> None:
    server.has(7, schema=TEXT, references=[reference])
    server.answers["/subjects/a/versions/-3"] = (422, b'{"error_code": 42202}')
    server.answers["/subjects/a/versions/4"] = (200, b'{"schema": "syntax = proto3;"}')
    with pytest.raises(Reject) as caught:
        SchemaStore(registry(server)).get(7)
    assert caught.value.reason == reason


def test_a_reference_that_is_away_is_waited_for(server: Server) -> None:
    server.has(7, schema=TEXT, references=[{"name": "source", "subject": "a", "version": 3}])
    server.answers["/subjects/a/versions/3"] = (503, b"")
    with pytest.raises(Wait, match="503"):
        SchemaStore(registry(server)).get(7)


def test_a_cache_that_cannot_be_written_stops_nobody(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    server.has(7)
    assert SchemaStore(registry(server), tmp_path / "file" / "schemas").get(7) == TEXT.encode()


def test_an_endless_answer_is_bounded(server: Server) -> None:
    server.has(7, schema="x" * 100_000)
    with pytest.raises(Reject) as caught:
        SchemaStore(registry(server), limits=Limits(schema_bytes=10_000)).get(7)
    assert caught.value.reason == Dead.BOUND_EXCEEDED


def test_basic_auth(server: Server) -> None:
    server.answers["/api/schemas/ids/7"] = (200, json.dumps({"schema": TEXT}).encode())
    SchemaStore(Registry(server.url, ("me", "secret"))).get(7)
    assert server.headers[0]["Authorization"] == "Basic " + base64.b64encode(b"me:secret").decode()


def test_a_login_in_the_address_is_used_and_never_told(server: Server) -> None:
    server.answers["/api/schemas/ids/7"] = (503, b"")
    with pytest.raises(Wait, match="503") as caught:
        SchemaStore(Registry(server.url.replace("//", "//me:s%40cret@"))).get(7)
    assert "cret" not in str(caught.value)
    assert server.headers[0]["Authorization"] == "Basic " + base64.b64encode(b"me:s@cret").decode()
    for address in ("me:secret@host:8081", "ftp://me:secret@host"):
        with pytest.raises(TocsinError, match="host") as wrong:
            Registry(address)
        assert "secret" not in str(wrong.value)


def test_references_are_put_in(server: Server) -> None:
    source = next(f["type"] for f in samples.LSST_JSON["fields"] if f["name"] == "diaSource")
    fields = [{**f, "type": "source"} if f["name"] == "diaSource" else f for f in samples.LSST_JSON["fields"]]
    main = json.dumps({**samples.LSST_JSON, "fields": fields})
    server.has(7, schema=main, references=[{"name": "source", "subject": "a/b", "version": 3}])
    server.answers["/subjects/a%2Fb/versions/3"] = (200, json.dumps({"schema": json.dumps(source)}).encode())
    (found,), dead = Decoder(SchemaStore(registry(server)))(batch([PACKET]))
    assert dead == []
    assert len(found.alerts) == 1


def test_an_address_that_is_no_web_address() -> None:
    with pytest.raises(TocsinError, match="http"):
        Registry("file:///etc/passwd")


def test_without_any_source_an_id_is_unknown() -> None:
    _, dead = Decoder(SchemaStore(package=False))(batch([PACKET]))
    assert [letter.reason for letter in dead] == [Dead.UNKNOWN_SCHEMA]
    assert "tocsin schema add" in dead[0].text


def test_the_package_is_read_without_being_imported(rubin: dict[int, Any]) -> None:
    import subprocess
    import sys

    script = (
        "import sys; from broker.decode import SchemaStore; SchemaStore().get(1101);"
        "sys.exit(any(name.startswith('lsst') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_every_installed_schema_is_whole(rubin: dict[int, Any]) -> None:
    for number in installed_ids():
        text = installed(number)
        assert text is not None
        fastavro.parse_schema(json.loads(text))
    assert {700, 704, 900, 1000, 1100, 1101} <= set(rubin)
    assert installed(99_99) is None


def test_inline_defines_each_name_once() -> None:
    named: dict[str, Any] = {
        "n.a": {"type": "record", "name": "n.a", "fields": [{"name": "b", "type": ["null", "n.b"]}]}
    }
    named["n.b"] = {"type": "fixed", "name": "b", "namespace": "n", "size": 2}
    kinds = ["a", {"type": "array", "items": "n.a"}, {"type": "map", "values": "b"}]
    fields = [{"name": f"f{i}", "type": kind} for i, kind in enumerate(kinds)]
    text = inline(json.dumps({"type": "record", "name": "top", "namespace": "n", "fields": fields}), named)
    assert text.count(b'"size"') == 1
    fastavro.parse_schema(json.loads(text))
