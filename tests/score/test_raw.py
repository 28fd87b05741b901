"""Networks that read raw observations are served like any other, beside those that read the grid."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save

from broker.archive import simulate
from broker.cli import assemble
from broker.core import schemas
from broker.core.batch import FilePacket, PacketBatch
from broker.core.config import load
from broker.core.errors import TocsinError
from broker.core.metrics import Recorded
from broker.core.outcomes import Outcomes
from broker.models.networks import create
from broker.pipeline import Pipeline
from broker.score import Scorer, Shadow, epochs
from broker.score import card as cards


def model(folder: Path, channels: tuple[str, ...]) -> str:
    """Return the folder of an untrained recurrent network over nights, whose card has ``channels``."""
    card = cards.read("ztf-gru")
    config = {"channels": len(epochs.names("ztf")), "scalars": len(card.scalars), "classes": len(card.classes)}
    torch.manual_seed(0)
    weights = save(create("lstm", config).state_dict())
    changed = {"name": "ztf-lstm", "network": "lstm", "config": config, "channels": channels}
    return str(cards.write(card.model_copy(update=changed), weights, folder))


@pytest.fixture(scope="module")
def lstm(tmp_path_factory: pytest.TempPathFactory) -> str:
    return model(tmp_path_factory.mktemp("models"), epochs.names("ztf"))


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    folder = tmp_path_factory.mktemp("cache")
    simulate.install_schema(folder / "schemas")
    score = {"score.classifiers": {"ztf": ["ztf-gru"], "lsst": []}, "score.anomaly": {"ztf": "", "lsst": ""}}
    return assemble.pipeline(load(None, {"run.cache_dir": folder, **score}), Recorded())


@pytest.fixture(scope="module")
def packets() -> PacketBatch:
    return assemble.batch_of([FilePacket("night", i, p.value) for i, p in enumerate(simulate.night("ztf", 64, 3))])


def probabilities(outcomes: Outcomes, topic: str, name: str) -> np.ndarray:
    """Return the probabilities (A, 14) of a classifier in the annotations of a topic, NaN where it gave none."""
    found = [schemas.decode(r.value, list(r.headers), "annotation") for r in outcomes.records if r.topic == topic]
    entries = [next(c for c in a["classifiers"] if c["classifierName"] == name) for a in found]
    none = [float("nan")] * 14
    return np.array([[e["probability"] for e in c["classifications"]] or none for c in entries])


def test_a_network_over_nights_is_served(pipeline: Pipeline, packets: PacketBatch, lstm: str) -> None:
    alone = Scorer.load("ztf", [lstm], None, device="cpu")
    both = Scorer.load("ztf", ["ztf-gru", lstm], None, device="cpu")
    assert alone.reads_epochs
    assert both.reads_epochs
    assert not pipeline.scorers["ztf"].reads_epochs
    outcomes = replace(pipeline, scorers={"ztf": both})(packets)
    found = probabilities(outcomes, "tocsin.ztf.all", "ztf-lstm")
    assert np.isfinite(found).all(axis=1).sum() > 30
    only = replace(pipeline, scorers={"ztf": alone})(packets)
    np.testing.assert_allclose(found, probabilities(only, "tocsin.ztf.all", "ztf-lstm"), atol=1e-6)
    assert np.isfinite(probabilities(outcomes, "tocsin.ztf.all", "ztf-average")).any()


def test_a_shadow_over_nights_changes_no_live_byte(pipeline: Pipeline, packets: PacketBatch, lstm: str) -> None:
    step = replace(pipeline, clock_ms=lambda: 1_700_000_000_000)
    shadow = Shadow("ztf-lstm", Scorer.load("ztf", [lstm], None, device="cpu"))
    beside = replace(step, shadows={"ztf": [shadow]})(packets)
    assert [r for r in beside.records if ".shadow." not in r.topic] == step(packets).records
    assert np.isfinite(probabilities(beside, "tocsin.shadow.ztf-lstm.ztf", "ztf-lstm")).any()


def test_a_card_with_channels_of_the_grid_is_refused(tmp_path: Path) -> None:
    wrong = model(tmp_path, cards.read("ztf-gru").channels)
    with pytest.raises(TocsinError, match="the network lstm reads epochs"):
        Scorer.load("ztf", [wrong], None, device="cpu")
