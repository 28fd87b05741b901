"""Every captured value of every real packet equals fastavro's."""

from __future__ import annotations

import io
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import pytest

from broker.decode import Decoder, SchemaStore, containers
from broker.decode.limits import Limits
from broker.decode.packets import body_of
from tests.decode.conftest import Real
from tests.decode.oracle import batch, captured, decode, expected, fastavro_reads, wire


def packets_of(real: Real, name: str) -> list[bytes]:
    return list(containers.split(real.lsst_file)) if name == "lsst_split" else list(getattr(real, name))


def by_schema(packets: list[bytes], schemas: SchemaStore) -> list[list[bytes]]:
    groups: dict[bytes, list[bytes]] = {}
    for packet in packets:
        groups.setdefault(body_of(packet, schemas, Limits())[0], []).append(packet)
    return list(groups.values())


SETS = {"ztf_401": 24, "ztf_33": 12, "ztf_30": 30, "lsst_900": 1, "lsst_1000": 7, "lsst_split": 7}


@pytest.mark.parametrize("name", SETS)
def test_every_captured_value_is_fastavros(name: str, real: Real, schemas: SchemaStore) -> None:
    packets = packets_of(real, name)
    assert len(packets) == SETS[name]
    for group in by_schema(packets, schemas):
        projection, tables, ends = decode(group * 2, schemas)  # twice: rows meet templates of other packets
        assert not ends[:, 0].any()
        for i, packet in enumerate(group * 2):
            assert captured(tables, i, projection) == expected(fastavro_reads(packet, schemas), projection)


@pytest.mark.parametrize("name", SETS)
def test_a_batch_decodes_whole_and_in_order(name: str, real: Real, schemas: SchemaStore) -> None:
    packets = packets_of(real, name)
    (decoded,), dead = Decoder(schemas)(batch(packets))
    assert dead == []
    assert decoded.alerts.rows.tolist() == list(range(len(packets)))
    records = [fastavro_reads(packet, schemas) for packet in packets]
    ids = [record["candid"] if name.startswith("ztf") else record["diaSourceId"] for record in records]
    assert decoded.alerts.alert_id.tolist() == ids


def test_all_surveys_in_one_batch(real: Real, schemas: SchemaStore) -> None:
    mixed = [real.ztf_401[0], real.lsst_900[0], real.ztf_30[0], b"", real.lsst_1000[0], real.ztf_33[0], real.ztf_401[1]]
    decoded, dead = Decoder(schemas)(batch(mixed))
    rows = {d.alerts.survey: d.alerts.rows.tolist() for d in decoded}
    assert rows == {"ztf": [0, 2, 5, 6], "lsst": [1, 4]}
    assert [letter.row for letter in dead] == [3]
    alone = {row: Decoder(schemas)(batch([mixed[row]]))[0][0] for row in (0, 1, 2, 4, 5, 6)}
    for part in decoded:
        for i, row in enumerate(part.alerts.rows.tolist()):
            here = slice(part.curves.offsets[i], part.curves.offsets[i + 1])
            np.testing.assert_array_equal(part.curves.mjd[here], alone[row].curves.mjd)
            np.testing.assert_array_equal(part.curves.flux_njy[here], alone[row].curves.flux_njy)
            assert part.alerts.object_id[i] == alone[row].alerts.object_id[0]


def samples() -> dict[int, bytes]:
    """The synthetic sample packets of Rubin's schema package, by id: containers."""
    found = {}
    try:
        files = distribution("lsst-alert-packet").files or []
    except ImportError:
        return {}
    for file in files:
        if file.name == "fakeAlert.avro" and file.parts[-4].isdigit():
            number = int(file.parts[-4]) * 100 + int(file.parts[-3])
            found[number] = Path(str(distribution("lsst-alert-packet").locate_file(file))).read_bytes()
    return found


@pytest.mark.parametrize("number", sorted(number for number in samples() if number >= 700))
def test_synthetic_sample_of_every_rubin_schema(number: int, rubin: dict[int, Any], schemas: SchemaStore) -> None:
    sample = samples()[number]
    record: Any = next(iter(fastavro.reader(io.BytesIO(sample))))
    packet = wire(number, rubin[number], record)
    assert fastavro_reads(packet, schemas) == record
    assert list(containers.split(sample)) == [sample]
    for form in (packet, sample):
        projection, tables, ends = decode([form], schemas)
        assert not ends[:, 0].any()
        assert captured(tables, 0, projection) == expected(record, projection)
    decoded, dead = Decoder(schemas)(batch([packet]))
    assert sum(len(d.alerts) for d in decoded) + len(dead) == 1
