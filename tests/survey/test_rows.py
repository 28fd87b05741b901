"""What every row of the survey models must do; a new row is taken up without a change here."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from broker.core.errors import TocsinError
from broker.models.survey import card as cards
from broker.models.survey import posterior, registry, serve, sound, train
from broker.models.survey.fitted import read
from broker.models.survey.missing import error_of
from broker.models.survey.row import Capability, Columns, Examples, Row, Training
from broker.sidecar.answer import Answer, Output
from broker.sidecar.product import Array, Input, Kind, Product
from tests.sidecar.rows import packets
from tests.survey.passes import passes

SURVEY = Path(str(files("broker") / "models" / "survey"))
ALL = registry.rows()
ROWS = {name: row for name, row in ALL.items() if isinstance(row, Row)}
MODELS = [f"{name}@{variant}" for name, row in ROWS.items() for variant in row.variants]
N = 12
"""Records of a product."""

every_row = pytest.mark.parametrize("name", ROWS)
every_model = pytest.mark.parametrize("name", MODELS)
Change = dict[str, Array | None]


@cache
def model(name: str) -> serve.Served:
    """Return a row with its weights; the test fails where there are none yet."""
    try:
        return serve.load(name)
    except TocsinError as error:
        pytest.fail(str(error), pytrace=False)


def simulated(row: Row) -> str:
    """Return the first of a row's variants that is simulated."""
    return next(name for name, variant in row.variants.items() if not variant.real)


@cache
def examples(row_id: str, variant: str) -> Examples:
    """Return a few simulated examples of a row."""
    return ROWS[row_id].variants[variant].make(50, 5, None)


def columns(row: Row) -> Columns:
    """Return N records with as many inputs as any has, and all that the row requires."""
    found = examples(row.id, simulated(row)).columns
    made = {wanted.name: found.get(wanted.name) for wanted in row.inputs}
    known: NDArray[np.int64] = np.sum([finite(x) for x in made.values() if x is not None], axis=0)
    best = np.argsort(-known, kind="stable")[:N]
    return {name: x[best] for name, x in made.items() if x is not None}


def finite(values: NDArray[Any]) -> NDArray[np.bool_]:
    whole: NDArray[np.bool_] = np.isfinite(values).reshape(len(values), -1).all(axis=1)
    return whole


def product(row: Row, changed: Change | None = None, rows: Any = slice(None), kind: Kind | None = None) -> Product:
    """Return the records as a product, with some of its arrays changed, or (None) left out."""
    units = {wanted.name: wanted.unit for wanted in row.inputs}
    arrays: Change = {name: Array(units[name], x) for name, x in columns(row).items()}
    kept = {name: array for name, array in (arrays | (changed or {})).items() if array is not None}
    chosen = {name: Array(array.unit, array.values[rows]) for name, array in kept.items()}
    n = len(np.arange(N)[rows])
    return Product("p", kind or row.kind, [str(k) for k in range(n)], chosen)


def ask(name: str, *products: Product) -> Answer:
    served = model(name)
    return served.answer(served.embed(list(products)))


def ask_each(name: str, products: list[Product]) -> list[Answer]:
    """Return the answers to products that are asked together."""
    answer, ends = ask(name, *products), np.cumsum([len(one) for one in products])
    return [_part(answer, slice(end - len(one), end)) for one, end in zip(products, ends, strict=True)]


def _part(answer: Answer, rows: slice) -> Answer:
    outputs = [
        replace(
            output,
            value=output.value[rows],
            sigma=output.sigma[rows],
            parts={name: part if name == "grid" else part[rows] for name, part in output.parts.items()},
        )
        for output in answer.outputs
    ]
    return Answer(tuple(outputs), answer.out_of_domain[rows], answer.reason[rows])


def values(answer: Answer) -> Iterator[NDArray[Any]]:
    """Yield all that an answer says of its records, (n, ...) each."""
    yield answer.out_of_domain
    for output in answer.outputs:
        yield from (output.value, output.sigma, *(part for name, part in output.parts.items() if name != "grid"))


