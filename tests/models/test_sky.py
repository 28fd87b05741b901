"""What the simulation of ZTF promises: cadence, shapes, colours, and what an alert or a table tells of them."""

from __future__ import annotations

import numpy as np
import pytest

from broker.core.batch import Kind, LightCurves
from broker.core.units import mag_to_njy
from broker.models.transients.sky import bursts, moved, observe, pointings, simulate, variables
from broker.models.transients.sky.bursts import Burst
from broker.models.transients.sky.salt3 import EDGES_AA, Salt3
from broker.models.transients.sky.simulate import Sources
from tests.models.conftest import MakeLabelled


def rng() -> np.random.Generator:
    return np.random.default_rng(3)


def black_body_salt3() -> Salt3:
    """Return a model with SALT3's axes: a Gaussian rise and fade of a flat spectrum per Angstrom."""
    phase, wave = np.arange(-20.0, 51.0), np.arange(2000.0, 11001.0, 10.0)
    shape = np.exp(-0.5 * (phase / 12.0) ** 2)[:, None] * np.ones(len(wave))
    return Salt3(phase, wave, shape, np.zeros_like(shape), (5428.0 - wave) / 1000.0)


@pytest.fixture(scope="module")
def sources(labelled: MakeLabelled) -> Sources:
    labels = tuple(range(5))
    return Sources(moved.templates(labelled(300), labels), black_body_salt3())


def peaks(curves: LightCurves) -> np.ndarray:
    return np.maximum.reduceat(np.abs(curves.flux_njy), curves.offsets[:-1])


def test_visits_come_in_order_and_as_deep_as_ztf() -> None:
    visits = pointings.draw(200, rng())
    assert (np.diff(visits.mjd.reshape(200, -1), axis=1) > 0).all()
    assert abs(np.median(visits.depth[visits.taken]) - 20.7) < 0.3
    gaps = np.diff(visits.night, axis=1)
    assert 1.0 <= np.median(gaps) <= 3.5
    # The sun hides a field for months.
    assert (gaps.max(axis=1) > 60.0).mean() > 0.5
    by_band = [visits.taken[:, :, b == pointings.SLOTS].any(axis=(1, 2)) for b in range(3)]
    assert by_band[0].mean() > 0.9
    assert by_band[1].mean() > 0.9
    assert by_band[2].mean() < 0.35


def test_a_burst_is_at_half_of_its_peak_at_its_half_times() -> None:
    kind = Burst((-18.0, 0.5), (10.0, 0.0), (20.0, 0.0), (8.0, 8.1), (8.0, 8.1), (30.0, 40.0), tail=(0.0, 0.0))
    days = np.broadcast_to(np.array([-11.0, 0.0, 22.0])[None, :, None], (50, 3, 5))
    light = bursts.curve(kind, np.full(50, 0.1), days, rng())
    np.testing.assert_allclose(light[:, 0, 1] / light[:, 1, 1], 0.5, rtol=1e-6)
    # The black body cools by a tenth at most.
    np.testing.assert_allclose(light[:, 2, 1] / light[:, 1, 1], 0.5, rtol=0.02)
    assert (light[:, 1, :2].max(axis=1) > 0.8).all()


def test_a_tidal_disruption_stays_blue_where_a_supernova_reddens() -> None:
    days = np.broadcast_to(np.array([0.0, 30.0])[None, :, None], (100, 2, 5))
    z = np.full(100, 0.05)
    colour = {}
    for slug in ("tde", "snibc"):
        light = bursts.curve(bursts.BURSTS[slug], z, days, rng())
        colour[slug] = np.median(-2.5 * np.log10(light[:, :, 0] / light[:, :, 1]), axis=0)
    assert colour["tde"][0] < 0.1
    assert colour["snibc"][0] > 0.2
    assert abs(colour["tde"][1] - colour["tde"][0]) < 0.2
    assert colour["snibc"][1] - colour["snibc"][0] > 0.4


