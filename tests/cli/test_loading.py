"""Models are loaded while Kafka is joined; a start from the command to the first annotation."""

import json
import threading
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from broker.cli.loading import loading
from broker.cli.main import tocsin
from broker.core.batch import PacketBatch
from broker.core.errors import Stop, TocsinError
from broker.core.outcomes import Outcomes, Step
from tests.conftest import RealKafka

EMPTY = PacketBatch([], [], np.empty(0, np.int32), np.empty(0, np.int64), np.empty(0, np.int64), 0)


class Nothing:
    """A step that remembers what it was told."""

    def __init__(self) -> None:
        self.told = 0

    def __call__(self, batch: PacketBatch) -> Outcomes:
        return Outcomes(np.empty(0, np.int8), [], [], [])

    def committed(self, batch: PacketBatch, outcomes: Outcomes) -> None:
        self.told += 1


def test_the_first_batch_waits_for_the_step() -> None:
    go, stop, step = threading.Event(), threading.Event(), Nothing()

    def make() -> Nothing:
        assert go.wait(10)
        return step

    with loading(make, stop) as later:  # the block has begun, the step is not made
        threading.Timer(0.1, go.set).start()
        outcomes = later(EMPTY)
        assert go.is_set()
        later.committed(EMPTY, outcomes)
    assert step.told == 1
    assert not stop.is_set()


@pytest.mark.parametrize("error", [TocsinError("no model is called x"), ModuleNotFoundError("torch")])
def test_what_cannot_be_loaded_ends_the_service_and_is_no_packets_fault(error: Exception) -> None:
    def make() -> Nothing:
        raise error

    stop = threading.Event()
    with pytest.raises(type(error), match=str(error)), loading(make, stop) as later:
        serve(later, stop)


def serve(step: Step, stop: threading.Event) -> None:
    assert stop.wait(10)  # without any packet
    with pytest.raises(Stop):
        step(EMPTY)


def test_a_wrong_model_is_one_sentence_though_kafka_is_away() -> None:
    arguments = ["run", "--topic", "t", "--brokers", "127.0.0.1:1", "--port", "0", "--shadow", "nothing"]
    assert "no model is called 'nothing'" in str(CliRunner().invoke(tocsin, arguments).exception)


@pytest.mark.kafka
@pytest.mark.slow
def test_the_seconds_of_a_start_are_measured(kafka: RealKafka) -> None:
    done = CliRunner().invoke(tocsin, ["bench", "start", "--runs", "1", "--brokers", kafka.bootstrap, "--json"])
    assert done.exit_code == 0, done.exception
    found: dict[str, Any] = json.loads(done.stdout)
    best = found["best"]["seconds"]
    assert 1 < found["best"]["cpu_s"] < 60
    assert set(best) == {"listening", "group joined", "models loaded", "first annotation"}
    assert list(best.values()) == sorted(best.values())
    assert list(best)[-1] == "first annotation"
    assert 0 < best["first annotation"] < 60
    assert found["imports_s"]["torch"] < found["imports_s"]["all"]
