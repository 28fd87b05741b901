"""`tocsin score` of tables: what the stream says of the same curves, epochs, hosts, models, priors, and refusals."""

from __future__ import annotations

import csv
import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from broker.archive import simulate
from broker.cli import assemble
from broker.cli.main import tocsin
from broker.client import chosen
from broker.core import schemas
from broker.core.bands import SURVEYS
from broker.core.batch import FilePacket, Kind
from broker.core.config import load
from broker.core.errors import TocsinError
from broker.core.metrics import Recorded
from broker.core.taxonomy import BY_ID, CLASSES

README = Path(__file__).parents[2] / "README.md"
Rows = list[dict[str, str]]
HEADER = ("obj", "mjd", "band", "flux", "flux_err", "detected", "limit")


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(tocsin, ["score", *map(str, arguments)])


def scored(*arguments: str | Path) -> Rows:
    out = Path(arguments[0]).with_name("out.csv")
    done = call(*arguments, "--out", out)
    assert done.exit_code == 0, done.exception
    with out.open() as file:
        return list(csv.DictReader(file))


def written(path: Path, header: Sequence[str], lines: Sequence[Sequence[Any]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *lines])
    return path


def curves(objects: int = 6, points: int = 40, seed: int = 0) -> list[tuple[Any, ...]]:
    rng = np.random.default_rng(seed)
    lines = []
    for k in range(objects):
        for t in np.sort(rng.uniform(59000, 59120, points)).tolist():
            flux = 5e4 * np.exp(-0.5 * ((t - 59050) / 12) ** 2) + float(rng.normal(0, 1500))
            lines.append((k, t, "gri"[rng.integers(3)], flux, 1500.0))
    return lines


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return written(tmp_path / "curves.csv", HEADER[:5], curves())


