"""FITS files as they come: in tarballs, too large, with many units, and with odd headers."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from broker.cli.ledger import count_inputs
from broker.deliver.outputs import DirectoryOutputs
from broker.deliver.recount import recount_directory
from broker.sidecar.fitsimages import UNITS
from tests.sidecar.catalogues import answer, colours
from tests.sidecar.test_fitsimages import Pixels, header, pixels, said, write

LONG = "long/" + "n" * 120
FORMATS = {"pax": tarfile.PAX_FORMAT, "gnu": tarfile.GNU_FORMAT, "ustar": tarfile.USTAR_FORMAT}


def stamp(total: float) -> bytes:
    out = io.BytesIO()
    fits.PrimaryHDU(pixels(total), header()).writeto(out)
    return out.getvalue()


@pytest.mark.parametrize("form", FORMATS)
def test_images_in_a_tarball_are_called_as_its_members(form: str, tmp_path: Path) -> None:
    names = {"a/J1.fits": 1.0, "J2": 2.0, "ö/J3.fit": 3.0}
    names |= {f"{LONG}.fits": 4.0, "J5.fits": 5.0} if form != "ustar" else {}
    path, out = tmp_path / "stamps.tar.gz", tmp_path / "out"
    with tarfile.open(path, "w:gz", format=FORMATS[form]) as archive:
        for name, content in [*((name, stamp(total)) for name, total in names.items()), ("sub/bad.fits", b"SIMPLE")]:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    totals = answer(out, path, model=Pixels())
    assert (totals.scored, totals.dead_lettered) == (len(names), 1)
    assert colours(out) == {Path(name).name.split(".")[0]: total for name, total in names.items()}
    ids = {result["productId"] for result in DirectoryOutputs(out).annotations()}
    assert ids == {f"{path}/{name}"[-256:] for name in names}
    (letter,) = DirectoryOutputs(out).dead_letters()
    assert letter["error"].startswith("bad.fits: ")
    assert recount_directory(out, source_packets=count_inputs(str(out), (), {}))["balanced"]
    assert answer(out, path, model=Pixels()).received == 0


def test_a_file_that_is_too_large_to_be_read_says_so(tmp_path: Path) -> None:
    path = write(tmp_path / "mosaic.fits", np.arange(2100.0**2).reshape(2100, 2100))
    assert said(tmp_path / "out", path)[1] == "bound_exceeded: mosaic.fits: the file has more than 32 MB"


def test_a_history_of_axes_is_no_header(tmp_path: Path) -> None:
    head = header()
    head["HISTORY"] = "IMHEAD: NAXIS = 2048, TFIELDS = 4000"
    head["COMMENT"] = "NAXIS   =           1000000000"
    assert said(tmp_path / "out", write(tmp_path / "a.fits", None, head)) == (5.0, "")


@pytest.mark.parametrize("before", [UNITS - 1, UNITS])
def test_an_image_is_looked_for_in_the_first_units(before: int, tmp_path: Path) -> None:
    empty = [fits.ImageHDU() for _ in range(before - 1)]
    path = tmp_path / "a.fits"
    fits.HDUList([fits.PrimaryHDU(), *empty, fits.ImageHDU(pixels(), header())]).writeto(path)
    nothing = np.nan, f"bad_array: a.fits: the file holds no image in its first {UNITS} units"
    np.testing.assert_equal(said(tmp_path / "out", path), (5.0, "") if before < UNITS else nothing)
