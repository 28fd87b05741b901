"""Simulated packets: what real ones are, in form, size, fields and mix; and exactly what was drawn."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
from collections import Counter
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import pytest

from broker.archive import fields, simulate
from broker.archive.simulate import Mix, SimulatedPacket
from broker.core.errors import TocsinError
from broker.core.units import utc_to_tai

SIZES = {"ztf": 520, "lsst": 192}
Record = dict[str, Any]


@pytest.fixture(scope="module", params=["ztf", "lsst"])
def survey(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def night(survey: str) -> list[SimulatedPacket]:
    return list(simulate.night(survey, SIZES[survey], seed=5))


@pytest.fixture(scope="module")
def records(survey: str, night: list[SimulatedPacket]) -> list[Record]:
    return [decode(survey, packet.value) for packet in night]


def decode(survey: str, value: bytes) -> Record:
    """Decode with fastavro alone: the container by itself, the wire packet by the simulator's schema."""
    if survey == "ztf":
        (alert,) = fastavro.reader(io.BytesIO(value))
        return dict(alert)
    assert value[0] == 0
    assert int.from_bytes(value[1:5], "big") == simulate.SIMULATED_ID
    body = io.BytesIO(value[5:])
    record = fastavro.schemaless_reader(body, fastavro.parse_schema(json.loads(simulate.schema("lsst"))))
    assert body.read() == b""
    return dict(record)


def history(survey: str, record: Record) -> list[Record]:
    names = ("prv_candidates", "fp_hists") if survey == "ztf" else ("prvDiaSources", "prvDiaForcedSources")
    return list(chain.from_iterable(record[name] or [] for name in names))


def test_the_truth_is_in_the_packet(survey: str, night: list[SimulatedPacket], records: list[Record]) -> None:
    for packet, record in zip(night, records, strict=True):
        truth, solar = packet.truth, packet.truth.class_name == "solar system"
        assert truth.points == 1 + len(history(survey, record))
        if survey == "ztf":
            head = record["candidate"]
            assert (truth.alert_id, truth.object_id) == (record["candid"], record["objectId"])
            assert head["candid"] == record["candid"]
            assert truth.programid == head["programid"]
            mjd = utc_to_tai(np.array([head["jd"] - 2400000.5]))[0] + head["exptime"] / 2 / 86400
            assert (head["ssdistnr"] >= 0) == solar == (head["ssnamenr"] != "null")
            detections = 1 + sum(p["magpsf"] is not None for p in record["prv_candidates"] or [])
        else:
            head = record["diaSource"]
            assert truth.alert_id == record["diaSourceId"] == head["diaSourceId"]
            assert truth.test == head["pixelFlags_injectedCenter"]
            mjd, detections = head["midpointMjdTai"], 1 + len(record["prvDiaSources"] or [])
            assert (record["diaObject"] is None) == (record["ssSource"] is not None) == solar
            own = f"ss{head['ssObjectId']}" if solar else str(record["diaObject"]["diaObjectId"])
            assert truth.object_id == own
        assert truth.detections == detections
        assert truth.mjd == pytest.approx(mjd, abs=1e-8)
        assert 30_000 < packet.timestamp_ms - (mjd - 37 / 86400 - 40587) * 86_400_000 < 600_000


def test_histories_are_before_the_alert_and_detections_are_five_sigma(survey: str, records: list[Record]) -> None:
    for record in records:
        points = history(survey, record)
        if survey == "ztf":
            jd = record["candidate"]["jd"]
            assert all(jd - 30 < p["jd"] < jd for p in points)
            previous = record["prv_candidates"] or []
            assert [p["jd"] for p in previous] == sorted(p["jd"] for p in previous)
            assert all(p["sigmapsf"] < 1.0857 / 4.99 for p in previous if p["magpsf"] is not None)
            assert {p["isdiffpos"] for p in previous} <= {"t", "f", None}
            assert {p["fid"] for p in points} <= {1, 2, 3}
        else:
            head = record["diaSource"]
            assert all(head["midpointMjdTai"] - 366 < p["midpointMjdTai"] <= head["midpointMjdTai"] for p in points)
            assert all(abs(p["psfFlux"]) > 4.99 * p["psfFluxErr"] for p in [head, *(record["prvDiaSources"] or [])])
            assert {p["band"] for p in points} <= set("ugrizy")
            assert len({p["diaSourceId"] for p in record["prvDiaSources"] or []}) == len(record["prvDiaSources"] or [])


