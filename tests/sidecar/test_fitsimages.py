"""Images in FITS files as products: their pixels, units and scale; and what is damaged hurts nobody else."""

import gzip
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from click.testing import CliRunner

from broker.cli import products
from broker.cli.ledger import count_inputs
from broker.cli.main import tocsin
from broker.core.config import Settings
from broker.core.errors import TocsinError
from broker.deliver.loop import Totals
from broker.deliver.outputs import DirectoryOutputs
from broker.deliver.recount import recount_directory
from broker.sidecar.answer import Embedded
from broker.sidecar.catalogue import Plan
from broker.sidecar.product import Array, Input, Kind, Product, collect
from broker.sidecar.write import product_message
from tests.sidecar.catalogues import answer, colours
from tests.sidecar.rows import Colour, galaxies

SIDE, SCALE = 20, 1.8
IMAGE = Input("image", "", (1, -1, -1), pixel_scale_arcsec=SCALE)


@dataclass
class Pixels(Colour):
    """Says the sum of all pixels, each image's weighted with its number, from 1."""

    row: str = "pixels"
    kind: Kind = Kind.CUTOUT
    inputs: tuple[Input, ...] = (IMAGE,)
    stops_at: str = ""

    def embed(self, products: list[Product]) -> Embedded:
        if self.stops_at and any(self.stops_at in product.records for product in products):
            raise TocsinError("enough")
        own = [product for product in products if product.kind == self.kind]
        table = collect(own, self.inputs)
        sums = [number * table.columns[one.name].sum(axis=(1, 2, 3)) for number, one in enumerate(self.inputs, 1)]
        features = np.sum(sums, axis=0).reshape(len(table), 1)
        return Embedded([features], np.full(len(table), 0.5), table.reason)


def header(scale: float = SCALE, **more: Any) -> fits.Header:
    found = fits.Header({"CTYPE1": "RA---SIN", "CTYPE2": "DEC--SIN", "CDELT1": -scale / 3600, "CDELT2": scale / 3600})
    found.update(more)
    return found


def pixels(total: float = 5.0, side: int = SIDE) -> np.ndarray[Any, Any]:
    """Return an image (side, side) of one bright pixel."""
    image = np.zeros((side, side), np.float32)
    image[side // 2, 3] = total
    return image


def write(path: Path, data: Any = None, head: fits.Header | None = None) -> Path:
    path.parent.mkdir(exist_ok=True)
    fits.PrimaryHDU(pixels() if data is None else data, header() if head is None else head).writeto(path)
    return path


def of_rows(out: Path, models: list[Any], *paths: Path, form: str = "avro") -> Totals:
    names = [model.row for model in models]
    return products.to_directory(names, models, paths, out, Settings(), Plan(), form)


def said(out: Path, path: Path, **row: Any) -> tuple[float, str]:
    """Return the number and the reason that a file gets, '' for none; of a dead letter what it says."""
    totals = answer(out, path, model=Pixels(**row))
    assert totals.received == 1
    if totals.dead_lettered:
        (letter,) = DirectoryOutputs(out).dead_letters()
        return np.nan, f"{letter['reason']}: {letter['error']}"
    (result,) = DirectoryOutputs(out).annotations()
    assert result["records"] == [path.name.split(".")[0]]
    return colours(out)[result["records"][0]], result["unscoredReason"] or ""


def plain(path: Path) -> None:
    write(path)


def radio(path: Path) -> None:
    write(path, pixels()[None, None], header(CTYPE3="FREQ", CTYPE4="STOKES", BUNIT="JY/BEAM"))


def packed(path: Path) -> None:
    path.write_bytes(gzip.compress(write(path.with_name("unpacked")).read_bytes()))


def extension(path: Path) -> None:
    table = fits.BinTableHDU(Table({"a": [1]}))
    fits.HDUList([fits.PrimaryHDU(), table, fits.ImageHDU(pixels(), header()), fits.ImageHDU(pixels(9))]).writeto(path)


def compressed(path: Path) -> None:
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(pixels(), header(), quantize_level=0)]).writeto(path)


def blanks(path: Path) -> None:
    image = pixels()
    image[:4], image[-1] = np.nan, np.nan
    write(path, image)


def integers(path: Path) -> None:
    image = (2 * pixels()).astype(np.int16)
    image[0, 0] = -99
    write(path, image, header(BLANK=-99))
    with fits.open(path, mode="update", do_not_scale_image_data=True) as units:
        units[0].header["BSCALE"] = 0.5


def doubles(path: Path) -> None:
    write(path, pixels().astype(">f8"))