@pytest.mark.parametrize(("survey", "packets"), [("ztf", 40), ("lsst", 16)])
def test_a_table_of_a_packets_history_is_scored_as_the_packet(survey: str, packets: int, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    simulate.install_schema(cache / "schemas")
    pipeline = assemble.pipeline(load(None, {"run.cache_dir": cache}), Recorded())
    values = [packet.value for packet in simulate.night(survey, packets, 5)]
    batch = assemble.batch_of([FilePacket("night", i, value) for i, value in enumerate(values)])
    said = {}
    for record in pipeline(batch).records:
        if record.topic == f"tocsin.{survey}.all":
            annotation = schemas.decode(record.value, list(record.headers), "annotation")
            said[annotation["objectId"]] = annotation
    lines = []
    for part in pipeline.decoder(batch)[0]:
        for i, name in enumerate(part.alerts.object_id):
            for p in range(part.curves.offsets[i], part.curves.offsets[i + 1]):
                kind, err = part.curves.kind[p], float(part.curves.flux_err_njy[p])
                limit = kind == Kind.LIMIT
                measured = ("", "", 0, 31.4 - 2.5 * np.log10(5 * err))
                flux = (float(part.curves.flux_njy[p]), err, int(kind == Kind.DETECTION), "")
                band = SURVEYS[survey].bands[part.curves.band[p]]
                lines.append((name, float(part.curves.mjd[p]), band, *(measured if limit else flux)))
    rows = {row["obj"]: row for row in scored(written(tmp_path / "t.csv", HEADER, lines), "--survey", survey)}
    compared = 0
    for name, annotation in said.items():
        entry = chosen(annotation)
        assert entry is not None
        if entry["reason"] in ("solar_system", "bogus"):  # what only a packet says
            continue
        assert rows[name]["reason"] == (entry["reason"] or "")
        for c in entry["classifications"]:
            slug = BY_ID[c["classId"]].slug
            assert float(rows[name][f"p_{slug}"]) == pytest.approx(c["probability"], abs=1e-6)
            assert float(rows[name][f"p_{slug}_unc"]) == pytest.approx(c["uncertainty"], abs=1e-6)
        strange = annotation["anomaly"]
        assert rows[name]["reason_anomaly"] == (strange["reason"] or "")
        if not strange["reason"]:
            compared += 1
            assert float(rows[name]["anomaly"]) == pytest.approx(strange["score"], abs=1e-6)
            assert BY_ID[annotation["nearestClass"]].slug == rows[name]["anomaly_nearest"]
    assert compared > packets / 4


def test_an_epoch_is_scored_as_the_curve_cut_there(table: Path, tmp_path: Path) -> None:
    at = ("0", "5", "20", "all")
    rows = scored(table, "--survey", "ztf", "--at", ",".join(at))
    assert [(r["obj"], r["at"]) for r in rows] == [(str(k), "" if a == "all" else a) for k in range(6) for a in at]
    for place, days in enumerate(at):
        for packet in ((), ("--packet",)) if days == "20" else ((),):
            lines = []
            for k in range(6):
                mine = [r for r in curves() if r[0] == k]
                detected = [r[1] for r in mine if r[3] >= 5 * r[4]]
                end = np.inf if days == "all" else detected[0] + float(days)
                last = max(t for t in detected if t <= end)
                lines += [r for r in mine if r[1] <= end and (not packet or last - 30 <= r[1] <= last)]
            alone = scored(written(tmp_path / "cut.csv", HEADER[:5], lines), "--survey", "ztf")
            whole = scored(table, "--survey", "ztf", "--at", days, *packet) if packet else rows[place::4]
            for a, b in zip(alone, whole, strict=True):
                for c in CLASSES:
                    assert float(a[f"p_{c.slug}"]) == pytest.approx(float(b[f"p_{c.slug}"]), abs=1e-6)


def test_without_a_detection_there_is_a_reason_and_no_number(tmp_path: Path) -> None:
    lines = [*curves(1), ("faint", 59000.0, "g", 10.0, 100.0), ("nothing", 59000.0, "g", "", "")]
    rows = scored(written(tmp_path / "a.csv", HEADER[:5], lines), "--survey", "ztf", "--at", "0,all")
    assert [r["obj"] for r in rows] == ["0", "0", "faint", "faint", "nothing", "nothing"]
    assert [r["reason"] for r in rows] == ["", "", *["too_few_detections"] * 2, *["no_points"] * 2]
    assert [r["reason_anomaly"] for r in rows[:2]] == ["too_few_detections", ""]
    nothing = written(tmp_path / "b.csv", HEADER[:5], lines[-1:])
    assert [r["reason"] for r in scored(nothing, "--survey", "ztf")] == ["no_points"]
    for row in rows:
        numbers = {row[name] == "" for name in row if name.startswith("p_")}
        assert numbers == {row["reason"] != ""}


def test_models_and_priors_are_chosen(table: Path) -> None:
    p = np.array([[float(r[f"p_{c.slug}"]) for c in CLASSES] for r in scored(table, "--survey", "ztf")])
    even = scored(table, "--survey", "ztf", "--prior", "even")
    q = np.array([[float(r[f"p_{c.slug}"]) for c in CLASSES] for r in even])
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(q.sum(axis=1), 1, atol=1e-5)
    ratio = (p / q) / (p / q)[:, :1]  # Bayes: the same odds for every object
    assert np.abs(np.log(ratio / ratio[0])).max() < 0.2
    assert ratio[0].std() > 0.1
    one = scored(table, "--survey", "ztf", "--model", "ztf-gru")
    assert {r["p_snia"] for r in one} != {r["p_snia"] for r in scored(table, "--survey", "ztf")}
    with pytest.raises(TocsinError, match="lsst-gru is for lsst, not for ztf"):
        raised(call(table, "--survey", "ztf", "--model", "lsst-gru"))


def raised(done: Result) -> None:
    assert done.exception is not None
    raise done.exception


def test_hosts_change_what_is_said_of_theirs_alone(table: Path, tmp_path: Path) -> None:
    hosts = written(tmp_path / "hosts.csv", ("obj", "z_host", "z_host_err"), [(2, 0.07, 0.01)])
    before, after = scored(table, "--survey", "ztf"), scored(table, "--survey", "ztf", "--objects", hosts)
    assert [a != b for a, b in zip(before, after, strict=True)] == [k == 2 for k in range(6)]
    written(hosts, ("obj", "z_host"), [(99, 0.07)])
    with pytest.raises(TocsinError, match="the object 99 has no light curve"):
        raised(call(table, "--survey", "ztf", "--objects", hosts))


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--survey", "ztf", "--at", "x"),
        ("--survey", "ztf", "--columns", "oid"),
        ("--survey", "ztf", "--zp", "nan"),
        ("--survey", "ztf", "--out", "x.fits"),
        ("--survey", "ztf", "--out", "x.csv", "--json"),
        ("--survey", "sdss"),
    ],
)
def test_wrong_options_are_usage_errors(table: Path, arguments: tuple[str, ...]) -> None:
    assert call(table, *arguments).exit_code == 2


