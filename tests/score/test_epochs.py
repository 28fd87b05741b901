from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from broker.core.batch import Kind, LightCurves
from broker.score import GridRule
from broker.score.epochs import EpochRule, names, of_curves
from broker.score.features import of_points
from broker.score.tensors import build
from broker.score.window import request

Curves = Callable[..., LightCurves]
D, F, L = Kind.DETECTION, Kind.FORCED, Kind.LIMIT


def nights(mjd: list[float], rule: EpochRule) -> list[list[int]]:
    """Points of each epoch, the plain way."""
    groups: list[list[int]] = []
    for j, t in enumerate(mjd):
        if not groups or t - mjd[groups[-1][0]] > rule.days:
            groups.append([])
        groups[-1].append(j)
    return groups


def kept(groups: list[list[int]], mjd: list[float], kind: list[int], most: int) -> list[list[int]]:
    """The rule of `EpochRule.most`, the plain way."""
    detected = [any(kind[j] == D for j in group) for group in groups]
    when = [mjd[group[0]] for group in groups]
    hits = [t for t, hit in zip(when, detected, strict=True) if hit]

    def order(k: int) -> tuple[bool, float, int]:
        away = when[-1] - when[k] if detected[k] or not hits else min(abs(when[k] - t) for t in hits)
        return not detected[k], away, -k

    return [groups[k] for k in sorted(sorted(range(len(groups)), key=order)[:most])]


@pytest.mark.parametrize("most", [96, 7])
def test_epochs_are_the_plain_ones(most: int, make_curves: Curves) -> None:
    rule = EpochRule(most=most)
    curves = make_curves(40)
    scale = of_points(curves, 6)[0]
    made, mask = of_curves(curves, 6, scale, rule)
    assert made.shape == (40, most, len(names("lsst")))
    for i in range(40):
        own = slice(curves.offsets[i], curves.offsets[i + 1])
        t, kind = curves.mjd[own].tolist(), curves.kind[own].tolist()
        f, e, band = curves.flux_njy[own] / scale[i], curves.flux_err_njy[own] / scale[i], curves.band[own]
        groups = kept(nights(t, rule), t, kind, most)
        assert mask[i].sum() == len(groups)
        assert mask[i, : len(groups)].all()
        first = next((a for a, k in zip(t, kind, strict=True) if k == D), t[-1])
        expected = np.zeros((len(groups), 20))
        for row, group in zip(expected, groups, strict=True):
            for b in range(6):
                measured = [j for j in group if band[j] == b and kind[j] != L]
                limits = [j for j in group if band[j] == b and kind[j] == L]
                if measured:
                    weight = e[measured] ** -2.0
                    row[b] = np.clip(np.average(f[measured], weights=weight), -4, 4)
                    row[6 + b], row[12 + b] = -0.5 * np.log10(weight.sum()), 1.0
                elif limits:
                    row[6 + b], row[12 + b] = np.log10(e[limits].min()), -1.0
            row[18] = t[group[0]] - first
        expected[1:, 19] = np.diff(expected[:, 18])
        np.testing.assert_allclose(made[i, : len(groups)], expected, atol=1e-5)
        assert not made[i, len(groups) :].any()


def test_one_point_no_point_and_no_detection() -> None:
    def of(mjd: list[float], kind: list[Kind]) -> LightCurves:
        n = len(mjd)
        columns = (np.array(mjd), np.full(n, 100.0), np.full(n, 10.0), np.zeros(n, np.int8))
        return LightCurves(np.array([0, n], np.int64), *columns, np.array(kind, np.int8))

    one = np.full(1, 100.0)
    made, mask = of_curves(of([5.0], [D]), 3, one)
    assert made[0, 0].tolist() == [1, 0, 0, -1, 0, 0, 1, 0, 0, 0, 0]
    assert mask.sum() == 1
    assert not of_curves(of([], []), 3, one)[1].any()
    made, mask = of_curves(of([5.0, 9.0], [L, L]), 3, one)
    assert made[0, :2, -2:].tolist() == [[-4, 0], [0, 4]]
    assert made[0, 0, :7].tolist() == [0, 0, 0, -1, 0, 0, -1]
    # Without a detection the latest stay.
    made, mask = of_curves(of([1.0, 5.0, 9.0], [F, F, F]), 3, one, EpochRule(most=2))
    assert made[0, :, -2].tolist() == [-4, 0]


def test_tensors_hold_epochs_only_when_asked(make_curves: Curves) -> None:
    from broker import gp
    from broker.core.bands import SURVEYS

    grid = request(make_curves(4), GridRule())
    answer = gp.interpolate(grid.curves, SURVEYS["lsst"].wavelengths_aa, grid.times)
    without, made = build(grid, answer), build(grid, answer, epochs=True)
    assert without.epochs is None
    assert without.inputs("series", slice(2))[0].shape == (2, 40, 14)
    with pytest.raises(ValueError, match="made without"):
        without.inputs("epochs", slice(2))
    index = np.array([3, 1])
    taken = made.take(index)
    assert made.epochs is not None
    assert taken.epochs is not None
    np.testing.assert_array_equal(taken.epochs, made.epochs[index])
    np.testing.assert_array_equal(taken.inputs("epochs", slice(None))[1], made.epochs_mask[index])  # type: ignore[index]
