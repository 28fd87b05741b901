"""What a run over files says to the one who began it: of its inputs, of what is wrong with them, and of its records."""

import gzip
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.table import Table

from broker.cli import note, products
from broker.cli.ledger import count_inputs
from broker.core.config import Settings
from broker.core.errors import TocsinError
from broker.deliver.recount import recount_directory
from broker.sidecar import catalogue, tables
from broker.sidecar.catalogue import Plan
from broker.sidecar.product import Input, Kind
from broker.sidecar.write import product_message
from tests.sidecar.catalogues import BLOCK, answer, as_parquet, as_text, columns, good
from tests.sidecar.rows import Colour, galaxies

N = 20_000


@pytest.mark.parametrize("where", ["/proc/nope", "/sys/nope", "/proc", "{}/galaxies.csv", "{}/galaxies.csv/out"])
def test_a_directory_that_cannot_be_made_or_written_is_one_sentence(where: str, tmp_path: Path) -> None:
    as_text(tmp_path / "galaxies.csv", columns())
    with pytest.raises(TocsinError, match=r"cannot (make|write) .*: [A-Z][a-z ]+$"):
        answer(Path(where.format(tmp_path)), tmp_path / "galaxies.csv")


def test_bytes_that_are_damaged_amid_a_parquet_file_are_one_sentence(tmp_path: Path) -> None:
    path, values = tmp_path / "galaxies.parquet", np.random.default_rng(1).normal(20, 1, (2, N))
    pq.write_table(pa.table({"mag_g": values[0], "mag_r": values[1]}), path, row_group_size=5000)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 60_000] = b"\xff" * 60_000
    path.write_bytes(bytes(content))
    with pytest.raises(TocsinError, match=r"cannot read .*galaxies\.parquet as Parquet: "):
        answer(tmp_path / "out", path)


DIFFERENT: list[tuple[dict[str, Any], str]] = [
    ({"missing": (-99.0, 1.5)}, "was made with no --missing; this is with --missing -99 --missing 1.5: take"),
    ({"block": 32, "record_id": "ra"}, "was made with no --id, --block 64; this is with --id ra, --block 32: take"),
    ({"renamed": {"mag_g": "ra"}}, "was made with no --column; this is with --column mag_g=ra: take"),
]


@pytest.mark.parametrize(("plan", "text"), DIFFERENT)
def test_options_that_differ_are_said_as_they_are_typed(plan: dict[str, Any], text: str, tmp_path: Path) -> None:
    path, out = tmp_path / "galaxies.csv", tmp_path / "out"
    as_text(path, columns())
    answer(out, path)
    with pytest.raises(TocsinError, match=re.escape(f"{out} {text} another --out")):
        answer(out, path, **plan)
    with pytest.raises(TocsinError, match="was made with colour; this is with other: take another --out"):
        note.write(out, ["other"], Plan(block=BLOCK), [])


def test_a_folder_gives_what_is_not_hidden(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = tmp_path / ".folder", tmp_path / "out"
    (folder / ".git").mkdir(parents=True)
    as_text(folder / "galaxies.csv", columns())
    for hidden in (folder / ".lock", folder / ".git" / "config"):
        hidden.write_text("no table\n")
    assert answer(out, folder).scored == 16
    assert "\n16 blocks in " in capsys.readouterr().out
    assert recount_directory(out, source_packets=count_inputs(str(out), (), {}))["balanced"]


def test_a_folder_without_files_is_said(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / ".lock").touch()
    with pytest.raises(TocsinError, match=f"^no files in {tmp_path}/in$"):
        answer(tmp_path / "out", tmp_path / "in")
    assert not (tmp_path / "out").exists()


def test_records_without_an_answer_are_counted_by_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "galaxies.csv").write_text("id,mag_g,mag_r\nA,20,19\nB,20,\n")
    answer(tmp_path / "out", tmp_path / "galaxies.csv")
    said = capsys.readouterr().out
    assert re.match(r"colour@sim: 1 of 2 records answered, not_finite 1; [0-9,]+ records/s\n1 block in ", said)


def test_an_error_while_reading_begins_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    as_text(tmp_path / "galaxies.csv", {**columns(), "mag_g": ["oops"] * 1000})
    with pytest.raises(TocsinError):
        answer(tmp_path / "out", tmp_path / "galaxies.csv")
    assert capsys.readouterr().err.endswith("\n")


