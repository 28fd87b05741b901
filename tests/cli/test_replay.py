"""A replay from the command line: idempotent, its inputs counted again, its limit on dead letters."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from broker.archive import simulate
from broker.cli.main import tocsin as group
from broker.client import branches
from broker.core.schemas import latest
from broker.deliver import parquet
from broker.deliver.outputs import DirectoryOutputs
from broker.deliver.parquet import Flat
from broker.score import card as cards


def tocsin(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = str(Path(sys.executable).parent / "tocsin")
    return subprocess.run([command, *arguments], cwd=cwd, capture_output=True, text=True, check=False)


def ledger(cwd: Path) -> dict[str, Any]:
    done = tocsin("ledger", "out", "--json", "--verify-source", cwd=cwd)
    found: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (0 if found["balanced"] else 1)
    return found


def test_a_replay_twice_adds_nothing_and_misses_what_it_never_read(tmp_path: Path) -> None:
    (tmp_path / "night").mkdir()
    for number, packet in enumerate(simulate.night("ztf", 8, 2)):
        (tmp_path / "night" / f"{number}.avro").write_bytes(packet.value)
    (tmp_path / "night" / "bad.avro").write_bytes(b"")
    first = tocsin("replay", "night", "--to", "out", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "9 packets in this run, 1 dead letters" in first.stdout
    found = ledger(tmp_path)
    assert (found["received"], found["dead_lettered"], found["balanced"]) == (9, {"empty": 1}, True)
    assert "0 packets in this run" in tocsin("replay", "night", "--to", "out", cwd=tmp_path).stdout
    assert ledger(tmp_path) == found
    (tmp_path / "night" / "late.avro").write_bytes(b"nonsense")
    assert ledger(tmp_path)["balanced"] is False


def test_dead_letters_stop_a_replay_only_where_a_limit_is_given(tmp_path: Path) -> None:
    (tmp_path / "night").mkdir()
    for number in range(150):
        (tmp_path / "night" / f"{number}.avro").write_bytes(b"nonsense")
    stopped = tocsin("replay", "night", "--to", "limited", "--dlq-limit", "0.1", cwd=tmp_path)
    assert stopped.returncode == 1
    assert "bad_magic" in stopped.stderr
    assert tocsin("replay", "night", "--to", "out", cwd=tmp_path).returncode == 0
    assert ledger(tmp_path)["dead_lettered"] == {"bad_magic": 150}


def called(*arguments: str, code: int = 0) -> str:
    """Run a command in this process, and return what it says."""
    result = CliRunner().invoke(group, arguments)
    assert result.exit_code == code, result.output
    return result.output if result.exception is None else f"{result.output}{result.exception}"


@pytest.fixture
def both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of packets of both surveys, and a cache with the simulator's schema."""
    monkeypatch.setenv("TOCSIN_RUN__CACHE_DIR", str(tmp_path / "cache"))
    simulate.install_schema(tmp_path / "cache" / "schemas")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "night").mkdir()
    for survey, n in (("ztf", 24), ("lsst", 8)):
        for packet in simulate.night(survey, n, 2, start_mjd=61000.0, per_visit=1):
            (tmp_path / "night" / f"{survey}-{packet.truth.alert_id}.avro").write_bytes(packet.value)
    return tmp_path / "night"


_AT = ("brokerIngestTimestamp", "brokerPublishTimestamp")


def annotations(directory: Path) -> dict[int, dict[str, Any]]:
    found = {a["alertId"]: a for a in DirectoryOutputs(directory).annotations()}
    return {key: {k: v for k, v in found[key].items() if k not in _AT} for key in sorted(found)}


def test_parquet_is_one_table_and_says_what_avro_says(both: Path, tmp_path: Path) -> None:
    called("replay", "night", "--to", "avro")
    called("replay", "night", "--to", "out", "--format", "parquet")
    assert not list((tmp_path / "out" / "annotations").glob("*.avro"))
    for made, other in (("out", "avro"), ("avro", "parquet")):
        assert f"{made} was made with --format" in called("replay", "night", "--to", made, "--format", other, code=1)
    assert json.loads(called("ledger", "out", "--json", "--verify-source"))["balanced"]
    expected = annotations(tmp_path / "avro")
    assert len(expected) == 32
    ends = {key: (a["outcome"], a["unscoredReason"], a["source"]) for key, a in expected.items()}
    assert ends == {
        k: (a["outcome"], a["unscoredReason"], a["source"]) for k, a in annotations(tmp_path / "out").items()
    }
    schema, folder = latest("annotation"), tmp_path / "flat"
    folder.mkdir()
    for survey in ("ztf", "lsst"):
        bodies = [
            schema.encode(a)[5:] for a in DirectoryOutputs(tmp_path / "avro").annotations() if a["survey"] == survey
        ]
        flat = Flat(("ztf-gru", "ztf-transformer", "lsst-gru", "lsst-transformer", "lsst-average"))
        (folder / f"{survey}.parquet").write_bytes(flat(schema, bodies))
    back = {a["alertId"]: a for path in sorted(folder.iterdir()) for a in parquet.records(path)}
    assert {key: {k: v for k, v in a.items() if k not in _AT} for key, a in back.items()} == expected
    table = pytest.importorskip("pandas").read_parquet(folder)
    assert list(table.columns) == list(pytest.importorskip("pandas").read_parquet(tmp_path / "out/annotations").columns)
    assert set(table.survey) == {"ztf", "lsst"}
    for row in table.to_dict("records"):
        annotation = expected[row["alert_id"]]
        assert (row["object_id"], row["ra"], row["mjd"]) == tuple(annotation[k] for k in ("objectId", "ra", "mjd"))
        answers = [c["classifications"] for c in annotation["classifiers"]]
        if all(answers):
            likely = [next(c["probability"] for c in a if c["classId"] == 2222) for a in answers]
            assert [row[f"p_snia_{name}"] for name in ("gru", "transformer", "average")] == likely
            assert row["p_snia"] == row["p_snia_average"]
            assert row["p_snlike"] == pytest.approx(branches(annotation)[2220], rel=1e-6)
            assert row["p_snlike_average"] == pytest.approx(row["p_snlike"], rel=1e-5)
        else:
            assert np.isnan(row["p_snia"])
            assert row["outcome"] == "unscored" or any(answers)
        score = (annotation["anomaly"] or {}).get("score")
        assert row["anomaly"] == score if score is not None else np.isnan(row["anomaly"])


