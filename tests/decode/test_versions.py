"""The same simulated alerts in every published version of both surveys' schemas: what is there is read the same."""

from __future__ import annotations

import io
import json
from typing import Any

import fastavro
import numpy as np
import pytest

from broker.archive import simulate
from broker.core.batch import Kind
from broker.decode import Decoded, Decoder, SchemaStore
from broker.decode.limits import Limits
from broker.decode.packets import body_of
from broker.decode.schemas import installed, installed_ids
from tests.decode.oracle import batch, container, wire
from tests.decode.versions import LACKS, fitted, ztf_schema

RUBIN = [number for number in installed_ids() if number >= 700]


class Simulated(SchemaStore):
    """Installed schemas, and the simulated one."""

    def get(self, schema_id: int) -> bytes:
        return simulate.schema("lsst") if schema_id == simulate.SIMULATED_ID else super().get(schema_id)


def night(survey: str) -> tuple[Decoded, list[dict[str, Any]]]:
    """Simulated alerts, decoded, and as records."""
    packets = [packet.value for packet in simulate.night(survey, 24, 20261123, history="short")]
    (found,), dead = Decoder(Simulated())(batch(packets))
    assert dead == []
    schema = fastavro.parse_schema(json.loads(simulate.schema(survey)))
    bodies = [body_of(packet, Simulated(), Limits())[1] for packet in packets]
    return found, [fastavro.schemaless_reader(io.BytesIO(body), schema, None) for body in bodies]


def same(left: Decoded, right: Decoded, columns: list[str]) -> None:
    for name in columns:
        np.testing.assert_array_equal(getattr(left.alerts, name), getattr(right.alerts, name), err_msg=name)
    for name in ("offsets", "mjd", "flux_njy", "flux_err_njy", "band", "kind"):
        np.testing.assert_array_equal(getattr(left.curves, name), getattr(right.curves, name), err_msg=name)


COLUMNS = ["alert_id", "object_id", "ra_deg", "dec_deg", "mjd", "band", "flux_njy", "flux_err_njy", "negative", "test"]
SOLAR = ["solar_system", "solar_system_id"]
COLUMNS += [*SOLAR, "programid", "star_galaxy", "ref_distance_arcsec", "not_public"]


@pytest.mark.parametrize("version", LACKS)
def test_ztf(version: str) -> None:
    found, records = night("ztf")
    schema = ztf_schema(version)
    values = [container(fastavro.parse_schema(schema), fitted(schema, record)) for record in records]
    (old,), dead = Decoder(SchemaStore(package=False))(batch(values))
    assert dead == []
    if version < "4":
        found = Decoded(found.alerts, found.curves.keep(found.curves.kind != Kind.FORCED))
    same(old, found, [name for name in COLUMNS if version > "4" or name != "not_public"])
    deep = version >= "3.3"
    scores = [record["candidate"]["drb" if deep else "rb"] for record in records]
    np.testing.assert_allclose(old.alerts.real_bogus, np.array(scores, dtype=np.float32))


@pytest.mark.parametrize("number", RUBIN)
def test_rubin(number: int) -> None:
    found, records = night("lsst")
    text = installed(number)
    assert text is not None
    schema = json.loads(text)
    parsed = fastavro.parse_schema(json.loads(text))
    values = [wire(number, parsed, fitted(schema, record)) for record in records]
    (old,), dead = Decoder(SchemaStore())(batch(values))
    assert dead == []
    # Solar-system objects were told by other fields before 10.0.
    same(old, found, [name for name in COLUMNS if number >= 1000 or name not in ("object_id", *SOLAR)])