def test_one_place_and_one_light_curve(survey: str, records: list[Record]) -> None:
    """Detections are where the object is, and forced photometry is that of the same visits."""
    for record in records:
        head = record["candidate"] if survey == "ztf" else record["diaSource"]
        near = [p for p in history(survey, record) if p.get("ra") is not None]
        assert all(abs(p["ra"] - head["ra"]) < 0.001 and abs(p["dec"] - head["dec"]) < 0.001 for p in near)
        if survey == "lsst" and record["prvDiaForcedSources"]:
            forced = {p["midpointMjdTai"]: p for p in record["prvDiaForcedSources"]}
            assert head["midpointMjdTai"] in forced
            both = [p for p in record["prvDiaSources"] or [] if p["midpointMjdTai"] in forced]
            pairs = [(p, forced[p["midpointMjdTai"]]) for p in both]
            assert len(pairs) == sum(p["midpointMjdTai"] >= min(forced) for p in record["prvDiaSources"] or [])
            assert all(
                a["band"] == b["band"] and abs(a["psfFlux"] - b["psfFlux"]) < 3 * a["psfFluxErr"] for a, b in pairs
            )


def test_sizes_and_points_are_real_ones(survey: str, night: list[SimulatedPacket]) -> None:
    size, points = (np.median([f(p) for p in night]) for f in (lambda p: len(p.value), lambda p: p.truth.points))
    low, high = {"ztf": (65_000, 85_000), "lsst": (225_000, 305_000)}[survey]
    assert low < size < high
    assert {"ztf": 40, "lsst": 500}[survey] < points < {"ztf": 88, "lsst": 1172}[survey]


def test_null_and_empty_histories_both_occur(survey: str, records: list[Record]) -> None:
    if survey == "ztf":
        kinds = Counter(str(r["prv_candidates"]) for r in records if not r["prv_candidates"])
        assert set(kinds) == {"None", "[]"}
    else:
        new = [r for r in records if r["diaObject"] and not r["prvDiaForcedSources"]]
        assert new
        assert all(r["prvDiaSources"] is None and r["prvDiaForcedSources"] == [] for r in new)
        solar = [r for r in records if r["ssSource"]]
        assert all(r["prvDiaSources"] is None and r["prvDiaForcedSources"] is None for r in solar)


def test_the_mix(survey: str, night: list[SimulatedPacket], records: list[Record]) -> None:
    names, n = Counter(p.truth.class_name for p in night), len(night)
    assert 0.05 < names["artefact"] / n < 0.17
    assert 0.03 < names["solar system"] / n < 0.15
    assert sum(p.truth.transient for p in night) / n > 0.25
    assert len(names) > 9
    assert all((p.truth.z is not None) == p.truth.transient or p.truth.class_name == "AGN" for p in night)
    name = ("candidate", "drb") if survey == "ztf" else ("diaSource", "reliability")
    score = np.array([r[name[0]][name[1]] for r in records])
    bogus = np.array([p.truth.class_name == "artefact" for p in night])
    assert np.mean(score[bogus] < 0.3) > 0.9
    assert np.mean(score[~bogus] > 0.3) > 0.95


def test_ids_are_never_repeated(survey: str) -> None:
    """In a night, in its parts, and in another seed's night."""
    chunk = simulate.CHUNK[survey]
    nights = [simulate.night(survey, chunk + 3, 1), simulate.night(survey, 5, 1, first=2 * chunk),
              simulate.night(survey, 9, 2)]  # fmt: skip
    truths = [packet.truth for packet in chain(*nights)]
    assert len({t.alert_id for t in truths}) == len({t.object_id for t in truths}) == chunk + 17


