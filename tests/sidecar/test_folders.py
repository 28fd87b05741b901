"""What a folder gives: what no row reads is left out and said; what is named and cannot be read is an error."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table

from broker.cli import note, products
from broker.cli.ledger import count_inputs
from broker.core.config import Settings
from broker.core.errors import TocsinError
from broker.deliver.loop import Totals
from broker.deliver.recount import recount_directory
from broker.sidecar.catalogue import Plan
from tests.sidecar.catalogues import answer, as_text, colours, columns, good
from tests.sidecar.rows import Colour
from tests.sidecar.test_fitsimages import Pixels, pixels, write

Models = Sequence[Colour]
STAMPS, HOSTS, BOTH = [Pixels()], [Colour()], [Colour(), Pixels()]


def run(out: Path, models: Models, *paths: Path, **plan: object) -> Totals:
    names = [model.row for model in models]
    return products.to_directory(names, models, paths, out, Settings(), Plan(**plan), "avro")  # type: ignore[arg-type]


def balanced(out: Path) -> bool:
    return bool(recount_directory(out, source_packets=count_inputs(str(out), (), {}))["balanced"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder of a stamp, a catalogue, a product, and what nobody reads."""
    found = tmp_path / "in"
    write(found / "stamp.fits", pixels(8.0))
    Table({"id": ["A"], "mag_g": [21.0], "mag_r": [20.0]}).write(found / "hosts.fits")
    (found / "product").write_bytes(good(50, 1))
    (found / "README.txt").write_text("Stamps, hosts and one product.\n")
    (found / "plot.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(100))
    (found / "list.csv").write_text("name,size\nstamp,1\n")
    (found / "empty").touch()
    return found


LEFT_OUT = {"README.txt", "plot.png", "list.csv", "empty"}
CASES: dict[str, tuple[Models, dict[str, float], set[str]]] = {
    "stamps": (STAMPS, {"stamp": 8.0}, LEFT_OUT | {"hosts.fits"}),
    "hosts": (HOSTS, {"A": 1.0, "galaxy 50": 0.5}, LEFT_OUT | {"stamp.fits"}),
    "both": (BOTH, {"A": 1.0, "galaxy 50": 0.5, "stamp": 8.0}, LEFT_OUT),
}


@pytest.mark.parametrize("case", CASES)
def test_what_no_row_reads_hurts_no_neighbour(
    case: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models, expected, left = CASES[case]
    out = tmp_path / "out"
    for received in (3 if case == "both" else 2, 0):
        totals = run(out, models, folder)
        assert (totals.received, totals.dead_lettered) == (received, 0)
        told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("left out: ")]
        assert {Path(line.split()[2]).name for line in told} == left
        assert {name: value for name, value in colours(out).items() if np.isfinite(value)} == expected
        assert balanced(out)


@pytest.mark.parametrize("case", ["stamps", "hosts"])
def test_what_is_named_and_no_row_reads_is_an_error(case: str, folder: Path, tmp_path: Path) -> None:
    models, _, left = CASES[case]
    for name in left:
        with pytest.raises(TocsinError, match=name):
            run(tmp_path / "out", models, folder, folder / name)
    assert not (tmp_path / "out").exists()


def test_what_was_left_out_may_become_a_product_and_what_was_answered_not_be_left_out(
    folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run(out, HOSTS, folder)
    (folder / "plot.png").write_bytes(good(70, 1))
    assert run(out, HOSTS, folder).received == 1
    assert balanced(out)
    (folder / "hosts.fits").write_text("gone\n")
    for again in (lambda: run(out, HOSTS, folder), lambda: count_inputs(str(out), (), {})):
        with pytest.raises(TocsinError, match=r"hosts\.fits is not the file that"):
            again()


def test_a_folder_of_nothing_that_is_read_says_why(folder: Path, tmp_path: Path) -> None:
    for path in folder.iterdir():
        if path.name not in LEFT_OUT:
            path.unlink()
    with pytest.raises(TocsinError, match=r"^no files that a row reads in .*/in; .*README\.txt has no column mag_g"):
        run(tmp_path / "out", HOSTS, folder)


def test_many_files_that_are_left_out_are_not_all_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "in" / "stamp.fits")
    for number in range(20):
        (tmp_path / "in" / f"{number}.txt").write_text("of a stamp\n")
    run(tmp_path / "out", STAMPS, tmp_path / "in")
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("left out: ")]
    assert (len(told), told[-1]) == (9, "left out: 12 more files that no row reads")


