"""The sidecar's step: one end per product, one forward pass per trunk, and results that say what the rows said."""

import random
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from broker.core import schemas
from broker.core.batch import FilePacket
from broker.core.metrics import Recorded
from broker.core.outcomes import Outcomes
from broker.core.reasons import Outcome
from broker.deliver.files import FileSink, FileSource
from broker.deliver.loop import _check, run
from broker.deliver.outputs import DirectoryOutputs
from broker.deliver.recount import recount_directory
from broker.deliver.types import Intake
from broker.sidecar import read, step, write
from broker.sidecar.product import Array, Kind, Product
from tests.sidecar.rows import Colour, galaxies, packets, raw, sidecar
from tests.sidecar.test_read import BAD


def results(outcomes: Outcomes) -> list[dict[str, Any]]:
    return [schemas.decode(record.value, list(record.headers), "annotation") for record in outcomes.records]


def colours(result: dict[str, Any]) -> list[float]:
    found: list[float] = write.said_in(result)[0].answer.outputs[0].value.tolist()
    return found


def test_products_of_one_and_of_many_records_share_a_forward_pass() -> None:
    model, metrics = Colour(), Recorded()
    batch = packets(galaxies(0, 1), galaxies(1, 30), galaxies(31, 1))
    outcomes = sidecar(model, metrics=metrics)(batch)
    _check(Intake(batch), outcomes, frozenset({"t.results"}))
    assert model.forward == [32]
    assert outcomes.code.tolist() == [Outcome.SCORED] * 3
    found = results(outcomes)
    assert [len(result["records"]) for result in found] == [1, 30, 1]
    assert [value for result in found for value in colours(result)] == pytest.approx(np.arange(32) / 100, abs=1e-5)
    assert {key[1][0][1] for key in metrics.observations} == {"product", "rows", "result"}


def test_records_are_counted_once_their_results_are_published() -> None:
    metrics = Recorded()
    step, product = sidecar(metrics=metrics), without("mag_g", mag_g=Array("mag", np.array([np.nan, 21.0])))
    batch = packets(product, galaxies(0, 3))
    outcomes = step(batch)
    assert not metrics.counters
    step.committed(batch, replace(outcomes))  # what another made of the batch
    assert not metrics.counters
    step.committed(batch, outcomes)
    answered, unanswered = (("row", "colour@sim"),), (("reason", "not_finite"), ("row", "colour@sim"))
    assert metrics.counters == {("records_answered_total", answered): 4, ("records_unanswered_total", unanswered): 1}


def test_a_result_says_whose_it_is_and_where_it_comes_from() -> None:
    product = replace(galaxies(0, 2), survey="ztf", object_id="ZTF1", alert_id=2**60)
    outcomes = sidecar()(packets(galaxies(0, 1), product))
    assert [record.key for record in outcomes.records] == [b"galaxies/0", b"ZTF1"]
    result = results(outcomes)[1]
    assert (result["survey"], result["objectId"], result["alertId"]) == ("ztf", "ZTF1", 2**60)
    assert (result["source"]["topic"], result["source"]["offset"]) == ("survey.catalog", 1)
    answer = result["answers"][0]
    assert (answer["row"], answer["variant"], answer["toy"], answer["generated"]) == ("colour", "sim", True, False)
    assert answer["wallTime"] > 0
    assert write.said_in(result)[0].provenance == Colour().provenance


def test_what_is_decoded_is_what_the_row_said_to_the_bit_of_float32() -> None:
    model, product = Colour(), galaxies(0, 7)
    said = model.answer(model.embed([product]))
    back = write.said_in(results(sidecar(model)(packets(product)))[0])[0].answer
    assert back.reason == said.reason
    assert np.array_equal(back.out_of_domain, said.out_of_domain.astype("<f4"))
    for ours, theirs in zip(back.outputs, said.outputs, strict=True):
        assert (ours.name, ours.unit, ours.form, ours.labels) == (theirs.name, theirs.unit, theirs.form, theirs.labels)
        assert np.array_equal(ours.value, theirs.value.astype("<f4"), equal_nan=True)
        for name, part in theirs.parts.items():
            assert np.array_equal(ours.parts[name], part.astype("<f4"), equal_nan=True)