FORMS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "plain": ("fits", plain), "radio": ("FITS", radio), "packed": ("fits.gz", packed), "extension": ("fit", extension),
    "compressed": ("fits.fz", compressed), "blanks": ("fits", blanks), "integers": ("fts", integers),
    "doubles": ("fits", doubles),
}  # fmt: skip


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("form", FORMS)
def test_an_image_is_answered_whatever_its_form(form: str, tmp_path: Path) -> None:
    suffix, made = FORMS[form]
    made(tmp_path / f"J1234.{suffix}")
    assert said(tmp_path / "out", tmp_path / f"J1234.{suffix}") == (5.0, "")


@pytest.mark.parametrize(("bunit", "unit", "expected"), [
    ("Jy/beam", "mJy / beam", 5000.0), ("JY/BEAM", "Jy / beam", 5.0), (None, "nJy", 5.0), ("K", "", 5.0),
    ("nJy", "nJy", 5.0),
])  # fmt: skip
def test_pixels_come_in_the_unit_that_is_read(bunit: str | None, unit: str, expected: float, tmp_path: Path) -> None:
    path = write(tmp_path / "a.fits", None, header(BUNIT=bunit))
    found, reason = said(tmp_path / "out", path, inputs=(Input("image", unit, (1, -1, -1)),))
    assert (round(found, 3), reason) == (expected, "")


def test_units_that_are_taken_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "a.fits")
    said(tmp_path / "one", path)
    assert "pixels in FITS are read as pure numbers, whatever BUNIT says" in capsys.readouterr().err
    said(tmp_path / "other", path, inputs=(Input("image", "nJy", (1, -1, -1)),))
    assert "pixels in FITS without BUNIT are taken to be in nJy" in capsys.readouterr().err