def test_models_that_are_given_by_path_have_the_columns_of_their_names(both: Path, tmp_path: Path) -> None:
    gru, anomaly = (str(cards.folder(name)) for name in ("ztf-gru", "ztf-anomaly"))
    (tmp_path / "tocsin.toml").write_text(
        f'[score]\nclassifiers = {{ztf = ["{gru}"], lsst = []}}\nanomaly = {{ztf = "{anomaly}"}}\n'
    )
    called("replay", "night", "--to", "out", "--format", "parquet", "--config", "tocsin.toml")
    answers = [a["classifiers"] for a in annotations(tmp_path / "out").values() if a["survey"] == "ztf"]
    assert [[c["classifierName"] for c in found] for found in answers] == [["ztf-gru"]] * 24


def test_a_part_becomes_whole_where_the_whole_is_replayed(both: Path, tmp_path: Path) -> None:
    called("replay", "night", "--to", "out", "--limit", "3")
    assert "a part of its inputs" in called("ledger", "out", "--verify-source", code=1)
    (tmp_path / "other").mkdir()
    called("replay", "other", "--to", "out")
    assert "a part of its inputs" in called("ledger", "out", "--verify-source", code=1)
    called("replay", "night", "other", "--to", "out")
    assert json.loads(called("ledger", "out", "--verify-source", "--json"))["source"]["packets"] == 32


@pytest.mark.parametrize("target", ["tocsin", "tocsin.ztf.all", "tocsin.anything"])
def test_a_copy_to_live_topics_is_refused(both: Path, target: str) -> None:
    assert "live topics" in called("replay", "night", "--raw", "--to", f"kafka:{target}", code=2)


def test_a_part_of_a_night_keeps_its_meaning_over_its_runs(both: Path, tmp_path: Path) -> None:
    """Rubin's packets come first (by name); each is observed 39 s after the one before."""
    part = ("replay", "night", "--raw", "--to", "part", "--since", "2025-11-21T00:01", "--until", "61000.005")
    limited = (*part, "--limit", "4")
    assert "4 packets written to part, 0 were there" in called(*limited)
    assert "0 packets written to part, 4 were there" in called(*limited)
    (tmp_path / "part" / sorted(p.name for p in (tmp_path / "part").iterdir())[-1]).unlink()
    assert "1 packets written to part, 3 were there" in called(*limited, "--speed", "100")
    assert "4 were there" in called(*part)
    first, last = 60.0 + 37.0, 0.005 * 86400.0  # TAI is 37 s ahead of UTC
    expected = sum(first <= n * step + 15.0 + 37.0 < last for step, count in ((39, 8), (40, 24)) for n in range(count))
    assert len(list((tmp_path / "part").iterdir())) == expected


def test_rounds_are_new_objects_for_the_broker(both: Path, tmp_path: Path) -> None:
    called("replay", "night", "--to", "out", "--loop", "--limit", "64")
    found = annotations(tmp_path / "out")
    assert len(found) == 64  # no alert id came twice
    assert len({a["objectId"] for a in found.values()}) == 64
    assert sum(a["source"]["topic"].endswith("#1") for a in found.values()) == 32
    called("replay", "night", "--to", "out")
    assert "several rounds" in called("ledger", "out", "--verify-source", code=1)


@pytest.mark.parametrize(
    "wrong",
    ["--speed fast", "--speed 0", "--since yesterday", "--limit 0", "--raw --format parquet", "--topics x"],
)
def test_wrong_options_are_named(wrong: str, tmp_path: Path) -> None:
    called("replay", str(tmp_path), "--to", str(tmp_path / "out"), *wrong.split(), code=2)
