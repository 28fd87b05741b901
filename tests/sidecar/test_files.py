"""Catalogues and products in files, through the delivery loop, to results in files: exactly once, resumable."""

import gzip
import json
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.table import Table

from broker.cli import note, products
from broker.cli.inputs import note_inputs
from broker.cli.ledger import count_inputs
from broker.core import schemas
from broker.core.config import Settings
from broker.core.errors import TocsinError
from broker.deliver.container import container
from broker.deliver.loop import Totals
from broker.deliver.outputs import DirectoryOutputs
from broker.deliver.recount import recount_directory
from broker.sidecar import catalogue, tables, write
from broker.sidecar.answer import Embedded
from broker.sidecar.catalogue import Plan
from broker.sidecar.product import Product
from broker.sidecar.write import product_message
from tests.sidecar.rows import Colour, galaxies

N = 1000
BLOCK = 64


def columns() -> dict[str, Any]:
    """Return a catalogue of N galaxies: g - r of galaxy n is (n mod 100) / 100; every tenth has no r."""
    n = np.arange(N)
    mag_r = np.where(n % 10 == 9, np.nan, 20.0)
    return {"id": [f"G{i}" for i in n], "mag_g": 20 + (n % 100) / 100, "mag_r": mag_r, "ra": n / 10.0, "flag": n % 3}


def as_parquet(path: Path, table: dict[str, Any]) -> None:
    pq.write_table(pa.table(table), path, row_group_size=300)


def as_text(path: Path, table: dict[str, Any], separator: str = ",") -> None:
    rows = [separator.join(str(v) for v in row) for row in zip(*table.values(), strict=True)]
    path.write_text("# a comment\n" + "\n".join([separator.join(table), *rows]) + "\n")


def as_packed(path: Path, table: dict[str, Any]) -> None:
    as_text(path, table, "\t")
    path.write_bytes(gzip.compress(path.read_bytes()))


def as_fits(path: Path, table: dict[str, Any]) -> None:
    made = Table(table)
    made["mag_g"].unit = made["mag_r"].unit = "mag"
    made["mag_g"] = made["mag_g"].astype(">f4")
    made.write(path, format="fits")


FORMS: dict[str, Callable[[Path, dict[str, Any]], None]] = {
    "parquet": as_parquet, "csv": as_text, "tsv.gz": as_packed, "tsv": as_packed, "fits": as_fits,
}  # fmt: skip


def answer(directory: Path, *paths: Path, model: Colour | None = None, form: str = "avro", **plan: Any) -> Totals:
    made = Plan(**{"block": BLOCK, **plan})
    return products.to_directory(["colour"], [model or Colour()], paths, directory, Settings(), made, form)


def colours(directory: Path) -> dict[str, float]:
    """Return each record's colour."""
    found: dict[str, float] = {}
    for result in DirectoryOutputs(directory).annotations():
        for said in write.said_in(result):
            new = dict(zip(result["records"], said.answer.outputs[0].value.tolist(), strict=True))
            assert not new.keys() & found.keys()
            found |= new
    return found


def assert_right(found: dict[str, float]) -> None:
    assert list(found) == columns()["id"]
    values = np.array(list(found.values()))
    n = np.arange(N)
    assert (np.isnan(values) == (n % 10 == 9)).all()
    assert np.nanmax(np.abs(values - (n % 100) / 100)) < 1e-5


@pytest.mark.parametrize("form", FORMS)
def test_a_catalogue_is_answered_whatever_its_form(form: str, tmp_path: Path) -> None:
    path, out = tmp_path / f"galaxies.{form}", tmp_path / "out"
    FORMS[form](path, columns())
    totals = answer(out, path)
    assert (totals.received, totals.scored, totals.dead_lettered) == (16, 16, 0)
    assert_right(colours(out))
    found = recount_directory(out, source_packets=count_inputs(str(out), (), {}))
    assert (found["balanced"], found["received"]) == (True, 16)
    assert not (out / "annotations").exists()


