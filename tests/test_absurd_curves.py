"""Light curves that no sky shows, through the whole step with the real scorers: each ends with a score or a reason.

``TOCSIN_FAULTS=full`` runs many more of them.
"""

from __future__ import annotations

import os
import resource
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from broker.archive import simulate
from broker.cli import assemble
from broker.core import schemas
from broker.core.batch import FilePacket
from broker.core.config import load
from broker.core.metrics import Recorded
from broker.core.outcomes import Outcomes
from broker.core.reasons import Outcome, Unscored
from broker.pipeline import Pipeline
from tests.decode import samples
from tests.decode.oracle import container

FULL = os.environ.get("TOCSIN_FAULTS") == "full"
CURVES = 10_000 if FULL else 384
BATCH = 128
ALERT_MJD = 61105.25
ODD = [np.nan, np.inf, -np.inf, 0.0, -0.0, 5e-324, -5e-324, 1e-310, 1e300, -1e300, 1.7e308, 1e15, -1e15, 1e14]
ODD += [1e-30, 1e-12, 1e12, -1.0, 1.0, 3.4e38, 1e38, -99999.0, 445.0, 600.0]
TIMES = [*ODD, 1e7, -1e7, 61105.25, 61105.25 + 5e-7, 61105.25 + 2e-6, 61104.0, 61200.0, 40000.0, 2.4e6]
REASONS = set(Unscored)
Maker = Callable[[np.random.Generator, int], bytes]


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    folder = tmp_path_factory.mktemp("cache")
    simulate.install_schema(folder / "schemas")
    return assemble.pipeline(load(None, {"run.cache_dir": folder}), Recorded())


def run(pipeline: Pipeline, values: list[bytes]) -> Outcomes:
    """The step's outcomes, checked: one end each; a score or a reason; what is published can be read."""
    outcomes = pipeline(assemble.batch_of([FilePacket("absurd", i, value) for i, value in enumerate(values)]))
    assert len(outcomes.code) == len(values)
    assert len(outcomes.dead) == (outcomes.code == Outcome.DEAD_LETTERED).sum()
    published = {r.row: schemas.decode(r.value, list(r.headers), "annotation") for r in outcomes.records}
    assert sorted(published) == np.flatnonzero(outcomes.code <= Outcome.UNSCORED).tolist()
    for row, annotation in published.items():
        reason = outcomes.reason[row]
        assert (reason in REASONS) == (outcomes.code[row] == Outcome.UNSCORED)
        check(annotation)
    return outcomes


def check(annotation: dict[str, Any]) -> None:
    """Every scorer has a reason or finite numbers that are probabilities."""
    for answer in annotation["classifiers"]:
        numbers = [entry["probability"] for entry in answer["classifications"]]
        assert bool(answer["reason"]) != bool(numbers)
        assert not numbers or (np.isfinite(numbers).all() and sum(numbers) == pytest.approx(1, abs=1e-4))
    strange = annotation["anomaly"]
    assert bool(strange["reason"]) != (strange["score"] is not None)
    assert strange["score"] is None or 0 <= strange["score"] <= 1


def mixed(rng: np.random.Generator, plain: np.ndarray[Any, Any], odd: list[float], share: float) -> list[float]:
    """Plain numbers, a share of them replaced by odd ones."""
    return np.where(rng.random(len(plain)) < share, rng.choice(odd, len(plain)), plain).tolist()  # type: ignore[no-any-return]


