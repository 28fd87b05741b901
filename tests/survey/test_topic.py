"""Every row over its topic: products to the real Kafka, `tocsin sidecar` with all rows of a kind, results back."""

from __future__ import annotations

import threading
import time
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from broker.cli import sidecar
from broker.core.config import load
from broker.core.errors import TocsinError
from broker.core.metrics import Recorded
from broker.core.topics import Topics
from broker.deliver.kafka.reader import read_records
from broker.deliver.recount import recount_kafka
from broker.models.survey import serve
from broker.sidecar.product import Array, Product
from broker.sidecar.write import product_message, said_in
from tests.conftest import RealKafka
from tests.survey.test_rows import ROWS, columns, model

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


def product(name: str) -> Product:
    """Return a few simulated records as one alert's product."""
    row = ROWS[name]
    units = {wanted.name: wanted.unit for wanted in row.inputs}
    arrays = {key: Array(units[key], values) for key, values in columns(row).items()}
    n = len(next(iter(arrays.values())).values)
    records = [f"{name} {k}" for k in range(n)]
    return Product(name, row.kind, records, arrays, survey="ztf", object_id=f"ZTF-{name}", alert_id=2**60 + n)


@pytest.fixture(scope="module")
def results(kafka: RealKafka, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Return the result of each row's product; one sidecar answers all rows of a kind whose weights are sound."""
    prefix = f"s{uuid.uuid4().hex[:8]}"
    found: dict[str, dict[str, Any]] = {}
    served = [name for name in ROWS if loads(name)]
    for kind in sorted({ROWS[name].kind for name in served}):
        names = tuple(name for name in served if ROWS[name].kind == kind)
        topic, out = f"{prefix}.{kind}", Topics(f"{prefix}.{kind}.said")
        kafka.make(topic)
        kafka.send(topic, [product_message(product(name)) for name in names])
        answer(names, kafka, topic, out, tmp_path_factory.mktemp("cache"))
        said = [record for record, _ in read_records(kafka.config, [out.results], "result")]
        assert [one["productId"] for one in said] == list(names)
        assert recount_kafka(kafka.config, out)["balanced"]
        found |= {one["productId"]: one for one in said}
    return found


def loads(name: str) -> bool:
    """Tell whether a row can be served; the test of a row that cannot says why."""
    try:
        serve.load(name)
    except TocsinError:
        return False
    return True


def answer(names: tuple[str, ...], kafka: RealKafka, topic: str, out: Topics, cache: Path) -> None:
    """Run a sidecar until it has committed a product of each row."""
    overrides = {"kafka.brokers": kafka.bootstrap, "run.cache_dir": cache, "source.topics": [topic]}
    settings = load(None, {**overrides, "source.group": out.prefix, "output.prefix": out.prefix})
    metrics, stop, errors = Recorded(), threading.Event(), list[BaseException]()

    def target() -> None:
        try:
            sidecar.service(names, settings, metrics, stop, lambda _ready: None)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=target)
    thread.start()
    end = time.monotonic() + 120
    while thread.is_alive() and metrics.counters["alerts_received_total", ()] < len(names) and time.monotonic() < end:
        time.sleep(0.05)
    stop.set()
    thread.join(60)
    assert not thread.is_alive()
    assert not errors, errors


@pytest.mark.parametrize("name", ROWS)
def test_a_row_answers_over_its_topic_what_it_answers_here(name: str, results: dict[str, dict[str, Any]]) -> None:
    served, asked = model(name), product(name)
    result = results[name]
    assert (result["survey"], result["objectId"], result["alertId"]) == ("ztf", asked.object_id, asked.alert_id)
    assert result["records"] == asked.records
    (said,) = (one for one in said_in(result) if one.provenance.row == name)
    assert said.provenance == served.provenance
    expected = served.answer(served.embed([asked]))
    assert said.answer.reason == expected.reason == [""] * len(asked)
    for output, wanted in zip(said.answer.outputs, expected.outputs, strict=True):
        assert (output.name, output.unit, output.form) == (wanted.name, wanted.unit, wanted.form)
        np.testing.assert_allclose(output.value, wanted.value, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(output.sigma, wanted.sigma, rtol=1e-3, atol=1e-4)
