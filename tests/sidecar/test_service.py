"""`tocsin sidecar` from the command line, with a row of another package that is trained here, on files and on Kafka."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from broker.cli import sidecar
from broker.cli.main import tocsin
from broker.core import schemas
from broker.core.config import Settings
from broker.deliver import librdkafka
from broker.sidecar.product import Array, Kind, Product
from broker.sidecar.write import product_message
from tests.conftest import RealKafka
from tests.survey.line import NOISE, simulated

ROOT = Path(__file__).parents[2]
MODULE = "sidecar_far_line"
STATED = """
from dataclasses import replace
from broker.models.survey.heads import Mixture
from tests.survey.line import ROW as LINE

ROW = replace(LINE, id="far-line", summary="a line, far away")
SHARING = replace(ROW, id="far-mixture", head=Mixture(components=2), shares="far-line")
"""


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a package of two rows that share a trunk, stated as entry points and trained."""
    folder = tmp_path_factory.mktemp("far")
    info = folder / f"{MODULE}-1.0.dist-info"
    info.mkdir()
    (folder / f"{MODULE}.py").write_text(STATED.lstrip())
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {MODULE}\nVersion: 1.0\n")
    points = f"far-line = {MODULE}:ROW\nfar-mixture = {MODULE}:SHARING\n"
    (info / "entry_points.txt").write_text(f"[tocsin.sidecars]\n{points}")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        for name in ("far-line", "far-mixture"):
            assert call("train", name).exit_code == 0
        yield folder
    sys.modules.pop(MODULE, None)


def call(*arguments: str, **environ: str) -> Result:
    return CliRunner().invoke(tocsin, arguments, env=environ, catch_exceptions=True)


def lines(path: Path, n: int = 500) -> np.ndarray[Any, Any]:
    """Write a catalogue in text; return the truth (n,)."""
    made = simulated(n, 5, None)
    x, b = made.columns["x"], made.columns["b"]
    path.write_text("id,x,B\n" + "".join(f"s{i},{x[i]:.6f},{b[i]:.6f}\n" for i in range(n)))
    truth: np.ndarray[Any, Any] = made.truth[:, 0]
    return truth


def test_a_catalogue_from_the_command_line_to_flat_columns(far: Path, tmp_path: Path) -> None:
    truth, out = lines(tmp_path / "lines.csv"), tmp_path / "out"
    command = ["sidecar", "far-line", "far-mixture", "--input", str(tmp_path / "lines.csv"), "--out", str(out)]
    done = call(*command, "--format", "parquet", "--block", "100")
    assert done.exit_code == 0, done.output
    assert "balanced" in done.output
    assert "far-line@sim: 500 of 500 records answered; " in done.output
    assert "5 blocks in" in done.output
    assert re.search("^blocks received +5$", done.output, re.MULTILINE)
    table = pq.read_table(out / "results").to_pydict()
    for row in ("far_line", "far_mixture"):
        assert np.std(np.array(table[f"y_{row}"]) - truth) < 1.5 * NOISE
    assert table["id"] == [f"s{i}" for i in range(500)]
    ledger = call("ledger", str(out), "--verify-source")
    assert (ledger.exit_code, ledger.output.split()[:3]) == (0, ["blocks", "received", "5"])
    again = call(*command, "--format", "parquet", "--block", "100")
    assert "no new blocks in" in again.output
    before = (out / "inputs.txt").read_text()
    lines(tmp_path / "more.csv")
    other = call(*command, "--input", str(tmp_path / "more.csv"), "--block", "100")
    assert other.exit_code == 1
    assert f"{out} was made with --format parquet; this is with --format avro" in str(other.exception)
    assert (out / "inputs.txt").read_text() == before