def test_the_same_seed_gives_the_same_bytes(survey: str, night: list[SimulatedPacket]) -> None:
    n = SIZES[survey]
    again = list(simulate.night(survey, n, seed=5))
    assert again == night
    assert next(simulate.night(survey, n, seed=6)).value != night[0].value
    chunk = simulate.CHUNK[survey]
    each = 7
    whole = [p.value for p in simulate.night(survey, 2 * chunk, 3, per_visit=each)]
    parts = [p.value for first in (0, chunk) for p in simulate.night(survey, chunk, 3, first=first, per_visit=each)]
    assert whole == parts


def test_the_bench_mix_is_scorable(survey: str) -> None:
    truths = [p.truth for p in simulate.night(survey, SIZES[survey], 11, mix=simulate.BENCH)]
    good = [t.class_id > 0 and t.detections >= 2 and t.programid == 1 and not t.test for t in truths]
    assert np.mean(good) > 0.955
    if survey == "lsst":
        assert np.mean([t.points > 300 for t in truths]) > 0.98


def test_short_histories_and_other_mixes(survey: str) -> None:
    packets = list(simulate.night(survey, 64, 4, history="short", mix=Mix(artefact=1.0, solar_system=0.0)))
    assert {p.truth.class_name for p in packets} == {"artefact"}
    assert max(p.truth.points for p in packets) < {"ztf": 16, "lsst": 121}[survey]
    partners = [p.truth.programid for p in simulate.night("ztf", 64, 4, mix=Mix(partnership=1.0))]
    assert partners == [2] * 64


def test_stamps_are_fits_images(survey: str, records: list[Record]) -> None:
    record = records[0]
    for name in ("cutoutScience", "cutoutTemplate", "cutoutDifference"):
        data = gzip.decompress(record[name]["stampData"]) if survey == "ztf" else record[name]
        assert data.startswith(b"SIMPLE  =                    T")
        assert len(data) % 2880 == 0
        side = 63 if survey == "ztf" else 30
        image = np.frombuffer(data, ">f4", side * side, 2880)
        assert np.isfinite(image).all()
        assert image.std() > 0
    assert len({r["cutoutScience"]["stampData"] if survey == "ztf" else r["cutoutScience"] for r in records}) > 20


def test_rubin_fields_are_the_surveys() -> None:
    """Names, types and order of every record are those of schema 11.1; the words are ours."""
    theirs = fastavro.schema.load_schema_ordered(_rubin_schemas())
    assert shape(theirs) == shape(fastavro.parse_schema(json.loads(simulate.schema("lsst"))))


def test_ztf_fields_are_those_of_real_packets(real_alerts: Path) -> None:
    """Names, types and order of every record; their 4.01 and our 4.02 differ in a default alone."""
    with next((real_alerts / "ztf/20231012").glob("*.avro")).open("rb") as file:
        theirs = fastavro.reader(file).writer_schema
    assert shape(theirs) == shape(fastavro.parse_schema(json.loads(simulate.schema("ztf"))))
    assert 0.75 < len(simulate.schema("ztf")) / 25_600 < 1.1


def test_the_words_are_ours() -> None:
    """No text of more than four words is the survey's own (theirs are GPLv3)."""
    theirs = {
        field["doc"]
        for path in _rubin_schemas()
        for field in json.loads(Path(path).read_text())["fields"]
        if "doc" in field
    }
    ours = {field.doc for record in fields.load("lsst").records.values() for field in record}
    assert not [doc for doc in ours if len(doc.split()) > 4 and any(doc.lower() in text.lower() for text in theirs)]


