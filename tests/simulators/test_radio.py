"""Simulated radio galaxies: the law that names the classes, and what a beam does to flux and noise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from broker.models.simulators import radio

SHARP = radio.Survey(beam=3.0, pixel=1.2, noise=0.0)
FR_I, FR_II, BENT, COMPACT = range(4)


def _sky(kind: int, n: int, seed: int = 1) -> radio.Sources:
    return radio.sources(np.full(n, kind), np.random.default_rng(seed))


def _ratio(image: NDArray[np.float32], angle: float) -> float:
    """Return the distance between the brightest points on both sides of the host over the total extent."""
    y, x = np.indices(image.shape) - (len(image) - 1) / 2
    side = x * np.cos(angle) + y * np.sin(angle)
    bright = [np.where(half, image, -1.0).argmax() for half in (side > 0, side < 0)]
    first, second = (np.array([x.flat[k], y.flat[k]]) for k in bright)
    seen = image > 0.01 * image.max()
    return float(np.hypot(*(first - second)) / np.ptp(side[seen]))


@pytest.mark.parametrize(("kind", "ended"), [(FR_I, False), (FR_II, True)])
def test_the_classes_are_those_of_fanaroff_and_riley(kind: int, ended: bool) -> None:
    sky = _sky(kind, 150)
    flux = sky.flux.copy()
    flux[:, 0] = 0.0  # their ratio leaves the core out
    wide = replace(sky, flux=flux, x=sky.x - sky.x[:, :1], y=sky.y - sky.y[:, :1])
    images = radio.smooth(wide, SHARP, 200)
    ratio = np.array([_ratio(image, angle) for image, angle in zip(images, sky.angle, strict=True)])
    large = np.hypot(np.ptp(wide.x, axis=1), np.ptp(wide.y, axis=1)) > 10 * SHARP.beam
    assert large.sum() > 50
    assert ((ratio[large] > 0.5) == ended).mean() > 0.95


@pytest.mark.parametrize("survey", [radio.FIRST, radio.NVSS], ids=["FIRST", "NVSS"])
@pytest.mark.parametrize("kind", range(4), ids=radio.KINDS)
def test_a_beam_spreads_flux_and_keeps_it(survey: radio.Survey, kind: int) -> None:
    sky = _sky(kind, 10)
    images = radio.smooth(sky, survey, 400)
    pixels_per_beam = np.pi / (4 * np.log(2)) * (survey.beam / survey.pixel) ** 2
    np.testing.assert_allclose(images.sum(axis=(1, 2)) / pixels_per_beam, sky.flux.sum(axis=1), rtol=2e-3)


def test_a_point_source_looks_like_the_beam_and_peaks_at_its_flux() -> None:
    one = np.array([[1.0]])
    point = radio.Sources(np.array([COMPACT]), 0 * one, 0 * one, 0 * one, 20 * one, one[0])
    image = radio.smooth(point, radio.FIRST, 65)[0]
    x = (np.arange(65) - 32) * radio.FIRST.pixel
    assert image.max() == pytest.approx(20.0)
    width = np.sqrt((image.sum(axis=0) * x**2).sum() / image.sum())
    assert width * np.sqrt(8 * np.log(2)) == pytest.approx(radio.FIRST.beam, rel=1e-3)


def test_the_noise_is_that_of_the_survey_and_its_correlation_is_the_beam() -> None:
    nothing = replace(_sky(FR_I, 40), flux=np.zeros((40, 29)))
    noise = radio.observe(nothing, radio.FIRST, 64, np.random.default_rng(2))
    assert noise.std() == pytest.approx(radio.FIRST.noise, rel=0.03)
    apart = 2 * radio.FIRST.pixel
    correlation = (noise[:, :, 2:] * noise[:, :, :-2]).mean() / noise.var()
    assert correlation == pytest.approx(2.0 ** (-((2 * apart / radio.FIRST.beam) ** 2)), abs=0.03)


def test_tails_are_bent_and_the_other_kinds_are_nearly_straight() -> None:
    def opening(kind: int) -> float:
        sky = _sky(kind, 200)
        place = (sky.x - sky.x[:, :1]) + 1j * (sky.y - sky.y[:, :1])
        half = (place.shape[1] - 1) // 2
        return float(np.median(np.abs(np.angle(-place[:, half] / place[:, -1]))))

    assert opening(BENT) > 0.8
    assert 0.4 > opening(FR_I) > opening(FR_II)


def test_examples_are_those_of_their_seed_and_both_classes_are_as_common() -> None:
    first, again, other = (radio.fr_classes(300, seed, size=64) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first[0], again[0])
    assert not np.array_equal(first[0], other[0])
    assert first[0].shape == (300, 1, 64, 64)
    assert 120 < first[1].sum() < 180