def test_dead_letters_of_files_are_retried_by_the_rows_that_the_directory_names(far: Path, tmp_path: Path) -> None:
    out, stored = tmp_path / "out", tmp_path / "store" / "x.f8"
    stored.parent.mkdir()
    stored.write_bytes(np.full(2, 0.5).tobytes())
    (tmp_path / "p.bin").write_bytes(elsewhere(stored))
    done = call("sidecar", "far-line", "--input", str(tmp_path / "p.bin"), "--out", str(out))
    assert done.exit_code == 0, done.output
    assert "bad_uri" in call("dlq", "list", str(out)).output
    allowed = json.dumps([str(stored.parent)])
    retried = call("dlq", "retry", str(out), TOCSIN_SIDECAR__URI_PREFIXES=allowed)
    assert "1 dead letters retried: 1 scored" in retried.output, retried.output
    assert call("ledger", str(out)).exit_code == 0


def product(number: int, records: int = 2) -> Product:
    values = {"x": np.full(records, 0.25), "b": np.full(records, number / 100)}
    arrays = {name: Array("mag", found) for name, found in values.items()}
    return Product(f"p{number}", Kind.CATALOG, [f"{number}/{n}" for n in range(records)], arrays)


def elsewhere(stored: Path) -> bytes:
    """Return a product of two records whose ``x`` lies at a path."""
    found = schemas.decode(product_message(product(7)), None, "product")
    digest = hashlib.sha256(stored.read_bytes()).digest()
    found["arrays"][0] |= {"data": None, "uri": str(stored), "sha256": digest}
    return schemas.latest("product").encode(found)


@pytest.mark.kafka
@pytest.mark.slow
def test_a_sidecar_on_kafka_and_the_commands_around_it(far: Path, kafka: RealKafka, tmp_path: Path) -> None:
    stored = tmp_path / "store" / "x.f8"
    stored.parent.mkdir()
    stored.write_bytes(np.full(2, 0.25).tobytes())
    survey = f"s{uuid.uuid4().hex[:8]}"
    where = {"TOCSIN_SURVEY__PREFIX": survey, "TOCSIN_KAFKA__BROKERS": kafka.bootstrap}
    prefix, results = f"{survey}.far-line", f"{survey}.far-line.results"
    made = json.loads(call("topics", "create", "--sidecar", "far-line", "--partitions", "2", "--json", **where).output)
    assert made["made"] == [
        f"{survey}.catalog",
        results,
        *(f"{prefix}.{t}" for t in ("dead-letters", "ledger", "in-flight")),
    ]
    kafka.send(f"{survey}.catalog", [product_message(product(n, 1 + n % 3)) for n in range(60)])
    kafka.send(f"{survey}.catalog", [b"\0\0\0\0\x64", elsewhere(stored)])
    with running(far, tmp_path, where) as service:
        wait_for(
            lambda: len(call("subscribe", results, "--from", "earliest", "--once", **where).output.splitlines()), 60
        )
        wait_for(lambda: len(call("dlq", "list", "kafka", "--topics", prefix, **where).output.splitlines()), 2)
        service.send_signal(signal.SIGTERM)
        assert service.wait(30) == 0
    shown = call("subscribe", results, "--from", "earliest", "--once", **where).output.splitlines()
    assert any("far-line: y " in line and line.endswith("and 2 more records") for line in shown)
    first = json.loads(call("subscribe", results, "--json", "--from", "earliest", "--limit", "1", **where).output)
    assert len(first["answers"][0]["outputs"][0]["value"]) == len(first["records"])
    ledger = call("ledger", "kafka", "--topics", prefix, "--verify-source", "--json", **where)
    found = json.loads(ledger.output)
    assert (ledger.exit_code, found["balanced"], found["scored"]) == (0, True, 60)
    assert found["dead_lettered"] == {"malformed": 1, "bad_uri": 1}
    assert found["source"] == {"packets": 62, "not_in_ledger": 0, "unread": 0}
    allowed = json.dumps([str(stored.parent)])
    retry = call("dlq", "retry", "kafka", "--sidecar", "far-line", **where, TOCSIN_SIDECAR__URI_PREFIXES=allowed)
    assert "2 dead letters retried: 1 scored, 1 dead again" in retry.output, retry.output
    for command in (["ledger"], ["dlq", "list"]):
        nowhere = call(*command, "kafka", "--topics", f"{survey}.nonsense", **where)
        assert (nowhere.exit_code, str(nowhere.exception)) == (1, f"there is no topic {survey}.nonsense.ledger")
    again = json.loads(call("ledger", "kafka", "--topics", prefix, "--json", **where).output)
    assert (again["balanced"], again["scored"], again["retried"]) == (True, 61, 2)


