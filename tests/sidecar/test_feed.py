"""What the stream sends to sidecars: the right alerts, the same products each time, and never at the alert's cost."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import pytest

from broker.archive import simulate
from broker.archive.read import packets
from broker.cli import assemble
from broker.cli.replay import to_directory
from broker.core import schemas
from broker.core.batch import FilePacket, PacketBatch
from broker.core.config import load
from broker.core.errors import TocsinError
from broker.core.metrics import Recorded
from broker.core.outcomes import Outcomes, Record
from broker.core.reading import probabilities
from broker.core.taxonomy import COMMON
from broker.deliver.loop import _check
from broker.deliver.types import Intake
from broker.pipeline import Pipeline
from broker.sidecar import read
from broker.sidecar.fetch import Fetch
from broker.sidecar.product import Kind, Product

BOTH = ["catalog", "cutout"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    simulate.install_schema(folder / "schemas")
    return folder


@pytest.fixture(scope="module")
def make(cache: Path) -> Callable[..., Pipeline]:
    """Return what makes the stream's step with some settings of [survey]."""

    def made(prefix: str | None = None, **survey: Any) -> Pipeline:
        overrides = {f"survey.{key}": value for key, value in survey.items()}
        return assemble.pipeline(load(None, {"run.cache_dir": cache, **overrides}), Recorded(), prefix=prefix)

    return made


@pytest.fixture(scope="module")
def night() -> list[bytes]:
    """Return 80 ZTF and 20 Rubin packets."""
    return [packet.value for survey, n in (("ztf", 80), ("lsst", 20)) for packet in simulate.night(survey, n, 3)]


def batch(values: list[bytes]) -> PacketBatch:
    return assemble.batch_of([FilePacket("night", i, value) for i, value in enumerate(values)])


def sent(outcomes: Outcomes, kind: str = "", prefix: str = "survey") -> list[Record]:
    topics = [f"{prefix}.{one}" for one in ([kind] if kind else BOTH)]
    return [record for record in outcomes.records if record.topic in topics]


def products(records: list[Record]) -> list[Product]:
    """Return the products in messages, as a sidecar reads them."""
    return said(batch([record.value for record in records]))


def said(packed: PacketBatch) -> list[Product]:
    found: list[Product] = []
    for part, dead in read.products(packed, Fetch()):
        assert not dead
        found += [part[row] for row in sorted(part)]
    return found


def annotated(outcomes: Outcomes) -> dict[int, dict[str, Any]]:
    primary = [record for record in outcomes.records if record.topic.endswith(".all")]
    return {record.row: schemas.decode(record.value, list(record.headers), "annotation") for record in primary}


def supernova(annotation: dict[str, Any]) -> float:
    found = probabilities(annotation)
    return sum(found[number] for number in COMMON) if found else 0.0


def test_alerts_that_look_like_supernovae_are_sent_and_no_others(
    make: Callable[..., Pipeline], night: list[bytes]
) -> None:
    packed = batch(night)
    outcomes = make(feed=BOTH)(packed)
    _check(Intake(packed), outcomes, frozenset({"tocsin.ztf.all", "tocsin.lsst.all"}))
    made = annotated(outcomes)
    wanted = {row for row, annotation in made.items() if supernova(annotation) > 0.5}
    assert {record.row for record in sent(outcomes, "cutout")} == wanted
    assert {record.row for record in sent(outcomes, "catalog")} <= wanted
    assert 10 < len(sent(outcomes, "catalog")) < len(wanted) < len(made)


def test_a_product_is_its_alerts_own(make: Callable[..., Pipeline], night: list[bytes]) -> None:
    outcomes = make(feed=BOTH)(batch(night))
    made, records = annotated(outcomes), sent(outcomes)
    for record, product in zip(records, products(records), strict=True):
        annotation = made[record.row]
        assert (product.survey, product.alert_id) == (annotation["survey"], annotation["alertId"])
        assert record.key == (product.object_id or "").encode() == annotation["objectId"].encode()
        assert product.product_id == f"{product.survey}.{product.alert_id}.{product.kind}"
        assert record.topic == f"survey.{product.kind}"
        if product.kind == Kind.CUTOUT:
            assert product.bands == tuple(
                f"{image}_{annotation['band']}" for image in ("science", "template", "difference")
            )
            assert product.arrays["image"].values.shape == (
                (1, 3, 63, 63) if product.survey == "ztf" else (1, 3, 30, 30)
            )
        else:
            (packet,) = fastavro.reader(io.BytesIO(night[record.row]))
            assert isinstance(packet, dict)
            (number,) = (n for n in (1, 2, 3) if str(packet["candidate"][f"objectidps{n}"]) == product.records[0])
            for band in "griz":
                there = packet["candidate"][f"s{band}mag{number}"]
                expected = np.nan if there == -999 else there
                np.testing.assert_array_equal(product.arrays[f"mag_{band}"].values, [expected])


