"""Arrays behind a real HTTP server, which may be good, wrong, slow, endless or away."""

import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from broker.cli import products
from broker.cli.run import deliver
from broker.core.config import load
from broker.core.errors import Wait
from broker.core.metrics import Recorded
from broker.core.topics import Topics
from broker.decode.limits import Reject
from broker.deliver.outputs import DirectoryOutputs
from broker.deliver.types import Bounds
from broker.sidecar import read
from broker.sidecar.catalogue import Plan
from broker.sidecar.fetch import Fetch
from broker.sidecar.write import product_message
from tests.conftest import RealKafka
from tests.sidecar.rows import Colour, galaxies, raw, sidecar
from tests.sidecar.test_read import elsewhere, example, reason_of, same
from tests.sidecar.web import Answer, reply, serving

GOOD = example().arrays["image"].values.tobytes()
PACE_S = 0.02


def asked(answer: Answer, what: str = "image.f4", seconds: float = 5.0, data: bytes = GOOD) -> Callable[[], object]:
    """Return what reads the example, whose image lies on a server, of which only the folder ``open`` is allowed."""

    def look() -> object:
        with serving(answer) as url:
            return read.product(elsewhere(f"{url}/open/{what}", data), Fetch([f"{url}/open"], seconds))

    return look


def refused(look: Callable[[], object]) -> str:
    with pytest.raises(Reject) as caught:
        look()
    return str(caught.value.reason)


def sends(body: bytes, status: int = 200, **headers: str) -> Answer:
    return lambda to: reply(to, status, body, **headers)


def drips(piece: bytes, times: int = 10**6) -> Answer:
    """Send a piece again and again, without saying how much will come."""

    def answer(to: BaseHTTPRequestHandler) -> None:
        to.send_response(200)
        to.end_headers()
        for _ in range(times):
            try:
                to.wfile.write(piece)
            except OSError:  # nobody reads on
                return
            time.sleep(PACE_S if len(piece) < 1000 else 0)

    return answer


def test_an_array_behind_http_is_read() -> None:
    assert same(asked(sends(GOOD))(), example())  # type: ignore[arg-type]
    assert same(asked(drips(GOOD, 1))(), example())  # type: ignore[arg-type]


@pytest.mark.parametrize("body", [GOOD[::-1], GOOD[:-1], GOOD + b"\0", b""], ids=["wrong", "short", "long", "empty"])
def test_another_body_is_a_dead_letter(body: bytes) -> None:
    assert refused(asked(sends(body))) == "bad_hash"


def test_a_short_body_with_its_own_hash_is_no_array() -> None:
    assert refused(asked(sends(GOOD[:-4]), data=GOOD[:-4])) == "bad_array"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
def test_what_is_not_there_is_a_dead_letter(status: int) -> None:
    assert refused(asked(sends(b"no", status))) == "bad_uri"


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_a_server_in_trouble_is_waited_for(status: int) -> None:
    with pytest.raises(Wait, match=str(status)):
        asked(sends(b"later", status))()


def test_an_address_that_never_answers_is_a_dead_letter_and_what_is_behind_it_goes_on(tmp_path: Path) -> None:
    folder, out, asked_for = tmp_path / "in", tmp_path / "out", list[str]()
    folder.mkdir()

    def answer(to: BaseHTTPRequestHandler) -> None:
        asked_for.append(to.path)
        reply(to, 500)

    with serving(answer) as url:
        for name in "bd":
            (folder / name).write_bytes(elsewhere(f"{url}/{name}", GOOD))
        for n, name in enumerate("ace"):
            (folder / name).write_bytes(product_message(galaxies(n, 1)))
        settings = load(None, {"sidecar.uri_prefixes": [url], "sidecar.uri_tries": 3})
        totals = products.to_directory(["colour"], [Colour()], [folder], out, settings, Plan(), "avro")
    assert (totals.scored, totals.dead_lettered) == (3, 2)
    letters = list(DirectoryOutputs(out).dead_letters())
    assert [letter["reason"] for letter in letters] == ["bad_uri"] * 2
    assert f"{url}/b' does not answer, the last of 3 tries with HTTP Error 500" in letters[0]["error"]
    assert asked_for[:3] == ["/b"] * 3
    assert asked_for.count("/d") == 3


def test_what_comes_before_an_address_that_does_not_answer_is_not_asked_for_again() -> None:
    asked_for: list[str] = []

    def answer(to: BaseHTTPRequestHandler) -> None:
        asked_for.append(to.path)
        reply(to, 503 if to.path == "/away" else 200, GOOD)

    with serving(answer) as url:
        values = [elsewhere(f"{url}/{name}", GOOD) for name in ("a", "b", "away", "c")]
        values.insert(1, b"bad")
        made = replace(sidecar(), fetch=Fetch([url], tries=3))
        first = made(raw(values))
        assert (first.whole, first.reason) == (False, ["other_kind", "bad_magic", "other_kind"])
        with pytest.raises(Wait, match="503"):
            made(raw(values[3:]))
        last = made(raw(values[3:]))
    assert (last.whole, last.reason) == (True, ["bad_uri", "other_kind"])
    assert asked_for == ["/a", "/b", "/away", "/away", "/away", "/c"]