@pytest.mark.parametrize("form", FORMS)
def test_a_second_run_adds_nothing(form: str, tmp_path: Path) -> None:
    path, out = tmp_path / f"galaxies.{form}", tmp_path / "out"
    FORMS[form](path, columns())
    answer(out, path)
    before = {file.name: file.stat().st_mtime_ns for file in (out / "results").iterdir()}
    assert answer(out, path).received == 0
    assert {file.name: file.stat().st_mtime_ns for file in (out / "results").iterdir()} == before


def test_flat_results_have_a_row_per_record(tmp_path: Path) -> None:
    path, out = tmp_path / "galaxies.parquet", tmp_path / "out"
    as_parquet(path, columns())
    answer(out, path, form="parquet")
    table = pq.read_table(out / "results").to_pydict()
    assert table["id"] == columns()["id"]
    assert_right(dict(zip(table["id"], [np.nan if v is None else v for v in table["colour"]], strict=True)))
    assert table["reason"][8:10] == [None, "not_finite"]
    assert table["kind"][:3] == ["blue"] * 3
    assert (table["kind"][9], table["p_red"][9], table["colour_q05"][9]) == (None, None, None)
    assert table["p_red"][88] + table["p_blue"][88] == pytest.approx(1)
    assert table["colour_q05"][0] < table["colour_q16"][0] < table["colour_q50"][0] == pytest.approx(0, abs=0.01)
    assert table["colour_q84"][0] == pytest.approx(0.25 + 0.125 * 0.468, abs=0.01)
    assert table["toy"][0]
    assert table["model"][0] == "colour@sim/1/" + "ab" * 8
    found = recount_directory(out, source_packets=count_inputs(str(out), (), {}))
    assert (found["balanced"], found["scored"]) == (True, 16)
    assert answer(out, path, form="parquet").received == 0


def test_rows_of_several_models_have_columns_of_their_own(tmp_path: Path) -> None:
    path, out = tmp_path / "galaxies.csv", tmp_path / "out"
    as_text(path, columns())
    two = [Colour("one-way"), Colour("other-way")]
    products.to_directory(["one-way", "other-way"], two, [path], out, Settings(), Plan(block=BLOCK), "parquet")
    names = pq.read_table(out / "results").column_names
    assert {"colour_one_way", "colour_other_way", "reason_one_way", "out_of_domain_other_way"} <= set(names)
    assert "colour" not in names


def test_two_variants_of_one_row_have_columns_of_their_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out, names = tmp_path / "galaxies.csv", tmp_path / "out", ["colour", "colour@sdss-mgs", "other"]
    as_text(path, columns())
    models = [Colour(), Colour(variant="sdss-mgs"), Colour("other")]
    products.to_directory(names, models, [path], out, Settings(), Plan(block=BLOCK), "parquet")
    table = pq.read_table(out / "results")
    assert {"colour_colour_sim", "colour_colour_sdss_mgs", "colour_other"} <= set(table.column_names)
    assert set(table["model_colour_sim"].to_pylist()) == {"colour@sim/1/" + "ab" * 8}
    said = capsys.readouterr().out
    for name in ("colour@sim", "colour@sdss-mgs", "other@sim"):
        assert f"{name}: 900 of 1,000 records answered, not_finite 100; " in said


def good(first: int, records: int = 2) -> bytes:
    return product_message(galaxies(first, records))