def assert_same(one: Answer, other: Answer) -> None:
    for left, right in zip(values(one), values(other), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-5)


def row_of(name: str) -> Row:
    return model(name).fitted.row


# ---- what the file states


@pytest.mark.parametrize("name", ALL)
def test_the_file_states_the_row(name: str) -> None:
    row, place = ALL[name], registry.places()[name]
    assert row.id == name
    assert row.summary
    assert row.finding
    assert row.papers
    assert all(paper.citation and paper.reference for paper in row.papers)
    text = Path(str(import_module(place.module).__file__)).read_text()
    assert len(text.splitlines()) < 80
    assert text.startswith('"""')


@every_row
def test_the_file_states_inputs_outputs_judge_and_baseline(name: str) -> None:
    row = ROWS[name]
    sound.check(row)
    for variant in (name for name, each in row.variants.items() if not each.real):
        sound.check_examples(row.on(variant), examples(name, variant))
    assert row.baselines


def test_reading_all_rows_needs_no_torch() -> None:
    code = "import sys; from broker.models.survey import registry; registry.rows(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_service_has_neither_weights_nor_variants() -> None:
    for name, row in ALL.items():
        if isinstance(row, Capability):
            with pytest.raises(TocsinError, match="is a service"):
                registry.find(name)


# ---- what it is asked, what it says


@every_model
def test_an_answer_is_whole(name: str) -> None:
    row, answer = row_of(name), ask(name, product(row_of(name)))
    assert answer.reason == [""] * N
    assert [output.name for output in answer.outputs] == [target.name for target in row.targets] or ["class"]
    assert [output.unit for output in answer.outputs] == [target.unit for target in row.targets] or [""]
    assert np.all((answer.out_of_domain >= 0) & (answer.out_of_domain <= 1))
    for output in answer.outputs:
        assert output.value.shape == output.sigma.shape == (N,)
        assert np.isfinite(output.value).all()
        _assert_proper(output, row)


def _assert_proper(output: Output, row: Row) -> None:
    """Check that an output's distribution is one."""
    if output.form == "classes":
        assert output.labels == row.classes
        np.testing.assert_allclose(output.parts["probabilities"].sum(axis=1), 1.0, atol=1e-5)
        np.testing.assert_array_equal(output.parts["probabilities"].argmax(axis=1), output.value)
        return
    assert np.all(output.sigma > 0)
    if output.form == "grid":
        pdf, grid = output.parts["pdf"], output.parts["grid"]
        np.testing.assert_allclose(np.trapezoid(pdf, grid, axis=1), 1.0, atol=1e-4)
    if output.form == "mixture":
        np.testing.assert_allclose(output.parts["weights"].sum(axis=1), 1.0, atol=1e-5)
        assert np.all(output.parts["sigmas"] > 0)
    if output.form == "samples":
        assert np.isfinite(output.parts["samples"]).all()


@every_model
def test_no_product_and_no_record_have_an_empty_answer(name: str) -> None:
    row = row_of(name)
    for answer in (ask(name), ask(name, product(row, rows=slice(0)))):
        assert answer.reason == []
        assert len(answer.outputs) == max(len(row.targets), 1)
        assert all(len(x) == 0 for x in values(answer))