def test_rows_share_a_trunk_or_have_their_own() -> None:
    models = Colour("a", trunk="one"), Colour("b", trunk="two"), Colour("c", trunk="one")
    found = results(sidecar(*models)(packets(galaxies(0, 5))))[0]
    assert [model.forward for model in models] == [[5], [5], []]
    assert [answer["row"] for answer in found["answers"]] == ["a", "b", "c"]


def test_rows_of_two_kinds_answer_their_own_products() -> None:
    images = replace(galaxies(0, 1), kind=Kind.CUTOUT)
    models = Colour("a"), Colour("b", kind=Kind.CUTOUT)
    found = results(sidecar(*models)(packets(images, galaxies(0, 2))))
    assert [[answer["row"] for answer in result["answers"]] for result in found] == [["b"], ["a"]]


def test_a_product_that_no_row_reads_is_unscored() -> None:
    outcomes = sidecar()(packets(replace(galaxies(0, 2), kind=Kind.BOX3D), galaxies(0, 1)))
    assert (outcomes.code.tolist(), outcomes.reason) == ([Outcome.UNSCORED, Outcome.SCORED], ["other_kind", ""])
    first, second = results(outcomes)
    assert (first["outcome"], first["unscoredReason"], first["answers"]) == ("unscored", "other_kind", [])
    assert (second["outcome"], second["unscoredReason"]) == ("scored", None)


def without(name: str, **other: Array) -> Product:
    product = galaxies(0, 2)
    return replace(product, arrays={key: a for key, a in product.arrays.items() if key != name} | other)


@pytest.mark.parametrize(
    ("product", "reason"),
    [
        (without("mag_g"), "missing_input"),
        (without("mag_g", mag_g=Array("nJy", np.ones(2))), "wrong_unit"),
        (without("mag_g", mag_g=Array("mag", np.ones((2, 3)))), "wrong_shape"),
        (without("mag_g", mag_g=Array("mag", np.array([np.nan, np.inf]))), "not_finite"),
    ],
)
def test_what_cannot_be_answered_is_unscored_and_its_neighbours_are_unhurt(product: Product, reason: str) -> None:
    outcomes = sidecar()(packets(galaxies(0, 1), product, galaxies(2, 1)))
    assert outcomes.reason == ["", reason, ""]
    found = results(outcomes)
    assert found[1]["answers"][0]["reasons"] == [reason] * 2
    assert np.isnan(colours(found[1])).all()
    assert [colours(found[0])[0], colours(found[2])[0]] == pytest.approx([0, 0.02], abs=1e-5)


def test_one_record_without_an_answer_leaves_a_product_scored() -> None:
    product = without("mag_g", mag_g=Array("mag", np.array([np.nan, 21.0])))
    outcomes = sidecar()(packets(product))
    assert outcomes.code.tolist() == [Outcome.SCORED]
    result = results(outcomes)[0]
    assert result["answers"][0]["reasons"] == ["not_finite", ""]
    assert np.isnan(colours(result)[0])
    assert colours(result)[1] == 1


def test_bad_products_among_good_ones_are_dead_letters() -> None:
    values = [packet for packet, _, _ in BAD.values()]
    good = packets(galaxies(3, 2)).values
    batch = raw(good + values + good)
    outcomes = sidecar()(batch)
    _check(Intake(batch), outcomes, frozenset({"t.results"}))
    assert outcomes.reason == ["", *(reason for _, reason, _ in BAD.values()), ""]
    assert [record.row for record in outcomes.records] == [0, len(values) + 1]


def test_the_order_of_a_batch_changes_nothing() -> None:
    products = [galaxies(n, 1 + n % 3) for n in range(40)]
    order = random.Random(3).sample(range(40), 40)
    plain = results(sidecar()(packets(*products)))
    shuffled = results(sidecar()(packets(*(products[n] for n in order))))
    for place, n in enumerate(order):
        for said in (plain[n], shuffled[place]):
            said["source"] = said["answers"][0]["wallTime"] = None
        assert plain[n] == shuffled[place]