def test_a_damaged_catalogue_of_a_folder_is_still_an_error(folder: Path, tmp_path: Path) -> None:
    (folder / "cut.parquet").write_bytes(b"PAR1" + bytes(100))
    with pytest.raises(TocsinError, match=r"cannot read .*cut\.parquet as Parquet"):
        run(tmp_path / "out", HOSTS, folder)


def test_an_image_behind_a_table_is_for_rows_of_images(tmp_path: Path) -> None:
    from astropy.io import fits

    table, image = fits.BinTableHDU(Table({"a": np.zeros(400_000)})), fits.ImageHDU(pixels(3.0))
    image.header.update(CDELT1=-1.8 / 3600, CDELT2=1.8 / 3600)
    fits.HDUList([fits.PrimaryHDU(), table, image]).writeto(tmp_path / "J1.fits")
    run(tmp_path / "out", STAMPS, tmp_path / "J1.fits")
    assert colours(tmp_path / "out") == {"J1": 3.0}


def test_results_within_the_folder_of_the_inputs_are_not_read(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    as_text(folder / "galaxies.csv", columns())
    out = folder / "answers" / "out"
    assert answer(out, folder).received == 16
    assert answer(out, folder).received == 0
    assert balanced(out)
    with pytest.raises(TocsinError, match="--out is the folder of --input: take one in it, or another"):
        answer(folder, folder)
    assert answer(out, *sorted(folder.iterdir())).received == 0, "as the shell gives them"
    assert answer(folder / "others", folder).received == 16
    assert answer(tmp_path, folder).received == 16


@pytest.mark.parametrize("name", [b"a\xff.csv", b"a\nb.csv", "a\u2028b.csv".encode()])
def test_a_name_that_no_note_can_hold_is_said(name: bytes, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    path = Path(os.fsdecode(os.fsencode(tmp_path / "in") + b"/" + name))
    as_text(path, columns())
    for given in (path, tmp_path / "in"):
        with pytest.raises(
            TocsinError, match=r"name of '.*': rename it|the name of '.*' is not UTF-8: rename it"
        ) as told:
            answer(tmp_path / "out", given)
        str(told.value).encode()
    assert not (tmp_path / "out").exists()


OPTIONS: dict[str, dict[str, object]] = {
    "--column": {"renamed": {"mag_g": "g"}},
    "--missing": {"missing": (-99.0,)},
    "--id": {"record_id": "name"},
}


@pytest.mark.parametrize("option", OPTIONS)
def test_options_of_catalogues_are_refused_where_there_is_none(option: str, tmp_path: Path) -> None:
    write(tmp_path / "stamp.fits")
    with pytest.raises(TocsinError, match=f"{option}: this is of catalogues, and there is none"):
        run(tmp_path / "out", STAMPS, tmp_path / "stamp.fits", **OPTIONS[option])


def test_an_image_that_is_another_one_is_refused_where_it_was_answered(tmp_path: Path) -> None:
    path, out = write(tmp_path / "in" / "stamp.fits"), tmp_path / "out"
    run(out, STAMPS, tmp_path / "in")
    path.write_bytes(path.read_bytes())
    assert run(out, STAMPS, tmp_path / "in").received == 0
    path.unlink()
    write(path, pixels(7.0))
    for again in (lambda: run(out, STAMPS, tmp_path / "in"), lambda: count_inputs(str(out), (), {})):
        with pytest.raises(TocsinError, match=r"stamp\.fits is not the file that .* was made of: its bytes are others"):
            again()


def test_notes_of_an_earlier_version_are_read(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(out, BOTH, folder / "stamp.fits", folder / "hosts.fits")
    text = (out / note.NOTE).read_text()
    head, _, _ = text.partition(', "images"')
    (out / note.NOTE).write_text(head + "}\n")
    assert run(out, BOTH, folder / "stamp.fits", folder / "hosts.fits").received == 0
    assert (out / note.NOTE).read_text() == text


def test_a_catalogue_and_an_image_are_products_and_not_blocks(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    run(out, BOTH, folder / "stamp.fits", folder / "hosts.fits")
    assert "\n2 products in " in capsys.readouterr().out
    assert products.what_of(out) == "products"
    run(tmp_path / "hosts", HOSTS, folder / "hosts.fits")
    assert "\n1 block in " in capsys.readouterr().out
    assert products.what_of(tmp_path / "hosts") == "blocks"
