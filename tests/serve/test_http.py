"""The page of health and metrics."""

import urllib.error
import urllib.request
from typing import get_args

import pytest
from prometheus_client.parser import text_string_to_metric_families

from broker.core.metrics import CounterName, GaugeName, HistogramName
from broker.serve.http import serving
from broker.serve.metrics import Prometheus


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_health_readiness_and_metrics() -> None:
    metrics, reasons = Prometheus(), ["no partition is assigned yet"]
    with serving("127.0.0.1", 0, metrics.registry, lambda: reasons[0]) as port:
        assert get(port, "/healthz") == (200, "alive\n")
        assert get(port, "/readyz") == (503, "no partition is assigned yet\n")
        reasons[0] = ""
        assert get(port, "/readyz")[0] == 200
        assert get(port, "/else")[0] == 404
        metrics.count("alerts_received_total", 3)
        metrics.count("alerts_unscored_total", 2, reason="bogus")
        metrics.observe("stage_seconds", 0.25, stage="decode")
        metrics.gauge("consumer_lag", 7, topic="t", partition="0")
        families = {f.name: f for f in text_string_to_metric_families(get(port, "/metrics")[1])}
    assert families["alerts_received"].samples[0].value == 3
    unscored = next(s for s in families["alerts_unscored"].samples if s.name.endswith("_total"))
    assert (unscored.labels, unscored.value) == ({"reason": "bogus"}, 2)
    assert families["consumer_lag"].samples[0].labels == {"topic": "t", "partition": "0"}


def test_every_metric_of_the_list_is_there_and_no_other_name_is() -> None:
    metrics = Prometheus()
    names = {*get_args(CounterName), *get_args(HistogramName), *get_args(GaugeName)}
    assert {*metrics.counters, *metrics.histograms, *metrics.gauges} == names
    with pytest.raises(KeyError):
        metrics.count("alerts_lost_total")  # type: ignore[arg-type]
