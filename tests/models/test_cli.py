from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path

import pytest
from click.testing import CliRunner

from broker.cli.model import model
from broker.cli.train import train
from broker.core.errors import TocsinError
from broker.score import card as cards


def test_list_card_and_verify_know_every_model() -> None:
    runner = CliRunner()
    listed = runner.invoke(model, ["list"], catch_exceptions=False).output
    verified = runner.invoke(model, ["verify"], catch_exceptions=False).output
    for name in cards.available():
        assert name in listed
        assert f"{name}: the weights are {cards.read(name).weights.sha256[:12]}" in verified
        shown = json.loads(runner.invoke(model, ["card", name], catch_exceptions=False).output)
        assert shown["name"] == name


def test_the_readme_holds_the_figures_of_the_cards() -> None:
    printed = CliRunner().invoke(model, ["table"], catch_exceptions=False).output
    readme = Path(str(files("broker") / "models" / "README.md")).read_text()
    assert printed in readme, "run `tocsin model table` and put what it prints into models/README.md"


def test_verify_refuses_other_weights(tmp_path: Path) -> None:
    card = cards.read("ztf-gru")
    place = cards.write(card, cards.read_weights(card), tmp_path)
    (place / cards.WEIGHTS_FILE).write_bytes(b"nothing")
    with pytest.raises(TocsinError, match="SHA-256"):
        CliRunner().invoke(model, ["verify", "--root", str(tmp_path)], catch_exceptions=False)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("lsst-gr", "no model is called 'lsst-gr'; like it: lsst-gru"),
        ("nothing", "no model is called 'nothing'; see `tocsin model list` and `tocsin sidecar list`"),
    ],
)
def test_training_an_unknown_model_says_where_those_there_are_stand(name: str, said: str) -> None:
    with pytest.raises(TocsinError, match=re.escape(said)):
        CliRunner().invoke(train, [name], catch_exceptions=False)


@pytest.mark.parametrize("command", [train, model, *model.commands.values()])
def test_help_has_an_example(command: object) -> None:
    assert "Example:\n" in CliRunner().invoke(command, ["--help"]).output  # type: ignore[arg-type]
