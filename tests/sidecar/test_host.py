"""A host's redshift from its alert's own columns, end to end on the real Kafka: the stream, its feed, and a sidecar."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from broker.archive import simulate
from broker.cli import run, sidecar
from broker.core.config import Settings, load
from broker.core.metrics import Recorded
from broker.core.topics import Topics
from broker.deliver.kafka.reader import read_records
from broker.deliver.recount import recount_kafka
from broker.sidecar.product import NoAnswer
from broker.sidecar.write import said_in
from tests.conftest import RealKafka

pytestmark = [pytest.mark.kafka, pytest.mark.slow]
ALERTS = 80
ROW = "pz-mdn"
Service = Callable[..., Any]


@contextmanager
def serving(service: Service, settings: Settings) -> Iterator[Recorded]:
    """Run a service in a thread while the block runs; it must end cleanly."""
    metrics, stop, errors = Recorded(), threading.Event(), list[BaseException]()

    def target() -> None:
        try:
            service(settings, metrics, stop, lambda _ready: None)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=target)
    thread.start()
    try:
        yield metrics
    finally:
        stop.set()
        thread.join(60)
    assert not thread.is_alive()
    assert not errors, errors


def until_received(metrics: Recorded, wanted: int) -> None:
    end = time.monotonic() + 90
    while metrics.counters["alerts_received_total", ()] < wanted:
        assert time.monotonic() < end, metrics.counters
        time.sleep(0.05)


def records(kafka: RealKafka, topic: str, schema: str) -> list[dict[str, Any]]:
    return [record for record, _ in read_records(kafka.config, [topic], schema)]


def test_a_photo_z_of_a_host_from_an_alerts_own_columns(kafka: RealKafka, tmp_path: Path) -> None:
    source, own, survey = kafka.topic("ztf"), f"t{uuid.uuid4().hex[:8]}", f"s{uuid.uuid4().hex[:8]}"
    kafka.send(source, [packet.value for packet in simulate.night("ztf", ALERTS, 3)])
    common = {
        "kafka.brokers": kafka.bootstrap,
        "run.cache_dir": tmp_path,
        "survey.feed": ["catalog", "cutout"],
        "survey.prefix": survey,
    }
    stream = load(None, {**common, "source.topics": [source], "source.group": own, "output.prefix": own})
    with serving(run.service, stream) as metrics:
        until_received(metrics, ALERTS)
    products = records(kafka, f"{survey}.catalog", "product")
    assert len(products) == metrics.counters["products_sent_total", (("kind", "catalog"),)] > 10

    beside = {"source.topics": [f"{survey}.catalog"], "source.group": survey, "output.prefix": f"{survey}.z"}
    with serving(partial(sidecar.service, (ROW,)), load(None, {**common, **beside})) as metrics:
        until_received(metrics, len(products))
    results = records(kafka, f"{survey}.z.results", "result")

    annotated = {one["alertId"]: one["objectId"] for one in records(kafka, f"{own}.ztf.all", "annotation")}
    assert [one["productId"] for one in results] == [one["productId"] for one in products]
    assert {one["alertId"]: one["objectId"] for one in results}.items() <= annotated.items()
    for product, result in zip(products, results, strict=True):
        _check_redshift(product, result)
    assert sum(one["outcome"] == "scored" for one in results) > 10
    for prefix in (own, f"{survey}.z"):
        assert recount_kafka(kafka.config, Topics(prefix))["balanced"]


def _check_redshift(product: dict[str, Any], result: dict[str, Any]) -> None:
    """Check that a host has a redshift with an uncertainty, or too few magnitudes for one."""
    (said,) = said_in(result)
    (redshift,) = said.answer.outputs
    assert (said.provenance.row, redshift.name, redshift.form) == (ROW, "redshift", "mixture")
    magnitudes = [np.frombuffer(one["data"])[0] for one in product["arrays"] if one["name"].startswith("mag_")]
    if np.isfinite(magnitudes).sum() < 3:
        assert said.answer.reason == [NoAnswer.MISSING_INPUT]
        assert np.isnan(redshift.value[0])
        return
    assert -0.2 < redshift.value[0] < 3  # a mixture of Gaussians knows no edge at 0
    assert 0.003 < redshift.sigma[0] < 1.5
    assert 0 <= said.answer.out_of_domain[0] <= 1
