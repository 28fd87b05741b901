"""Merge: validity, order, duplicates; permuting a history changes nothing."""

from collections.abc import Sequence

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.core.batch import Kind, LightCurves
from broker.lightcurve import merge, summarize

Point = tuple[float, float, float, int, int]


def curves(*histories: Sequence[Point]) -> LightCurves:
    points = [p for history in histories for p in history]
    offsets = np.cumsum([0, *map(len, histories)]).astype(np.int64)
    table = np.array(points, dtype=np.float64).reshape(-1, 5)
    return LightCurves(
        offsets, table[:, 0], table[:, 1], table[:, 2], table[:, 3].astype(np.int8), table[:, 4].astype(np.int8)
    )


def test_invalid_points_are_dropped_and_counted_by_reason() -> None:
    history = [
        (3.0, 10.0, 1.0, 0, 0),
        (np.nan, 10.0, 1.0, 0, 0),
        (1.0, np.inf, 1.0, 0, 0),
        (1e300, 10.0, 1.0, 0, 0),
        (1.0, 1e308, 1.0, 0, 0),
        (1.0, 10.0, 0.0, 0, 0),
        (1.0, 10.0, 1e-170, 0, 0),
        (1.0, 10.0, 1.0, -1, 0),
        (1.0, 10.0, 1.0, 3, 0),
        (2.0, 5.0, 1.0, 1, 1),
    ]
    clean, dropped = merge(curves(history, []), bands=3)
    assert clean.mjd.tolist() == [2.0, 3.0]
    assert clean.offsets.tolist() == [0, 2, 2]
    assert (dropped.not_finite.tolist(), dropped.unknown_band.tolist()) == ([6, 0], [2, 0])
    assert dropped.duplicate.tolist() == [0, 0]


def test_a_detection_beats_forced_photometry_which_beats_a_limit() -> None:
    history = [
        (1.0, 0.0, 9.0, 0, Kind.LIMIT),
        (1.0, 8.0, 1.0, 0, Kind.FORCED),
        (1.0, 9.0, 2.0, 0, Kind.DETECTION),
        (1.0, 7.0, 2.0, 1, Kind.FORCED),
    ]
    clean, dropped = merge(curves(history), bands=3)
    assert clean.flux_njy.tolist() == [9.0, 7.0]
    assert dropped.duplicate.tolist() == [2]


points = st.tuples(
    st.sampled_from([1.0, 2.0, 2.0 + 5e-7, 3.5, 4.0, np.nan]),
    st.floats(-100, 100),
    st.sampled_from([0.0, 0.5, 1.0, 2.0]),
    st.integers(-1, 3),
    st.sampled_from([0, 1, 2]),
)


@settings(deadline=None, max_examples=60)
@given(st.lists(points, max_size=12), st.randoms(use_true_random=False))
def test_permuted_and_doubled_histories_give_the_same_light_curve(history: list[Point], random: object) -> None:
    shuffled = list(history)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one, _ = merge(curves(history), bands=3)
    other, _ = merge(curves(shuffled), bands=3)
    doubled, _ = merge(curves(history + history), bands=3)
    for column in ("mjd", "flux_njy", "flux_err_njy", "band", "kind"):
        np.testing.assert_array_equal(getattr(one, column), getattr(other, column))
        np.testing.assert_array_equal(getattr(one, column), getattr(doubled, column))


def test_ten_thousand_points_in_reverse() -> None:
    history: list[Point] = [(60000.0 - i * 0.01, float(i), 1.0, i % 3, 1) for i in range(10_000)]
    clean, dropped = merge(curves(history), bands=3)
    assert len(clean.mjd) == 10_000
    assert (np.diff(clean.mjd) > 0).all()
    assert dropped.duplicate.sum() == 0


def njy(mag: float) -> float:
    return float(10 ** (0.4 * (31.4 - mag)))


def test_summary_of_a_rising_light_curve() -> None:
    history = [
        (10.0, njy(20.0), 1.0, 0, 0),
        (12.0, njy(19.0), 1.0, 0, 0),
        (12.1, njy(18.9), 1.0, 0, 0),
        (11.0, -50.0, 1.0, 1, 0),
        (9.0, 3.0, 1.0, 1, 1),
        (8.0, 0.0, 3.0, 1, 2),
    ]
    summary = summarize(merge(curves(history, []), bands=3)[0], bands=3)
    assert summary.counts.tolist() == [[4, 1, 1], [0, 0, 0]]
    assert (summary.first_mjd[0], summary.last_mjd[0]) == (10.0, 12.1)
    np.testing.assert_allclose(summary.last_mag[0], [18.9, np.nan, np.nan])
    np.testing.assert_allclose(summary.rise_rate[0], [1.1 / 2.1, np.nan, np.nan])
    assert np.isnan(summary.first_mjd[1])