def test_the_same_alert_gives_the_same_products_whatever_is_beside_it(
    make: Callable[..., Pipeline], night: list[bytes]
) -> None:
    step = make(feed=BOTH)
    first, again = ([(r.topic, r.key, r.value) for r in sent(step(batch(night)))] for _ in range(2))
    assert first == again
    assert len({product.product_id for product in products(sent(step(batch(night))))}) == len(first)
    backwards = [(r.topic, r.key, r.value) for r in sent(step(batch(night[::-1])))]
    assert sorted(backwards, key=repr) == sorted(first, key=repr)


def test_what_the_stream_says_is_the_same_with_and_without(make: Callable[..., Pipeline], night: list[bytes]) -> None:
    without, fed = make()(batch(night)), make(feed=["catalog"])(batch(night))
    assert not sent(without)
    kept = [record for record in fed.records if not record.topic.startswith("survey.")]
    assert [(r.row, r.topic, r.key) for r in kept] == [(r.row, r.topic, r.key) for r in without.records]
    assert fed.reason == without.reason


def test_a_bad_stamp_costs_the_cutout_alone_and_is_counted_once_committed(
    make: Callable[..., Pipeline], night: list[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    step = make(feed=BOTH)
    row = sent(step(batch(night)), "catalog")[0].row
    (packet,) = (reader := fastavro.reader(io.BytesIO(night[row])))
    assert isinstance(packet, dict)
    packet["cutoutScience"]["stampData"] = b"nonsense"
    out = io.BytesIO()
    fastavro.writer(out, reader.writer_schema, [packet])
    packed = batch([out.getvalue()])
    outcomes = step(packed)
    assert [record.topic for record in sent(outcomes)] == ["survey.catalog"]
    assert annotated(outcomes)[0]["outcome"] == "scored"
    assert "no cutout: bad_stamp" in caplog.text
    metrics = step.metrics
    assert isinstance(metrics, Recorded)
    assert not metrics.counters
    step.committed(packed, outcomes)
    assert {name: dict(labels) for name, labels in metrics.counters} == {
        "products_sent_total": {"kind": "catalog"},
        "products_missing_total": {"kind": "cutout", "reason": "bad_stamp"},
    }


def test_partnership_alerts_are_never_sent(make: Callable[..., Pipeline], night: list[bytes]) -> None:
    step = make(feed=BOTH)
    step.cuts = replace(step.cuts, drop_non_public=False)
    row = sent(step(batch(night)), "catalog")[0].row
    (packet,) = (reader := fastavro.reader(io.BytesIO(night[row])))
    assert isinstance(packet, dict)
    packet["candidate"]["programid"] = 2
    out = io.BytesIO()
    fastavro.writer(out, reader.writer_schema, [packet])
    outcomes = step(batch([out.getvalue()]))
    assert supernova(annotated(outcomes)[0]) > 0.5
    assert not sent(outcomes)


def test_classes_and_threshold_choose(make: Callable[..., Pipeline], night: list[bytes]) -> None:
    packed = batch(night)
    made = make(feed=["cutout"], classes=["tde", "agn"], threshold=0.2)(packed)
    wanted = {
        row
        for row, annotation in annotated(made).items()
        if (found := probabilities(annotation)) and found[2243] + found[2332] > 0.2
    }
    assert {record.row for record in sent(made)} == wanted
    assert wanted


def test_a_replay_never_sends_to_the_live_topics(make: Callable[..., Pipeline], night: list[bytes]) -> None:
    outcomes = make("test", feed=BOTH)(batch(night))
    assert not sent(outcomes)
    assert Counter(record.topic for record in sent(outcomes, prefix="test.survey")).keys() == {
        "test.survey.catalog",
        "test.survey.cutout",
    }


def test_a_replay_into_a_directory_keeps_products_in_files_by_kind(
    make: Callable[..., Pipeline], night: list[bytes], cache: Path, tmp_path: Path
) -> None:
    for i, value in enumerate(night[:80]):
        (tmp_path / f"{i:03d}.avro").write_bytes(value)
    settings, out = load(None, {"run.cache_dir": cache, "survey.feed": BOTH, "batch.max_alerts": 50}), tmp_path / "out"
    to_directory(sorted(tmp_path.glob("*.avro")), out, settings)
    wanted = sent(make(feed=BOTH)(batch(night[:80])))
    for kind in BOTH:
        files = sorted((out / "products").glob(f"*-{kind}-1.0.avro"))
        assert len(files) == 2
        found = products_in(files)
        expected = products([record for record in wanted if record.topic == f"survey.{kind}"])
        assert [product.product_id for product in found] == [product.product_id for product in expected]
    again = to_directory(sorted(tmp_path.glob("*.avro")), out, settings)
    assert again.received == 0


def products_in(files: list[Path]) -> list[Product]:
    return said(assemble.batch_of(list(packets(files))))


def test_a_class_that_nobody_gives_is_a_clear_error() -> None:
    with pytest.raises(TocsinError, match="no such class: supernova"):
        load(None, {"survey.classes": ["supernova"]})