def test_salt3_is_stretched_and_reddened_as_its_law_says() -> None:
    phase, flux = black_body_salt3().curves(np.array([0.05, 0.05]), np.zeros(2), np.array([0.0, 0.3]))
    assert flux.shape == (2, 3, len(phase))
    assert abs(phase[flux[0, 1].argmax()]) < 1e-9
    colour = -2.5 * np.log10(flux[:, 0] / flux[:, 1]).max(axis=1)
    # The law above is a straight line of slope 1 mag per 1000 Angstrom and unit of c, in the rest frame.
    middle = [0.5 * sum(edges) / 1.05 for edges in EDGES_AA]
    assert abs((colour[1] - colour[0]) - 0.3 * (middle[1] - middle[0]) / 1000.0) < 0.05
    late = flux[0, :, phase > 60.0]
    assert (np.diff(late, axis=0) < 0).all()


def test_moved_supernovae_peak_where_they_should(sources: Sources) -> None:
    row = np.arange(len(sources.templates.peak))
    assert len(row) > 10
    night = np.broadcast_to(np.linspace(-60.0, 200.0, 131), (len(row), 131))
    flux = moved.curves(sources.templates, row, np.full(len(row), 0.05), night, rng())
    assert np.isfinite(flux).all()
    assert (flux >= 0).all()
    top = flux[:, :2].max(axis=(1, 2))
    assert ((top > 0.9) & (top < 1.1)).mean() > 0.9
    assert (flux[:, 1, -1] < 0.2).all()


def test_rr_lyrae_swing_most_in_the_blue_and_within_a_day() -> None:
    days = np.broadcast_to(np.linspace(0.0, 1.0, 200)[None, :, None], (60, 200, 5))
    total, _ = variables.rr_lyrae(days, rng())
    swing = 2.5 * np.log10(total.max(axis=1) / total.min(axis=1))
    assert (swing[:, 0] > swing[:, 1]).all()
    assert (swing[:, 1] > swing[:, 2]).all()
    assert 0.4 < np.median(swing[:, 1]) < 1.2


def test_a_flare_is_over_within_hours() -> None:
    days = np.broadcast_to(np.array([-0.5, 0.0, 0.5])[None, :, None], (40, 3, 5))
    total, reference = variables.flare(days, rng())
    np.testing.assert_allclose(total[:, 0], reference, rtol=1e-9)
    assert (total[:, 1, 0] > 1.2 * reference[:, 0]).all()
    assert ((total[:, 2] - reference) < 0.05 * (total[:, 1] - reference)).mean() > 0.9


def form(n: int, **changes: object) -> observe.Form:
    no = np.zeros(n, dtype=bool)
    parts: dict[str, object] = {"total": no, "unsigned": no, "upward": no, "silence": np.ones(n, dtype=np.int64)}
    return observe.Form(**(parts | {"from_alert": no, "to_alert": no} | changes))  # type: ignore[arg-type]


def test_differences_have_both_signs_and_totals_none() -> None:
    n = 40
    visits = pointings.draw(n, rng())
    total, reference = variables.rr_lyrae(visits.mjd, rng())
    scale = float(mag_to_njy(np.array(16.0)))
    for whole in (False, True):
        told = form(n, total=np.full(n, whole))
        curves = observe.observe(visits, total * scale, reference * scale, told, rng())
        seen = curves.kind == Kind.DETECTION
        negative = (curves.flux_njy[seen] < 0).mean()
        assert negative < 0.001 if whole else 0.2 < negative < 0.8
    upward = form(n, upward=np.ones(n, bool))
    curves = observe.observe(visits, total * scale, reference * scale, upward, rng())
    assert (curves.flux_njy < 0).any()
    assert (curves.flux_njy[curves.kind == Kind.DETECTION] > 0).all()