def _rubin_schemas() -> list[str]:
    package = pytest.importorskip("importlib.metadata").distribution("lsst-alert-packet")
    folder = Path(str(package.locate_file("lsst/alert/packet/schema/11/1")))
    names = ("diaSource", "diaForcedSource", "diaObject", "ssSource", "mpc_orbits", "alert")
    return [str(folder / f"lsst.v11_1.{name}.avsc") for name in names]


def shape(schema: Any) -> Any:
    """Return a schema's structure: field names, types and order, without names of records, words and defaults."""
    known: dict[str, Any] = {}

    def walk(node: Any) -> Any:
        if isinstance(node, list):
            return [walk(branch) for branch in node]
        if isinstance(node, str):
            return known.get(node, node)
        if node["type"] == "record":
            known[node["name"]] = [(f["name"], walk(f["type"])) for f in node["fields"]]
            return known[node["name"]]
        if node["type"] == "array":
            return {"array": walk(node["items"])}
        return walk(node["type"]), node.get("logicalType")

    return walk(schema)


def test_the_wire_schema_is_found_in_the_cache(tmp_path: Path) -> None:
    from broker.decode.schemas import SchemaStore, installed

    path = simulate.install_schema(tmp_path)
    assert path.parent == tmp_path
    assert SchemaStore(cache_dir=tmp_path, package=False).get(simulate.SIMULATED_ID) == simulate.schema("lsst")
    assert installed(simulate.SIMULATED_ID) is None
    assert fields.load("lsst").version == "11.1"


def test_our_decoder_reads_them(survey: str, night: list[SimulatedPacket], tmp_path: Path) -> None:
    from broker.core.batch import PacketBatch
    from broker.decode import Decoder, SchemaStore

    simulate.install_schema(tmp_path)
    n = len(night)
    batch = PacketBatch([p.value for p in night], ["t"] * n, np.zeros(n, np.int32), np.arange(n), np.full(n, -1), 0)
    (decoded,), dead = Decoder(SchemaStore(cache_dir=tmp_path))(batch)
    assert dead == []
    assert decoded.alerts.alert_id.tolist() == [p.truth.alert_id for p in night]
    assert decoded.alerts.object_id == [p.truth.object_id for p in night]
    assert decoded.alerts.mjd == pytest.approx([p.truth.mjd for p in night], abs=1e-8)
    assert decoded.alerts.test.tolist() == [p.truth.test for p in night]
    assert decoded.alerts.programid.tolist() == [p.truth.programid for p in night]
    assert decoded.alerts.solar_system.tolist() == [p.truth.class_name == "solar system" for p in night]


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(TocsinError, match="no survey 'atlas'"):
        next(simulate.night("atlas", 1, 1))
    with pytest.raises(TocsinError, match="multiple of 256"):
        next(simulate.night("ztf", 1, 1, first=10))


def points_of(survey: str, record: Record) -> set[tuple[Any, ...]]:
    """Return the packet's own detection and those of its history: (id, time, flux or magnitude)."""
    if survey == "ztf":
        found = [record["candidate"], *(p for p in record["prv_candidates"] or [] if p["magpsf"] is not None)]
        return {(p["candid"], p["jd"], p["magpsf"]) for p in found}
    found = [record["diaSource"], *(record["prvDiaSources"] or [])]
    return {(p["diaSourceId"], p["midpointMjdTai"], p["psfFlux"]) for p in found}