def test_a_group_waits_for_a_large_batch_unless_told_otherwise() -> None:
    key = "max.poll.interval.ms"
    patient = librdkafka.consumer(sidecar.patient(Settings()).kafka.librdkafka(), "g")
    assert patient[key] == sidecar.PATIENCE_MS > librdkafka.consumer({}, "g")[key]
    told = Settings.model_validate({"kafka": {"client": {key: 5000, "a": "b"}, "brokers": "here:1"}})
    found = sidecar.patient(told).kafka.librdkafka()
    assert (found[key], found["a"], found["bootstrap.servers"]) == (5000, "b", "here:1")


def running(far: Path, folder: Path, where: dict[str, str]) -> subprocess.Popen[bytes]:
    environ = {**os.environ, **where, "PYTHONPATH": f"{far}:{ROOT}", "TOCSIN_RUN__CACHE_DIR": str(folder)}
    command = [str(Path(sys.executable).parent / "tocsin"), "sidecar", "far-line", "--port", "0"]
    return subprocess.Popen(command, env=environ, cwd=folder)


def wait_for(found: Any, n: int) -> None:
    end = time.monotonic() + 60
    while (there := found()) < n:
        assert time.monotonic() < end, f"{there} of {n}"
        time.sleep(0.3)


def test_the_list_has_every_row_with_what_it_reads_and_what_is_trained(far: Path) -> None:
    found = {row["id"]: row for row in map(json.loads, call("sidecar", "list", "--json").output.splitlines())}
    line = found["far-line"]
    assert line["reads"][0] == {"name": "x", "unit": "mag", "shape": [], "required": True}
    assert line["gives"] == [{"name": "y", "unit": "mag"}]
    assert line["trained"] == {"sim": {"toy": False, "data": "line"}}
    assert any(row["service"] for row in found.values())
    assert all(set(row["trained"]) == set(row["variants"]) for row in found.values() if not row["service"])
    shown = call("sidecar", "list").output
    assert "far-line" in shown
    assert "reads flux_nb455 … flux_nb845 (40), flux_err_nb455 … flux_err_nb845 (40) [nJy]; mag_u, " in shown


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        ((), 2, "Usage"),
        (("far-line", "--input", "."), 2, "--input and --out go together"),
        (("far-line", "--input", ".", "--out", "out", "--topic", "x"), 2, "are for Kafka"),
        (("far-line", "--input", ".", "--out", "out", "--column", "x"), 2, "expected INPUT=COLUMN"),
        (("far-line", "--input", ".", "--out", "out", "--column", "x=y", "--column", "x=z"), 2, "x=... is given twice"),
        (("far-line", "--column", "x=y"), 2, "go with --input"),
        ((".", "--input", ".", "--out", "out"), 2, "name a row"),
        (("far-line", "--input", "nowhere", "--out", "out"), 2, "does not exist"),
        (("near-line", "--input", ".", "--out", "out"), 1, "no survey model is called 'near-line'"),
        (("near-line",), 1, "no survey model is called 'near-line'"),
        (("x-bench", "--input", ".", "--out", "out"), 1, "x-bench is a service to other rows"),
    ],
)
def test_usage_errors_and_failures(arguments: tuple[str, ...], code: int, text: str, far: Path) -> None:
    done = call("sidecar", *arguments)
    assert done.exit_code == code or (code == 2 and not arguments)
    assert text in done.output + str(done.exception)
