"""ZTF's numbers against values worked out by hand, and against plain arithmetic on the real packets."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from broker.core.batch import Kind
from broker.decode import Decoded, Decoder, SchemaStore
from tests.decode import samples
from tests.decode.conftest import Real
from tests.decode.oracle import batch, container, fastavro_reads

TAI_2020_S = 37.0


def decoded(*records: dict[str, Any]) -> Decoded:
    values = [container(samples.ZTF, record) for record in records]
    (found,), dead = Decoder(SchemaStore(package=False))(batch(values))
    assert dead == []
    return found


def test_time_is_tai_at_the_middle_of_the_exposure() -> None:
    # 2020-01-01T00:00:00 UTC, 30 s exposed: 15 s to the middle, and 37 s from UTC to TAI.
    assert decoded(samples.ztf()).alerts.mjd[0] == pytest.approx(58849 + (15 + TAI_2020_S) / 86400, abs=1e-9)
    longer = decoded(samples.ztf(candidate={"exptime": 300.0}))
    assert longer.alerts.mjd[0] == pytest.approx(58849 + (150 + TAI_2020_S) / 86400, abs=1e-9)


@pytest.mark.parametrize("exptime", [0.0, -99999.0, math.nan, math.inf])
def test_an_unusable_exposure_time_is_30_s(exptime: float) -> None:
    found = decoded(samples.ztf(candidate={"exptime": exptime}))
    assert found.alerts.mjd[0] == pytest.approx(58849 + (15 + TAI_2020_S) / 86400, abs=1e-9)


@pytest.mark.parametrize(("sign", "factor"), [("t", 1), ("1", 1), ("f", -1), ("0", -1)])
def test_sign_and_flux(sign: str, factor: int) -> None:
    found = decoded(samples.ztf(candidate={"isdiffpos": sign}, prv_candidates=[samples.previous(isdiffpos=sign)]))
    flux = 10 ** (0.4 * (31.4 - 20.0))  # 36,307.8 nJy at 20 mag
    assert flux == pytest.approx(36307.8, rel=1e-5)
    assert found.alerts.flux_njy[0] == pytest.approx(factor * flux, rel=1e-6)
    assert found.alerts.flux_err_njy[0] == pytest.approx(flux * 0.1 * math.log(10) / 2.5, rel=1e-6)
    assert found.curves.flux_njy[1] == pytest.approx(factor * 10 ** (0.4 * (31.4 - 20.5)), rel=1e-6)
    assert found.alerts.negative.tolist() == [factor < 0]


@pytest.mark.parametrize("sign", ["", "x", "true", "tttttttt"])
def test_an_unknown_sign_gives_no_flux(sign: str) -> None:
    assert np.isnan(decoded(samples.ztf(candidate={"isdiffpos": sign})).alerts.flux_njy[0])


def test_upper_limit() -> None:
    limit = samples.previous(magpsf=None, sigmapsf=None, isdiffpos=None, diffmaglim=21.0)
    nothing = samples.previous(magpsf=None, sigmapsf=None, isdiffpos=None, diffmaglim=None)
    curves = decoded(samples.ztf(prv_candidates=[limit, nothing])).curves
    assert curves.kind.tolist() == [Kind.DETECTION, Kind.LIMIT, Kind.LIMIT]
    assert curves.flux_njy[1] == 0
    assert curves.flux_err_njy[1] == pytest.approx(10 ** (0.4 * (31.4 - 21.0)) / 5, rel=1e-6)
    assert np.isnan(curves.flux_err_njy[2])


def test_forced_photometry() -> None:
    points = [samples.forced(), samples.forced(forcediffimflux=-99999.0), samples.forced(magzpsci=None)]
    curves = decoded(samples.ztf(fp_hists=points)).curves
    assert curves.kind.tolist() == [Kind.DETECTION] + [Kind.FORCED] * 3
    scale = 10 ** (0.4 * (31.4 - 26.0))  # nJy per DN at zero point 26
    assert curves.flux_njy[1] == pytest.approx(100 * scale, rel=1e-6)
    assert curves.flux_err_njy[1] == pytest.approx(10 * scale, rel=1e-6)
    assert np.isnan(curves.flux_njy[2:]).all()
    assert curves.band.tolist() == [0, 2, 2, 2]


def test_unknown_filters_and_not_a_number_stay_as_points() -> None:
    odd = [samples.previous(fid=4), samples.previous(fid=0), samples.previous(jd=math.nan)]
    curves = decoded(samples.ztf(prv_candidates=odd)).curves
    assert curves.band.tolist() == [0, -1, -1, 1]
    assert np.isnan(curves.mjd[3])


def test_partnership_points_are_left_out_of_public_alerts() -> None:
    history = [samples.previous(), samples.previous(programid=2), samples.previous(programid=3)]
    forced = [samples.forced(programid=2), samples.forced()]
    public = samples.ztf(prv_candidates=history, fp_hists=forced)
    partner = samples.ztf(candidate={"programid": 2}, prv_candidates=history, fp_hists=forced)
    found = decoded(public, partner)
    assert found.alerts.not_public.tolist() == [3, 0]
    assert found.curves.counts.tolist() == [3, 6]
    assert found.alerts.programid.tolist() == [1, 2]


def test_null_and_empty_histories() -> None:
    found = decoded(samples.ztf(), samples.ztf(prv_candidates=[], fp_hists=[]))
    assert found.curves.counts.tolist() == [1, 1]


def test_solar_system_and_scores() -> None:
    near = {"ssnamenr": "33734", "ssdistnr": 1.0}
    far = {"ssnamenr": "33734", "ssdistnr": 12.0}
    old = {"drb": None, "sgscore1": -999.0, "distnr": -99999.0}
    found = decoded(*(samples.ztf(candidate=changes) for changes in (near, far, {"ssnamenr": None}, old)))
    assert found.alerts.solar_system.tolist() == [True, False, False, False]
    assert found.alerts.solar_system_id == ["33734", "", "", ""]
    assert found.alerts.real_bogus.tolist() == pytest.approx([0.9, 0.9, 0.9, 0.6])
    assert found.alerts.star_galaxy[0] == pytest.approx(0.2)
    assert np.isnan(found.alerts.star_galaxy[3])
    assert found.alerts.ref_distance_arcsec[0] == pytest.approx(3 * 1.012)
    assert np.isnan(found.alerts.ref_distance_arcsec[3])


def test_a_bad_alert_takes_its_curve_with_it() -> None:
    values = [samples.ztf(prv_candidates=[samples.previous(fid=k % 3 + 1)] * k) for k in range(5)]
    values[2]["candidate"]["ra"] = math.nan
    (found,), dead = Decoder(SchemaStore(package=False))(batch([container(samples.ZTF, v) for v in values]))
    assert [letter.row for letter in dead] == [2]
    assert found.alerts.rows.tolist() == [0, 1, 3, 4]
    assert found.curves.counts.tolist() == [1, 2, 4, 5]
    assert found.curves.band[found.curves.offsets[2] : found.curves.offsets[3]].tolist() == [0, 0, 0, 0]


def test_real_alerts(real: Real, schemas: SchemaStore) -> None:
    (found,), _ = Decoder(schemas)(batch(real.ztf_401))
    for i, packet in enumerate(real.ztf_401):
        record = fastavro_reads(packet, schemas)
        c, history, forced = record["candidate"], record["prv_candidates"] or [], record["fp_hists"] or []
        here = slice(found.curves.offsets[i], found.curves.offsets[i + 1])
        kinds = found.curves.kind[here]
        assert (kinds == Kind.FORCED).sum() == len(forced)
        assert (kinds == Kind.LIMIT).sum() == sum(point["magpsf"] is None for point in history)
        assert (kinds == Kind.DETECTION).sum() == 1 + sum(point["magpsf"] is not None for point in history)
        finite = np.isfinite(found.curves.flux_njy[here][kinds == Kind.FORCED])
        assert finite.tolist() == [point["forcediffimflux"] != -99999.0 for point in forced]
        assert found.alerts.object_id[i] == record["objectId"]
        assert found.alerts.real_bogus[i] == np.float32(c["drb"])
        assert found.alerts.mjd[i] == pytest.approx(c["jd"] - 2400000.5 + (15 + 37) / 86400, abs=1e-9)
        assert -2.5 * math.log10(abs(found.alerts.flux_njy[i])) + 31.4 == pytest.approx(c["magpsf"], abs=1e-5)