def test_objects_alert_again_with_histories_that_agree_and_grow(survey: str) -> None:
    n = {"ztf": 60, "lsst": 24}[survey]
    mix = Mix(artefact=0.05, solar_system=0.05)
    packets = list(simulate.night(survey, n, 4, nights=3, visits=2, mix=mix))
    truths = [p.truth for p in packets]
    assert [t.mjd for t in truths] == sorted(t.mjd for t in truths)
    assert len({t.alert_id for t in truths}) == len(truths) > 2 * n
    assert len({t.object_id for t in truths}) == n  # each alerts once at least
    assert 2.0 < truths[-1].mjd - truths[0].mjd < 2.5
    by_object: dict[str, list[int]] = {}
    for row, truth in enumerate(truths):
        by_object.setdefault(truth.object_id, []).append(row)
        assert truth.class_name not in ("solar system",) or len(by_object[truth.object_id]) == 1
    records = [decode(survey, packet.value) for packet in packets]
    grown = 0
    for rows in by_object.values():
        found = [points_of(survey, records[row]) for row in rows]
        for row, points in zip(rows, found, strict=True):  # nothing of the time after the alert
            assert sum(t >= max(t for _, t, _ in points) - 1e-6 for _, t, _ in points) == 1
            newest = max(points, key=lambda point: point[1])
            assert newest[0] == truths[row].alert_id
        for earlier, later in pairwise(found):
            oldest = min(t for _, t, _ in later)  # what is older than that has fallen off the list
            assert {point for point in earlier if point[1] >= oldest} <= later
            grown += len(later - earlier) >= 1
        assert len({truths[row].class_id for row in rows}) == 1
    assert grown > n
    peaks = {(t.object_id, round(t.peak_mjd, 6)) for t in truths if t.peak_mjd is not None}
    assert len(peaks) == len({name for name, _ in peaks})  # one peak, however often it alerts


def test_a_visits_alerts_lie_in_one_field(survey: str) -> None:
    packets = list(simulate.night(survey, 128, 6, per_visit=32))
    where = {"ztf": "candidate", "lsst": "diaSource"}[survey]
    records = [decode(survey, packet.value) for packet in packets]
    places: dict[float, list[tuple[float, float]]] = {}
    for packet, record in zip(packets, records, strict=True):
        head = record[where]
        places.setdefault(packet.truth.mjd, []).append((np.radians(head["ra"]), np.radians(head["dec"])))
    assert [len(found) for found in places.values()] == [32] * 4
    centres = []
    for found in places.values():
        ra, dec = np.array(found).T
        vectors = np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)])
        centre = vectors.mean(axis=1) / np.linalg.norm(vectors.mean(axis=1))
        assert np.degrees(np.arccos(np.clip(centre @ vectors, -1, 1))).max() < {"ztf": 6.0, "lsst": 3.0}[survey]
        centres.append(centre)
    assert np.degrees(np.arccos(centres[0] @ centres[1])) > 5.0


def test_classes_have_their_parts_and_poison_is_told(survey: str, tmp_path: Path) -> None:
    from broker.core.batch import PacketBatch
    from broker.decode import Decoder, SchemaStore

    n = 200
    mix = Mix(artefact=0.3, solar_system=0.0, shares=(("snia", 0.5), ("tde", 0.25)))
    packets = list(simulate.night(survey, n, 8, history="short", mix=mix, poison=0.2))
    names = Counter(p.truth.class_name for p in packets)
    real = n - names["artefact"]
    assert 0.2 < names["artefact"] / n < 0.4
    assert 0.38 < names["SN Ia"] / real < 0.62
    assert 0.15 < names["TDE"] / real < 0.36
    assert real - names["SN Ia"] - names["TDE"] > 0
    assert all(p.truth.artefact == (p.truth.class_name == "artefact") for p in packets)
    poisoned = {i for i, p in enumerate(packets) if p.truth.poison}
    assert 20 < len(poisoned) < 60
    assert all(hashlib.sha256(packets[i].value).hexdigest() == packets[i].truth.poison for i in poisoned)
    simulate.install_schema(tmp_path)
    batch = PacketBatch([p.value for p in packets], ["t"] * n, np.zeros(n, np.int32), np.arange(n), np.full(n, -1), 0)
    _, dead = Decoder(SchemaStore(cache_dir=tmp_path))(batch)
    assert {letter.row for letter in dead} == poisoned
    assert len({letter.reason for letter in dead}) > 1


def test_too_many_visits_are_refused() -> None:
    with pytest.raises(TocsinError, match="more than 200 visits"):
        next(simulate.night("ztf", 1, 1, nights=101, visits=2))
