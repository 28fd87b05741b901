"""Rubin's numbers pass through as they are; who is a solar-system object is decided by ids that are not null."""

from __future__ import annotations

import json
import math
from typing import Any

import fastavro
import numpy as np
import pytest

from broker.core.batch import Kind
from broker.decode import Decoded, Decoder, SchemaStore
from broker.lightcurve import merge
from tests.decode import samples
from tests.decode.conftest import Real
from tests.decode.oracle import batch, container, fastavro_reads, wire
from tests.decode.versions import records


class Small(SchemaStore):
    """The small Rubin schema, under every id."""

    def get(self, schema_id: int) -> bytes:
        return json.dumps(samples.LSST_JSON).encode()


def decoded(*records: dict[str, Any]) -> Decoded:
    (found,), dead = Decoder(Small())(batch([wire(1, samples.LSST, record) for record in records]))
    assert dead == []
    return found


def test_values_pass_through() -> None:
    found = decoded(samples.lsst(diaSource={"psfFlux": -1500.0, "isNegative": True}))
    alerts = found.alerts
    assert alerts.alert_id.tolist() == [170094456272322681]
    assert alerts.dia_source_id.tolist() == [170094456272322680]
    assert alerts.object_id == ["170028485706776685"]
    assert (alerts.mjd[0], alerts.flux_njy[0], alerts.flux_err_njy[0]) == (61105.25, -1500.0, 100.0)
    assert (alerts.ra_deg[0], alerts.dec_deg[0]) == (63.5, -47.25)
    assert alerts.band.tolist() == [3]
    assert alerts.real_bogus.tolist() == [0.75]
    assert alerts.negative.tolist() == [True]
    assert alerts.programid.tolist() == [1]
    assert not alerts.solar_system[0]


def test_null_is_an_empty_history() -> None:
    assert decoded(samples.lsst(), samples.lsst(prvDiaSources=[], prvDiaForcedSources=[])).curves.counts.tolist() == [
        1,
        1,
    ]


def test_histories() -> None:
    forced = {"midpointMjdTai": 61100.0, "psfFlux": None, "psfFluxErr": 3.0, "band": "y"}
    limit = {"ccdVisitId": 1, "midpointMjdTai": 61099.0, "band": "u", "diaNoise": 7.5}
    bands = [samples.source(band=band) for band in ("u", "g", "r", "i", "z", "y", "white", None, "U", "")]
    curves = decoded(
        samples.lsst(prvDiaSources=bands, prvDiaForcedSources=[forced], prvDiaNondetectionLimits=[limit])
    ).curves
    assert curves.band.tolist() == [3, 0, 1, 2, 3, 4, 5, -1, -1, -1, -1, 5, 0]
    assert curves.kind.tolist() == [Kind.DETECTION] * 11 + [Kind.FORCED, Kind.LIMIT]
    assert np.isnan(curves.flux_njy[11])
    assert (curves.mjd[12], curves.flux_njy[12], curves.flux_err_njy[12]) == (61099.0, 0.0, 7.5)


def test_withdrawn_points_are_dropped_and_counted() -> None:
    schema = json.loads(json.dumps(samples.LSST_JSON))
    for record in records(schema).values():
        if record["name"] in ("source", "forced"):
            record["fields"].append({"name": "timeWithdrawnMjdTai", "type": ["null", "double"]})
    points = [samples.source(midpointMjdTai=61000.0 + i, timeWithdrawnMjdTai=[None, 61104.0][i % 2]) for i in range(5)]
    forced = {"midpointMjdTai": 60999.0, "psfFlux": 1.0, "psfFluxErr": 3.0, "band": "y", "timeWithdrawnMjdTai": 61104.0}
    record = samples.lsst(prvDiaSources=points, prvDiaForcedSources=[forced])
    (found,), dead = Decoder(SchemaStore(package=False))(batch([container(fastavro.parse_schema(schema), record)]))
    assert dead == []
    assert np.isnan(found.curves.flux_njy).tolist() == [False, False, True, False, True, False, True]
    clean, dropped = merge(found.curves, 6)
    assert clean.counts.tolist() == [4]
    assert dropped.not_finite.tolist() == [3]


