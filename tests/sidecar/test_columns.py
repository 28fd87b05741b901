"""Which column of a catalogue is which input: none is two, and case is ignored only where that is clear."""

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.table import Table

from broker.cli import products
from broker.core.config import Settings
from broker.core.errors import TocsinError
from broker.models.survey import registry
from broker.sidecar import catalogue
from broker.sidecar.answer import Embedded
from broker.sidecar.catalogue import Matched, Plan
from broker.sidecar.fetch import Fetch
from broker.sidecar.product import Input, Product
from broker.sidecar.read import product
from tests.sidecar.catalogues import answer
from tests.sidecar.rows import Colour

BOTH = (Input("redshift"), Input("flux_z", "nJy", required=False), Input("flux_Z", "nJy", required=False))


class Reader(Colour):
    """Reads any columns."""

    def embed(self, products: list[Product]) -> Embedded:
        records = sum(map(len, products))
        return Embedded([np.zeros((records, 1), np.float32)], np.zeros(records), [""] * records)


def matched(path: Path, names: list[str], inputs: tuple[Input, ...], renamed: dict[str, str] | None = None) -> Matched:
    """Return what is found in a catalogue in which each column holds its own number, from 1."""
    table = Table({name: [number] for number, name in enumerate(names, 1)}, dtype=["f8"] * len(names))
    table.write(path, overwrite=True)
    return catalogue.match(path, [Reader(inputs=inputs)], Plan(renamed or {}))


def read(
    path: Path, names: list[str], inputs: tuple[Input, ...] = BOTH, renamed: dict[str, str] | None = None
) -> dict[str, str]:
    """Return the column that each input is read from, after it went through a product."""
    found = matched(path, names, inputs, renamed)
    (packet,) = catalogue.packets(found, Plan(), lambda path, number: False, print)
    arrays = product(packet.value, Fetch()).arrays
    return {name: names[int(array.values[0]) - 1] for name, array in arrays.items()}


