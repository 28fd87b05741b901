"""The figures of protocol sky, of scores that are made up, and the alerts that it looks at."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from broker.core.batch import AnomalyScores, ClassScores, Kind, LightCurves, Scores
from broker.core.taxonomy import CLASS_IDS, over_branches
from broker.models.transients.beginnings import first_detection
from broker.models.transients.data import Labelled
from broker.models.transients.protocols import sky
from broker.models.transients.sky.simulate import COLUMN


def scores(p: np.ndarray, anomaly: np.ndarray) -> Scores:
    n = len(p)
    branches = np.zeros_like(over_branches(p, CLASS_IDS))
    prior = np.full(14, 1 / 14, np.float32)
    said = ClassScores("one", "1", "0", CLASS_IDS, prior, p.astype(np.float32), np.zeros_like(p), branches, [""] * n)
    return Scores([said], AnomalyScores("two", "1", "0", anomaly.astype(np.float32), {}, [""] * n))


def test_perfect_answers_have_perfect_figures() -> None:
    label = np.repeat(np.arange(14), 3)
    rare = np.isin(label, [COLUMN["slsn"], COLUMN["tde"]])
    found = sky.figures(scores(np.eye(14)[label], 0.9 * rare), label)
    assert set(found.values()) == {1.0}
    assert {"macro_f1", "anomaly_auc", "recall.snia", "recall.rrlyrae"} <= set(found)


def test_f1_counts_a_class_as_the_sky_does() -> None:
    label = np.repeat([COLUMN["snia"], COLUMN["snibc"]], 10)
    p = np.eye(14)[label]
    # A half of the few Ib/c are taken for Ia: of Ia's purity little is lost, of Ib/c's completeness half.
    p[15:] = np.eye(14)[COLUMN["snia"]]
    rest = np.array([COLUMN[slug] for slug in sky.SUPERNOVAE[2:]])
    found = sky.figures(scores(np.concatenate((p, np.eye(14)[rest])), np.zeros(23)), np.concatenate((label, rest)))
    ia, ibc = 2 * 0.30 / (0.30 + 0.325), 2 * 0.025 / (0.05 + 0.025)
    assert found["macro_f1"] == pytest.approx((ia + ibc + 3.0) / 5.0, abs=1e-4)
    assert found["recall.snibc"] == 0.5
    assert found["anomaly_auc"] == 0.5


def test_a_packet_holds_thirty_days_and_nothing_later() -> None:
    mjd = np.arange(59000.0, 59120.0)
    flux = np.where(mjd < 59040.0, 0.0, 1000.0)
    kind = np.where(flux > 0, Kind.DETECTION, Kind.FORCED).astype(np.int8)
    band = np.zeros(len(mjd), np.int8)
    curves = LightCurves(np.array([0, len(mjd)]), mjd, flux, np.full(len(mjd), 10.0), band, kind)
    one = np.zeros(1, np.int64)
    objects = Labelled(curves, one, one, np.zeros(1), np.zeros(1), np.zeros(1))
    assert first_detection(curves)[0] == 59040.0
    views = sky.views(objects)
    assert tuple(views) == sky.VIEWS
    for day in sky.DAYS:
        told = views[f"packet.{day}"][1]
        assert told.mjd[-1] == 59040.0 + day
        assert told.mjd[0] == 59010.0 + day
    assert views["whole"][1] is curves
    assert len(sky.well_seen(objects)) == 1


def test_only_what_is_detected_in_a_packet_is_judged() -> None:
    mjd = np.array([59000.0, 59001.0, 59070.0])
    kind = np.array([Kind.DETECTION, Kind.DETECTION, Kind.FORCED], np.int8)
    curves = LightCurves(np.array([0, 3]), mjd, np.ones(3), np.full(3, 0.1), np.zeros(3, np.int8), kind)
    one = np.zeros(1, np.int64)
    objects = Labelled(curves, one, one, np.zeros(1), np.zeros(1), np.zeros(1))
    views = sky.views(objects)
    assert len(views["packet.20"][0]) == 1
    assert len(views["packet.40"][0]) == 0
    assert len(sky.well_seen(objects)) == 0


def test_even_classes_find_what_the_mix_drowns() -> None:
    label = np.repeat([COLUMN[slug] for slug in sky.SUPERNOVAE], 10)
    even = np.eye(14)[label] + 1e-3
    even[:, COLUMN["snia"]] += 0.5
    prior = np.full(14, 0.01)
    prior[COLUMN["snia"]] = 0.87
    said = scores(even * prior / (even * prior).sum(axis=1, keepdims=True), np.zeros(len(label)))
    classifier = replace(said.classifiers[-1], prior=prior.astype(np.float32))
    found = sky.figures(replace(said, classifiers=[classifier]), label)
    assert found["recall.tde"] == 0.0
    assert found["macro_f1_even"] == 1.0