def test_options_of_tables_are_refused_for_packets(tmp_path: Path) -> None:
    (tmp_path / "packet.avro").write_bytes(b"")
    done = call(tmp_path / "packet.avro", "--at", "0", "--packet")
    assert done.exit_code == 2
    assert "--at, --packet" in done.output


def test_a_failed_run_leaves_the_old_result(table: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.csv"
    out.write_text("old")
    written(table, HEADER[:5], [*curves(), ("x", 1, "o", 1, 1)])
    assert call(table, "--survey", "ztf", "--out", out).exit_code == 1
    assert {path.name for path in tmp_path.iterdir()} == {"curves.csv", "scores.csv"}
    assert out.read_text() == "old"


def test_what_is_printed_without_a_file(table: Path) -> None:
    shown = call(table, "--survey", "ztf").output
    assert "likeliest" in shown
    assert "6 objects in 240 rows; read: obj, mjd, band, flux, flux_err" in shown
    lines = [line for line in call(table, "--survey", "ztf", "--json").output.splitlines() if line.startswith("{")]
    assert len(lines) == 6


def test_the_readmes_commands_run(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "hosts.csv", ("obj", "z_host", "z_host_err"), [(2, 0.07, 0.01)])
    block = re.search(r"```bash\n# test: curves\n(.*?)```", README.read_text(), flags=re.DOTALL)
    assert block is not None
    for line in block[1].splitlines():
        words = shlex.split(line, comments=True)
        assert words[:2] == ["tocsin", "score"]
        words = words[: words.index(">")] if ">" in words else words
        assert CliRunner().invoke(tocsin, words[1:]).exit_code == 0, line
    assert {path.name for path in tmp_path.glob("*.csv")} == {"curves.csv", "hosts.csv", "scores.csv", "early.csv"}


def test_supernovae_of_plasticc_are_told_from_the_rest(tmp_path: Path) -> None:
    if (folder := os.environ.get("TOCSIN_TEST_DATA")) is None:
        pytest.skip("TOCSIN_TEST_DATA is not set")
    pq, pc = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pyarrow.compute")
    place = Path(folder) / "lightcurves" / "plasticc"
    objects = pq.read_table(place / "objects.parquet")
    chosen_rows = np.random.default_rng(0).permutation(objects.num_rows)[:200]
    objects = objects.take(chosen_rows)
    points = pq.read_table(place / "lc.parquet")
    points = points.filter(pc.is_in(points["obj"], objects["obj"]))
    pq.write_table(points, tmp_path / "curves.parquet")
    pq.write_table(objects, tmp_path / "objects.parquet")
    options = ("--survey", "lsst", "--zp", "27.5", "--objects", tmp_path / "objects.parquet")
    rows = scored(tmp_path / "curves.parquet", *options)
    names = [c.slug for c in CLASSES]
    said = {r["obj"]: max(names, key=lambda name, r=r: float(r[f"p_{name}"] or 0)) for r in rows}  # type: ignore[misc]
    truth = {str(o): t == 90 for o, t in zip(*(objects[n].to_pylist() for n in ("obj", "target")), strict=True)}
    right = np.mean([(said[obj] == "snia") == is_ia for obj, is_ia in truth.items()])
    assert len(said) == 200
    assert right > max(np.mean(list(truth.values())), 1 - np.mean(list(truth.values()))) + 0.1
