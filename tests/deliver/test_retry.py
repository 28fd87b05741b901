"""Dead letters tried again, on files and on a real Kafka."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import OFFSET_END, TopicPartition

from broker.core.batch import PacketBatch
from broker.core.metrics import Recorded
from broker.deliver.files import FileSink
from broker.deliver.kafka import KafkaSink
from broker.deliver.loop import Totals, run
from broker.deliver.retry import Letter, RetrySource, letters
from broker.deliver.types import FIRST_STEP, LAST_STEP, Bounds, Hook, Sink, no_hook
from tests.conftest import RealKafka

from .backends import Backend, FilesBackend, KafkaBackend, found, numbers
from .fakes import FakeStep, number_of, packet, primary

COUNT = 80  # 10 of them are dead
DEAD = [n for n in range(COUNT) if n % 8 == 7]


@pytest.fixture(params=["files", pytest.param("kafka", marks=pytest.mark.kafka)])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    made: Backend = (
        FilesBackend(tmp_path) if request.param == "files" else KafkaBackend(request.getfixturevalue("kafka"))
    )
    made.feed([packet(n) for n in range(COUNT)])
    made.run(FakeStep(made.topics), until=COUNT)
    return made


def sink(backend: Backend, at: Hook = no_hook) -> Sink:
    if isinstance(backend, FilesBackend):
        return FileSink(backend.directory, primary=primary(backend.topics), at=at)
    assert isinstance(backend, KafkaBackend)
    return KafkaSink(backend.kafka.config, f"retry-{backend.name}", backend.topics, resume=True, at=at)


def retry(
    backend: Backend,
    step: FakeStep,
    *,
    first: int | None = None,
    to: Sink | None = None,
    batch: int = 4,
    at: Hook = no_hook,
) -> Totals:
    def choose(open_: list[Letter]) -> list[Letter]:
        return open_[:first]

    return run(
        RetrySource(backend.outputs, choose),
        step,
        to or sink(backend),
        metrics=Recorded(),
        bounds=Bounds(max_alerts=batch, max_wait_s=30.0),
        primary=primary(backend.topics),
        member="dlq-retry",
        at=at,
    )


def test_what_is_mended_is_annotated_and_counts_once(backend: Backend) -> None:
    before = found(backend)
    step = FakeStep(backend.topics, mended=True)
    totals = retry(backend, step)
    assert (totals.received, totals.scored, totals.batches) == (10, 10, 3)
    assert sorted(step.seen) == DEAD
    after = found(backend)
    assert after["balanced"]
    assert (after["received"], after["dead_lettered"], after["retried"]) == (COUNT, {}, 10)
    assert after["scored"] == before["scored"] + 10
    assert len(numbers(backend)) == len(set(numbers(backend)))
    again = FakeStep(backend.topics, mended=True)
    assert retry(backend, again).received == 0
    assert again.calls == 0, "what has another end is left alone"


def test_what_is_still_dead_has_a_new_letter_and_counts_once(backend: Backend) -> None:
    assert retry(backend, FakeStep(backend.topics)).dead_lettered == 10
    after = found(backend)
    assert (after["dead_lettered"], after["retried"], after["balanced"]) == ({"malformed": 10}, 10, True)
    assert len(list(backend.outputs.dead_letters())) == 20
    assert all(letter.is_open and len(letter.tries) == 1 for letter in letters(backend.outputs))
    assert retry(backend, FakeStep(backend.topics, mended=True)).scored == 10
    after = found(backend)
    assert (after["dead_lettered"], after["balanced"]) == ({}, True)


def test_only_the_chosen_are_retried_and_their_bytes_and_places_are_the_originals(backend: Backend) -> None:
    batches: list[PacketBatch] = []
    step = FakeStep(backend.topics, mended=True, before=batches.append)
    assert retry(backend, step, first=3).received == 3
    (batch,) = batches
    chosen = letters(backend.outputs)[:3]
    assert {*zip(batch.topics, batch.partitions.tolist(), batch.offsets.tolist(), strict=True)} == {
        letter.place for letter in chosen
    }
    assert all(value == packet(number_of(value)) for value in batch.values)
    originals = {letter["packet"]: letter["timestamp"].timestamp() * 1000 for letter in backend.outputs.dead_letters()}
    for value, time_ms in zip(batch.values, batch.timestamps_ms.tolist(), strict=True):
        assert time_ms == round(originals[value])
    after = found(backend)
    assert (after["dead_lettered"], after["balanced"]) == ({"malformed": 7}, True)


def test_a_retry_that_ends_anywhere_is_run_again_and_nothing_is_doubled(backend: Backend) -> None:
    class End(BaseException):
        """As a kill: nothing is caught."""

    def end_at(step: int) -> Hook:
        def at(number: int) -> None:
            if number == step:
                raise End

        return at

    for step in range(FIRST_STEP, LAST_STEP + 1):
        mended, at = FakeStep(backend.topics, mended=True), end_at(step)
        with pytest.raises(End):
            retry(backend, mended, to=sink(backend, at), batch=1, at=at if step in (1, 2, 9) else no_hook)
    totals = retry(backend, FakeStep(backend.topics, mended=True))
    assert 1 <= totals.received <= 8, "two of the nine were committed, or three where a written line counts"
    after = found(backend)
    assert (after["received"], after["retried"], after["dead_lettered"]) == (COUNT, 10, {})
    assert after["balanced"]


def test_a_filtered_packet_is_an_end_of_a_retry_too(backend: Backend) -> None:
    class Filtering(FakeStep):
        def __call__(self, batch: PacketBatch) -> Any:
            mended = [b"f" + value[1:] for value in batch.values]
            return super().__call__(PacketBatch(mended, *(getattr(batch, name) for name in COLUMNS)))

    assert retry(backend, Filtering(backend.topics)).filtered == 10
    after = found(backend)
    assert (after["filtered"], after["dead_lettered"]) == ({"programid": 20}, {})
    assert after["balanced"]
    assert retry(backend, FakeStep(backend.topics)).received == 0


COLUMNS = ("topics", "partitions", "offsets", "timestamps_ms", "ingest_ms")


@pytest.mark.kafka
def test_a_second_retry_takes_over_from_the_first(kafka: RealKafka) -> None:
    backend = KafkaBackend(kafka)
    backend.feed([packet(n) for n in range(COUNT)])
    backend.run(FakeStep(backend.topics), until=COUNT)
    begun, second_is_done, errors = threading.Event(), threading.Event(), []

    def wait(batch: PacketBatch) -> None:
        if begun.is_set():
            second_is_done.wait(60)
        begun.set()

    def first() -> None:
        try:
            retry(backend, FakeStep(backend.topics, mended=True, before=wait))
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=first)
    thread.start()
    begun.wait(60)
    assert retry(backend, FakeStep(backend.topics, mended=True)).received in (6, 10)
    second_is_done.set()
    thread.join(60)
    assert "taken over" in str(errors)
    after = found(backend)
    assert (after["retried"], after["dead_lettered"], after["balanced"]) == (10, {}, True)


@pytest.mark.kafka
def test_what_kafka_deleted_is_expired_and_not_lost(kafka: RealKafka) -> None:
    """A week later: the annotations are gone, their ledger records are not."""
    backend = KafkaBackend(kafka)
    backend.feed([packet(n) for n in range(COUNT)])
    backend.run(FakeStep(backend.topics), until=COUNT)
    topic, admin = backend.topics.all("ztf"), kafka.admin
    for future in admin.delete_records([TopicPartition(topic, 0, OFFSET_END)]).values():
        future.result(30)
    after = found(backend)
    assert (after["received"], after["scored"], after["expired_outputs"]) == (COUNT, 0, COUNT * 6 // 8)
    assert (after["missing"], after["balanced"]) == (0, True)
