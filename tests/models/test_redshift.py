from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from broker.core.batch import Floats, Kind, LightCurves
from broker.models.transients import nights, population, redshift, vary
from broker.models.transients.data import Labelled
from broker.score.tensors import distance_gpc

N = 24


def light(z: Floats, mjd: Floats, band: NDArray[np.int8]) -> Floats:
    """Flux (D,), nJy, of one smooth source at redshift z (D,): Gaussian in time, falling to the blue."""
    rest = redshift.WAVES[band] / (1.0 + z)
    phase = (mjd - 56200.0) / (1.0 + z) / (14.0 + 4.0 * (rest / 5000.0 - 1.0))
    dim = (1.0 + z) / distance_gpc(z) ** 2
    return np.asarray(4e3 * dim * np.exp(-0.5 * phase**2) * (rest / 5000.0) ** 1.5)


@pytest.fixture(scope="module")
def sources() -> Labelled:
    """The same event at redshifts 0.2 to 0.4, griz every four nights, small errors."""
    rng = np.random.default_rng(3)
    z = rng.uniform(0.2, 0.4, N)
    times = np.repeat(np.arange(56120.0, 56300.0, 4.0), 4)
    mjd, band = np.tile(times, N), np.tile(np.array([1, 2, 3, 4], np.int8), N * len(times) // 4)
    flux = light(np.repeat(z, len(times)), mjd, band)
    err = np.full(len(flux), 60.0)
    curves = LightCurves(
        np.arange(N + 1, dtype=np.int64) * len(times),
        mjd,
        flux + err * rng.standard_normal(len(flux)),
        err,
        band,
        np.zeros(len(flux), np.int8),
    )
    label = np.arange(N, dtype=np.int64) % 3
    return Labelled(vary.flagged(curves, 5.0), np.arange(N, dtype=np.int64), label, z + 0.02, 0.03 + 0 * z, z)


def test_a_moved_source_is_as_bright_as_it_would_be(sources: Labelled) -> None:
    index = np.arange(N, dtype=np.int64)
    target = sources.moved_from_z + 0.12
    made = redshift.moved(
        sources, redshift.Move(index, index, target), redshift.Noise(np.zeros(6)), 5.0, np.random.default_rng(0)
    )
    np.testing.assert_allclose(made.moved_from_z, target, atol=0.02)
    np.testing.assert_allclose(made.host_z - made.moved_from_z, 0.022, atol=0.004)
    for i in range(N):
        own = slice(made.curves.offsets[i], made.curves.offsets[i + 1])
        z = np.full(made.curves.counts[i], made.moved_from_z[i])
        # Where in the season it falls is drawn: found again by the least squares shift.
        shifts = np.arange(-60.0, 60.0, 1.0)
        bands = made.curves.band[own]
        truth = np.stack([light(z, made.curves.mjd[own] + s, bands) for s in shifts])
        off = np.sqrt(np.mean((truth - made.curves.flux_njy[own]) ** 2, axis=1)).min()
        assert off < 60.0 + 0.06 * truth.max()


def test_what_lies_between_a_sources_points_is_no_measurement(sources: Labelled) -> None:
    index = np.arange(N, dtype=np.int64)
    # Weeks without a visit of the source, after its peak; the other's visits see them.
    gap = replace(sources, curves=sources.curves.keep((sources.curves.mjd < 56205) | (sources.curves.mjd > 56235)))
    both = population.concatenated([gap, sources])
    noise = redshift.Noise(np.zeros(6))
    err = {}
    for name, source in {"whole": index + N, "gap": index}.items():
        move = redshift.Move(source, index + N, sources.moved_from_z)
        err[name] = redshift.moved(both, move, noise, 5.0, np.random.default_rng(0)).curves.flux_err_njy
    assert np.median(err["whole"]) < 1.3 * 60.0
    assert np.quantile(err["gap"], 0.95) > 2.0 * np.quantile(err["whole"], 0.95)


def test_a_hosts_redshift_is_as_wrong_as_those_of_hosts_as_far(
    sources: Labelled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redshift, "ALIKE", 3)
    order = np.argsort(sources.moved_from_z)
    near = np.zeros(N, dtype=bool)
    near[order[: N // 2]] = True
    wrong = replace(
        sources,
        host_z=sources.moved_from_z + np.where(near, 1.0, 0.01),
        host_z_err=np.where(near, 0.9, 0.02),
    )
    move = redshift.Move(np.flatnonzero(near), np.flatnonzero(near), np.full(N // 2, sources.moved_from_z.max()))
    made = redshift.moved(wrong, move, redshift.Noise(np.zeros(6)), 5.0, np.random.default_rng(0))
    np.testing.assert_allclose(made.host_z - made.moved_from_z, 0.01, atol=0.002)
    np.testing.assert_allclose(made.host_z_err, 0.02, atol=0.002)


def test_moved_objects_follow_their_seed_and_mark_detections(sources: Labelled) -> None:
    index = np.arange(N, dtype=np.int64)
    move = redshift.Move(index, index[::-1].copy(), sources.moved_from_z + 0.3)
    noise = redshift.Noise(np.full(6, 2.0))
    one, same = (redshift.moved(sources, move, noise, 5.0, np.random.default_rng(1)) for _ in range(2))
    np.testing.assert_array_equal(one.curves.flux_njy, same.curves.flux_njy)
    hit = one.curves.flux_njy >= 5.0 * one.curves.flux_err_njy
    np.testing.assert_array_equal(one.curves.kind == Kind.DETECTION, hit)
    assert np.isfinite(one.curves.flux_njy).all()
    assert (one.curves.counts > 0).all()
    # Farther is fainter.
    assert population.brightness(one.curves).mean() < 0.5 * population.brightness(sources.curves).mean()


def test_the_shots_part_of_the_noise_is_found() -> None:
    rng = np.random.default_rng(2)
    flux = rng.exponential(4e4, 4000)
    flux[::3] = 0.0
    err = np.sqrt(300.0**2 + 3.0 * flux)
    band = np.full(4000, 2, np.int8)
    curves = LightCurves(np.array([0, 4000]), np.arange(4000.0), flux, err, band, np.zeros(4000, np.int8))
    shot = redshift.noise_of(curves).shot
    assert shot[2] == pytest.approx(3.0, rel=0.02)
    assert (shot[[0, 1, 3, 4, 5]] == 0).all()


def test_rates_in_volume_add_up_to_the_sphere() -> None:
    z = np.linspace(5e-4, 0.5, 1000)
    total = np.sum(redshift.volumetric(z, 1.0, 1.0)) * (z[1] - z[0])
    assert total == pytest.approx(4 / 3 * np.pi * (distance_gpc(np.array([0.5]))[0] / 1.5 * 1e3) ** 3, rel=5e-3)


def test_a_population_is_farther_fainter_and_seen(sources: Labelled) -> None:
    survey = population.Survey(farthest=0.8)
    made = population.draw(sources, 100, survey, np.random.default_rng(4))
    assert len(made) == 100
    assert population.seen(made.curves, survey).all()
    assert set(made.object_id.tolist()) <= set(sources.object_id.tolist())
    assert made.moved_from_z.mean() > sources.moved_from_z.mean() + 0.1
    assert (made.label == sources.label[made.object_id]).all()
    # Collapses are some five times more common than Ia, and here just as bright.
    assert (made.label == 0).mean() < 0.35
    near = population.again(sources, 100, survey, np.random.default_rng(4))
    assert np.median(near.moved_from_z - sources.moved_from_z[near.object_id]) < 0.08


def test_a_population_is_made_once(sources: Labelled, tmp_path: Path) -> None:
    calls: list[int] = []

    def make() -> Labelled:
        calls.append(1)
        return population.draw(sources, 10, population.Survey(farthest=0.8), np.random.default_rng(len(calls)))

    first, again, other = (population.kept(name, make, tmp_path) for name in ("one", "one", "other"))
    assert len(calls) == 2
    np.testing.assert_array_equal(first.curves.flux_njy, again.curves.flux_njy)
    np.testing.assert_array_equal(first.host_z_err, again.host_z_err)
    np.testing.assert_array_equal(first.label, again.label)
    assert again.curves.kind.dtype == sources.curves.kind.dtype
    assert first.moved_from_z.tolist() != other.moved_from_z.tolist()


def test_variations_lose_points_add_noise_and_end_early(sources: Labelled) -> None:
    rng = np.random.default_rng(5)
    curves = sources.curves
    assert 0.6 * curves.counts.sum() < vary.thin(curves, rng, 1.0).counts.sum() < 0.95 * curves.counts.sum()
    noisy = vary.fainter(curves, rng, 1.0)
    extra = np.sqrt(noisy.flux_err_njy**2 - curves.flux_err_njy**2)
    assert np.std((noisy.flux_njy - curves.flux_njy)[extra > 1] / extra[extra > 1]) == pytest.approx(1.0, abs=0.05)
    cut = vary.cut(curves, rng, 1.0)
    assert (cut.kind[cut.offsets[1:] - 1] == Kind.DETECTION).all()
    assert vary.cut(curves, rng, 0.0).counts.tolist() == curves.counts.tolist()
    which = rng.random(N) < 0.5
    assert vary.either(cut, curves, which).counts.tolist() == np.where(which, cut.counts, curves.counts).tolist()


def test_nights_are_learnt_and_a_hidden_redshift_is_not_read(sources: Labelled, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    rng = np.random.default_rng(6)
    # Class 0 is three times as bright as the others at its redshift: only the redshift tells.
    factor = np.where(sources.label == 0, 3.0, 1.0) * np.ones(N)
    brighter = replace(sources.curves, flux_njy=sources.curves.flux_njy * np.repeat(factor, sources.curves.counts))
    objects = replace(sources, curves=brighter)
    recipe = nights.Recipe(epochs=8, batch=16, width=16, layers=1, rate=2e-2)
    index = np.arange(N * 3, dtype=np.int64) % N
    network = nights.fit(
        lambda r: objects.take(r.permutation(index)), recipe, tmp_path / "one.pt", lambda epoch, loss: None
    )
    p = nights.predict(network, objects, host=True)
    np.testing.assert_allclose(p.sum(axis=1), 1.0, rtol=1e-6)
    assert ((p[:, 0] > 0.5) == (objects.label == 0)).mean() > 0.9
    blind = nights.predict(network, objects, host=False)
    other = replace(objects, host_z=rng.uniform(0.1, 1.0, N))
    np.testing.assert_array_equal(blind, nights.predict(network, other, host=False))
    # No answer depends on how long the others of the batch are, nor on bands that nobody has.
    alone = nights.predict(network, objects.take(np.array([3])), host=True)
    np.testing.assert_allclose(alone[0], p[3], atol=1e-5)

    # Stopped after a few epochs and taken up again, it is the same network.
    def stop(epoch: int, loss: float) -> None:
        if epoch == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        nights.fit(lambda r: objects.take(r.permutation(index)), recipe, tmp_path / "two.pt", stop)
    again = nights.fit(
        lambda r: objects.take(r.permutation(index)), recipe, tmp_path / "two.pt", lambda epoch, loss: None
    )
    np.testing.assert_array_equal(nights.predict(again, objects, host=True), p)
