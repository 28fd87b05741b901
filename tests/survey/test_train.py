"""Training, weights and serving, on a row whose right answers are known: y = x + 2 b, noise 0.1."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from broker.cli.main import tocsin
from broker.core.errors import TocsinError
from broker.models.survey import card as cards
from broker.models.survey import registry, serve, table, train
from broker.models.survey.fitted import Fitted
from broker.models.survey.networks.mlp import Mlp as Network
from broker.models.survey.progress import silent
from broker.models.survey.row import Columns, Training
from tests.sidecar.rows import packets
from tests.survey.line import NOISE, ROW, product, simulated
from tests.survey.passes import passes

FAR_AWAY = '''
"""A row of another package."""
from dataclasses import replace
from tests.survey.line import ROW as LINE, simulated
from broker.models.survey.heads import Mixture
from broker.models.survey.row import Pretraining, Training, Variant
from broker.sidecar.product import Input

ROW = replace(LINE, id="far-away", variants={"sim": Variant(simulated, 600)})
SHARING = replace(
    ROW,
    id="far-sharing",
    head=Mixture(components=2),
    variants={"sim": Variant(simulated, 600, shares="far-away"), "own": Variant(simulated, 600)},
)
CLASH = replace(ROW, id="pz-mdn")
JUDGED = replace(ROW, id="far-judged", judge="mass")
LACKING = replace(ROW, id="far-lacking", inputs=(*ROW.inputs, Input("c")))
TUNED = replace(ROW, id="far-tuned", pretraining=Pretraining(Variant(simulated, 200), Training(epochs=1)))
'''


@dataclass(frozen=True)
class Package:
    """A package that is not part of Tocsin, on the path; its weights lie beside its module."""

    folder: Path
    module: str

    def state(self, points: dict[str, str]) -> None:
        """Install its entry points."""
        info = self.folder / f"{self.module}-1.0.dist-info"
        info.mkdir(exist_ok=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {self.module}\nVersion: 1.0\n")
        lines = [f"{name} = {value if ':' in value else f'{self.module}:{value}'}" for name, value in points.items()]
        (info / "entry_points.txt").write_text("\n".join(["[tocsin.sidecars]", *lines, ""]))


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Package]:
    name = "far" + "".join(c for c in request.node.name if c.isalnum())
    (tmp_path / f"{name}.py").write_text(FAR_AWAY.lstrip())
    monkeypatch.syspath_prepend(str(tmp_path))
    yield Package(tmp_path, name)
    sys.modules.pop(name, None)


# ---- training


@pytest.fixture(scope="module")
def fitted() -> Fitted:
    return train.fit(ROW, simulated(1000, 1, None), 0)


def test_a_line_is_learned_to_its_noise(fitted: Fitted) -> None:
    fresh = simulated(1000, 2, None)
    answer = fitted.answer(fresh.columns)
    away = answer.outputs[0].value - fresh.truth[:, 0]
    assert np.sqrt(np.mean(away**2)) < 1.2 * NOISE
    assert 0.6 < np.mean(np.abs(away) < answer.outputs[0].sigma) < 0.76
    without = fitted.answer({"x": fresh.columns["x"]}).outputs[0]  # nothing of the kind was trained on
    assert np.isfinite(without.value).all()


def test_the_same_seed_gives_the_same_weights_and_leaves_other_randomness_alone() -> None:
    short, made = replace(ROW, training=Training(epochs=2, batch=32, members=2)), simulated(200, 1, None)
    before = torch.random.get_rng_state()
    one, same, other = (train.fit(short, made, seed).answer(made.columns).outputs[0].value for seed in (3, 3, 4))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)
    assert torch.equal(before, torch.random.get_rng_state())


def test_members_are_networks_of_their_own() -> None:
    fitted = train.fit(replace(ROW, training=Training(epochs=1, members=3)), simulated(100, 1, None), 0)
    first = [dict(network.named_parameters())["layers.0.weight"] for network in fitted.trunks.networks]
    assert len(first) == len(fitted.heads) == 3
    assert not torch.equal(first[0], first[1])


def test_what_cannot_be_used_trains_nothing() -> None:
    made = simulated(300, 1, None)
    made.columns["x"][:50] = np.nan
    made.truth[50:70] = np.nan
    made.columns["b"][70:90] = np.nan
    used, held = train.split(ROW, made, 0)
    assert sorted([*used, *held]) == list(range(70, 300))
    assert len(held) == 23
    made.columns["x"][:290] = np.nan
    with pytest.raises(TocsinError, match="10 of 300 examples can be used, 20 are needed"):
        train.fit(ROW, made, 0)


def test_every_tenth_is_held_out_by_one_member() -> None:
    made = simulated(300, 1, None)
    parts = [train.split(ROW, made, 0, part) for part in range(10)]
    assert sorted(np.concatenate([held for _, held in parts])) == list(range(300))
    assert all(sorted([*used, *held]) == list(range(300)) for used, held in parts)
    fitted = train.fit(replace(ROW, training=Training(epochs=1, members=2, few=True)), made, 0)
    whole = train.fit(replace(ROW, training=Training(epochs=1, members=2)), made, 0)
    one, other = ([next(network.parameters()).detach() for network in each.trunks.networks] for each in (fitted, whole))
    assert torch.equal(one[0], other[0])
    assert not torch.equal(one[1], other[1])


def test_where_examples_are_few_held_out_ones_choose_nothing() -> None:
    made = simulated(200, 1, None)
    _, held = train.split(ROW, made, 0)
    truth = made.truth.copy()
    truth[held] = -10.0 * truth[held]
    wrong = replace(made, truth=truth)
    for few in (True, False):
        row = replace(ROW, training=Training(epochs=4, batch=16, rate=1e-2, few=few))
        one, other = (train.fit(row, each, 0).answer(made.columns).outputs[0].value for each in (made, wrong))
        assert np.array_equal(one, other) == few


def test_augmented_examples_are_trained_on_each_epoch() -> None:
    seen = []

    def moved(columns: Columns, rng: np.random.Generator) -> Columns:
        seen.append(rng.random())
        return columns

    train.fit(replace(ROW, augment=moved, training=Training(epochs=3)), simulated(100, 1, None), 0)
    assert len(set(seen)) == 3


def test_records_unlike_the_training_set_rank_high(fitted: Fitted) -> None:
    near, far = simulated(500, 2, None).columns, {"x": np.full(50, 4.0), "b": np.full(50, -4.0)}
    assert 0.4 < np.median(fitted.answer(near).out_of_domain) < 0.6
    assert np.all(fitted.answer(far).out_of_domain > 0.99)


# ---- the perceptron


def test_the_perceptron_scales_by_what_is_there_and_whitens() -> None:
    rng = np.random.default_rng(0)
    common = rng.normal(20.0, 2.0, 5000)
    columns = {"x": common, "b": common + rng.normal(0, 0.05, 5000)}
    columns["b"][::4] = np.nan
    prepared = ROW.trunk.prepare(columns, ROW.inputs)
    assert prepared.shape == (5000, 4)
    assert np.isfinite(prepared).all()
    np.testing.assert_array_equal(prepared[:, 3], np.isfinite(columns["b"]))
    network = Network(prepared, 8, 1, 0.0)
    np.testing.assert_allclose(network.mean, [common.mean(), np.nanmean(columns["b"])], rtol=1e-5)
    np.testing.assert_allclose(network.std, [common.std(), np.nanstd(columns["b"])], rtol=1e-4)
    whole = torch.from_numpy(prepared[np.isfinite(columns["b"])][:, :2])
    white = (((whole - network.mean) / network.std) @ network.whiten).numpy()
    np.testing.assert_allclose(np.cov(white, rowvar=False), np.eye(2), atol=0.1)


def test_the_value_of_a_missing_input_does_not_matter() -> None:
    network = Network(ROW.trunk.prepare(simulated(100, 1, None).columns, ROW.inputs), 8, 2, 0.0)
    told = torch.tensor([[0.3, 7.0, 1.0, 0.0], [0.3, -1e9, 1.0, 0.0]])
    torch.testing.assert_close(network(told)[0], network(told)[1])


# ---- weights, cards, serving


def test_what_was_trained_is_what_is_served(package: Package) -> None:
    package.state({"far-away": "ROW"})
    card = train.run("far-away", train.Options(seed=2, epochs=2), silent)
    assert (package.folder / "weights" / "far-away" / "sim" / cards.CARD_FILE).is_file()
    assert (card.row, card.variant, card.training.examples, card.training.held_out) == ("far-away", "sim", 540, 60)
    row, _ = registry.find("far-away")
    short = replace(row, training=replace(row.training, epochs=2))
    fitted, fresh = train.fit(short, simulated(600, 2, None), 2), simulated(50, 3, None)
    served = serve.load("far-away")
    said = served.answer(served.embed([product(fresh)]))
    wanted = fitted.answer(fresh.columns)
    np.testing.assert_array_equal(said.outputs[0].value, wanted.outputs[0].value)
    np.testing.assert_array_equal(said.out_of_domain, wanted.out_of_domain)


def test_the_card_tells_what_was_learned_before(package: Package) -> None:
    package.state({"far-away": "ROW", "far-tuned": "TUNED"})
    plain, tuned = (train.run(row, train.Options(epochs=1), silent) for row in ("far-away", "far-tuned"))
    assert plain.pretraining is None
    assert tuned.pretraining == tuned.data
    assert plain.head.sha256 != tuned.head.sha256


def test_a_shared_trunk_is_stored_once_and_runs_once(package: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    package.state({"far-away": "ROW", "far-sharing": "SHARING"})
    quick = train.Options(epochs=2)
    with pytest.raises(TocsinError, match="far-away@sim has no weights"):
        train.run("far-sharing", quick, silent)
    for name in ("far-away", "far-sharing"):
        train.run(name, quick, silent)
    assert not (package.folder / "weights" / "far-sharing" / "sim" / cards.TRUNK_FILE).exists()
    train.run("far-sharing@own", quick, silent)
    assert serve.load("far-sharing@own").trunk != serve.load("far-sharing").trunk
    one, other = serve.load("far-away"), serve.load("far-sharing")
    assert one.trunk == other.trunk
    assert one.provenance.weights_hash != other.provenance.weights_hash
    galaxies = product(simulated(50, 3, None))
    first, second = (model.answer(one.embed([galaxies])).outputs[0] for model in (one, other))
    assert (first.form, second.form) == ("value", "mixture")
    np.testing.assert_array_equal(second.value, other.answer(other.embed([galaxies])).outputs[0].value)
    assert passes([one, other], packets(galaxies, galaxies), monkeypatch) == 1
    train.run("far-away", replace(quick, seed=1), silent)
    with pytest.raises(TocsinError, match="far-sharing@sim: SHA-256"):
        serve.load("far-sharing")


def test_an_out_of_tree_row_is_found_trained_and_served(package: Package) -> None:
    package.state({"far-away": "ROW"})
    assert registry.places()["far-away"].module == package.module
    run = CliRunner().invoke(tocsin, ["train", "far-away", "--epochs", "1"])
    assert run.exit_code == 0, run.output
    assert "far-away@sim 1.0.0" in run.output
    listed = CliRunner().invoke(tocsin, ["model", "list", "--root", str(package.folder / "weights")])
    assert "far-away@sim" in listed.output
    verified = CliRunner().invoke(tocsin, ["model", "verify", "far-away"])
    assert "far-away: the weights are" in verified.output
    assert serve.load("far-away@sim").provenance.row == "far-away"


def test_two_rows_of_one_id_are_refused_and_both_are_named(package: Package) -> None:
    package.state({"pz-mdn": "CLASH"})
    with pytest.raises(TocsinError, match=f"called 'pz-mdn': .*pz_mdn.py and .* package {package.module}$"):
        registry.rows()
    serve.load("pz-mlp@sim")


def test_an_entry_point_of_another_id_or_of_no_row_is_refused(package: Package) -> None:
    package.state({"far-other": "ROW"})
    with pytest.raises(TocsinError, match="found as 'far-other' but states the id 'far-away'"):
        registry.row("far-other")
    package.state({"far-other": "simulated"})
    with pytest.raises(TocsinError, match="is no row of the survey models but function"):
        registry.row("far-other")


def test_a_broken_row_is_named_and_harms_no_other(package: Package) -> None:
    code = {"syntax": "ROW = (", "unpapered": "from broker.models.survey.row import Row\nROW = Row(id='far-unpapered')"}
    for name, text in code.items():
        (package.folder / f"{package.module}_{name}.py").write_text(text)
    broken = {f"far-{name}": f"{package.module}_{name}:ROW" for name in (*code, "missing")}
    package.state({"far-away": "ROW", **broken})
    listed = CliRunner().invoke(tocsin, ["sidecar", "list"])
    assert listed.exit_code == 1
    assert {"far-away", "pz-mdn", "x-speed"} <= {line.split()[0] for line in listed.stdout.splitlines()}
    told = listed.stderr.splitlines()
    reasons = ("No module named", "SyntaxError: ", "missing 10 required positional arguments: 'summary', 'papers'")
    for name, why, line in zip(sorted(broken), reasons, told, strict=True):
        assert line.startswith(f"tocsin: {broken[name]} of the package {package.module} cannot be read: ")
        assert why in line
    assert CliRunner().invoke(tocsin, ["train", "far-away", "--epochs", "1"]).exit_code == 0
    assert "far-away@sim" in CliRunner().invoke(tocsin, ["model", "list"]).output
    serve.load("far-away")
    served = CliRunner().invoke(tocsin, ["sidecar", "far-missing"])
    assert isinstance(served.exception, TocsinError)
    assert "cannot be read: ModuleNotFoundError" in str(served.exception)


def test_a_broken_file_of_the_tree_is_named() -> None:
    with pytest.raises(TocsinError, match=r"^models/survey/catalogue/rows/pz_nothing.py cannot be read: Module"):
        registry.Place("broker.models.survey.catalogue.rows.pz_nothing").load()


def test_what_is_wrong_with_a_row_is_said_before_it_is_trained(package: Package) -> None:
    package.state({"far-judged": "JUDGED", "far-lacking": "LACKING"})
    with pytest.raises(TocsinError, match="the judge 'mass' is none of photo-z, posterior, classes"):
        train.run("far-judged", train.Options(), silent)
    with pytest.raises(TocsinError, match="far-lacking: examples of line have no column for c"):
        train.run("far-lacking", train.Options(), silent)


def test_results_of_other_packages_lie_in_a_folder_of_their_own(
    package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package.state({"far-away": "ROW"})
    monkeypatch.chdir(tmp_path)
    train.run("far-away", train.Options(epochs=1), silent)
    before = sorted(table.results_root().rglob("*"))
    run = CliRunner().invoke(tocsin, ["bench", "survey", "far-away"])
    assert run.exit_code == 0, run.output
    page = (tmp_path / "results" / "survey.md").read_text()
    assert "| far-away | sim: line 1.0" in page
    assert "pz-mdn" not in page
    assert CliRunner().invoke(tocsin, ["bench", "survey", "far-away", "--check"]).exit_code == 0
    assert sorted(table.results_root().rglob("*")) == before
    found = table.read_results(tmp_path / "results")
    assert "far-away" not in table.text(found)
    assert "far-away@sim" not in table.missing({})
    assert "far-away@sim" in registry.simulated()
    assert "far-away@sim" not in registry.simulated(registry.OURS)


def test_a_name_nearly_right_is_answered_with_those_like_it() -> None:
    run = CliRunner().invoke(tocsin, ["train", "halo-mll@sim"])
    assert "no model is called 'halo-mll@sim'; like it: halo-ml" in str(run.exception)
    assert "lsst-gru" in str(CliRunner().invoke(tocsin, ["train", "lsst-gro"]).exception)


def test_what_there_is_not_is_named() -> None:
    with pytest.raises(TocsinError, match=r"no survey model is called 'pz-nothing'; there are: .*pz-mdn"):
        registry.find("pz-nothing")
    with pytest.raises(TocsinError, match="pz-mdn has no variant 'nowhere'; there are: sim"):
        registry.find("pz-mdn@nowhere")


def test_a_real_variant_needs_its_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOCSIN_TEST_DATA", raising=False)
    run = CliRunner().invoke(tocsin, ["train", "pz-mdn@dc2"])
    assert run.exit_code == 1
    assert "name the folder of the real sets by --data DIR" in str(run.exception)
