"""The page of health and metrics."""

import urllib.error
import urllib.request
from typing import get_args

import pytest
from prometheus_client.parser import text_string_to_metric_families

from broker.core.metrics import CounterName, GaugeName, HistogramName, Recorded
from broker.serve.http import serving
from broker.serve.metrics import Prometheus
from broker.serve.stalled import Watched


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


def test_a_stream_that_does_not_move_is_not_ready_and_recovers() -> None:
    now = [0.0]
    behind = Recorded()
    watched = Watched(behind, 60.0, lambda: now[0])

    def after(seconds: float) -> str:
        now[0] += seconds
        return watched.why()

    assert after(1000) == "", "no packet was ever seen"
    watched.gauge("consumer_lag", 0, topic="t", partition="0")
    assert after(1000) == "", "a stream at its end may be silent for hours"
    watched.gauge("alerts_in_flight", 5)
    watched.gauge("consumer_lag", 7, topic="t", partition="0")
    watched.gauge("consumer_lag", 2, topic="t", partition="1")
    assert after(60) == ""
    assert after(1) == "stalled: 14 packets wait, and nothing was committed for 61 s"
    watched.gauge("consumer_lag", 8, topic="t", partition="0")
    assert after(0), "that more comes in is no progress"
    watched.gauge("last_commit_timestamp_seconds", 1.0)
    assert after(60) == ""
    watched.gauge("alerts_in_flight", 0)
    watched.gauge("consumer_lag", 0, topic="t", partition="0")
    assert after(1), "the other partition still waits"
    watched.gauge("consumer_lag", 0, topic="t", partition="1")
    assert after(1000) == ""
    assert len(behind.gauges) == 4, "all is passed on"