def matrix(key: str, angle: float = 0.6, wide: float = 1.0, **more: Any) -> fits.Header:
    cos, sin = np.cos(angle), np.sin(angle)
    step = (1.0 if "CDELT1" in more else SCALE / 3600) * np.array([wide, 1.0])
    turned = np.array([[-cos, sin], [sin, cos]]) * step
    places = {f"{key}{i + 1}_{j + 1}": turned[i, j] for i in (0, 1) for j in (0, 1)}
    return fits.Header({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", **places, **more})


GONE = "bad_array: a.fits: the header does not give the pixels' size"
HEADERS: dict[str, tuple[fits.Header, str]] = {
    "CD": (matrix("CD"), ""),
    "PC": (matrix("PC", CDELT1=SCALE / 3600, CDELT2=SCALE / 3600), ""),
    "arcsec": (fits.Header({"CDELT1": -SCALE, "CDELT2": SCALE, "CUNIT1": "arcsec", "CUNIT2": "arcsec"}), ""),
    "no type": (fits.Header({"CDELT1": -SCALE / 3600, "CDELT2": SCALE / 3600}), ""),
    "within a twentieth": (header(1.04 * SCALE), ""),
    "another": (header(2.5), "wrong_scale"),
    "none": (fits.Header(), GONE),
    "zero": (header(0.0), GONE),
    "half": (fits.Header({"CDELT1": SCALE / 3600}), GONE),
    "frequency": (header(CTYPE1="FREQ"), GONE),
    "hertz": (header(CUNIT1="Hz"), GONE),
    "text": (header(CDELT1="wide"), "bad_array: a.fits: the header's CD or CDELT is no number"),
    "not square": (matrix("CD", wide=2.0), "bad_array: a.fits: the pixels are not square: 3.6 x 1.8 arcsec"),
}


@pytest.mark.parametrize("case", HEADERS)
def test_the_size_of_a_pixel_is_in_the_header(case: str, tmp_path: Path) -> None:
    head, expected = HEADERS[case]
    found, reason = said(tmp_path / "out", write(tmp_path / "a.fits", None, head))
    assert reason.startswith(expected)
    assert found == 5.0 if not expected else np.isnan(found)


def test_rows_that_take_pixels_of_any_size_need_no_header(tmp_path: Path) -> None:
    path = write(tmp_path / "a.fits", None, fits.Header())
    assert said(tmp_path / "out", path, inputs=(Input("image", "", (1, -1, -1)),)) == (5.0, "")


def test_planes_of_a_cube_are_bands_or_images_in_the_order_of_the_row(tmp_path: Path) -> None:
    path = write(tmp_path / "a.fits", np.stack([pixels(1), pixels(10), pixels(100)]))
    one = (Input("image", "", (3, -1, -1)),)
    assert said(tmp_path / "one", path, inputs=one) == (111.0, "")
    two = (Input("science", "", (1, -1, -1)), Input("templates", "", (2, -1, -1)))
    assert said(tmp_path / "two", path, inputs=two) == (1 + 2 * 110.0, "")
    assert said(tmp_path / "few", path)[1] == "wrong_shape"


def test_images_that_no_row_takes_have_their_reason(tmp_path: Path) -> None:
    assert said(tmp_path / "1", write(tmp_path / "small.fits", pixels(side=7)))[1] == "wrong_shape"
    assert said(tmp_path / "2", write(tmp_path / "large.fits", pixels(side=513)))[1] == "wrong_shape"
    assert said(tmp_path / "3", write(tmp_path / "blank.fits", np.full((SIDE, SIDE), np.nan)))[1] == "not_finite"
    assert said(tmp_path / "4", write(tmp_path / "infinite.fits", pixels(np.inf)))[1] == "not_finite"
    for number, (level, known) in enumerate([(0.0, 400), (7.0, 400), (7.0, 390), (7.0, 1)]):
        alike = np.full(SIDE * SIDE, np.nan)
        alike[:known] = level
        path = write(tmp_path / f"alike{number}.fits", alike.reshape(SIDE, SIDE))
        assert said(tmp_path / f"4{number}", path)[1] == "blank"
    adu, unit = header(BUNIT="adu"), (Input("image", "nJy", (1, -1, -1)),)
    assert said(tmp_path / "5", write(tmp_path / "adu.fits", None, adu), inputs=unit)[1] == "wrong_unit"


def changed(path: Path, key: str, value: int) -> bytes:
    content = write(path).read_bytes()
    at = content.index(f"{key:<8}=".encode())
    return content[: at + 10] + f"{value:>20}".encode() + content[at + 30 :]


def broken(folder: Path) -> Iterator[tuple[str, bytes, str]]:
    """Yield what may be wrong with a file: its name, its bytes, and what is said of it."""
    good = write(folder / "good").read_bytes()
    yield "empty.fits", b"", "empty: empty.fits: the file has 0 bytes"
    yield "text.fits", b"a note\nof two lines\n", "bad_magic: text.fits: this is no FITS file"
    yield "cut.fits", good[:3000], "malformed: cut.fits: the FITS file is damaged"
    yield "packed.fits.gz", gzip.compress(good)[:200], "malformed: packed.fits.gz: the packet's gzip is cut"
    yield "noise.fits.gz", b"\x1f\x8bxxxxxxxxxx", "malformed: noise.fits.gz: the packet's gzip does not unpack"
    yield "bomb.fits.gz", gzip.compress(good + bytes(70_000_000)), "bound_exceeded: bomb.fits.gz: the packet's gzip"
    yield (
        "huge.fits",
        changed(folder / "a", "NAXIS1", 10**9),
        "bound_exceeded: huge.fits: the image has 20 x 1,0",
    )
    yield "endless.fits", changed(folder / "b", "NAXIS", 10**9), "bound_exceeded: endless.fits: a header has more than"
    yield "odd.fits", changed(folder / "c", "BITPIX", 7), "malformed: odd.fits: the FITS file is damaged"
    fits.HDUList([fits.GroupsHDU(fits.GroupData(np.zeros((2, 1, 3)), parnames=["u"], pardata=[np.zeros(2)]))]).writeto(
        folder / "e"
    )
    yield "visibilities.fits", (folder / "e").read_bytes(), "bad_array: visibilities.fits: the file holds no image"


def test_what_is_damaged_is_a_dead_letter_that_names_the_file(tmp_path: Path) -> None:
    folder, out = tmp_path / "stamps", tmp_path / "out"
    (tmp_path / "scratch").mkdir()
    expected = dict[str, str]()
    write(folder / "first.fits")
    for name, content, text in broken(tmp_path / "scratch"):
        (folder / name).write_bytes(content)
        expected[name] = text
    write(folder / "zlast.fits")
    totals = answer(out, folder, model=Pixels())
    assert (totals.scored, totals.dead_lettered) == (2, len(expected))
    assert colours(out) == {"first": 5.0, "zlast": 5.0}
    for letter in DirectoryOutputs(out).dead_letters():
        name = Path(letter["topic"]).name
        assert f"{letter['reason']}: {letter['error']}".startswith(expected.pop(name))
        assert letter["packet"] == (folder / name).read_bytes()
    assert not expected
    found = recount_directory(out, source_packets=count_inputs(str(out), (), {}))
    assert (found["balanced"], found["received"]) == (True, totals.received)
    assert answer(out, folder, model=Pixels()).received == 0


def test_what_was_stopped_goes_on_where_it_was(tmp_path: Path) -> None:
    folder, out, settings = tmp_path / "stamps", tmp_path / "out", Settings.model_validate({"batch": {"max_alerts": 3}})
    for number in range(10):
        write(folder / f"{number}.fits", pixels(number + 0.5))

    def run(stops_at: str) -> Totals:
        return products.to_directory(["pixels"], [Pixels(stops_at=stops_at)], [folder], out, settings, Plan(), "avro")

    with pytest.raises(TocsinError, match="enough"):
        run("7")
    assert list(colours(out)) == ["0", "1", "2", "3", "4", "5"]
    assert run("").received == 4
    assert colours(out) == {str(number): number + 0.5 for number in range(10)}
    write(folder / "new.fits")
    assert run("").received == 1


def test_images_catalogues_and_products_go_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = tmp_path / "all", tmp_path / "out"
    write(folder / "image", pixels(8.0))
    Table({"id": ["A"], "mag_g": [21.0], "mag_r": [20.0]}).write(folder / "table.fits")
    (folder / "avro.fits").write_bytes(product_message(galaxies(50, 1)))
    (folder / "bad.fits").write_bytes(b"SIMPLE")
    totals = of_rows(out, [Colour(), Pixels()], folder)
    assert (totals.scored, totals.dead_lettered) == (3, 1)
    assert colours(out) == {"A": 1.0, "image": 8.0, "galaxy 50": 0.5}
    assert recount_directory(out, source_packets=count_inputs(str(out), (), {}))["balanced"]
    assert "read nothing" not in capsys.readouterr().err


def test_a_row_that_reads_nothing_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Table({"id": ["A"], "mag_g": [21.0], "mag_r": [20.0]}).write(tmp_path / "table.fits")
    of_rows(tmp_path / "one", [Colour(), Pixels()], tmp_path / "table.fits")
    nothing = "pixels@sim read nothing: it reads the kind cutout, and none came"
    assert nothing in capsys.readouterr().err.splitlines()
    of_rows(tmp_path / "one", [Colour(), Pixels()], tmp_path / "table.fits")
    assert "read nothing" not in capsys.readouterr().err, "nothing new came"
    of_rows(tmp_path / "two", [Colour(), Pixels()], write(tmp_path / "image.fits"))
    assert "colour@sim read nothing: it reads the kind catalog, and none came" in capsys.readouterr().err
    box = tmp_path / "box.avro"
    box.write_bytes(product_message(Product("p", Kind.BOX3D, ["a"], {"x": Array("", np.zeros(1))})))
    with pytest.raises(TocsinError, match=nothing):
        of_rows(tmp_path / "three", [Pixels()], box)


def test_a_catalogue_for_rows_of_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text("id,mag_g\nA,20\n")
    with pytest.raises(
        TocsinError, match=r"c\.csv would be a catalogue, and .* of the kind cutout: give images in FITS or"
    ):
        of_rows(tmp_path / "out", [Pixels()], tmp_path / "c.csv")


def test_the_command_answers_radio_maps_and_tries_damaged_ones_again(tmp_path: Path) -> None:
    """Two lobes with bright ends, and a map without a scale, through the row as it is shipped."""
    y, x = np.mgrid[:150, :150] - 74.5
    lobes = sum(np.exp(-((x - side) ** 2 + y**2) / 18) for side in (-15, 15))
    image = (lobes + np.random.default_rng(1).normal(0, 0.01, lobes.shape)).astype(np.float32)
    write(tmp_path / "J1.fits", image[None, None], header(BUNIT="JY/BEAM"))
    write(tmp_path / "J2.fits", image, fits.Header())
    out, given = str(tmp_path / "out"), [str(tmp_path / name) for name in ("J1.fits", "J2.fits")]
    run = CliRunner().invoke(tocsin, ["sidecar", "radio-fr", "--input", *given, "--out", out])
    assert run.exit_code == 0, run.output
    assert "1 of 1 records answered" in run.output
    (result,) = DirectoryOutputs(tmp_path / "out").annotations()
    (output,) = result["answers"][0]["outputs"]
    assert (result["records"], output["labels"][int(np.frombuffer(output["value"], "<f4")[0])]) == (["J1"], "FR II")
    again = CliRunner().invoke(tocsin, ["dlq", "retry", out])
    assert "1 dead letters retried: 1 dead again" in again.output
    checked = CliRunner().invoke(tocsin, ["ledger", out, "--verify-source"])
    assert (checked.exit_code, "balanced" in checked.output) == (0, True)