def test_flat_results_of_another_kind_have_that_as_their_reason(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(good(0))
    (tmp_path / "b").write_bytes(product_message(replace(galaxies(2, 3), kind=Kind.BOX3D)))
    answer(tmp_path / "one", tmp_path / "a", tmp_path / "b", form="parquet")
    assert pq.read_table(tmp_path / "one" / "results")["reason"].to_pylist() == [None] * 2 + ["other_kind"] * 3
    models = [Colour(), Colour(variant="far"), Colour("boxes", kind=Kind.BOX3D)]
    inputs, out = [tmp_path / "a", tmp_path / "b"], tmp_path / "out"
    products.to_directory(["colour", "colour@far", "boxes"], models, inputs, out, Settings(), Plan(), "parquet")
    table = pq.read_table(out / "results")
    boxes = np.array([False] * 2 + [True] * 3)
    for row, unread in (("colour_sim", boxes), ("colour_far", boxes), ("boxes", ~boxes)):
        assert table[f"reason_{row}"].to_pylist() == ["other_kind" if other else None for other in unread]
        assert np.array_equal(table[f"colour_{row}"].is_null().to_numpy(), unread)


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ("G,20.5,oops", "row 3 has 'oops' as mag_r"),
        ("G, ,20.5", "row 3 has ' ' as mag_g"),
        ("G,1_0,20.5", "row 3 has '1_0' as mag_g"),
        ("G,20.5", "row 3 has 2 values for 3 columns"),
    ],
)
def test_what_is_no_number_is_said_with_its_row_and_column(row: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / "galaxies.csv"
    path.write_text(f"# a comment\nid,mag_g,mag_r\nA,20,19\n\nB,N/A,\n{row}\n")
    with pytest.raises(TocsinError, match=f"cannot read {path} as a text table: {text}$"):
        answer(tmp_path / "out", path)
    path.with_suffix(".gz").write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(TocsinError, match=text):
        answer(tmp_path / "out", path.with_suffix(".gz"))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", [">f4", ">f8"])
def test_numbers_beyond_all_numbers_are_no_warning(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "galaxies.fits"
    table = Table({"mag_g": np.array([20, 3e38, np.inf]), "mag_r": np.full(3, 20.0)}, dtype=[kind, kind])
    table["mag_g"].unit = "kmag"
    table.write(path)
    answer(tmp_path / "out", path, form="parquet", missing=(-1e300,))
    assert pq.read_table(tmp_path / "out" / "results")["reason"].to_pylist() == [None, "not_finite", "not_finite"]


def test_a_catalogue_of_other_names_is_told_the_first_input_first(tmp_path: Path) -> None:
    (tmp_path / "galaxies.csv").write_text("id,B,V\nA,20,19\n")
    inputs = tuple(Input(name, "mag", required=False) for name in ("mag_u", "mag_g", "mag_err_u"))
    text = "has no column mag_u, mag_g, mag_err_u; name it with --column mag_u=COLUMN. It has: id, B, V"
    with pytest.raises(TocsinError, match=re.escape(text)):
        answer(tmp_path / "out", tmp_path / "galaxies.csv", model=Colour(inputs=inputs))


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


NOTHING = "x is neither FITS, Parquet, Avro nor a text table"


@pytest.mark.parametrize(
    ("content", "text"),
    [(b"", NOTHING), (b"one\n1\n", "x has no column mag_g, mag_r; .* It has: one$"), (b"\x89PNG\0\0", NOTHING),
     (b"# %ECSV 1.0\nid mag_g\nA 20.1\n", f"{NOTHING} whose columns commas, semicolons"),
     (b"b,a,a\n1,2,3\n", "more than one column 'a'"), (b"PAR1xxxx", "as Parquet"),
     (b"SIMPLE  = " + b" " * 80, "as FITS"), (b"\x1f\x8bxx", "cannot read"),
     (b"SIMPLE  =".ljust(80) + b"TFIELDS = 1000000000".ljust(2800), "more columns or axes than 999$"),
     (b"a,\xff\xff\n1,2\n", f"{NOTHING} in UTF-8")],
)  # fmt: skip
def test_what_is_no_table_is_said(content: bytes, text: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(TocsinError, match=text):
        answer(tmp_path / "out", tmp_path / "x")


@pytest.mark.parametrize("text", ["id,mag_g,mag_r", "id,mag_g,mag_r\n", "# galaxies\nid,mag_g,mag_r\n\n"])
def test_a_catalogue_without_rows_is_said(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.csv").write_text(text)
    as_parquet(tmp_path / "b.parquet", {name: values[:0] for name, values in columns().items()})
    Table({"mag_g": [20.0], "mag_r": [20.0]})[:0].write(tmp_path / "c.fits")
    names, out = ["a.csv", "b.parquet", "c.fits"], tmp_path / "out"
    for _ in range(2):
        assert answer(out, *(tmp_path / name for name in names)).received == 0
        said = capsys.readouterr().err.splitlines()
        assert [line for line in said if "rows" in line and "ids" not in line] == [
            f"{one} has no rows" for one in names
        ]
    assert recount_directory(out, source_packets=count_inputs(str(out), (), {}))["balanced"]


def test_numbers_that_may_stand_for_nothing_are_said_before_they_are_answered(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "galaxies.fits"
    Table({"mag_g": np.array([20.0, -99.0, 99.0], ">f4"), "mag_r": [20, 20, -999], "other": [-9999, 0, 0]}).write(path)
    odd = (
        "galaxies.fits: -99 and 99 and -999 in mag_g, mag_r may stand for nothing: --missing -99 --missing 99 --missing"
    )
    for received in (1, 0):
        assert answer(tmp_path / "out", path).received == received
        assert capsys.readouterr().err.count(odd) == 1
    answer(tmp_path / "new", path, missing=(-99.0,))
    assert "may stand for nothing" not in capsys.readouterr().err


def test_a_catalogue_of_one_column_is_read(tmp_path: Path) -> None:
    (tmp_path / "one.csv").write_text("mag_g\n20\n21.5\n")
    (chunk,) = tables.chunks(tmp_path / "one.csv", tables.form_of(tmp_path / "one.csv"), ["mag_g"])
    assert chunk["mag_g"].tolist() == [20.0, 21.5]
