"""The columnar encoder against fastavro, on random alerts with every null and every reason."""

import io

import fastavro
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.annotate import Findings, columns, messages, schema
from broker.core import schemas
from broker.core.batch import AlertBatch, AnomalyScores, ClassScores, PacketBatch, Scores
from tests.annotate.oracle import annotation_records


def holes(rng: np.random.Generator, *shape: int) -> np.ndarray:
    values = rng.normal(size=shape)
    values[rng.random(shape) < 0.3] = np.nan
    return values


def alert_batch(rng: np.random.Generator, n: int) -> AlertBatch:
    def flags() -> np.ndarray:
        return rng.random(n) < 0.5

    return AlertBatch(
        survey="lsst",
        rows=rng.permutation(n),
        alert_id=rng.integers(-(2**63), 2**63 - 1, n),
        dia_source_id=rng.integers(0, 2**40, n),
        object_id=[f"objekt-ö{i}" * int(rng.integers(0, 9)) for i in range(n)],
        ra_deg=rng.random(n),
        dec_deg=rng.random(n),
        mjd=rng.random(n),
        band=rng.integers(-1, 6, n).astype(np.int8),
        flux_njy=holes(rng, n),
        flux_err_njy=holes(rng, n),
        real_bogus=holes(rng, n).astype(np.float32),
        star_galaxy=holes(rng, n).astype(np.float32),
        ref_distance_arcsec=holes(rng, n).astype(np.float32),
        solar_system=flags(),
        solar_system_id=[str(rng.choice(["", "2004 JQ12"])) for _ in range(n)],
        negative=flags(),
        test=flags(),
        programid=np.ones(n, np.int16),
        published_ms=rng.choice([-1, 1_763_800_000_000], n),
        not_public=rng.integers(0, 9, n),
    )


def findings(rng: np.random.Generator, n: int, classifiers: int, anomaly: bool, says_nearest: bool = False) -> Findings:
    def reasons() -> list[str]:
        return [str(r) for r in rng.choice(["", "bogus", "too_few_detections"], n)]

    def counts() -> np.ndarray:
        return rng.integers(0, 10**6, n)

    answers = [
        ClassScores(f"c{i}", "1", "ab" * 32, (2222, 2242, 2332), rng.random(3).astype(np.float32),
                    rng.integers(0, 9, (n, 3)).astype(np.float32), holes(rng, n, 3).astype(np.float32),
                    holes(rng, n, 7).astype(np.float32), reasons())
        for i in range(classifiers)
    ]  # fmt: skip
    parts = {"forest": rng.random(n).astype(np.float32), "reconstruction": rng.random(n).astype(np.float32)}
    nearest = rng.choice([0, 2222, 2332], n) if says_nearest else None
    strange = AnomalyScores("a", "1", "cd" * 32, rng.random(n).astype(np.float32), parts, reasons(), nearest)
    return Findings(
        tuple("ugrizy"), Scores(answers, strange if anomaly else None), reasons(), rng.random(n) < 0.5,
        counts(), counts(), counts(), counts(), rng.integers(0, 99, (n, 3)), holes(rng, n), holes(rng, n),
        holes(rng, n, 6), holes(rng, n, 6),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("n", "classifiers", "anomaly", "says_nearest"),
    [
        (40, 2, True, True),
        (41, 2, True, False),
        (1, 1, False, False),
        (7, 0, True, False),
        (8, 0, True, True),
        (0, 1, True, False),
        (9, 0, False, False),
    ],
)
def test_messages_equal_what_fastavro_writes(n: int, classifiers: int, anomaly: bool, says_nearest: bool) -> None:
    rng = np.random.default_rng(n)
    alerts, found = alert_batch(rng, n), findings(rng, n, classifiers, anomaly, says_nearest)
    packets = PacketBatch(
        [b""] * n, [f"topic{i}" for i in range(n)], np.arange(n, dtype=np.int32), np.arange(n) + 2**40,
        np.full(n, -1), 1_763_800_000_000,
    )  # fmt: skip
    made = messages(alerts, packets, found, version="0.1.0", published_ms=1_763_800_000_001)
    expected = annotation_records(alerts, packets, found, version="0.1.0", published_ms=1_763_800_000_001)
    written = schema(found.scores)
    assert len(made) == n
    for message, record in zip(made, expected, strict=True):
        assert message == written.encode(record)
        assert schemas.decode(message, list(written.headers), "annotation")["objectId"] == record["objectId"]


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1))
def test_longs_are_avros(values: list[int]) -> None:
    out = io.BytesIO()
    for value in values:
        fastavro.schemaless_writer(out, "long", value)
    column = columns.longs(values)
    assert column.data.tobytes() == out.getvalue()
    assert column.lengths.sum() == len(column.data)


def test_the_encoder_writes_the_oldest_schema_that_says_all() -> None:
    rng = np.random.default_rng(0)
    assert schema(findings(rng, 1, 1, False).scores) == schemas.latest("annotation")
    assert schema(findings(rng, 1, 0, True).scores) == schemas.latest("annotation")
    assert schema(Scores([], None)).version == "1.0"
