from __future__ import annotations

from collections.abc import Callable

import numpy as np

from broker.core.batch import Kind
from broker.models.transients import augment
from broker.models.transients.data import Labelled

MakeLabelled = Callable[..., Labelled]


def rng() -> np.random.Generator:
    return np.random.default_rng(5)


def test_the_chosen_detection_is_one_and_all_get_chosen(labelled: MakeLabelled) -> None:
    curves = labelled(20).curves
    seen: list[set[float]] = [set() for _ in range(20)]
    generator = rng()
    for _ in range(400):
        for i, mjd in enumerate(augment.chosen_detection(curves, generator).tolist()):
            seen[i].add(mjd)
    for i in range(20):
        points = slice(curves.offsets[i], curves.offsets[i + 1])
        detections = set(curves.mjd[points][curves.kind[points] == Kind.DETECTION].tolist())
        assert seen[i] <= detections
        assert {min(detections), max(detections)} <= seen[i]


def test_curves_without_detections_have_none(labelled: MakeLabelled) -> None:
    curves = labelled(4).curves
    none = curves.keep(curves.kind != Kind.DETECTION)
    assert np.isnan(augment.last_detection(none)).all()
    assert np.isnan(augment.chosen_detection(none, rng())).all()
    assert len(none.take(np.array([], dtype=np.int64))) == 0


def test_a_packet_ends_at_its_alert_and_reaches_back_no_further(labelled: MakeLabelled) -> None:
    curves = labelled(30).curves
    at = augment.chosen_detection(curves, rng())
    packet = augment.as_packet(curves, at, 30.0)
    for i in range(30):
        own = packet.mjd[packet.offsets[i] : packet.offsets[i + 1]]
        assert own[-1] == at[i]
        assert own[0] >= at[i] - 30.0
        whole = curves.mjd[curves.offsets[i] : curves.offsets[i + 1]]
        assert len(own) == ((whole <= at[i]) & (whole >= at[i] - 30.0)).sum()


def test_noise_only_adds_error_and_takes_detections_away(labelled: MakeLabelled) -> None:
    curves = labelled(200).curves
    noisy = augment.add_noise(curves, rng())
    assert (noisy.flux_err_njy >= curves.flux_err_njy).all()
    assert ((noisy.kind == curves.kind) | (noisy.kind == Kind.FORCED)).all()
    changed = noisy.flux_err_njy > curves.flux_err_njy
    pull = (noisy.flux_njy - curves.flux_njy)[changed]
    extra = np.sqrt(noisy.flux_err_njy**2 - curves.flux_err_njy**2)[changed]
    assert abs(np.std(pull / extra) - 1.0) < 0.02


def test_losses_are_of_points_bands_and_forced_photometry(labelled: MakeLabelled) -> None:
    curves = labelled(300).curves
    kept = augment.lose_points(curves, rng(), longest=100).counts / curves.counts
    assert 0.4 < kept.mean() < 0.85
    one = augment.lose_bands(curves, rng(), 6, 1.0)
    for i in range(300):
        assert 4 <= len(set(one.band[one.offsets[i] : one.offsets[i + 1]].tolist())) <= 5
    plain = augment.lose_forced(curves, rng(), 1.0)
    assert (plain.kind == Kind.DETECTION).all()
    assert augment.lose_forced(curves, rng(), 0.0).counts.tolist() == curves.counts.tolist()


def test_any_epoch_always_leaves_a_detection_last(labelled: MakeLabelled) -> None:
    curves = augment.any_epoch(labelled(100).curves, rng(), 6, 365.0)
    assert (curves.kind[curves.offsets[1:] - 1] == Kind.DETECTION).all()
    for i in range(100):
        assert (np.diff(curves.mjd[curves.offsets[i] : curves.offsets[i + 1]]) >= 0).all()