def test_tables_of_stars_come_as_the_command_reads_them() -> None:
    n = 300
    visits = pointings.draw(n, rng())
    total, reference = variables.rr_lyrae(visits.mjd, rng())
    scale = float(mag_to_njy(np.array(16.0)))
    whole = np.arange(n) % 2 == 0
    told = form(n, total=whole, silence=np.full(n, 2))
    before = observe.observe(visits, total * scale, reference * scale, told, rng())
    after = simulate._from_tables(before, whole, rng())
    bands, minus = np.zeros((n, 2), np.int64), np.zeros(n, bool)
    for i in range(n):
        one, same = (c.take(np.array([i])) for c in (after, before))
        bands[i] = [len(np.unique(c.band)) for c in (one, same)]
        minus[i] = whole[i] and (one.flux_njy < 0).any()
        if minus[i]:
            assert all(abs(np.median(one.flux_njy[one.band == b])) < 1e-6 * scale for b in np.unique(one.band))
        else:
            np.testing.assert_array_equal(one.flux_njy, same.keep(np.isin(same.band, np.unique(one.band))).flux_njy)
    assert (bands[~whole, 0] == bands[~whole, 1]).all()
    assert 0.1 < (bands[whole, 0] < bands[whole, 1]).mean() < 0.35
    # Most of six in ten: where a star is too faint to be seen to vary, its median stays.
    assert 0.35 < minus[whole].mean() < 0.75


@pytest.mark.parametrize("silence", [0, 1, 2])
def test_non_detections_are_limits_or_forced_points_or_left_out(silence: int) -> None:
    n = 40
    visits = pointings.draw(n, rng())
    flux = np.full(visits.mjd.shape, float(mag_to_njy(np.array(20.5))))
    told = form(n, silence=np.full(n, silence))
    curves = observe.observe(visits, flux, np.zeros((n, 5)), told, rng())
    kinds = {0: {Kind.LIMIT, Kind.DETECTION}, 1: {Kind.FORCED, Kind.DETECTION}, 2: {Kind.DETECTION}}
    assert set(np.unique(curves.kind).tolist()) == {int(k) for k in kinds[silence]}
    assert (curves.flux_njy[curves.kind == Kind.LIMIT] == 0).all()


def test_a_history_from_alerts_begins_a_month_before_and_ends_with_one() -> None:
    n = 30
    visits = pointings.draw(n, rng()).shifted(np.full(n, -100.0))
    flux = mag_to_njy(np.array(18.0)) * np.exp(-0.5 * (visits.mjd / 15.0) ** 2)
    yes = np.ones(n, dtype=bool)
    curves = observe.observe(visits, flux, np.zeros((n, 5)), form(n, from_alert=yes, to_alert=yes), rng())
    for i in range(n):
        points = slice(curves.offsets[i], curves.offsets[i + 1])
        seen = curves.mjd[points][curves.kind[points] == Kind.DETECTION]
        if len(seen):
            assert curves.mjd[points][0] >= seen[0] - 30.0
            assert curves.mjd[points][-1] == seen[-1]


def test_every_class_is_simulated_and_follows_the_seed(sources: Sources) -> None:
    one, other = (simulate.simulate(sources, 5, share=0.01) for _ in range(2))
    np.testing.assert_array_equal(one.curves.flux_njy, other.curves.flux_njy)
    assert not np.array_equal(one.curves.flux_njy, simulate.simulate(sources, 6, share=0.01).curves.flux_njy)
    assert set(one.label.tolist()) == set(range(14))
    assert np.isfinite(one.curves.flux_njy).all()
    assert (one.curves.flux_err_njy > 0).all()
    assert (peaks(one.curves) > 0).all()
    # Who was made of a template goes by its name.
    templates = sources.templates.objects
    shared = np.isin(one.object_id, templates.object_id)
    assert shared.any()
    label = dict(zip(templates.object_id.tolist(), templates.label.tolist(), strict=True))
    assert all(label[i] == k for i, k in zip(one.object_id[shared].tolist(), one.label[shared].tolist(), strict=True))


def test_a_stars_host_is_not_known_and_a_supernovas_is(sources: Sources) -> None:
    made = simulate.simulate(sources, 5, share=0.02)
    star = np.isin(made.label, [simulate.COLUMN[slug] for slug in variables.STARS if slug != "agn"])
    assert np.isnan(made.host_z[star]).mean() > 0.9
    assert np.isfinite(made.host_z[~star]).all()
    assert (made.host_z[~star] > 0).all()