def test_tries_are_counted_in_a_row_and_what_was_given_up_is_tried_again_for_each_product() -> None:
    states = [503, 503, 200, 503, 503, 503, 503, 200, 503]
    found: list[str] = []
    with serving(lambda to: reply(to, states[len(found)], GOOD)) as url:
        fetch, packet = Fetch([url], tries=3), elsewhere(f"{url}/image.f4", GOOD)
        for _ in states:
            try:
                read.product(packet, fetch)
                found.append("read")
            except (Wait, Reject) as error:
                found.append(type(error).__name__)
    assert found == ["Wait", "Wait", "read", "Wait", "Wait", "Reject", "Reject", "read", "Wait"]


def test_an_endless_body_ends_with_the_first_byte_too_many() -> None:
    began = time.monotonic()
    assert refused(asked(drips(bytes(100_000)))) == "bad_hash"
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("piece", [b"x", b""], ids=["a byte at a time", "nothing at all"])
def test_a_body_that_does_not_come_in_time_is_waited_for(piece: bytes) -> None:
    began = time.monotonic()
    with pytest.raises(Wait, match=r"slowly|timed out"):
        asked(drips(piece, 200), seconds=0.3)()
    assert time.monotonic() - began < 2


def test_a_connection_that_closes_early_is_waited_for() -> None:
    def half(to: BaseHTTPRequestHandler) -> None:
        to.send_response(200)
        to.send_header("Content-Length", str(len(GOOD)))
        to.end_headers()
        to.wfile.write(GOOD[: len(GOOD) // 2])

    def nothing(to: BaseHTTPRequestHandler) -> None:
        to.close_connection = True

    for answer, text in ((half, "240 bytes before the end"), (nothing, "does not answer")):
        with pytest.raises(Wait, match=text):
            asked(answer)()


def test_nobody_at_an_address_is_waited_for() -> None:
    with pytest.raises(Wait, match="does not answer"):
        read.product(elsewhere("http://127.0.0.1:9/x", GOOD), Fetch(["http://127.0.0.1:9/"]))


def test_a_redirection_is_followed_only_where_one_may_read() -> None:
    """A server that one may read must not lead us to one that we alone can reach."""
    seen: list[str] = []

    def inside(to: BaseHTTPRequestHandler) -> None:
        seen.append(to.path)
        reply(to, 200, GOOD)

    with serving(inside) as other:
        ways = {
            "/open/image.f4": "/open/moved.f4",
            "/open/out": "/secret",
            "/open/up": "/open/../secret",
            "/open/other": f"{other}/open/image.f4",
            "/open/file": "file:///etc/hostname",
            "/open/round": "/open/round",
        }

        def answer(to: BaseHTTPRequestHandler) -> None:
            seen.append(to.path)
            way = ways.get(to.path)
            reply(to, 302, Location=way) if way else reply(to, 200, GOOD)

        assert same(asked(answer)(), example())  # type: ignore[arg-type]
        assert seen == ["/open/image.f4", "/open/moved.f4"]
        for what in ("out", "up", "other", "file", "round"):
            seen.clear()
            assert refused(asked(answer, what)) == "bad_uri"
            assert set(seen) == {f"/open/{what}"}


def test_nothing_is_asked_for_that_is_not_allowed() -> None:
    seen: list[str] = []

    def answer(to: BaseHTTPRequestHandler) -> None:
        seen.append(to.path)
        reply(to, 200, GOOD)

    with serving(answer) as url:
        host = url.removeprefix("http://")
        for allowed in ((), (f"{url}/opened",), ("https://" + host,), ("file:///",)):
            for uri in (f"{url}/open/x", f"http://open@{host}/open/x", "http://169.254.169.254/latest/meta-data/"):
                assert reason_of(elsewhere(uri, GOOD), Fetch(allowed)) == "bad_uri"
        for uri in (f"{url}/open/../x", f"{url}/open/%2e%2e/x", f"HTTP://{host}/open/x", f"{url}/open/a b"):
            assert reason_of(elsewhere(uri, GOOD), Fetch([f"{url}/open/"])) == "bad_uri"
    assert not seen


@pytest.mark.kafka
def test_a_batch_that_takes_longer_than_kafka_waits_is_delivered_once(kafka: RealKafka, tmp_path: Path) -> None:
    asked: list[str] = []

    def slowly(to: BaseHTTPRequestHandler) -> None:
        asked.append(to.path)
        time.sleep(0.25)
        reply(to, 200, GOOD)

    topic, out, metrics, stop = (
        kafka.topic("slow"),
        Topics(f"slow{uuid.uuid4().hex[:8]}"),
        Recorded(),
        threading.Event(),
    )
    with serving(slowly) as url, ThreadPoolExecutor(1) as pool:
        kafka.send(topic, [elsewhere(f"{url}/{n}", GOOD) for n in range(24)])
        settings = load(None, {
            "kafka.brokers": kafka.bootstrap, "run.cache_dir": tmp_path, "source.topics": [topic],
            "source.group": out.prefix, "output.prefix": out.prefix, "sidecar.uri_prefixes": [url],
            "kafka.client": {"max.poll.interval.ms": 5000, "session.timeout.ms": 5000, "heartbeat.interval.ms": 300},
        })  # fmt: skip
        step = products.step([Colour()], settings, metrics, out, files=False)
        step.part_s = 0.6
        done = pool.submit(
            deliver,
            settings,
            metrics,
            stop,
            lambda _: None,
            lambda: step,
            frozenset({out.results}),
            Bounds(max_wait_s=0.5),
        )
        end = time.monotonic() + 60.0
        while metrics.counters["alerts_received_total", ()] < 24 and time.monotonic() < end and not done.done():
            time.sleep(0.1)
        stop.set()
        assert done.result().received == 24
    assert sorted(asked) == sorted(f"/{n}" for n in range(24)), "each was read once"
