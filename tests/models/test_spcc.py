from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from broker.core.batch import Kind, LightCurves
from broker.core.errors import TocsinError
from broker.core.taxonomy import CLASSES
from broker.models.transients import spcc
from broker.models.transients.data import Labelled

HEAD = """SURVEY: DES
SNID:  {obj}
SNTYPE:  {sntype}
FILTERS: griz
MWEBV:  0.0226    MW E(B-V)
REDSHIFT_SPEC:  {z_spec} +- 0.0050
HOST_GALAXY_PHOTO-Z:  {host_photoz}  +- 0.0182
SIM_COMMENT:  SN Type = {kind} , MODEL = SDSS-017564
SIM_REDSHIFT:  0.9999
NOBS: 2
NVAR:   8
VARLIST:  MJD  FLT FIELD   FLUXCAL   FLUXCALERR   SNR    MAG     MAGERR
"""
OBJECTS = [
    {"obj": 17, "sntype": 22, "z_spec": 0.26781, "host_photoz": 0.3431, "kind": "IIn", "cls": "II"},
    {"obj": 5, "sntype": -9, "z_spec": -9.0, "host_photoz": 0.5, "kind": "Ic", "cls": "Ibc"},
    {"obj": 9, "sntype": 1, "z_spec": 0.4, "host_photoz": 0.41, "kind": "Ia", "cls": "Ia"},
]
POINTS = [
    (17, 56171.051, "g", -36.79, 78.09),
    (17, 56172.039, "r", 100.0, 20.0),
    (5, 56190.25, "z", 19.0, 4.0),
    (5, 56180.5, "i", 3.5, 2.0),
    (9, 56180.5, "r", 60.0, 4.0),
]


@pytest.fixture
def dat(tmp_path: Path) -> Path:
    folder = tmp_path / "dat" / "SIMGEN_PUBLIC_DES"
    folder.mkdir(parents=True)
    for one in OBJECTS:
        rows = [f"OBS: {t} {b} NULL {f} {e} {f / e:.2f} 22.0 0.1" for o, t, b, f, e in POINTS if o == one["obj"]]
        text = HEAD.format(**one) + "\n".join([*rows, "END:"]) + "\n"
        (folder / f"DES_SN{one['obj']:06d}.DAT").write_text(text)
    return tmp_path / "dat"


def test_the_challenges_files_become_curves_in_njy(dat: Path) -> None:
    found = spcc.load(dat)
    objects = found.objects
    assert objects.object_id.tolist() == [5, 9, 17]
    assert [CLASSES[k].slug for k in objects.label] == ["snibc", "snia", "snii"]
    assert found.spectroscopic.tolist() == [False, True, True]
    assert objects.host_z.tolist() == [0.5, 0.41, 0.3431]
    # Where there is no spectrum, the host's redshift; never SIM_REDSHIFT.
    assert objects.moved_from_z.tolist() == [0.5, 0.4, 0.26781]
    curves = objects.curves
    assert curves.offsets.tolist() == [0, 2, 3, 5]
    assert curves.band.tolist() == [3, 4, 2, 1, 2]
    assert curves.mjd[:2].tolist() == [56180.5, 56190.25]
    assert curves.kind.tolist() == [Kind.FORCED, Kind.FORCED, Kind.DETECTION, Kind.FORCED, Kind.DETECTION]
    # Flux 100 at zero point 27.5 is 3630.78 nJy.
    assert curves.flux_njy[4] == pytest.approx(3630.78, rel=1e-5)
    assert found.take(np.array([2])).objects.object_id.tolist() == [17]


def test_the_parquet_form_holds_the_same(dat: Path, tmp_path: Path) -> None:
    pd.DataFrame(POINTS, columns=["obj", "mjd", "band", "flux", "fluxerr"]).to_parquet(tmp_path / "lc.parquet")
    rows = [{**one, "in_spec_train": one["sntype"] != -9} for one in OBJECTS]
    pd.DataFrame(rows).to_parquet(tmp_path / "objects.parquet")
    a, b = spcc.load(dat), spcc.load(tmp_path)
    for name in ("offsets", "mjd", "flux_njy", "flux_err_njy", "band", "kind"):
        np.testing.assert_array_equal(getattr(a.objects.curves, name), getattr(b.objects.curves, name))
    for name in ("object_id", "label", "host_z", "host_z_err", "moved_from_z"):
        np.testing.assert_array_equal(getattr(a.objects, name), getattr(b.objects, name))
    np.testing.assert_array_equal(a.spectroscopic, b.spectroscopic)


def test_what_is_no_challenge_is_refused(dat: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(TocsinError, match=r"neither lc\.parquet nor"):
        spcc.load(tmp_path / "empty")
    path = next(dat.rglob("DES_SN000005.DAT"))
    path.write_text(path.read_text().replace("SN Type = Ic", "SN Type = TDE"))
    with pytest.raises(TocsinError, match="TDE"):
        spcc.load(dat)
    path.write_text("SNID: 3\n")
    with pytest.raises(TocsinError, match="SIM_COMMENT"):
        spcc.load(dat)


def test_the_shared_copy_is_the_challenge() -> None:
    root = os.environ.get("TOCSIN_TEST_DATA")
    if not root:
        pytest.skip("TOCSIN_TEST_DATA is not set")
    found = spcc.load(Path(root) / "lightcurves" / "spcc")
    assert len(found.objects) == 21319
    assert found.spectroscopic.sum() == 1103
    assert np.bincount(found.objects.label[found.spectroscopic]).tolist() == [559, 144, 400]
    assert set(np.unique(found.objects.curves.band).tolist()) == {1, 2, 3, 4}


def test_early_curves_end_with_the_sixth_significant_point_or_night(labelled: type[Labelled]) -> None:
    curves: LightCurves = labelled(40).curves  # type: ignore[call-arg, arg-type]
    points = spcc.first_significant(curves, 6, 4.0)
    nights = spcc.first_significant(curves, 6, 4.0, nights=True)
    short = 0
    for i in range(40):
        whole, cut, late = (slice(c.offsets[i], c.offsets[i + 1]) for c in (curves, points, nights))
        hits = np.flatnonzero(curves.flux_njy[whole] > 4.0 * curves.flux_err_njy[whole])
        end = hits[5] + 1 if len(hits) >= 6 else curves.counts[i]
        short += len(hits) >= 6
        np.testing.assert_array_equal(points.mjd[cut], curves.mjd[whole][:end])
        significant = nights.mjd[late][nights.flux_njy[late] > 4.0 * nights.flux_err_njy[late]]
        begun = [t for k, t in enumerate(significant) if k == 0 or t - significant[k - 1] > 0.5]
        assert len(begun) <= 6
        assert nights.counts[i] >= points.counts[i]
    assert short > 20