CASES: dict[str, tuple[list[str], dict[str, str], dict[str, str]]] = {
    "both": (["redshift", "flux_z", "flux_Z"], {}, {"flux_z": "flux_z", "flux_Z": "flux_Z"}),
    "one": (["redshift", "flux_z"], {}, {"flux_z": "flux_z"}),
    "the other": (["redshift", "flux_Z"], {}, {"flux_Z": "flux_Z"}),
    "neither": (["redshift", "FLUX_Z"], {}, {}),
    "one and a third": (["redshift", "flux_z", "FLUX_Z"], {}, {"flux_z": "flux_z"}),
    "named": (["redshift", "FLUX_Z"], {"flux_z": "FLUX_Z"}, {"flux_z": "FLUX_Z"}),
    "named otherwise": (["redshift", "flux_Z"], {"flux_z": "flux_Z"}, {"flux_z": "flux_Z"}),
    "exchanged": (["redshift", "flux_z", "flux_Z"], {"flux_z": "flux_Z", "flux_Z": "flux_z"},
                  {"flux_z": "flux_Z", "flux_Z": "flux_z"}),
    "elsewhere": (["redshift", "flux_z", "vista"], {"flux_Z": "vista"}, {"flux_z": "flux_z", "flux_Z": "vista"}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_no_column_is_two_inputs(case: str, tmp_path: Path) -> None:
    names, renamed, expected = CASES[case]
    assert read(tmp_path / "c.fits", names, renamed=renamed) == {"redshift": "redshift", **expected}


def test_case_alone_tells_columns_apart_where_nothing_else_is_alike(tmp_path: Path) -> None:
    found = read(tmp_path / "c.fits", ["REDSHIFT", "Flux_z"], BOTH[:2])
    assert found == {"redshift": "REDSHIFT", "flux_z": "Flux_z"}
    found = read(tmp_path / "c.fits", ["redshift", "Flux_z", "FLUX_Z"], BOTH[:2])
    assert found == {"redshift": "redshift"}, "two columns for one input"


def test_alike_inputs_of_two_rows_are_not_clear_either(tmp_path: Path) -> None:
    Table({"redshift": [1.0], "FLUX_Z": [1.0]}).write(tmp_path / "c.fits")
    models = [Reader("sdss", inputs=BOTH[:2]), Reader("vista", inputs=(BOTH[0], BOTH[2]))]
    found = catalogue.match(tmp_path / "c.fits", models, Plan())
    assert (found.absent, found.unclear) == (["flux_Z", "flux_z"], {"FLUX_Z": ["flux_z", "flux_Z"]})


def test_a_required_input_that_is_not_clear_asks_for_its_column(tmp_path: Path) -> None:
    inputs = tuple(Input(name, "nJy") for name in ("flux_z", "flux_Z"))
    with pytest.raises(TocsinError, match=re.escape("has no column flux_Z; name it with --column flux_Z=COLUMN")):
        read(tmp_path / "c.fits", ["redshift", "flux_z"], inputs)
    with pytest.raises(TocsinError, match=re.escape("has no column flux_z, flux_Z; name it with --column flux_z=")):
        read(tmp_path / "c.fits", ["redshift", "FLUX_Z"], inputs)


def test_one_column_named_for_two_inputs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TocsinError, match="--column: z is given for flux_z and for flux_Z: one column is one input"):
        read(tmp_path / "c.fits", ["redshift", "z"], renamed={"flux_z": "z", "flux_Z": "z"})


def test_the_bands_of_a_real_row_are_told_apart(tmp_path: Path) -> None:
    """SDSS's z and VISTA's Z are two of the bands of sps-mlp: a catalogue that lacks one is answered without."""
    inputs = registry.find("sps-mlp")[0].inputs
    names = [one.name for one in inputs]
    assert {"flux_z", "flux_Z", "flux_err_z", "flux_err_Z"} <= set(names)
    assert read(tmp_path / "c.fits", names, inputs) == {name: name for name in names}
    vista = {"flux_Z", "flux_err_Z"}
    sdss = [name for name in names if name not in vista]
    assert read(tmp_path / "c.fits", sdss, inputs) == {name: name for name in sdss}
    assert matched(tmp_path / "c.fits", sdss, inputs).absent == sorted(vista)
    clear = [name for name in sdss if name not in {"flux_z", "flux_err_z"}]
    assert read(tmp_path / "c.fits", [name.upper() for name in sdss], inputs) == {name: name.upper() for name in clear}
    given = {"flux_z": "FLUX_Z", "flux_err_z": "FLUX_ERR_Z"}
    found = read(tmp_path / "c.fits", [name.upper() for name in sdss], inputs, given)
    assert found == {name: name.upper() for name in sdss}


def test_what_is_not_clear_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Table({"id": ["A"], "redshift": [0.1], "FLUX_Z": [1.0]}).write(tmp_path / "c.fits")
    rows = Reader(inputs=BOTH)
    answer(tmp_path / "out", tmp_path / "c.fits", model=rows)
    said = capsys.readouterr().err
    assert "c.fits: FLUX_Z may be flux_z or flux_Z, and is not read; --column flux_z=COLUMN says what it is" in said
    assert "c.fits has no column for flux_Z, flux_z: answered without" in said


def test_a_row_that_lacks_what_it_needs_is_named_beside_one_that_does_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Table({"id": ["A"], "redshift": [0.1]}).write(tmp_path / "c.fits")
    models = [Reader("one", inputs=BOTH), Reader("other", inputs=(Input("size"), BOTH[1]))]
    products.to_directory(["one", "other"], models, [tmp_path / "c.fits"], tmp_path / "out", Settings(), Plan(), "avro")
    said = capsys.readouterr().err
    assert "c.fits has no column for size, without which other says nothing" in said
    assert "c.fits has no column for flux_Z, flux_z: answered without" in said


def test_units_of_logarithms_are_those_of_astropy(tmp_path: Path) -> None:
    Table({"m": [10.0]}).write(tmp_path / "c.fits")
    with fits.open(tmp_path / "c.fits", mode="update") as found:
        found[1].header["TUNIT1"] = "dex(solMass)"
    inputs = (Input("m", "log10(solMass)"),)
    assert catalogue.match(tmp_path / "c.fits", [Reader(inputs=inputs)], Plan()).columns == [(inputs[0], "m", 1.0)]


def numbered(path: Path, form: str) -> None:
    """Write a catalogue whose ids are numbers that a row reads; one is nothing, one has more digits than a double."""
    numbers = [2**53 + 1, 7, -1]
    if form == "csv":
        path.write_text("first,n\n" + "".join(f"x,{'' if one < 0 else one}\n" for one in numbers))
    elif form == "parquet":
        pq.write_table(pa.table({"n": [None if one < 0 else one for one in numbers]}), path)
    else:
        fits.BinTableHDU.from_columns([fits.Column("n", "K", null=-1, array=np.array(numbers))]).writeto(path)


@pytest.mark.parametrize(("form", "nothing"), [("csv", ""), ("parquet", ""), ("fits", "-1")])
def test_a_column_of_ids_may_be_one_that_is_read(form: str, nothing: str, tmp_path: Path) -> None:
    numbered(tmp_path / "c", form)
    plan, inputs = Plan(record_id="n", block=2), (Input("n", required=False),)
    found = catalogue.match(tmp_path / "c", [Reader(inputs=inputs)], plan)
    made = [
        product(packet.value, Fetch()) for packet in catalogue.packets(found, plan, lambda path, number: False, print)
    ]
    assert [name for one in made for name in one.records] == [str(2**53 + 1), "7", nothing]
    values = np.concatenate([one.arrays["n"].values for one in made])
    assert np.array_equal(values, [2**53, 7, np.nan], equal_nan=True)


def test_a_text_table_whose_first_column_has_no_name_is_counted(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text(",mag_g\n0,20\n1,21\n")
    assert catalogue.count(tmp_path / "c.csv", Plan(block=1)) == 2


def test_a_number_that_is_none_is_told_in_a_column_of_ids_too(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text("x,n\n1,5\n2,oops\n")
    with pytest.raises(TocsinError, match="row 2 has 'oops' as n"):
        answer(tmp_path / "out", tmp_path / "c.csv", model=Reader(inputs=(Input("n"),)), record_id="n")