@every_model
def test_one_record_alone_is_answered_as_among_others(name: str) -> None:
    row = row_of(name)
    many = ask(name, product(row), product(row, rows=slice(3)), product(row, kind=_another(row.kind)))
    alone = ask(name, product(row, rows=slice(2, 3)))
    assert len(alone.reason) == 1
    for whole, one in zip(values(many), values(alone), strict=True):
        np.testing.assert_allclose(whole[2:3], one, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(whole[N + 2 : N + 3], one, rtol=1e-4, atol=1e-5)


@every_model
def test_permuted_records_have_permuted_answers(name: str) -> None:
    row, order = row_of(name), np.random.default_rng(1).permutation(N)
    straight, permuted = ask(name, product(row)), ask(name, product(row, rows=order))
    for one, other in zip(values(straight), values(permuted), strict=True):
        np.testing.assert_allclose(one[order], other, rtol=1e-4, atol=1e-5)


# ---- what is wrong with it


@every_model
def test_an_input_may_be_missing_unless_it_is_required(name: str) -> None:
    row = row_of(name)
    answers = ask_each(name, [product(row, {wanted.name: None}) for wanted in row.inputs])
    for wanted, answer in zip(row.inputs, answers, strict=True):
        assert answer.reason == _expected(row, wanted, "missing_input")
        _assert_silent(answer)


@every_model
def test_a_number_may_be_unknown_unless_it_is_required(name: str) -> None:
    row, made = row_of(name), columns(row_of(name))
    wanted = [one for one in row.inputs if one.name in made]
    blanks = [Array(one.unit, np.full(made[one.name].shape, np.nan)) for one in wanted]
    unknown = ask_each(name, [product(row, {one.name: blank}) for one, blank in zip(wanted, blanks, strict=True)])
    missing = ask_each(name, [product(row, {one.name: None}) for one in wanted])
    for one, answer, other in zip(wanted, unknown, missing, strict=True):
        assert answer.reason == _expected(row, one, "not_finite")
        if not one.required:
            assert_same(answer, other)


@every_model
def test_too_few_inputs_are_not_answered(name: str) -> None:
    row = row_of(name)
    optional = [wanted.name for wanted in row.inputs if not wanted.required]
    if row.at_least:
        gone = optional[row.at_least - 1 :]
        answer = ask(name, product(row, dict.fromkeys(gone)))
        assert answer.reason == ["missing_input"] * N
        _assert_silent(answer)


def _expected(row: Row, gone: Input, why: str) -> list[str]:
    """Return the reasons of the records when an input is gone; ``why`` where it is required."""
    if gone.required:
        return [why] * N
    made = columns(row)
    kept = [wanted.name for wanted in row.inputs if not wanted.required and wanted.name != gone.name]
    has = sum((finite(made[one]).astype(np.int64) for one in kept if one in made), np.zeros(N, np.int64))
    return ["" if enough else "missing_input" for enough in has >= row.at_least]


@every_model
def test_a_wrong_unit_or_shape_is_refused_and_its_neighbours_are_not(name: str) -> None:
    row, made = row_of(name), columns(row_of(name))
    ones = {one.name: np.ones((N, *np.abs(one.shape))) for one in row.inputs}
    units: list[Change] = [{one.name: Array("furlong", (ones | made)[one.name])} for one in row.inputs]
    shapes: list[Change] = [{one.name: Array(one.unit, ones[one.name][..., None])} for one in row.inputs]
    *answers, right = ask_each(name, [*(product(row, wrong) for wrong in (*units, *shapes)), product(row)])
    assert [answer.reason for answer in answers] == [["wrong_unit"] * N] * len(units) + [["wrong_shape"] * N] * len(
        shapes
    )
    for answer in answers:
        _assert_silent(answer)
    assert_same(right, ask(name, product(row)))


@every_model
def test_another_kind_of_product_is_refused(name: str) -> None:
    row = row_of(name)
    answer = ask(name, product(row, kind=_another(row.kind)), product(row))
    assert answer.reason == ["other_kind"] * N + [""] * N
    _assert_silent(answer)


@pytest.mark.parametrize("name", [name for name in MODELS if registry.find(name)[0].kind == Kind.CUTOUT])
def test_an_image_with_nothing_to_see_is_not_answered(name: str) -> None:
    row, made = row_of(name), columns(row_of(name))
    for level in (0.0, 7.0):
        alike: Change = {one.name: Array(one.unit, np.full_like(made[one.name], level)) for one in row.inputs}
        flat, right = ask_each(name, [product(row, alike), product(row)])
        assert flat.reason == ["blank"] * N
        _assert_silent(flat)
        assert_same(right, ask(name, product(row)))


@every_model
def test_absurd_numbers_end_in_an_answer_or_a_reason(name: str) -> None:
    row, made = row_of(name), columns(row_of(name))
    for size in (0.0, 1e30, -1e30):
        absurd: Change = {
            w.name: Array(w.unit, np.full(made[w.name].shape, size)) for w in row.inputs if w.name in made
        }
        answer = ask(name, product(row, absurd))
        for output in answer.outputs:
            assert np.array_equal(np.isfinite(output.value), [why == "" for why in answer.reason])


@every_model
def test_a_number_that_float32_cannot_hold_is_none(name: str) -> None:
    row, made = row_of(name), columns(row_of(name))
    for wanted in row.inputs:
        absurd: Change = {wanted.name: Array(wanted.unit, np.full(made[wanted.name].shape, -1e39))}
        if wanted.required:
            assert ask(name, product(row, absurd)).reason == ["not_finite"] * N


def _assert_silent(answer: Answer) -> None:
    """Check that a record with a reason has no number."""
    silent = np.array([why != "" for why in answer.reason])
    assert all(np.isnan(x[silent]).all() for x in values(answer))


def _another(kind: Kind) -> Kind:
    return Kind.SPECTRUM if kind != Kind.SPECTRUM else Kind.CATALOG


# ---- errors of what it does not know


MEASURED = [name for name in registry.simulated() if registry.find(name)[0].targets]
"""Regressions with a simulator, whose truth is known whatever is missing."""
FORGIVING = [name for name in MEASURED if not all(wanted.required for wanted in registry.find(name)[0].inputs)]
FRESH = 500
AT_MOST = 9
"""Inputs of a row that are tried, where it has many."""


@cache
def fresh(name: str) -> Examples:
    row, variant = registry.find(name)
    return row.variants[variant].make(FRESH, 11, None)


def optional(row: Row) -> list[tuple[str, ...]]:
    """Return the inputs that may be missing, each with its error, where it has one."""
    names = [wanted.name for wanted in row.inputs if not wanted.required]
    errors = {error_of(name) for name in names} & set(names)
    return [(name, *({error_of(name)} & errors)) for name in names if name not in errors]


def blanked(made: Columns, names: tuple[str, ...], lost: Any = True) -> Columns:
    return made | {name: np.where(lost, np.nan, made[name]) for name in names if name in made}


def within(name: str, tries: list[Columns]) -> NDArray[np.float64]:
    """Return the share of truths within the central 68 % of what is said, where anything is (tries, targets)."""
    together = {key: np.concatenate([one[key] for one in tries]) for key in tries[0]}
    answer = model(name).fitted.answer(together)
    truth = np.concatenate([fresh(name).truth] * len(tries))
    ranks = [posterior.pit(output, truth[:, k]) for k, output in enumerate(answer.outputs)]
    said = np.array([why == "" for why in answer.reason]).reshape(len(tries), FRESH)
    assert said.mean(axis=1).min() > 0.5
    inside = (np.abs(np.stack(ranks, axis=1) - 0.5) < 0.34).reshape(len(tries), FRESH, -1)
    found: NDArray[np.float64] = np.mean(inside, axis=1, where=said[..., None])
    return found


@pytest.mark.parametrize("name", FORGIVING)
def test_errors_hold_when_an_input_is_missing(name: str) -> None:
    """A network that never saw it missing gives errors that are many times too small."""
    _assert_held(name, optional(row_of(name)), 0.5)


@pytest.mark.parametrize(
    "name", [name for name in FORGIVING if any(len(group) > 1 for group in optional(registry.find(name)[0]))]
)
def test_errors_hold_when_an_error_alone_is_missing(name: str) -> None:
    _assert_held(name, [(error,) for _, *errors in optional(row_of(name)) for error in errors], 0.4)


def _assert_held(name: str, groups: list[tuple[str, ...]], least: float) -> None:
    made, tried = fresh(name).columns, groups[:: -(-len(groups) // AT_MOST)]
    for group, share in zip(tried, within(name, [blanked(made, group) for group in tried]), strict=True):
        assert share.min() > least, (group, share)


@pytest.mark.parametrize("name", FORGIVING)
def test_errors_hold_when_all_is_missing_that_may_be(name: str) -> None:
    """Each record has as few inputs as it is answered with, and each others."""
    row, made = row_of(name), fresh(name).columns
    groups = optional(row)
    kept = next(k for k in range(len(groups) + 1) if sum(map(len, groups[:k])) >= row.at_least)
    there = np.stack([np.isfinite(made[group[0]]) for group in groups], axis=1)
    order = np.where(there, np.random.default_rng(3).random(there.shape), 1.0).argsort(axis=1).argsort(axis=1)
    for group, place in zip(groups, order.T, strict=True):
        made = blanked(made, group, place >= kept)
    assert within(name, [made]).min() > 0.4


# ---- weights and cards


@every_model
def test_the_card_goes_there_and_back(name: str) -> None:
    card = model(name).card
    text = (cards.folder(card.row, card.variant) / cards.CARD_FILE).read_text()
    assert card.to_json() == text
    assert cards.Card.model_validate_json(card.to_json()) == card


@every_model
def test_every_answer_says_where_it_comes_from(name: str) -> None:
    said, card = model(name).provenance, model(name).card
    assert f"{said.row}@{said.variant}" == name
    assert len(said.weights_hash) == 64
    assert said.version
    assert card.training.command.startswith(f"tocsin train {name} ")
    assert card.metrics
    if not ROWS[card.row].variants[card.variant].real:
        data = examples(card.row, card.variant).data
        assert (said.data_id, said.data_version, said.toy) == (data.id, data.version, data.toy)
        assert (card.data.prior, card.data.real) == (data.prior, False)
    else:
        assert card.data.real


@every_model
def test_other_weights_are_refused(name: str, tmp_path: Path) -> None:
    card = model(name).card
    for which in (card.trunk, card.head):
        root = tmp_path / which.file
        for row in {card.row, card.trunk.row or card.row}:
            shutil.copytree(cards.folder(row, card.variant), root / row / card.variant)
        path = root / (which.row or card.row) / card.variant / which.file
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
        with pytest.raises(TocsinError, match="SHA-256"):
            serve.load(name, root)


@every_model
def test_a_card_of_other_inputs_or_targets_is_refused(name: str, tmp_path: Path) -> None:
    row, card = row_of(name), model(name).card
    shutil.copytree(cards.folder(card.row, card.variant), tmp_path / card.row / card.variant)
    path = tmp_path / card.row / card.variant / cards.CARD_FILE
    for field in ("inputs", "classes" if row.classes else "targets", "trunk"):
        told = json.loads(card.to_json())
        told["interface"][field] = (
            told["interface"][field][:-1] if field != "trunk" else {"name": "Other", "config": {}}
        )
        path.write_text(json.dumps(told))
        with pytest.raises(TocsinError, match=f"was changed since it was trained: {field} .*`tocsin train {name}`$"):
            cards.read(row, card.variant, tmp_path)


@every_row
def test_weights_are_small(name: str) -> None:
    found = [model(f"{name}@{variant}").card.bytes for variant in ROWS[name].variants]
    assert sum(found) < 500_000


def test_all_weights_together_are_small() -> None:
    assert sum(path.stat().st_size for path in (SURVEY / "weights").glob("*/*/*.safetensors")) < 4_000_000


@pytest.mark.parametrize("name", [name for name in MODELS if registry.find(name)[0].shares])
def test_a_shared_trunk_is_stored_once_and_runs_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    one = model(name)
    other = model(f"{one.card.trunk.row}@{one.card.variant}")
    assert one.trunk == other.trunk
    assert one.card.trunk.row == registry.find(name)[0].shares
    assert not (cards.folder(one.card.row, one.card.variant) / cards.TRUNK_FILE).exists()
    assert one.card.head.sha256 != other.card.head.sha256
    assert passes([one, other], packets(product(one.fitted.row), product(one.fitted.row)), monkeypatch) == 1
    assert_same(one.answer(other.embed([product(one.fitted.row)])), ask(name, product(one.fitted.row)))


# ---- examples and training


@every_row
def test_simulated_examples_are_those_of_the_seed(name: str) -> None:
    for variant in ROWS[name].variants.values():
        if not variant.real:
            one, same, other = (variant.make(8, seed, None) for seed in (3, 3, 4))
            assert one.columns.keys() == same.columns.keys()
            assert all(np.array_equal(one.columns[k], same.columns[k], equal_nan=True) for k in one.columns)
            np.testing.assert_array_equal(one.truth, same.truth)
            assert any(not np.array_equal(one.columns[k], other.columns[k], equal_nan=True) for k in one.columns)
            assert len(one.truth) == 8


@every_row
def test_simulated_examples_are_what_the_row_reads(name: str) -> None:
    row, made = ROWS[name], examples(name, simulated(ROWS[name]))
    table = read(row, made.columns)
    assert table.reason.count("") > 0.5 * len(made)
    if row.classes:
        assert made.truth.shape == (len(made),)
        assert set(made.truth) <= set(range(len(row.classes)))
    else:
        assert made.truth.shape == (len(made), len(row.targets))


@pytest.mark.parametrize("name", MEASURED)
def test_truths_are_where_the_row_says_that_they_can_be(name: str) -> None:
    low, high = np.array([(target.low, target.high) for target in row_of(name).targets]).T
    truth = fresh(name).truth
    assert np.mean((truth >= low) & (truth <= high), axis=0).min() > 0.99


@every_row
def test_baselines_fit_few_examples_and_answer_with_numbers(name: str) -> None:
    row, made = ROWS[name], examples(name, simulated(ROWS[name]))
    for who, baseline in row.baselines.items():
        said = baseline(made, 0)(made.columns)
        assert said.shape == (len(made), len(row.targets) or len(row.classes)), who
        assert np.isfinite(said).all(), who


def _one_of_each_family() -> list[str]:
    families = {registry.places()[name].module.split(".rows.")[0]: name for name in reversed(ROWS)}
    return sorted(families.values())


@pytest.mark.parametrize("name", _one_of_each_family())
def test_a_short_training_beats_a_constant(name: str) -> None:
    quick = Training(epochs=6, batch=16, rate=4e-3, members=1)
    row = replace(ROWS[name], shares="", pretraining=None, training=quick)
    variant = row.variants[simulated(row)]
    n = 300 if row.kind == Kind.CATALOG else 150
    made, fresh = variant.make(n, 7, None), variant.make(n, 8, None)
    answer = train.fit(row, made, 0).answer(fresh.columns)
    said = np.array([why == "" for why in answer.reason])
    value = answer.outputs[0].value[said]
    if row.classes:
        most = np.bincount(fresh.truth[said]).max() / said.sum()
        assert np.mean(value == fresh.truth[said]) > most + 0.05
    else:
        truth = fresh.truth[said, 0]
        assert np.sqrt(np.mean((value - truth) ** 2)) < 0.9 * truth.std()


def test_inputs_have_one_unit_and_shape_in_all_rows() -> None:
    """Rows of one kind read the same products, so that a name means one thing."""
    seen: dict[tuple[Kind, str], Input] = {}
    for row in ROWS.values():
        for wanted in row.inputs:
            known = seen.setdefault((row.kind, wanted.name), wanted)
            assert (known.unit, known.shape) == (wanted.unit, wanted.shape), f"{row.id}: {wanted.name}"
