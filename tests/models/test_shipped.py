"""The weights in the tree on today's code path: no figure (the objects were trained on), a guard against drift."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from broker import gp
from broker.core.bands import SURVEYS
from broker.core.taxonomy import CLASSES, COMMON, RARE
from broker.models.transients import data, evaluate
from broker.models.transients.data import Labelled
from broker.score import Scorer
from broker.score.calibrate import flat_log_loss


@pytest.fixture(scope="module")
def sample() -> Labelled:
    root = os.environ.get("TOCSIN_TEST_DATA")
    if not root:
        pytest.skip("TOCSIN_TEST_DATA is not set")
    whole = data.load(Path(root) / "lightcurves" / "plasticc")
    rng = np.random.default_rng(0)
    chosen = [rng.permutation(np.flatnonzero(whole.label == k))[:25] for k in range(len(CLASSES))]
    return whole.take(np.concatenate(chosen))


@pytest.mark.parametrize("host", [True, False])
def test_shipped_rubin_models_still_know_their_classes(sample: Labelled, host: bool) -> None:
    scorer = Scorer.load("lsst", ["lsst-gru", "lsst-transformer"], "lsst-anomaly", device="cpu")
    grid = scorer.grid(sample.curves)
    answer = gp.interpolate(grid.curves, SURVEYS["lsst"].wavelengths_aa, grid.times)
    z = {"host_z": sample.host_z, "host_z_err": sample.host_z_err} if host else {}
    scores = scorer(grid, answer, **z)
    for one in scores.classifiers:
        assert one.reason.count("") > 0.98 * len(sample)
        scored = np.array([r == "" for r in one.reason])
        even = one.probabilities[scored] / evaluate.PRIOR
        even /= even.sum(axis=1, keepdims=True)
        assert flat_log_loss(even, sample.label[scored], len(CLASSES)) < (0.6 if host else 0.8)
    assert scores.anomaly is not None
    ids = np.array([c.id for c in CLASSES])[sample.label]
    known = np.isfinite(scores.anomaly.score) & np.isin(ids, [*COMMON, *RARE])
    rare = np.isin(ids, list(RARE))[known]
    # As many of each class, which is harder than the card's mix (mostly Ia), and few: a standard error of 0.04.
    assert evaluate.area_under_curve(scores.anomaly.score[known].astype(np.float64), rare) > 0.65
