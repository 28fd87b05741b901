"""`tocsin diff`: a night through two sets of models, two results, a live topic and its shadow; thresholds."""

import json
import threading
import time
from pathlib import Path
from typing import Any

import click
import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file, save

from broker.archive import simulate
from broker.cli.main import tocsin
from broker.cli.run import service
from broker.core.config import load
from broker.core.errors import TocsinError
from broker.core.metrics import Recorded
from broker.core.topics import Topics
from broker.deliver.recount import recount_kafka
from broker.score import card as cards
from tests.conftest import RealKafka
from tests.faults.verifier import verify_kafka

ZTF, LSST = 160, 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with ``night``, ``night.toml`` and ``new/ztf-gru``, a candidate with other weights."""
    folder = tmp_path_factory.mktemp("diff")
    simulate.install_schema(folder / "cache" / "schemas")
    (folder / "night").mkdir()
    for survey, n in (("ztf", ZTF), ("lsst", LSST)):
        for i, packet in enumerate(simulate.night(survey, n, 4)):
            (folder / "night" / f"{survey}{i}.avro").write_bytes(packet.value)
    (folder / "night.toml").write_text(f"run.cache_dir = '{folder / 'cache'}'\n")
    generator = torch.Generator().manual_seed(0)
    weights = load_file(cards.folder("ztf-gru") / cards.WEIGHTS_FILE)
    moved = {
        name: w + (0.2 * w.std() * torch.randn(w.shape, generator=generator) if w.ndim > 1 else 0)
        for name, w in weights.items()
    }
    cards.write(cards.read("ztf-gru"), save(moved), folder / "new")
    return folder


def invoke(folder: Path, *arguments: object) -> Result:
    return CliRunner().invoke(tocsin, ["diff", *map(str, arguments), "--config", str(folder / "night.toml")])


def diff(folder: Path, *arguments: object) -> Any:
    done = invoke(folder, *arguments, "--json")
    assert done.exit_code == 0, (done.output, done.exception)
    return json.loads(done.stdout)


def test_a_night_with_itself_is_empty(folder: Path) -> None:
    found = diff(folder, folder / "night", "--model", "live", "--model", "live", "--max-moved", 0, "--max-dp", 0)
    assert found["matched"] > 0.9 * (ZTF + LSST)
    assert (found["changed"], found["moves"], found["beyond"]) == (0, [], [])


def test_a_candidate_moves_alerts_and_two_results_say_the_same(folder: Path) -> None:
    candidate = f"{folder / 'new' / 'ztf-gru'},ztf-transformer"
    found = diff(folder, folder / "night", "--model", "live", "--model", candidate, "--top", 1000)
    assert 0 < found["class_moved"] < found["changed"]
    assert {row["survey"] for row in found["moves"]} == {"ztf"}
    assert found["anomaly"]["max_move"] == 0
    moves = [abs(row["dp"]) for row in found["moves"]]
    assert moves == sorted(moves, reverse=True)
    (folder / "new.toml").write_text(
        f"run.cache_dir = '{folder / 'cache'}'\n[score.classifiers]\nztf = {candidate.split(',')}\n"
    )
    for config, result, form in (("night.toml", "a", "avro"), ("new.toml", "b", "avro"), ("new.toml", "c", "parquet")):
        arguments = ["replay", folder / "night", "--to", folder / result, "--config", folder / config, "--format", form]
        assert CliRunner().invoke(tocsin, list(map(str, arguments))).exit_code == 0
    results = diff(folder, folder / "a", folder / "b", "--top", 1000)
    assert {**results, "a": "", "b": ""} == {**found, "a": "", "b": ""}
    assert diff(folder, folder / "b", folder / "c")["changed"] == 0


def test_thresholds_decide_the_exit_code(folder: Path) -> None:
    models = ("--model", "ztf-gru", "--model", "ztf-transformer")
    found = diff(folder, folder / "night", *models)
    assert found["part_moved"] > 0
    for option, value in (("--max-moved", found["part_moved"]), ("--max-dp", found["max_dp"])):
        assert invoke(folder, folder / "night", *models, option, value).exit_code == 0
        beyond = invoke(folder, folder / "night", *models, option, 0.99 * value, "--json")
        assert isinstance(beyond.exception, TocsinError)  # `main` says it and exits with 1
        assert len(json.loads(beyond.stdout)["beyond"]) == 1


def test_people_get_tables(folder: Path) -> None:
    shown = invoke(folder, folder / "night", "--model", "ztf-gru", "--model", "ztf-transformer", "--limit", 100)
    for words in ("alerts that changed at all", "likeliest classes that moved", "biggest moves", "by class"):
        assert words in shown.stdout


@pytest.mark.parametrize(
    "arguments",
    [["night"], ["night", "--model", "live"], ["a", "b", "c"], ["night", *["--model", "live"] * 3]],
    ids=["one result", "one model", "three results", "three models"],
)
def test_what_cannot_be_compared_is_a_usage_error(folder: Path, arguments: list[str]) -> None:
    assert isinstance(
        CliRunner().invoke(tocsin, ["diff", *arguments], standalone_mode=False).exception, click.UsageError
    )


def test_a_place_without_a_result_is_said(folder: Path) -> None:
    assert "is not the output of a replay" in str(invoke(folder, folder / "night", folder / "night").exception)


@pytest.mark.kafka
def test_a_shadow_beside_the_live_stream(folder: Path, kafka: RealKafka) -> None:
    prefix, topic = f"shadow-{time.time_ns()}", kafka.topic("in", 2)
    values = [p.value for survey, n in (("ztf", ZTF), ("lsst", LSST)) for p in simulate.night(survey, n, 4)]
    kafka.send(topic, [*values, b"nonsense"])
    new = str(folder / "new" / "ztf-gru")
    create = [
        "topics",
        "create",
        "--brokers",
        kafka.bootstrap,
        "--topics",
        prefix,
        "--shadow",
        new,
        "--partitions",
        "2",
    ]
    assert f"{prefix}.shadow.ztf-gru.ztf" in CliRunner().invoke(tocsin, create).stdout
    overrides = {
        "kafka.brokers": kafka.bootstrap,
        "source.topics": [topic],
        "source.group": prefix,
        "output.prefix": prefix,
        "score.shadow": [new, "lsst-anomaly"],
        "run.cache_dir": folder / "cache",
    }
    deliver(load(None, overrides), len(values) + 1)
    assert recount_kafka(kafka.config, Topics(prefix), verify_source=True)["balanced"]
    report = verify_kafka(kafka.bootstrap, [topic], prefix, ("ztf", "lsst"))
    assert (report.inputs, report.sound) == (len(values) + 1, True), str(report)
    sides = [f"kafka:{prefix}.ztf.all", f"kafka:{prefix}.shadow.ztf-gru.ztf"]
    found = diff(folder, *sides, "--brokers", kafka.bootstrap)
    expected = diff(folder, folder / "night", "--model", "live", "--model", new, "--top", 0)
    assert (found["only_a"], found["only_b"], found["anomaly"]["max_move"]) == (0, 0, 0)
    assert found["class_moved"] == expected["class_moved"] > 0
    sides = [f"kafka:{prefix}.lsst.all", f"kafka:{prefix}.shadow.lsst-anomaly.lsst"]
    assert diff(folder, *sides, "--brokers", kafka.bootstrap)["changed"] == 0


def deliver(settings: Any, packets: int) -> None:
    """Run the service until it has committed ``packets``."""
    metrics, stop = Recorded(), threading.Event()
    thread = threading.Thread(target=service, args=(settings, metrics, stop))
    thread.start()
    end = time.monotonic() + 120
    while sum(n for (name, _), n in metrics.counters.items() if name == "alerts_received_total") < packets:
        assert thread.is_alive()
        assert time.monotonic() < end
        time.sleep(0.05)
    stop.set()
    thread.join(30)
    assert not thread.is_alive()