def test_a_batch_that_names_more_than_fits_is_answered_in_stretches() -> None:
    batch = packets(*(galaxies(n, 10) for n in range(7)))
    batch.values[2] = b"bad"
    whole = results(sidecar()(batch))
    model = Colour()
    two = 2 * 10 * (16 + read.RECORD_BYTES)  # products of two float64 arrays
    outcomes = replace(sidecar(model), stretch_bytes=two)(batch)
    _check(Intake(batch), outcomes, frozenset({"t.results"}))
    assert model.forward == [20, 20, 20]
    assert outcomes.reason == ["", "", "bad_magic", "", "", "", ""]
    for one, other in zip(results(outcomes), whole, strict=True):
        one["answers"][0]["wallTime"] = other["answers"][0]["wallTime"] = None
        assert one == other


def test_results_of_many_bytes_are_committed_in_parts(tmp_path: Path) -> None:
    batch, metrics = packets(*(galaxies(10 * n, 10) for n in range(9))), Recorded()
    batch.values[2] = b"bad"
    whole = sidecar()(batch)
    two, size = 2 * 10 * (16 + read.RECORD_BYTES), len(whole.records[0].value)
    made = replace(sidecar(metrics=metrics), stretch_bytes=two, batch_bytes=3 * size)
    first = made(batch)
    assert (first.reason, first.whole, len(first.records)) == (["", "", "bad_magic", "", ""], False, 4)
    source = FileSource([FilePacket("p", n, value) for n, value in enumerate(batch.values)])
    results = frozenset({"t.results"})
    sink = FileSink(tmp_path, primary=results, schema="result")
    totals = run(source, made, sink, metrics=metrics, primary=results)
    assert (totals.batches, totals.scored, totals.dead_lettered) == (2, 8, 1)
    assert metrics.counters["records_answered_total", (("row", "colour@sim"),)] == 80
    found = recount_directory(tmp_path, source_packets=9)
    assert (found["balanced"], found["received"]) == (True, 9)
    records = [record for result in DirectoryOutputs(tmp_path).annotations() for record in result["records"]]
    assert records == [f"galaxy {n}" for n in range(90) if not 20 <= n < 30]


def test_what_takes_long_is_committed_in_parts() -> None:
    batch, seconds = packets(*(galaxies(10 * n, 10) for n in range(20))), count()
    made = replace(sidecar(), part_s=5.0, timer=lambda: float(next(seconds)))  # every look at the clock takes a second
    first = made(batch)
    assert (len(first.code), first.whole) == (3, False)
    assert [colours(result) for result in results(first)] == [colours(r) for r in results(sidecar()(batch))[:3]]
    made.part_s = 0.0
    assert len(made(batch).code) == 1, "it gets on, however slow"


@pytest.mark.parametrize("threads", [2, 3, 8])
def test_threads_take_shares_of_a_large_batch_and_change_nothing(threads: int) -> None:
    sizes = [1, 3000, 1, 1, 200, 700, 1]
    products = [galaxies(sum(sizes[:n]), size) for n, size in enumerate(sizes)]
    model = Colour()
    alone, shared = sidecar(), replace(sidecar(model), threads=threads)
    found = [results(step(packets(*products))) for step in (alone, shared)]
    assert 1 < len(model.forward) <= threads
    assert sum(model.forward) == sum(sizes)
    for one, other in zip(*found, strict=True):
        one["answers"][0]["wallTime"] = other["answers"][0]["wallTime"] = None
        assert one == other


def test_a_result_that_no_topic_takes_is_a_dead_letter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step, "RESULT_BYTES", 3000)
    batch, model = packets(galaxies(0, 1), galaxies(0, 300), galaxies(0, 50)), Colour()
    outcomes = sidecar(model)(batch)
    _check(Intake(batch), outcomes, frozenset({"t.results"}))
    assert outcomes.reason == ["", "bound_exceeded", "bound_exceeded"]
    assert all("send fewer records" in letter.text for letter in outcomes.dead)
    assert sum(model.forward) == 51  # what surely is too long is not answered


def test_an_answer_of_another_number_of_records_is_an_error_of_the_row() -> None:
    class Short(Colour):
        def answer(self, embedded: Any) -> Any:
            return replace(super().answer(embedded), reason=embedded.reason[1:])

    with pytest.raises(ValueError, match="colour answers 1 records of 2"):
        sidecar(Short())(packets(galaxies(0, 2)))


def test_an_empty_batch_has_no_outcomes() -> None:
    assert len(sidecar()(raw([])).code) == 0