@pytest.mark.parametrize(
    ("changes", "solar", "name", "object_id"),
    [
        ({"diaSource": {"ssObjectId": 21163}, "diaObject": None}, True, "21163", "ss21163"),
        ({"ssObject": {"ssObjectId": 5}, "diaObject": None}, True, "5", "ss5"),
        ({"ssSource": {"ssObjectId": 5, "designation": "2004 JQ12"}, "diaObject": None}, True, "2004 JQ12", "ss5"),
        ({"ssSource": {"ssObjectId": None, "designation": None}}, False, "", "170028485706776685"),
        ({"ssObject": {"ssObjectId": None}}, False, "", "170028485706776685"),
        ({"diaSource": {"ssObjectId": 0}}, False, "", "170028485706776685"),
    ],
)
def test_solar_system(changes: dict[str, Any], solar: bool, name: str, object_id: str) -> None:
    record = samples.lsst(**changes)
    if record["diaObject"] is None:
        record["diaSource"]["diaObjectId"] = 0  # as Rubin writes it
    alerts = decoded(record).alerts
    assert alerts.solar_system.tolist() == [solar]
    assert alerts.solar_system_id == [name]
    assert alerts.object_id == [object_id]
    assert (alerts.ra_deg[0], alerts.dec_deg[0]) == (63.5, -47.25)


def test_an_alert_without_any_object_has_a_key_of_its_own() -> None:
    record = samples.lsst(diaObject=None, diaSource={"diaObjectId": None})
    assert decoded(record).alerts.object_id == ["src170094456272322680"]


def test_negative_by_flux_where_there_is_no_flag() -> None:
    records = [samples.lsst(diaSource={"isNegative": None, "psfFlux": flux}) for flux in (-1.0, 1.0, None)]
    assert decoded(*records).alerts.negative.tolist() == [True, False, False]


def test_injected_sources_are_tests() -> None:
    records = [samples.lsst(diaSource={"pixelFlags_injectedCenter": flag}) for flag in (True, False, None)]
    assert decoded(*records).alerts.test.tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("change", "reason"), [({"ra": math.inf}, "bad_position"), ({"midpointMjdTai": math.nan}, "bad_time")]
)
def test_position_and_time_must_be_finite(change: dict[str, float], reason: str) -> None:
    _, dead = Decoder(Small())(batch([wire(1, samples.LSST, samples.lsst(diaSource=change))]))
    assert [letter.reason for letter in dead] == [reason]


def test_real_alerts(real: Real, schemas: SchemaStore) -> None:
    (found,), _ = Decoder(schemas)(batch(real.lsst_1000))
    assert found.alerts.solar_system_id == ["", "", "", "", "2004 JQ12", "", "2020 SJ88"]
    assert found.alerts.object_id[4] == "ss21163624394469969"
    for i, packet in enumerate(real.lsst_1000):
        record = fastavro_reads(packet, schemas)
        points = [record["diaSource"], *(record["prvDiaSources"] or []), *(record["prvDiaForcedSources"] or [])]
        here = slice(found.curves.offsets[i], found.curves.offsets[i + 1])
        np.testing.assert_array_equal(found.curves.mjd[here], [point["midpointMjdTai"] for point in points])
        flux = np.array([point["psfFlux"] for point in points], dtype=np.float64)
        np.testing.assert_array_equal(found.curves.flux_njy[here], flux)
        assert ["ugrizy"[band] for band in found.curves.band[here]] == [point["band"] for point in points]


def test_one_real_wire_packet(real: Real, schemas: SchemaStore) -> None:
    (found,), _ = Decoder(schemas)(batch(real.lsst_900))
    record = fastavro_reads(real.lsst_900[0], schemas)
    assert found.alerts.alert_id.tolist() == [record["diaSourceId"]]
    assert found.curves.counts.tolist() == [1]
