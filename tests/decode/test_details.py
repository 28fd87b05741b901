"""Host columns and stamps of chosen alerts: the rule for a host, and nothing that a sender can break."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import pytest

from broker.archive import fields, simulate
from broker.core.details import Columns, Details, Images, Missing, NotSent
from broker.decode import SchemaStore, details, fits, read
from tests.decode.conftest import Real
from tests.packets import Packet, edited

NOWHERE = {
    f"{name}{n}": -999.0 for n in (1, 2, 3) for name in ("sgmag", "srmag", "simag", "szmag", "sgscore", "distpsnr")
}
GALAXY = {"sgmag": 18.5, "srmag": 18.0, "simag": -999.0, "szmag": 17.6, "sgscore": 0.02, "distpsnr": 3.0}


@pytest.fixture(scope="module")
def packet() -> bytes:
    """Return one simulated ZTF packet."""
    return next(iter(simulate.night("ztf", 1, 7))).value


def beside(packet: bytes, *sources: tuple[int, dict[str, float]]) -> Details:
    """Return the details of an alert with only these Pan-STARRS neighbours, by number."""
    near: dict[str, Any] = NOWHERE | {f"{name}{n}": value for n, source in sources for name, value in source.items()}
    near |= {f"objectidps{n}": 10**17 + n for n in (1, 2, 3)}
    changed = edited(packet, lambda record: record["candidate"].update(near))
    return details(changed, "ztf", SchemaStore(), stamps=False)


def test_a_galaxy_nearby_is_the_host(packet: bytes) -> None:
    found = beside(packet, (2, GALAXY)).catalog
    assert isinstance(found, Columns)
    assert found.record == "100000000000000002"
    np.testing.assert_allclose([found.values[f"mag_{b}"] for b in "griz"], [18.5, 18.0, np.nan, 17.6], rtol=1e-6)
    assert found.units["mag_g"] == "mag"
    assert found.values["host_distance"] == 3.0
    # Bloom, Kulkarni & Djorgovski (2002), by hand: 4.611e-5 galaxies of 18 mag or brighter per arcsec²
    assert found.values["host_chance"] == pytest.approx(1 - np.exp(-np.pi * 9 * 4.611e-5), rel=1e-3)


def test_the_brighter_of_two_galaxies_may_be_the_farther_one(packet: bytes) -> None:
    bright = GALAXY | {"srmag": 15.0, "distpsnr": 6.0}
    found = beside(packet, (1, GALAXY), (2, bright)).catalog
    assert isinstance(found, Columns)
    assert found.values["mag_r"] == 15.0


@pytest.mark.parametrize(
    "sources",
    [
        (),
        ((1, GALAXY | {"sgscore": 0.5}),),  # Pan-STARRS does not say
        ((1, GALAXY | {"srmag": 21.9, "distpsnr": 9.0}),),  # near by chance
        ((1, GALAXY | {"distpsnr": -999.0}),),
        ((1, GALAXY | {"distpsnr": float("nan")}),),
        ((1, GALAXY | {"distpsnr": float("inf")}),),
        ((1, GALAXY | dict.fromkeys(("sgmag", "srmag", "simag", "szmag"), -999.0)),),
        ((1, GALAXY | {"sgscore": 0.99, "distpsnr": 0.3}), (2, GALAXY)),  # the star is what varies
    ],
)
def test_what_is_no_host(packet: bytes, sources: tuple[tuple[int, dict[str, float]], ...]) -> None:
    assert beside(packet, *sources).catalog == Missing(NotSent.NO_HOST)


def test_stamps_are_the_images_in_the_packet(packet: bytes) -> None:
    (record,) = fastavro.reader(io.BytesIO(packet))
    assert isinstance(record, dict)
    found = details(packet, "ztf", SchemaStore()).cutout
    assert isinstance(found, Images)
    assert (found.pixels.shape, found.pixels.dtype.name, found.unit) == ((3, 63, 63), "float32", "adu")
    assert found.zero_point == pytest.approx(record["candidate"]["magzpsci"])
    assert found.pixel_scale_arcsec == pytest.approx(1.01, abs=0.01)
    for name, image in zip(found.names, found.pixels, strict=True):
        raw = gzip.decompress(record[f"cutout{name.title()}"]["stampData"])
        assert image.astype(">f4").tobytes() in raw


def stamped(data: bytes) -> Callable[[Packet], None]:
    return lambda record: record["cutoutTemplate"].update(stampData=data)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (stamped(b""), NotSent.BAD_STAMP),
        (stamped(b"nonsense"), NotSent.BAD_STAMP),
        (stamped(gzip.compress(b"SIMPLE" + bytes(10**8))), NotSent.BAD_STAMP),  # 100 kB that become 100 MB
        (stamped(gzip.compress(b"SIMPLE")[:-9]), NotSent.BAD_STAMP),
        (stamped(b"\x1f\x8b" + b"\xff" * 50), NotSent.BAD_STAMP),
        (lambda record: record.update(cutoutDifference=None), NotSent.BAD_STAMP),
        (
            lambda record: record.update(dict.fromkeys(("cutoutScience", "cutoutTemplate", "cutoutDifference"))),
            NotSent.NO_STAMPS,
        ),
    ],
)
def test_a_bad_stamp_costs_the_stamps_alone(packet: bytes, change: Callable[[Packet], None], reason: NotSent) -> None:
    found = details(edited(packet, change), "ztf", SchemaStore())
    assert isinstance(found.cutout, Missing)
    assert found.cutout.reason == reason
    assert repr(found.catalog) == repr(details(packet, "ztf", SchemaStore()).catalog)


def test_columns_of_another_type_are_a_bad_packet(packet: bytes) -> None:
    text = fastavro.reader(io.BytesIO(packet)).writer_schema
    (candidate,) = (field["type"] for field in text["fields"] if field["name"] == "candidate")
    for field in candidate["fields"]:
        if field["name"] == "sgmag2":
            field.update(type="string", default="")
    (record,) = fastavro.reader(io.BytesIO(packet))
    record["candidate"]["sgmag2"] = "18"
    out = io.BytesIO()
    fastavro.writer(out, text, [record])
    for part in (details(out.getvalue(), "ztf", SchemaStore()).catalog, details(b"?", "ztf", SchemaStore()).cutout):
        assert isinstance(part, Missing)
        assert part.reason == NotSent.BAD_PACKET


def test_damaged_packets_raise_nothing(packet: bytes) -> None:
    rng = np.random.default_rng(3)
    start = packet.index(b"candid", len(packet) // 8)  # behind the schema, mostly
    for _ in range(300):
        damaged = bytearray(packet)
        for at in rng.integers(start, len(packet), 3).tolist():
            damaged[at] = int(rng.integers(0, 256))
        assert isinstance(details(bytes(damaged), "ztf", SchemaStore()), Details)


@pytest.fixture
def rubin_store(tmp_path: Path) -> SchemaStore:
    simulate.install_schema(tmp_path)
    return SchemaStore(None, tmp_path)


def test_rubin_gives_stamps_and_the_width_of_the_psf(rubin_store: SchemaStore) -> None:
    for packet in simulate.night("lsst", 12, 3):
        found = details(packet.value, "lsst", rubin_store).cutout
        assert isinstance(found, Images)
        assert (found.pixels.shape, found.unit, found.zero_point) == ((3, 30, 30), "nJy", 31.4)
        assert found.psf_fwhm_arcsec == pytest.approx(0.8, rel=0.01)  # the simulator's Gaussian: 4 pixels of 0.2 arcsec


def test_rubin_gives_the_mean_fluxes_at_the_object_or_nothing(rubin_store: SchemaStore) -> None:
    packet = next(p.value for p in simulate.night("lsst", 12, 3) if not p.truth.object_id.startswith("ss"))
    assert details(packet, "lsst", rubin_store).catalog == Missing(NotSent.NO_COLUMNS)
    record = read(packet, rubin_store)
    record["diaObject"].update(g_scienceFluxMean=1500.0, g_scienceFluxMeanErr=12.5)
    out = io.BytesIO(packet[:5])
    out.seek(5)
    fastavro.schemaless_writer(out, fields.load("lsst").parsed, record)
    found = details(out.getvalue(), "lsst", rubin_store).catalog
    assert isinstance(found, Columns)
    assert found.record == str(record["diaObject"]["diaObjectId"])
    assert set(found.units.values()) == {"nJy"}
    finite = {name: value for name, value in found.values.items() if np.isfinite(value)}
    assert finite == {"science_flux_mean_g": 1500.0, "science_flux_mean_err_g": 12.5}


def test_real_packets_have_stamps_and_some_have_hosts(real: Real) -> None:
    ztf = [details(packet, "ztf", SchemaStore()) for packet in (*real.ztf_401, *real.ztf_33, *real.ztf_30)]
    assert all(isinstance(one.cutout, Images) for one in ztf)
    hosts = [one.catalog for one in ztf if isinstance(one.catalog, Columns)]
    assert len(hosts) >= 8
    assert all(found.values["star_galaxy"] < 0.5 and found.values["host_chance"] <= 0.1 for found in hosts)
    rubin = [details(packet, "lsst", SchemaStore()) for packet in (*real.lsst_900, *real.lsst_1000)]
    widths = [one.cutout.psf_fwhm_arcsec for one in rubin if isinstance(one.cutout, Images)]
    assert len(widths) == len(rubin)
    assert all(0.5 < width < 2.5 for width in widths)


def test_the_largest_image_fits_a_message() -> None:
    assert 3 * 4 * fits.LONGEST_SIDE**2 < 900_000
