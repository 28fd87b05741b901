"""Tables to light curves: every form of the same points is the same points, and what is wrong is named."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from broker.core.batch import Kind, LightCurves
from broker.core.errors import TocsinError
from broker.tables import baseline, curves, epochs, names, read, write
from broker.tables.curves import Table
from broker.tables.points import Rules

HEADER = ("obj", "mjd", "band", "flux", "flux_err")
COLUMNS = ("mjd", "flux_njy", "flux_err_njy", "band", "kind")


def rows(objects: int = 5, points: int = 30, seed: int = 0) -> list[tuple[Any, ...]]:
    rng = np.random.default_rng(seed)
    found = []
    for k in range(objects):
        for t in np.sort(rng.uniform(59000, 59100, points)):
            found.append((f"ZTF{k}", float(t), "gri"[rng.integers(3)], float(rng.normal(500, 800)), 100.0))
    return found


def written(path: Path, header: Sequence[str], lines: Iterable[Sequence[Any]], separator: str = ",") -> Path:
    opened: Any = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wt", newline="") as file:
        csv.writer(file, delimiter=separator).writerows([header, *lines])
    return path


def loaded(path: Path, *, survey: str = "ztf", columns: str = "", zp: float | str = 31.4, **more: Any) -> Table:
    jd, drop = more.get("jd", False), more.get("drop_bad", False)
    column = zp if isinstance(zp, str) else None
    layout = names.of_curves(read.header(path), names.mapping_of(columns), time="jd" if jd else "mjd", zp=column)
    return curves.load(path, Rules(survey, layout, 31.4 if column else float(zp), jd, drop), lambda _: None)


def same(a: LightCurves, b: LightCurves, rtol: float = 0.0) -> None:
    np.testing.assert_array_equal(a.offsets, b.offsets)
    for name in COLUMNS:
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=rtol, err_msg=name)


@pytest.fixture
def plain(tmp_path: Path) -> Table:
    return loaded(written(tmp_path / "plain.csv", HEADER, rows()))


def test_values_are_those_of_the_file(plain: Table) -> None:
    given = rows()
    assert plain.ids == [f"ZTF{k}" for k in range(5)]
    assert plain.rows == len(given)
    np.testing.assert_array_equal(plain.curves.offsets, np.arange(6) * 30)
    np.testing.assert_array_equal(plain.curves.mjd, [row[1] for row in given])
    np.testing.assert_array_equal(plain.curves.band, ["gri".index(row[2]) for row in given])
    np.testing.assert_array_equal(plain.curves.flux_njy, [row[3] for row in given])
    np.testing.assert_array_equal(plain.curves.kind == Kind.DETECTION, [row[3] >= 500 for row in given])


def test_every_form_of_a_table_holds_the_same(plain: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = rows()
    forms = [
        written(tmp_path / "tabs.tsv", HEADER, given, "\t"),
        written(tmp_path / "spaces.csv", HEADER, given, " "),
        written(tmp_path / "packed.csv.gz", HEADER, given),
        written(tmp_path / "more.csv", ("ra", *HEADER), [(3.5, *row) for row in given]),
        written(tmp_path / "names.csv", ("oid", "MJD", "filter", "psfFlux", "fluxerr"), given),
        written(tmp_path / "fid.csv", HEADER, [(*r[:2], "gri".index(r[2]) + 1, *r[3:]) for r in given]),
        written(tmp_path / "ztfg.csv", HEADER, [(*r[:2], f"ZTF_{r[2]}", *r[3:]) for r in given]),
    ]
    comments = tmp_path / "comments.csv"
    comments.write_text("\ufeff# made by hand\n\n" + (tmp_path / "more.csv").read_text().replace("\r", "") + "\n\n")
    monkeypatch.setattr(read, "LINES", 7)  # rows in many parts
    for path in (*forms, comments):
        table = loaded(path)
        assert table.ids == plain.ids, path
        same(table.curves, plain.curves)


def test_rows_in_any_order_are_grouped_by_object(plain: Table, tmp_path: Path) -> None:
    order = np.random.default_rng(1).permutation(150).tolist()
    table = loaded(written(tmp_path / "mixed.csv", HEADER, [rows()[i] for i in order]))
    for i, name in enumerate(table.ids):
        k = plain.ids.index(name)
        mine, expected = (c.take(np.array([j])) for c, j in ((table.curves, i), (plain.curves, k)))
        np.testing.assert_array_equal(np.sort(mine.flux_njy), np.sort(expected.flux_njy))


def test_parquet_holds_the_same_as_csv(plain: Table, tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = pa.table({name: [row[i] for row in rows()] for i, name in enumerate(HEADER)})
    table = table.set_column(0, "obj", table["obj"].dictionary_encode())
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=13)
    found = loaded(tmp_path / "a.parquet")
    assert found.ids == plain.ids
    same(found.curves, plain.curves)
    assert read.count(tmp_path / "a.parquet") == 150


def test_ids_stay_what_they_were(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    large = 2**62 + 1
    rest = (59000.0, "g", 1.0, 1.0)
    for given, expected in (
        (["7", str(large), "-3"], [7, large, -3]),
        (["7", "007"], ["7", "007"]),
        (["12", "ZTF"], ["12", "ZTF"]),
    ):
        assert loaded(written(tmp_path / "ids.csv", HEADER, [(i, *rest) for i in given])).ids == expected
    others = {name: [value] * 2 for name, value in zip(HEADER[1:], rest, strict=True)}
    unsigned = np.array([2**64 - 1, 3], np.uint64)
    for values, ids in (
        (unsigned, [str(i) for i in unsigned.tolist()]),
        ([large, 3], [large, 3]),
        (["7", "8"], [7, 8]),
        ([4.0, 5.0], [4, 5]),
    ):
        pq.write_table(pa.table({"obj": values, **others}), tmp_path / "ids.parquet")
        assert loaded(tmp_path / "ids.parquet").ids == ids
    for bad in ([1.5, 2.0], [1e17, 2.0], ["a", None]):
        pq.write_table(pa.table({"obj": bad, **others}), tmp_path / "ids.parquet")
        with pytest.raises(TocsinError, match="no id of an object"):
            loaded(tmp_path / "ids.parquet")


def test_zero_points_and_times(plain: Table, tmp_path: Path) -> None:
    scale = 10 ** (0.4 * (31.4 - 27.5))
    low = [(r[0], r[1] + 2400000.5, r[2], r[3] / scale, r[4] / scale, 27.5) for r in rows()]
    number = loaded(written(tmp_path / "a.csv", ("obj", "jd", *HEADER[2:], "x"), low), jd=True, zp=27.5)
    column = loaded(written(tmp_path / "b.csv", ("obj", "jd", *HEADER[2:], "zp"), low), jd=True, zp="zp")
    for table in (number, column):
        np.testing.assert_allclose(table.curves.mjd, plain.curves.mjd, rtol=0, atol=1e-8)
        np.testing.assert_allclose(table.curves.flux_njy, plain.curves.flux_njy, rtol=1e-12)
        np.testing.assert_allclose(table.curves.flux_err_njy, plain.curves.flux_err_njy, rtol=1e-12)


def test_magnitudes_are_fluxes(tmp_path: Path) -> None:
    lines = [("A", 59000, "g", 20.0, 0.1), ("A", 59001, "g", 20.0, 0.3), ("A", 59002, "g", "", ""), ("B", 1, 2, 99, 99)]
    table = loaded(written(tmp_path / "m.csv", ("obj", "mjd", "band", "mag", "mag_err"), lines))
    assert table.ids == ["A", "B"]
    assert table.curves.counts.tolist() == [2, 0]
    assert table.curves.flux_njy == pytest.approx([36307.805] * 2)  # AB 20 in nJy
    assert table.curves.flux_err_njy == pytest.approx(36307.805 * np.array([0.1, 0.3]) / 1.0857362)
    assert table.curves.kind.tolist() == [Kind.DETECTION, Kind.FORCED]


def test_what_the_user_names_is_read(tmp_path: Path) -> None:
    path = written(tmp_path / "m.csv", (*HEADER, "mag", "mag_err"), [(*r, 20.0, 0.1) for r in rows(1)])
    assert set(loaded(path).curves.flux_njy) == {r[3] for r in rows(1)}
    assert loaded(path, columns="mag=mag").curves.flux_njy == pytest.approx([36307.805] * 30)


def test_fluxes_without_errors_are_no_measurements_beside_magnitudes(tmp_path: Path) -> None:
    lines = [("A", 1, "g", 20.0, 0.1, 7.0)]
    path = written(tmp_path / "m.csv", ("obj", "mjd", "band", "mag", "mag_err", "flux"), lines)
    assert loaded(path).curves.flux_njy == pytest.approx([36307.805])


def test_limits_and_signs_are_those_of_an_alert(tmp_path: Path) -> None:
    header = ("objectId", "mjd", "fid", "magpsf", "sigmapsf", "diffmaglim", "isdiffpos")
    lines = [("A", 1, 1, 20.0, 0.3, 20.5, "t"), ("A", 2, 2, 20.0, 0.1, 20.5, "f"), ("A", 3, 3, "", "", 20.0, "")]
    found = loaded(written(tmp_path / "a.csv", header, lines)).curves
    assert found.kind.tolist() == [Kind.DETECTION, Kind.DETECTION, Kind.LIMIT]
    assert found.flux_njy == pytest.approx([36307.805, -36307.805, 0.0])
    assert found.flux_err_njy[2] == pytest.approx(36307.805 / 5)
    alone = written(tmp_path / "b.csv", (*header[:5], header[6]), [(*line[:5], line[6]) for line in lines])
    assert loaded(alone).curves.kind.tolist() == [Kind.DETECTION, Kind.DETECTION]


def replaced(row: int, column: int, value: Any) -> list[tuple[Any, ...]]:
    changed = [list(r) for r in rows(1)]
    changed[row][column] = value
    return [tuple(r) for r in changed]


BAD = {
    "time": (replaced(4, 1, ""), r"row 5 \(object ZTF0\): mjd is nan"),
    "jd": (replaced(4, 1, 2459000.5), r"row 5 \(object ZTF0\): the time 2459000.5 is no MJD \(--time jd\?\)"),
    "error": (replaced(3, 4, -1), r"row 4 \(object ZTF0\): its error is not positive"),
    "band": (replaced(7, 2, "o"), r"row 8 \(object ZTF0\): the band 'o' is not one of ztf's g, r, i"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_row_is_named_or_left_out(case: str, tmp_path: Path) -> None:
    lines, message = BAD[case]
    path = written(tmp_path / "bad.csv", HEADER, lines)
    with pytest.raises(TocsinError, match=message):
        loaded(path)
    assert loaded(path, drop_bad=True).curves.counts.tolist() == [29]


@pytest.mark.parametrize(
    ("header", "lines", "message"),
    [
        (HEADER, [], "has no rows"),
        (HEADER, replaced(9, 3, "abc"), "row 10: flux is 'abc', which is no number"),
        (HEADER, replaced(9, 0, " "), "row 10: .* is no id"),
        (HEADER, [*rows(1), ("A", 1)], "row 31 has 2 fields, the header 5"),
        (("a", *HEADER[1:]), rows(1), "no column of obj is known among a, mjd"),
        (("obj", "jd", *HEADER[2:]), rows(1), "say --time jd"),
        ((*HEADER[:3], "f", "flux_err"), rows(1), "no column of flux or mag"),
        ((*HEADER[:4], "e"), rows(1), "no column of the error of the flux"),
        (("oid", "object_id", *HEADER[1:]), [(1, *r) for r in rows(1)], "oid and object_id could both be obj"),
        ((*HEADER, "zp"), [(*r, 27.5) for r in rows(1)], "say --zp zp to use it"),
        ((*HEADER, "detected"), [(*r, "") for r in rows(1)], "row 1 .*detected is ''"),
        (HEADER, replaced(9, 0, "x" * 300), "row 10: obj is longer than 256 characters"),
    ],
)
def test_a_bad_table_is_one_sentence(header: Sequence[str], lines: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(TocsinError, match=message):
        loaded(written(tmp_path / "bad.csv", header, lines))


def test_what_is_no_table_is_said(tmp_path: Path) -> None:
    for content in (bytes(range(256)) * 9, b"", b"PAR1" + bytes(99), b'obj,mjd,band,flux,flux_err\n"' + b"x" * 200_000):
        (tmp_path / "x.csv").write_bytes(content)
        with pytest.raises(TocsinError, match=r"x\.csv"):
            loaded(tmp_path / "x.csv")


def test_missing_measurements_are_no_points(tmp_path: Path) -> None:
    for value in ("", "NaN", "null", "--", "-99999"):
        assert loaded(written(tmp_path / "a.csv", HEADER, replaced(2, 3, value))).curves.counts.tolist() == [29]


def test_hosts_are_joined_by_id(tmp_path: Path) -> None:
    header = ("oid", "z_host", "z_host_err")
    path = written(tmp_path / "hosts.csv", header, [(3, 0.5, ""), (1, 0.1, 0.01), (2, -9, -9)])
    layout = names.of_objects(read.header(path), {})
    z, err = curves.hosts(path, layout, ["1", "2", "3", "4"])
    np.testing.assert_array_equal(z, [0.1, np.nan, 0.5, np.nan])
    np.testing.assert_array_equal(err, [0.01, np.nan, np.nan, np.nan])
    for ids, message in ((["1", "2"], "row 1: the object 3 has no light curve"), ([], "object 3")):
        with pytest.raises(TocsinError, match=message):
            curves.hosts(path, layout, [*ids])
    written(path, header, [(1, 0.1, 0), (1, 0.1, 0)])
    with pytest.raises(TocsinError, match="row 2: the object 1 is there twice"):
        curves.hosts(path, layout, ["1"])


def sorted_curves(seed: int = 5) -> LightCurves:
    rng = np.random.default_rng(seed)
    counts = np.array([12, 0, 1, 40, 25])
    offsets = np.append(0, np.cumsum(counts))
    mjd = np.concatenate([np.sort(rng.uniform(0, 100, n)) for n in counts])
    kind = rng.choice([Kind.DETECTION, Kind.FORCED, Kind.LIMIT], len(mjd)).astype(np.int8)
    kind[offsets[4] :] = Kind.FORCED
    flux, band = rng.normal(0, 100, len(mjd)), rng.integers(0, 3, len(mjd)).astype(np.int8)
    return LightCurves(offsets, mjd, flux, np.full(len(mjd), 10.0), band, kind)


@pytest.mark.parametrize("history", [None, 30.0])
def test_an_epoch_is_what_was_known_by_then(history: float | None) -> None:
    whole, at = sorted_curves(), np.array([0.0, 5.0, 20.0, np.nan])
    found = epochs.cuts(whole, at, history)
    made = epochs.cut(whole, found.start, found.stop)
    for i in range(len(whole)):
        mjd, kind = (x[whole.offsets[i] : whole.offsets[i + 1]] for x in (whole.mjd, whole.kind))
        detected = mjd[kind == Kind.DETECTION]
        for k, days in enumerate(at.tolist()):
            known = np.full(len(mjd), True)
            if not np.isnan(days):
                known = mjd <= detected[0] + days if len(detected) else ~known
            if history is not None:
                alert = detected[detected <= (mjd[known][-1] if known.any() else -1)]
                known = (
                    known & (mjd <= alert[-1]) & (mjd >= alert[-1] - history)
                    if len(alert)
                    else np.zeros(len(mjd), bool)
                )
            one = made.take(np.array([i * len(at) + k]))
            np.testing.assert_array_equal(one.mjd, mjd[known])


@pytest.mark.parametrize("text", ["", "x", "-1", "inf", "nan", "1,1", "all,all", "0,,2"])
def test_epochs_that_are_none(text: str) -> None:
    with pytest.raises(TocsinError, match="--at"):
        epochs.parse(text)


def star_and_supernova() -> LightCurves:
    rng = np.random.default_rng(2)
    t = np.tile(np.sort(rng.uniform(0, 60, 40)), 2)
    band = np.tile(np.arange(40) % 2, 2).astype(np.int8)
    star = 1e6 * (1 + 0.3 * np.sin(2 * np.pi * t[:40] / 0.57)) * (1 + band[:40])
    supernova = 1e5 * np.exp(-0.5 * ((t[40:] - 25) / 10) ** 2) + 6e3
    err = np.full(80, 1e3)
    flux = np.concatenate((star, supernova)) + rng.normal(0, 1, 80) * err
    return LightCurves(np.array([0, 40, 80]), t, flux, err, band, np.zeros(80, np.int8))


def test_a_star_loses_its_medians_and_a_supernova_does_not() -> None:
    given = star_and_supernova()
    found, stars = baseline.subtract(given, 3, "auto")
    assert stars.tolist() == [True, False]
    expected = given.flux_njy.copy()
    for b in (0, 1):
        of_star = (given.band == b) & (np.arange(80) < 40)
        expected[of_star] -= np.median(given.flux_njy[of_star])
    np.testing.assert_allclose(found.flux_njy, expected)
    assert ((found.kind == Kind.DETECTION) == (abs(expected) >= 5e3))[:40].all()
    assert baseline.subtract(given, 3, "none")[0] is given
    assert baseline.subtract(given, 3, "median")[1].all()


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_results_come_back_as_they_went(suffix: str, tmp_path: Path) -> None:
    if suffix == "parquet":
        pytest.importorskip("pyarrow")
    path = tmp_path / f"out.{suffix}"
    rng = np.random.default_rng(0)
    p = rng.random(3).astype(np.float32)
    parts: list[dict[str, Any]] = [{"obj": [f"a{i}"], "p": p[i : i + 1], "at": np.array([np.nan])} for i in range(3)]
    with write.writing(path) as add:
        for part in parts:
            add(part)
        assert not path.exists()  # a run that is stopped leaves no half table
    found = list(read.chunks(path, ["obj", "p", "at"]))
    assert [name for chunk in found for name in chunk["obj"]] == ["a0", "a1", "a2"]
    back = np.concatenate([chunk["p"].astype(np.float32) for chunk in found])
    np.testing.assert_array_equal(back, p)
    assert {str(value) for chunk in found for value in chunk["at"]} <= {"", "nan"}
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
