"""Catalogues and products in files, through the delivery loop, to results in files: exactly once, resumable."""

from pathlib import Path

import fastavro
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.table import Table

from broker.cli import products
from broker.cli.ledger import count_inputs
from broker.core import schemas
from broker.core.config import Settings
from broker.core.errors import TocsinError
from broker.deliver.container import container
from broker.deliver.outputs import DirectoryOutputs
from broker.deliver.recount import recount_directory
from broker.sidecar import catalogue, tables
from broker.sidecar.answer import Embedded
from broker.sidecar.catalogue import Plan
from broker.sidecar.product import Product
from tests.sidecar.catalogues import BLOCK, FORMS, N, answer, as_parquet, as_text, assert_right, colours, columns, good
from tests.sidecar.rows import Colour


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


def test_blocks_do_not_depend_on_how_a_file_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "galaxies.parquet"
    as_parquet(path, columns())
    found = {}
    for size in (1, 7, 64, 1000, 5000):
        plan = Plan(block=size)
        made = list(catalogue.packets(catalogue.match(path, [Colour()], plan), plan, lambda path, number: False, print))
        assert len(made) == catalogue.count(path, plan) == -(-N // size)
        assert [packet.record for packet in made] == list(range(len(made)))
        found[size] = [name for packet in made for name in schemas.decode(packet.value, None, "product")["records"]]
    assert all(names == columns()["id"] for names in found.values())
