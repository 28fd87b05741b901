"""Weights, cards and serving, of rows that another package states; and what is said of those that are broken."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from broker.cli.main import tocsin
from broker.core.errors import TocsinError
from broker.models.survey import card as cards
from broker.models.survey import registry, serve, sound, table, train
from broker.models.survey.progress import silent
from broker.models.survey.trunks import Mlp
from broker.sidecar.product import Input
from tests.sidecar.rows import packets
from tests.survey.line import product, simulated
from tests.survey.passes import passes

FAR_AWAY = '''
"""A row of another package."""
from dataclasses import replace
from tests.survey.line import ROW as LINE, simulated
from broker.models.survey.heads import Mixture
from broker.models.survey.row import Pretraining, Training, Unseen, Variant
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
NOWHERE = replace(ROW, id="far-nowhere", variants={})
BAD = replace(ROW, id="Bad_Id", unseen={"near": Unseen(simulated, "dc3")}, inputs=(Input("x"), Input("b", "magg")))
NARROW = replace(ROW, id="far-narrow", targets=(replace(ROW.targets[0], low=-1.0, high=1.0),))
def flat(n, seed, data):
    made = simulated(n, seed, data)
    return replace(made, truth=made.truth[:, 0])
FLAT = replace(ROW, id="far-flat", variants={"sim": Variant(flat, 600)})
def wide(n, seed, data):
    made = simulated(n, seed, data)
    return replace(made, columns=made.columns | {"x": made.columns["x"][:, None]})
WIDE = replace(ROW, id="far-wide", variants={"sim": Variant(wide, 600)})
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


def test_a_row_that_was_changed_is_told_what_differs_and_is_to_be_trained_again(package: Package) -> None:
    package.state({"far-away": "ROW"})
    train.run("far-away", train.Options(epochs=1), silent)
    row, _ = registry.find("far-away")
    inputs = (replace(row.inputs[0], unit=""), Input("c"))
    changed = replace(row, inputs=inputs, targets=(replace(row.targets[0], high=5.0),), trunk=Mlp(width=32, depth=3))
    with pytest.raises(TocsinError) as told:
        cards.read(changed, "sim")
    assert str(told.value) == (
        "far-away@sim: the row was changed since it was trained: inputs x unit was 'mag', is ''; inputs b is gone; "
        "inputs c is new; targets y high was 4.0, is 5.0; and 1 more; train it again: `tocsin train far-away@sim`"
    )
    swapped = replace(row, inputs=row.inputs[::-1])
    with pytest.raises(TocsinError, match="trained: inputs are in another order; train"):
        cards.read(swapped, "sim")
    assert "sim (trained)" in CliRunner().invoke(tocsin, ["sidecar", "list"]).output
    module = package.folder / f"{package.module}.py"
    module.write_text(module.read_text().replace('id="far-away"', 'id="far-away", at_least=1'))
    sys.modules.pop(package.module)
    listed = CliRunner().invoke(tocsin, ["sidecar", "list"]).output
    assert re.search("^far-away .* sim .changed since training.$", listed, re.MULTILINE)
    models = CliRunner().invoke(tocsin, ["model", "list"])
    assert "pz-mdn@sim" in models.output
    assert str(models.exception).startswith("far-away@sim: the row was changed since it was trained: ")


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
    told = str(listed.exception).splitlines()
    reasons = ("No module named", "SyntaxError: ", "missing 10 required positional arguments: 'summary', 'papers'")
    for name, why, line in zip(sorted(broken), reasons, told, strict=True):
        assert line.startswith(f"{broken[name]} of the package {package.module} cannot be read: ")
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


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("far-nowhere", "NOWHERE", "the row has no variant, nothing that it can be trained on$"),
        (
            "Bad_Id",
            "BAD",
            "its id .* is not made of small letters .*; b has the unit .magg., which .* .dc3., which is no",
        ),
        ("far-flat", "FLAT", r"have truths of shape \(600,\); they are \(n, targets\), here \(600, 1\)$"),
        ("far-wide", "WIDE", r"have records of another shape: x of \(1,\), not \(\)$"),
        ("far-narrow", "NARROW", "truths of y go from -2.* to 2.*, [0-9]+ of 600 beyond its -1 to 1$"),
    ],
)
def test_a_row_or_examples_that_are_not_sound_train_nothing(name: str, value: str, why: str, package: Package) -> None:
    package.state({name: value})
    with pytest.raises(TocsinError, match=why):
        train.run(name, train.Options(epochs=1), silent)


def test_a_truth_between_two_classes_trains_nothing() -> None:
    row, variant = registry.find("radio-fr@sim")
    made = row.variants[variant].make(4, 0, None)
    sound.check_examples(row, made)
    with pytest.raises(TocsinError, match=r"0\.5 is no number of a class$"):
        sound.check_examples(row, replace(made, truth=np.array([0.0, 1.0, 0.5, 1.0])))


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
    for command in (["sidecar"], ["bench", "survey"]):
        told = str(CliRunner().invoke(tocsin, [*command, "halo-mll"]).exception)
        assert told == "no survey model is called 'halo-mll'; like it: halo-ml; see `tocsin sidecar list`"


@pytest.mark.parametrize("epochs", ["0", "-3"])
def test_epochs_that_are_none_are_refused(epochs: str) -> None:
    assert CliRunner().invoke(tocsin, ["train", "halo-ml", "--epochs", epochs]).exit_code == 2


def test_what_there_is_not_is_named() -> None:
    with pytest.raises(TocsinError, match=r"'pz-nonsense'; see `tocsin sidecar list`$"):
        registry.find("pz-nonsense")
    with pytest.raises(TocsinError, match="pz-mdn has no variant 'nowhere'; there are: sim"):
        registry.find("pz-mdn@nowhere")


def test_a_real_variant_needs_its_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOCSIN_TEST_DATA", raising=False)
    run = CliRunner().invoke(tocsin, ["train", "pz-mdn@dc2"])
    assert run.exit_code == 1
    assert "name the folder of the real sets by --data DIR" in str(run.exception)
