"""The figures of protocol night, and that it reads packets as the service does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from broker.models.transients.protocols import night
from broker.score.scorer import Scorer


def test_shares_are_of_what_is_scored() -> None:
    class_id = np.array([2222, 2222, 2222, 2222, 2332, 2243, 2243, 2232])
    score = np.array([0.5, 0.995, 0.2, np.nan, 0.1, 0.999, 0.4, 1.0])
    found = night.figures(score, class_id, 0.99)
    assert found["above.snia"] == pytest.approx(1 / 3)
    assert found["above.others"] == 0.25
    assert found["above.rare"] == pytest.approx(2 / 3)
    assert found["purity"] == pytest.approx(2 / 3)
    assert found["scored.snia"] == 3
    assert "above.slsn" not in found


def test_a_night_is_scored_from_its_packets(tmp_path: Path) -> None:
    scorer = Scorer.load("ztf", [], "ztf-anomaly", device="cpu")
    score, class_id = night.scores(scorer, "real", 300, 3, tmp_path)
    assert len(score) == len(class_id) == 300
    assert np.isfinite(score).mean() > 0.7
    assert 2222 in class_id
    again, _ = night.scores(scorer, "real", 300, 3, tmp_path)
    np.testing.assert_array_equal(score, again)
