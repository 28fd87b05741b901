"""Rows on haloes: their classical methods, and whether what ships shows what the papers found."""

import numpy as np
import pytest

from broker.core.errors import TocsinError
from broker.models.survey import bench, haloes, posterior, registry, serve
from broker.models.survey.row import Data, Examples, Row, Target
from broker.models.survey.scalings import exponents, matched, power_law, virial
from broker.sidecar.product import Input

NONE = Data("none", "1.0", "none")
N = 2_000


def given(**columns: np.ndarray) -> Examples:
    truth = columns.pop("truth")
    return Examples(columns, truth[:, None], NONE)


def errors(row: Row, variant: str, of: str) -> dict[str, np.ndarray]:
    """Return errors (n,) of the first target of the weights of one variant and of some baselines on fresh examples."""
    examples = bench.fresh(row, variant, 7, N)
    truth = examples.truth[:, 0]
    own = serve.load(f"{row.id}@{of}").fitted.answer(examples.columns).outputs[0].value - truth
    seen = row.variants[of].make(3_000, 0, None)
    linear = {name: baseline for name, baseline in row.baselines.items() if name not in ("forest", "boosting", "knn")}
    return {"model": own} | {
        name: baseline(seen, 0)(examples.columns)[:, 0] - truth for name, baseline in linear.items()
    }


def rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))


def shipped(name: str) -> Row:
    row, _ = registry.find(name)
    assert isinstance(row, Row)
    return row


def test_abundance_matching_gives_the_masses_their_order_and_their_numbers() -> None:
    rng = np.random.default_rng(0)
    mass = rng.normal(13.0, 0.5, N)
    light = 0.6 * mass + rng.normal(0.0, 0.1, N)
    predict = matched("light")(given(light=light, truth=mass), 0)
    found = predict({"light": np.append(light, np.nan)})[:, 0]
    np.testing.assert_array_equal(np.argsort(found[:-1]), np.argsort(light))
    np.testing.assert_allclose(np.sort(found[:-1]), np.sort(mass))
    assert found[-1] == np.median(mass)


def test_virial_masses_and_power_laws_are_found_again() -> None:
    rng = np.random.default_rng(0)
    sigma, radius = rng.normal(2.0, 0.3, (2, N))
    mass = 2.0 * sigma + radius + 6.0
    train = given(sigma=sigma, radius=radius, truth=mass)
    columns = {"sigma": np.array([2.5, np.nan]), "radius": np.array([1.5, 1.5])}
    for method in (virial("sigma", "radius"), power_law("sigma", "radius")):
        np.testing.assert_allclose(method(train, 0)(columns)[:, 0], [12.5, np.median(mass)])
    np.testing.assert_allclose(exponents(("sigma", "radius"), train), [2.0, 1.0, 6.0], atol=1e-9)
    plain = given(sigma=sigma, radius=radius, truth=10.0**mass)
    np.testing.assert_allclose(exponents(("sigma", "radius"), plain, logarithmic=False), [2.0, 1.0, 6.0], atol=1e-9)


def test_a_column_that_the_simulator_does_not_draw_is_named() -> None:
    make = haloes.GROUPS.of((Input("log_richness"), Input("colour")), (Target("log_halo_mass"),))
    with pytest.raises(TocsinError, match=r"halo-groups draws no colour, but log_halo_mass, log_richness, "):
        make(8, 0, None)


def test_groups_weigh_better_by_all_columns_than_by_one_rank_or_by_their_motions() -> None:
    found = errors(shipped("halo-ml"), "sim", "sim")
    assert rms(found["model"]) < 0.85 * rms(found["abundance matching"])
    assert rms(found["model"]) < 0.4 * rms(found["dynamical mass"])


@pytest.mark.parametrize("code", ["sim", "sim-jet"])
def test_subhaloes_are_weighed_in_their_own_code_and_in_another(code: str) -> None:
    found = errors(shipped("subhalo-nn"), code, "sim")
    assert np.mean(np.abs(found["model"]) < 0.2) > 0.99
    assert rms(found["model"]) < rms(found["virial theorem"])


def test_the_law_of_subhaloes_is_the_virial_theorem() -> None:
    row = shipped("subhalo-nn")
    law = exponents(("log_dispersion", "log_half_radius"), row.variants["sim"].make(N, 3, None))
    np.testing.assert_allclose(law[:2], [2.0, 1.0], atol=0.1)


def test_one_galaxy_tells_of_its_universe_within_its_code_and_misleads_beyond() -> None:
    row = shipped("camels-onegal")
    own, other = (rms(errors(row, code, "sim")["model"]) for code in ("sim", "sim-jet"))
    prior = 0.4 / np.sqrt(12.0)
    assert own < 0.6 * prior
    assert other > 1.15 * own


def test_histories_are_calibrated_together_and_narrower_than_the_prior() -> None:
    row = shipped("merger-cinn")
    examples = bench.fresh(row, "sim", 7, 700)
    outputs = serve.load("merger-cinn").fitted.answer(examples.columns).outputs
    for output, truth in zip(outputs, examples.truth.T, strict=True):
        inside = np.abs(posterior.pit(output, truth) - 0.5) < 0.34
        assert inside.mean() == pytest.approx(0.68, abs=0.08)
        assert np.median(output.sigma) < 0.9 * truth.std()
    joint = posterior.tarp(np.stack([output.parts["samples"] for output in outputs], axis=2), examples.truth, 0)
    assert posterior.deviation(joint) < 0.08
