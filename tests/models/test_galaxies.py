"""Galaxies that change their state: halves that share nothing, and a judge that tells them from those that do not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from broker.core.batch import Kind, LightCurves
from broker.models.transients import exposure, galaxies
from broker.models.transients.data import Labelled
from broker.models.transients.evaluate import area_under_curve
from broker.models.transients.exposure import Task
from broker.models.transients.galaxies import Galaxies
from broker.score.anomaly import judge_inputs


def quiet(*_: object) -> None:
    return


def cadences(n: int = 24) -> Labelled:
    """Return n galaxies with a visit in g and i every ten days for three years, each with a depth of its own."""
    mjd = np.tile(np.repeat(60000.0 + 10.0 * np.arange(110), 2), n)
    band = np.tile(np.tile([1, 3], 110), n).astype(np.int8)
    depth = np.repeat(100.0 + np.arange(n), 220)
    curves = LightCurves(np.arange(n + 1) * 220, mjd, depth, depth, band, np.full(len(mjd), Kind.FORCED, np.int8))
    unknown = np.full(n, np.nan)
    return Labelled(curves, np.arange(n), np.full(n, galaxies.AGN), unknown, unknown, unknown)


@pytest.fixture(scope="module")
def halves(tmp_path_factory: pytest.TempPathFactory) -> tuple[Galaxies, Galaxies]:
    task = Task("lsst", 0, 1, tmp_path_factory.mktemp("task"), quiet)
    return galaxies.split(cadences(), task, 0)


def test_half_of_the_galaxies_change_and_versions_of_one_agree(halves: tuple[Galaxies, Galaxies]) -> None:
    for some in halves:
        assert 0.25 < some.changing.mean() < 0.75
        for one in np.unique(some.examples.object_id):
            assert len(set(some.changing[some.examples.object_id == one])) == 1
        assert (some.examples.n_detections >= 2).all()
        assert len(some.ordinary) == (~some.changing).sum()


def test_a_judge_knows_galaxies_that_it_has_not_seen(
    halves: tuple[Galaxies, Galaxies], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exposure, "TREES", 20)
    known, judged = halves
    task = Task("lsst", 0, 1, tmp_path, quiet)
    seen = exposure.Exposures(known.examples.tensors, known.changing)
    score = exposure.train(seen, task).score(judge_inputs(judged.examples.tensors))
    whole = judged.examples.version == 0
    assert area_under_curve(score[whole], judged.changing[whole]) > 0.8