def rubin(rng: np.random.Generator, n: int) -> bytes:
    """A Rubin alert with n odd points."""
    share = rng.choice([0.0, 0.05, 0.5, 1.0])
    scale = 10.0 ** rng.uniform(-2, 14)
    mjd = mixed(rng, ALERT_MJD - rng.choice([1e-7, 1e-3, 1.0, 300.0]) * rng.random(n), TIMES, share)
    flux = mixed(rng, scale * rng.standard_normal(n), ODD, share)
    err = mixed(rng, scale * 10.0 ** rng.uniform(-9, 3) * (0.1 + rng.random(n)), ODD, share)
    bands = rng.choice(["u", "g", "r", "i", "z", "y", "", "white"], n, p=[0.16] * 6 + [0.02] * 2).tolist()
    if rng.random() < 0.3:
        bands = [str(rng.choice(["g", "y"]))] * n
    points = [
        {"midpointMjdTai": t, "psfFlux": single(f), "psfFluxErr": single(e), "band": b}
        for t, f, e, b in zip(mjd, flux, err, bands, strict=True)
    ]
    points += points[: int(rng.choice([0, 0, 0, n]))]
    detections = [samples.source(**point) for point in points[: n // 2]]
    own = {"psfFlux": single(flux[0]), "psfFluxErr": single(err[0])} if n and rng.random() < 0.5 else {}
    record = samples.lsst(diaSource=own, prvDiaSources=detections, prvDiaForcedSources=points[n // 2 :])
    return container(samples.LSST, record)


def ztf(rng: np.random.Generator, n: int) -> bytes:
    """A ZTF alert with n odd points."""
    share = rng.choice([0.0, 0.05, 0.5, 1.0])
    jd = mixed(rng, 2458849.5 - 30.0 * rng.random(n), [*ODD, 2458849.5, 2458849.5 + 5e-7, 2.4e6, 0.0], share)
    mag = mixed(rng, 20.0 + rng.choice([0.1, 3.0, 30.0]) * rng.standard_normal(n), ODD, share)
    err = mixed(rng, 10.0 ** rng.uniform(-8, 2) * (0.1 + rng.random(n)), ODD, share)
    fid = rng.choice([1, 2, 3, 0, 4, 2**31 - 1], n, p=[0.4, 0.4, 0.14, 0.02, 0.02, 0.02]).tolist()
    sign = rng.choice(["t", "f", "1", "0", "", "?"], n, p=[0.6, 0.2, 0.1, 0.06, 0.02, 0.02]).tolist()
    rows = list(zip(jd, mag, err, fid, sign, strict=True))
    history = [
        samples.previous(jd=t, magpsf=single(m), sigmapsf=single(e), fid=b, isdiffpos=s, diffmaglim=single(m))
        for t, m, e, b, s in rows[: n // 2]
    ]
    forced = [
        samples.forced(jd=t, forcediffimflux=single(m), forcediffimfluxunc=single(e), fid=b, magzpsci=single(e))
        for t, m, e, b, _ in rows[n // 2 :]
    ]
    own = {"magpsf": single(mag[0]), "sigmapsf": single(err[0])} if n and rng.random() < 0.5 else {}
    return container(samples.ZTF, samples.ztf(candidate=own, prv_candidates=history, fp_hists=forced))


def single(value: float) -> float:
    """The number as a float32 can hold it."""
    with np.errstate(over="ignore"):
        return float(np.float32(value))


@pytest.mark.parametrize("make", [ztf, rubin])
def test_every_curve_ends_with_a_score_or_a_reason(make: Maker, pipeline: Pipeline) -> None:
    rng = np.random.default_rng(11)  # among these is a curve with a scalar beyond float32
    codes: Counter[int] = Counter()
    for _ in range(0, CURVES, BATCH):
        values = [make(rng, int(rng.choice([0, 1, 2, 3, 8, 40, 300]))) for _ in range(BATCH)]
        codes.update(run(pipeline, values).code.tolist())
    assert codes[Outcome.SCORED] > 0.2 * CURVES
    assert codes[Outcome.UNSCORED] > 0.01 * CURVES
    assert codes[Outcome.FILTERED] == 0


@pytest.mark.parametrize("mag", [445.0, 600.0])
def test_a_magnitude_beyond_any_float_is_left_out_of_a_long_curve(mag: float, pipeline: Pipeline) -> None:
    history = [samples.previous(jd=2458849.5 - 0.3 * i, magpsf=18.0, sigmapsf=0.1, fid=1) for i in range(1, 80)]
    history[40] |= {"magpsf": mag}
    (record, *_) = run(pipeline, [container(samples.ZTF, samples.ztf(prv_candidates=history))]).records
    points = schemas.decode(record.value, list(record.headers), "annotation")["points"]
    assert (points["used"], points["notFinite"]) == (79, 1)


def test_long_histories_are_scored_or_refused_in_bounded_memory(pipeline: Pipeline) -> None:
    rng = np.random.default_rng(1)
    run(pipeline, [rubin(rng, 2000)])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    values = [rubin(rng, 24_000)] * (64 if FULL else 4) + [rubin(rng, 100_000)]
    outcomes = run(pipeline, values)
    assert outcomes.dead[-1].row == len(values) - 1
    assert outcomes.dead[-1].reason == "bound_exceeded"
    grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    assert grown < 100e6 + 10 * sum(map(len, values))


def test_one_exposure_ten_thousand_times_is_one_point(pipeline: Pipeline) -> None:
    same = {"midpointMjdTai": ALERT_MJD, "psfFlux": 1500.0, "psfFluxErr": 100.0, "band": "i"}
    (record, *_) = run(pipeline, [container(samples.LSST, samples.lsst(prvDiaForcedSources=[same] * 10_000))]).records
    points = schemas.decode(record.value, list(record.headers), "annotation")["points"]
    assert (points["used"], points["duplicate"]) == (1, 10_000)
