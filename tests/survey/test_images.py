"""Images as networks and forests read them: sizes, noise, orientation."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from broker.models.simulators import radio
from broker.models.survey import morphometry, serve, stamps
from broker.models.survey.baselines import forest
from broker.models.survey.radio import DATA
from broker.models.survey.real_radio import LIKE, frdeep, likeness, mirabest
from broker.models.survey.row import Examples
from broker.models.survey.trunks_image import PolarCnn
from broker.sidecar.product import Array, Input, Kind, Product, collect

IMAGE = Input("image", shape=(1, -1, -1))
TRUNK = PolarCnn(size=64, rings=16, angles=32, channels=4, width=8)


@cache
def images(n: int = 24, size: int = 64) -> NDArray[np.float32]:
    """Return simulated radio galaxies (n, 1, size, size), noise and all."""
    return radio.fr_classes(n, 1, size=size)[0]


@cache
def network() -> torch.nn.Module:
    """Return a network of random weights, whose layers have the scales of simulated images."""
    prepared = TRUNK.prepare({"image": images()}, (IMAGE,))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = TRUNK.build(prepared)
        with torch.no_grad():
            made(torch.from_numpy(prepared))
    return made.eval()


def features(given: NDArray[np.floating]) -> NDArray[np.float32]:
    with torch.inference_mode():
        made: NDArray[np.float32] = network()(torch.from_numpy(TRUNK.prepare({"image": given}, (IMAGE,)))).numpy()
    return made


def test_a_turned_or_mirrored_source_has_the_same_features() -> None:
    straight = features(images())
    for turned in (np.rot90(images(), 1, (2, 3)), images()[..., ::-1], np.swapaxes(images(), 2, 3)):
        np.testing.assert_allclose(features(turned.copy()), straight, rtol=1e-3, atol=1e-4 * straight.max())


def test_a_source_turned_by_any_angle_is_nearer_to_itself_than_to_others() -> None:
    sky = radio.sources(np.arange(24) % 2, np.random.default_rng(3))
    angle = 0.5
    turned = radio.Sources(
        sky.kind,
        sky.x * np.cos(angle) - sky.y * np.sin(angle),
        sky.x * np.sin(angle) + sky.y * np.cos(angle),
        sky.sigma,
        sky.flux,
        sky.angle + angle,
    )
    one, other = (features(radio.smooth(each, radio.FIRST, 64)[:, None]) for each in (sky, turned))
    apart = np.linalg.norm(one[:, None] - other, axis=2)
    assert np.median(np.diag(apart)) < 0.5 * np.median(apart)


def test_an_image_has_the_same_features_alone_and_among_others() -> None:
    np.testing.assert_allclose(features(images()[3:4])[0], features(images())[3], rtol=1e-4, atol=1e-6)


def test_brightness_does_not_matter() -> None:
    np.testing.assert_allclose(features(images().astype(np.float64) * 1e-7), features(images()), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("size", [1, 31, 63, 64, 65, 150])
def test_any_size_is_centred_and_the_source_stays_in_the_middle(size: int) -> None:
    image = np.zeros((1, 1, size, size))
    image[..., size // 2, size // 2] = 7.0
    stamp = stamps.cleaned(image, 64)
    assert stamp.shape == (1, 1, 64, 64)
    assert stamp[0, 0, 32, 32] == stamp.sum() == 1.0


def test_oblong_images_are_centred_too() -> None:
    image = np.zeros((2, 1, 40, 90))
    image[..., 20, 45] = 1.0
    assert np.all(stamps.centred(image, 64)[:, 0, 32, 32] == 1.0)


@pytest.mark.parametrize("value", [0.0, 5.0, -5.0, 1e30, -1e30, np.nan, np.inf])
def test_a_constant_image_is_finite(value: float) -> None:
    made = features(np.full((2, 1, 70, 70), value))
    assert np.isfinite(made).all()


def test_noise_is_measured_and_clipped_and_what_is_clipped_stays() -> None:
    noise = radio.observe(
        radio.sources(np.zeros(30, int), np.random.default_rng(0)), radio.FIRST, 100, np.random.default_rng(1)
    )
    measured = stamps.noise(noise[:, None])
    np.testing.assert_allclose(measured.ravel(), radio.FIRST.noise, rtol=0.15)
    padded = stamps.centred(noise[:, None], 140)
    np.testing.assert_allclose(stamps.noise(padded), measured, rtol=1e-5)
    once = stamps.cleaned(noise[:, None], 100)
    assert (once > 0).mean() < 0.1
    np.testing.assert_array_equal(stamps.cleaned(once, 100), once)


def test_a_stranger_that_outshines_the_source_does_not_dim_it() -> None:
    alone = np.zeros((1, 1, 128, 128), dtype=np.float32)
    alone[..., 60:70, 62:66] = np.linspace(0.1, 1.0, 10, dtype=np.float32)[:, None]
    crowded = 0.2 * alone
    crowded[..., 10, 10] = 1.0
    seen = stamps.own_brightness(crowded)
    assert seen[0, 0, 10, 10] == 1.0
    seen[0, 0, 10, 10] = 0.0
    np.testing.assert_allclose(seen, alone, rtol=1e-6)
    far = np.zeros_like(alone)
    far[..., 5, 5] = 0.5
    np.testing.assert_array_equal(stamps.own_brightness(far), far)


def test_products_of_several_sizes_are_answered_as_alone() -> None:
    sizes = (30, 64, 65, 150)
    products = [Product(str(size), Kind.CUTOUT, ["a"], {"image": Array("", images(1, size))}) for size in sizes]
    together = collect(products, (IMAGE,))
    assert together.reason == [""] * len(sizes)
    prepared = TRUNK.prepare(together.columns, (IMAGE,))
    for k, product in enumerate(products):
        alone = TRUNK.prepare(collect([product], (IMAGE,)).columns, (IMAGE,))
        np.testing.assert_allclose(prepared[k], alone[0], rtol=1e-5, atol=1e-6)


def test_a_hole_in_an_image_is_a_reason_and_not_a_guess() -> None:
    holed = images(3).copy()
    holed[1, 0, 5, 5] = np.nan
    product = Product("p", Kind.CUTOUT, ["a", "b", "c"], {"image": Array("", holed)})
    assert collect([product], (IMAGE,)).reason == ["", "not_finite", ""]
    for shape in ((600, 8), (8, 7)):
        odd = Product("w", Kind.CUTOUT, ["a"], {"image": Array("", np.zeros((1, 1, *shape)))})
        assert collect([odd], (IMAGE,)).reason == ["wrong_shape"]


@pytest.mark.parametrize("value", [0.0, 5.0, -1e30])
def test_an_image_without_contrast_is_a_reason_and_not_a_guess(value: float) -> None:
    alike, some = np.full((2, 1, 30, 30), value), images(3)
    some[1, 0, 3, 3] += 1.0
    products = [Product("p", Kind.CUTOUT, ["a"] * len(x), {"image": Array("", x)}) for x in (alike, some)]
    assert collect(products, (IMAGE,)).reason == ["blank"] * 2 + [""] * 3
    bands = np.stack([np.zeros((12, 12)), np.ones((12, 12))])[None]
    two = Input("image", shape=(2, -1, -1))
    for seen, why in ((bands, "blank"), (bands + np.arange(12.0), "")):
        assert collect([Product("p", Kind.CUTOUT, ["a"], {"image": Array("", seen)})], (two,)).reason == [why]
    mask = replace(IMAGE, required=False)
    assert collect(products, (mask,)).reason == [""] * 5


def test_where_the_trunk_sees_nothing_there_is_no_answer() -> None:
    """A source in a corner, which is cut off, and one that is a hole."""
    corner, hole, source = np.zeros((3, 1, 1, 150, 150))
    corner[..., 2, 3], hole[..., 75, 75], source[..., 75, 75] = 1.0, -1.0, 1.0
    made = [Product("p", Kind.CUTOUT, ["a"], {"image": Array("", x)}) for x in (corner, hole, source)]
    served = serve.load("radio-fr@mirabest")
    answer = served.answer(served.embed(made))
    assert answer.reason == ["blank", "blank", ""]
    assert np.isnan(answer.out_of_domain).tolist() == np.isnan(answer.outputs[0].value).tolist() == [True, True, False]


def test_images_of_another_pixel_scale_get_no_answer() -> None:
    wanted = replace(IMAGE, pixel_scale_arcsec=1.8)
    said = {}
    for scale in (1.8, 1.75, np.nan, 0.2, 0.0, -1.8, np.inf):
        product = Product("p", Kind.CUTOUT, ["a"], {"image": Array("", images(1))}, pixel_scale_arcsec=scale)
        said[scale] = collect([product], (wanted,)).reason[0]
    assert [said[1.8], said[1.75], said[np.nan]] == ["", "", ""]
    assert [said[0.2], said[0.0], said[-1.8], said[np.inf]] == ["wrong_scale"] * 4


def test_shapes_of_known_sources() -> None:
    pixel = np.arange(101) - 50.0
    narrow, wide = (np.exp(-0.5 * (pixel / s) ** 2) for s in (3.0, 9.0))
    blob = np.outer(narrow, wide)
    double = np.roll(np.outer(narrow, narrow), 15, 1) + 0.8 * np.roll(np.outer(narrow, narrow), -15, 1)
    found = morphometry.shapes(
        np.where(np.stack([blob, double, 0 * blob]) > 0.01, np.stack([blob, double, 0 * blob]), 0)
    )
    assert found["axis_ratio"][0] == pytest.approx(3.0 / 9.0, rel=0.05)
    assert found["asymmetry"][0] == pytest.approx(0.0, abs=1e-6)
    assert found["peaks"].tolist()[:2] == [1.0, 2.0]
    assert found["fr_ratio"][0] < 0.2
    assert found["fr_ratio"][1] > 0.6
    assert found["second_peak"][1] == pytest.approx(0.8, rel=0.01)
    assert np.isnan([values[2] for values in found.values()]).all()


def test_a_forest_on_shapes_tells_simulated_classes_apart() -> None:
    (seen, known), (unseen, truth) = (radio.fr_classes(200, seed, size=64) for seed in (1, 2))
    train = Examples({"image": seen}, known, DATA)
    probabilities = morphometry.on_images(forest(30), size=64)(train, 0)({"image": unseen})
    assert (probabilities.argmax(axis=1) == truth).mean() > 0.85


def test_the_same_source_is_alike_however_it_lies_and_others_are_not() -> None:
    seen = np.where(images(12) > 1.0, images(12), 0.0)[:, 0]
    lain = np.rot90(np.roll(seen[:4], (1, -1), (1, 2))[:, ::-1], 1, (1, 2))
    assert likeness(lain, seen).tolist() == pytest.approx([1.0] * 4, abs=1e-5)
    assert np.all(likeness(seen[4:], seen[:4]) < 0.999)
    assert likeness(np.zeros((1, 64, 64), np.float32), seen).tolist() == [0.0]


def test_what_only_judges_has_nothing_like_what_was_trained_on(tmp_path: Path) -> None:
    seen = (255 * np.clip(images(24)[:, 0] / images(24)[:, 0].max(axis=(1, 2), keepdims=True), 0, 1)).astype(np.uint8)
    classes = np.arange(24) % 2
    np.savez(tmp_path / "mirabest_150px.npz", image=seen[:12], label=classes[:12])
    np.savez(tmp_path / "frdeep_first_150px.npz", image=np.swapaxes(seen[8:], 1, 2), label=classes[8:])
    found = frdeep(0, 0, tmp_path)
    assert 0 < len(found) <= 12
    image = found.columns["image"][:, 0]
    assert np.all(likeness(image, seen[:12].astype(np.float32)) < LIKE)
    at = [int(np.flatnonzero([np.array_equal(one, each.T) for each in seen[12:]])[0]) for one in image]
    np.testing.assert_array_equal(found.truth, classes[12:][at])


def test_mirabest_is_whole() -> None:
    folder = os.environ.get("TOCSIN_TEST_DATA")
    if not folder:
        pytest.skip("TOCSIN_TEST_DATA is not set")
    found = mirabest(0, 0, Path(folder) / "survey")
    assert found.columns["image"].shape == (622, 1, 150, 150)
    assert np.bincount(found.truth).tolist() == [276, 346]
