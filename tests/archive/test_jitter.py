"""Rounds after the first are of new objects, and nothing else has changed: against fastavro."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import pytest

from broker.archive import simulate
from broker.archive.jitter import GOLDEN_ANGLE_DEG, IDS, RAS, Jitter
from broker.decode import SchemaStore
from broker.decode.limits import Limits
from broker.decode.packets import body_of

Change = tuple[str, Any, Any]


@pytest.fixture
def schemas(tmp_path: Path) -> SchemaStore:
    simulate.install_schema(tmp_path)
    return SchemaStore(cache_dir=tmp_path)


def record_of(packet: bytes, schemas: SchemaStore) -> Any:
    text, body = body_of(packet, schemas, Limits())
    return fastavro.schemaless_reader(io.BytesIO(body), fastavro.parse_schema(json.loads(text)), None)


def changes(before: Any, after: Any, name: str = "") -> list[Change]:
    """Return (field, before, after) of every value that differs."""
    if isinstance(before, dict):
        assert before.keys() == after.keys()
        return [found for key in before for found in changes(before[key], after[key], key)]
    if isinstance(before, list):
        return [found for a, b in zip(before, after, strict=True) for found in changes(a, b, name)]
    same = before == after or (before != before and after != after)  # noqa: PLR0124 - two NaN
    return [] if same else [(name, before, after)]


def is_expected(change: Change, days: float, degrees: float) -> bool:
    name, before, after = change
    if name == "objectId":
        return len(before) == len(after) and before[:5] == after[:5]
    if name in IDS:
        return bool(before > 0) and abs(len(str(before)) - len(str(after))) <= 1
    if name in RAS:
        return bool(abs((after - before - degrees + 180.0) % 360.0 - 180.0) < 1e-4)
    is_time = name in ("jd", "jdstarthist", "jdendhist") or name.endswith("MjdTai")
    return is_time and bool(abs(after - before - days) < 1e-6)


@pytest.mark.parametrize("survey", ["ztf", "lsst"])
def test_only_ids_places_and_times_change_and_sizes_stay(survey: str, schemas: SchemaStore) -> None:
    jitter = Jitter(schemas)
    seen: dict[int, int] = {}
    for packet in simulate.night(survey, 40, 3):
        assert jitter(packet.value, 0) == packet.value
        for turn in (1, 7):
            turned = jitter(packet.value, turn)
            assert len(turned) == len(packet.value)
            found = changes(record_of(packet.value, schemas), record_of(turned, schemas))
            assert [c for c in found if not is_expected(c, turn, GOLDEN_ANGLE_DEG * turn)] == []
            kinds = {c[0] for c in found}
            own = {"candid", "objectId", "ra", "jd"} if survey == "ztf" else {"diaSourceId", "ra", "midpointMjdTai"}
            assert kinds >= own
            if turn == 1:
                for name, before, after in found:
                    if name in IDS:
                        assert seen.setdefault(before, after) == after  # the same id, wherever it stands
    assert len(set(seen.values())) == len(seen)


def test_rounds_have_different_ids(schemas: SchemaStore) -> None:
    packet = next(simulate.night("ztf", 1, 3)).value
    records = [record_of(Jitter(schemas)(packet, turn), schemas) for turn in range(40)]
    assert len({r["candid"] for r in records}) == len({r["objectId"] for r in records}) == 40


def test_real_packets_keep_their_sizes(schemas: SchemaStore, real_alerts: Path) -> None:
    jitter, limits = Jitter(SchemaStore()), Limits()
    tried = 0
    for path in sorted(real_alerts.rglob("*.avro"))[:60]:
        value = path.read_bytes()
        turned = jitter(value, 2)
        if turned == value:  # several records, or no schema at hand
            continue
        tried += 1
        found = changes(*(record_of(v, SchemaStore()) for v in (value, turned)))
        assert [c for c in found if not is_expected(c, 2.0, 2 * GOLDEN_ANGLE_DEG)] == [], path
        if b"null" in value[:60]:
            assert len(turned) == len(value)
        assert body_of(turned, SchemaStore(), limits)
    assert tried > 5


def cut(packet: bytes, at: int) -> bytes:
    return packet[:at]


@pytest.mark.parametrize("damage", [partial(cut, at=n) for n in (0, 3, 5, 400, 60_000, -1)])
def test_what_does_not_parse_is_untouched(damage: Callable[[bytes], bytes], schemas: SchemaStore) -> None:
    for survey in ("ztf", "lsst"):
        packet = damage(next(simulate.night(survey, 1, 3)).value)
        assert Jitter(schemas)(packet, 1) == packet
    rng = np.random.default_rng(0)
    packet = next(simulate.night("lsst", 1, 3)).value
    for _ in range(200):  # no crash, no size that changes, wherever the damage is
        broken = bytearray(packet)
        for at in rng.integers(5, len(packet) - 120_000, 3):
            broken[at] = int(rng.integers(0, 256))
        assert len(Jitter(schemas)(bytes(broken), 1)) == len(packet)


def test_a_schema_that_is_no_text_comes_back_untouched(schemas: SchemaStore) -> None:
    packet = next(simulate.night("ztf", 1, 3)).value
    schema, out = fastavro.reader(io.BytesIO(packet)).writer_schema, io.BytesIO()
    fastavro.writer(out, schema, [record_of(packet, schemas)], codec="deflate")
    broken = out.getvalue().replace(b'"record"', b'"recor\xff"')
    assert broken != out.getvalue()
    assert Jitter(schemas)(broken, 1) == broken


def test_packed_packets_come_back_unpacked(schemas: SchemaStore) -> None:
    packet = next(simulate.night("ztf", 1, 3)).value
    plain = Jitter(schemas)(packet, 4)
    assert Jitter(schemas)(gzip.compress(packet), 4) == plain
    schema = fastavro.reader(io.BytesIO(packet)).writer_schema
    out = io.BytesIO()
    fastavro.writer(out, schema, [record_of(packet, schemas)], codec="deflate")
    assert record_of(Jitter(schemas)(out.getvalue(), 4), schemas) == record_of(plain, schemas)