def test_products_in_containers_and_files_of_their_own(tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    schema = schemas.latest("product")
    bodies = [good(10 * n)[5:] for n in range(5)]
    (folder / "a.avro").write_bytes(container(schema.text, bodies, "a"))
    with (folder / "b.avro").open("wb") as file:
        fastavro.writer(file, schema.parsed, [schemas.decode(good(100), None, "product")], codec="deflate")
    (folder / "c.bin").write_bytes(good(110))
    (folder / "d.bin").write_bytes(good(120)[:-3])
    (folder / "e.bin").write_bytes(good(130) + b"\0")
    totals = answer(out, folder)
    assert (totals.received, totals.scored, totals.dead_lettered) == (9, 7, 2)
    assert len(colours(out)) == 14
    found = recount_directory(out, source_packets=count_inputs(str(out), (), {}))
    assert found["balanced"]
    assert found["dead_lettered"] == {"malformed": 1, "trailing_bytes": 1}
    letters = list(DirectoryOutputs(out).dead_letters())
    assert [letter["packet"] for letter in letters][1] == good(130) + b"\0"
    assert all(letter["stage"] == "product" for letter in letters)


def test_a_row_that_fails_at_one_product_loses_that_one_only(tmp_path: Path) -> None:
    path, out = tmp_path / "galaxies.parquet", tmp_path / "out"
    as_parquet(path, columns())
    totals = answer(out, path, model=Colour(fails_at="G200"))
    assert (totals.scored, totals.dead_lettered) == (15, 1)
    letter = next(iter(DirectoryOutputs(out).dead_letters()))
    assert (letter["reason"], letter["offset"]) == ("internal", 200 // BLOCK)
    assert "ZeroDivisionError" in letter["error"]
    assert recount_directory(out)["balanced"]


class Stopped(Colour):
    """Stops where it is to answer the 700th galaxy."""

    def embed(self, products: list[Product]) -> Embedded:
        if any("G700" in product.records for product in products):
            raise TocsinError("enough")
        return super().embed(products)


def test_what_was_stopped_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, out = tmp_path / "galaxies.csv", tmp_path / "out"
    as_text(path, columns())
    monkeypatch.setattr(products, "BATCH_ROWS", BLOCK)
    with pytest.raises(TocsinError, match="enough"):
        answer(out, path, model=Stopped())
    assert len(colours(out)) == 700 // BLOCK * BLOCK
    assert answer(out, path).received == 16 - 700 // BLOCK
    assert_right(colours(out))


def grown(path: Path) -> str:
    with path.open("a") as file:
        file.write("G1000,20.5,20.0,0,0\n")
    return "galaxies.csv is not the catalogue that .*: it had [0-9,]+ bytes and has [0-9,]+; take another --out"


def changed(path: Path) -> str:
    path.write_text(path.read_text().replace("G0,20.0,", "G0,21.0,"))
    return "galaxies.csv is not the catalogue that .*: its bytes are others; take another --out"


@pytest.mark.parametrize("change", [grown, changed])
def test_a_catalogue_that_is_another_one_is_refused_where_it_was_answered(
    change: Callable[[Path], str], tmp_path: Path
) -> None:
    path, out = tmp_path / "galaxies.csv", tmp_path / "out"
    as_text(path, columns())
    answer(out, path)
    text = change(path)
    for refused in (lambda: answer(out, path), lambda: count_inputs(str(out), (), {})):
        with pytest.raises(TocsinError, match=text):
            refused()
    assert answer(tmp_path / "new", path).scored == 16


def test_a_catalogue_that_was_touched_or_copied_is_the_same_one(tmp_path: Path) -> None:
    path, out = tmp_path / "galaxies.csv", tmp_path / "out"
    as_text(path, columns())
    answer(out, path)
    os.utime(path, (1, 1))
    assert answer(out, path).received == 0
    path.with_suffix(".new").write_bytes(path.read_bytes())
    path.with_suffix(".new").rename(path)
    assert answer(out, path).received == 0
    assert count_inputs(str(out), (), {}) == 16


def test_a_catalogue_of_which_nothing_is_answered_may_be_mended(tmp_path: Path) -> None:
    path, out = tmp_path / "galaxies.csv", tmp_path / "out"
    as_text(path, columns())
    text = path.read_text()
    path.write_text(text.replace("G700,20.0,", "G700,oops,"))
    with pytest.raises(TocsinError, match="oops"):
        answer(out, path)
    path.write_text(text)
    answer(out, path)
    assert_right(colours(out))


def test_products_that_come_to_a_folder_are_answered(tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for n in range(2):
        (folder / f"{n}.bin").write_bytes(good(10 * n))
        assert answer(out, folder).scored == 1
    assert recount_directory(out, source_packets=count_inputs(str(out), (), {}))["balanced"]


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[]", b'{"rows": [], "plan": {"blocks": 1}}'])
def test_a_damaged_note_is_said(content: bytes, tmp_path: Path) -> None:
    path, out = tmp_path / "galaxies.csv", tmp_path / "out"
    as_text(path, columns())
    answer(out, path)
    (out / "sidecar.json").write_bytes(content)
    for refused in (lambda: answer(out, path), lambda: count_inputs(str(out), (), {})):
        with pytest.raises(TocsinError, match=r"sidecar\.json is damaged .*: remove it, and run the command that made"):
            refused()
    (out / "sidecar.json").unlink()
    assert answer(out, path).received == 0
    (out / "inputs.txt").write_bytes(b"\xff\xff")
    with pytest.raises(TocsinError, match=r"inputs\.txt is damaged .*: remove it"):
        answer(out, path)


def test_notes_are_whole_or_not_there(tmp_path: Path) -> None:
    """A disk that takes no more leaves the old ones, as a kill does; a note that says the same is not written."""
    first, second, out = tmp_path / "a.csv", tmp_path / "b.csv", tmp_path / "out"
    as_text(first, columns())
    as_text(second, columns())
    answer(out, first)
    notes = [out / "sidecar.json", out / "inputs.txt"]
    before = [(path.read_bytes(), path.stat().st_mtime_ns) for path in notes]
    answer(out, first)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limit[1]))
    try:
        with pytest.raises(TocsinError, match=r"cannot write .*sidecar.json: File too large"):
            note.write(out, ["colour"], Plan(block=BLOCK), [first, second])
        with pytest.raises(TocsinError, match=r"cannot write .*inputs.txt: File too large"):
            note_inputs(out, ["another"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, handler)
    assert [(path.read_bytes(), path.stat().st_mtime_ns) for path in notes] == before
    assert answer(out, first, second).scored == 16


def test_columns_go_by_other_names_and_numbers_may_stand_for_nothing(tmp_path: Path) -> None:
    path, out = tmp_path / "galaxies.parquet", tmp_path / "out"
    table = columns()
    odd = {"name": table["id"], "GMAG": table["mag_g"], "MAG_R": np.nan_to_num(table["mag_r"], nan=-99)}
    as_parquet(path, odd)
    answer(out, path, renamed={"mag_g": "GMAG"}, record_id="name", missing=(-99.0, 99.0))
    assert_right(colours(out))


def test_without_ids_rows_are_numbered(tmp_path: Path) -> None:
    path, out = tmp_path / "galaxies.csv", tmp_path / "out"
    as_text(path, {name: values for name, values in columns().items() if name != "id"})
    answer(out, path)
    assert list(colours(out)) == [str(n) for n in range(N)]


def test_an_id_that_no_product_may_have_is_an_error_and_no_dead_letter(tmp_path: Path) -> None:
    path, table = tmp_path / "galaxies.csv", columns()
    table["id"][500] = "x" * 257
    as_text(path, table)
    with pytest.raises(TocsinError, match=r"the id 'xxx.* has more than 256 characters: take another column with --id"):
        answer(tmp_path / "out", path)


def test_what_the_user_should_know_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    as_text(tmp_path / "galaxies.csv", columns())
    answer(tmp_path / "out", tmp_path / "galaxies.csv")
    said = capsys.readouterr().err
    assert "galaxies.csv says no units; taken to be: mag_g [mag], mag_r [mag]" in said
    assert "galaxies.csv has no column for mag_i: answered without" in said


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "renamed to nothing": ({"renamed": {"mag_g": "G"}}, "has no column G; it has: id, mag_g"),
    "no such input": ({"renamed": {"magg": "mag_g"}}, "what is read is called mag_g, mag_r, mag_i"),
    "no such id": ({"record_id": "name"}, "has no column name for --id"),
    "text": ({"renamed": {"mag_g": "id"}}, "holds string, not numbers"),
    "large": ({"block": 200_000}, "--block 200000 is too much for 2 columns: at most 104857"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_with_a_command_is_said(what: str, tmp_path: Path) -> None:
    path = tmp_path / "galaxies.parquet"
    as_parquet(path, columns())
    with pytest.raises(TocsinError, match=WRONG[what][1]):
        answer(tmp_path / "out", path, **WRONG[what][0])


def test_blocks_whose_results_would_be_too_long_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, out = tmp_path / "galaxies.csv", tmp_path / "out"
    as_text(path, columns())
    monkeypatch.setattr(catalogue, "RESULT_BYTES", 10_000)
    with pytest.raises(TocsinError, match="--block 500 is too much for what is answered: at most 8"):
        answer(out, path, block=500)
    assert answer(out, path, block=64).dead_lettered == 0


def test_a_catalogue_that_lacks_what_is_needed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "galaxies.parquet"
    as_parquet(path, {"id": [1], "mag_g": [20.0]})
    with pytest.raises(
        TocsinError, match=r"has no column mag_r; name it with --column mag_r=COLUMN\. It has: id, mag_g"
    ):
        answer(tmp_path / "out", path)


@pytest.mark.parametrize(("unit", "factor"), [("mag(AB)", 1.0), ("mmag", 1000.0)])
def test_units_of_fits_are_converted(unit: str, factor: float, tmp_path: Path) -> None:
    path, out = tmp_path / "galaxies.fits", tmp_path / "out"
    table = Table(columns())
    table["mag_g"] *= factor
    table.write(path)
    _set_unit(path, "mag_g", unit)
    answer(out, path)
    assert_right(colours(out))


def _set_unit(path: Path, column: str, unit: str) -> None:
    from astropy.io import fits

    with fits.open(path, mode="update") as found:
        found[1].header[f"TUNIT{1 + found[1].columns.names.index(column)}"] = unit


def test_other_units_of_fits_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "galaxies.fits"
    Table(columns()).write(path)
    _set_unit(path, "mag_g", "nJy")
    with pytest.raises(TocsinError, match="mag_g is in 'nJy', and is read in 'mag'"):
        answer(tmp_path / "out", path)


def test_integers_of_fits_and_parquet_may_be_nothing(tmp_path: Path) -> None:
    from astropy.io import fits

    of_fits = fits.BinTableHDU.from_columns([fits.Column("mag_g", "J", null=-1, array=np.array([20, -1, 21]))])
    of_fits.writeto(tmp_path / "a.fits")
    pq.write_table(pa.table({"mag_g": [20, None, 21]}), tmp_path / "a.parquet")
    for name, form in (("a.fits", "fits"), ("a.parquet", "parquet")):
        (chunk,) = tables.chunks(tmp_path / name, form, ["mag_g"])  # type: ignore[arg-type]
        assert np.array_equal(chunk["mag_g"], [20, np.nan, 21], equal_nan=True)


NOTHING = "x is neither FITS, Parquet, Avro nor a text table"


@pytest.mark.parametrize(
    ("content", "text"),
    [(b"", NOTHING), (b"one\n1\n", NOTHING), (b"b,a,a\n1,2,3\n", "more than one column 'a'"),
     (b"PAR1xxxx", "as Parquet"), (b"SIMPLE  = " + b" " * 80, "as FITS"), (b"\x1f\x8bxx", "cannot read"),
     (b"a,\xff\xff\n1,2\n", f"{NOTHING} in UTF-8")],
)  # fmt: skip
def test_what_is_no_table_is_said(content: bytes, text: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(TocsinError, match=text):
        answer(tmp_path / "out", tmp_path / "x")


def test_another_plan_is_refused_where_results_are(tmp_path: Path) -> None:
    as_parquet(tmp_path / "galaxies.parquet", columns())
    answer(tmp_path / "out", tmp_path / "galaxies.parquet")
    with pytest.raises(TocsinError, match="take another --out"):
        answer(tmp_path / "out", tmp_path / "galaxies.parquet", block=32)
    assert json.loads((tmp_path / "out" / "sidecar.json").read_text())["plan"]["block"] == BLOCK


def test_blocks_do_not_depend_on_how_a_file_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "galaxies.parquet"
    as_parquet(path, columns())
    found = {}
    for size in (1, 7, 64, 1000, 5000):
        plan = Plan(block=size)
        made = list(catalogue.packets(catalogue.match(path, [Colour()], plan), plan, lambda path, number: False))
        assert len(made) == catalogue.count(path, plan) == -(-N // size)
        assert [packet.record for packet in made] == list(range(len(made)))
        found[size] = [name for packet in made for name in schemas.decode(packet.value, None, "product")["records"]]
    assert all(names == columns()["id"] for names in found.values())
