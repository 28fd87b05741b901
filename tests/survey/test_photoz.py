"""Photometry as rows read it, the real sets of redshifts, and the bench of all photometric redshifts."""

from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
import torch

from broker.core.errors import TocsinError
from broker.models.simulators import seds
from broker.models.survey import galaxies, real_photoz, registry, serve, table
from broker.models.survey.judge import sigma_nmad
from broker.models.survey.photometry import (
    BANDS,
    LOST,
    NOISE,
    PHOTOMETRY,
    Photometry,
    as_observed,
    nearness,
    softened,
    with_colours,
)
from broker.models.survey.row import Examples, Row
from broker.models.survey.trust import photoz, photoz_classics, photoz_page

N = 800


@cache
def sets() -> tuple[Examples, Examples]:
    """Return training and other galaxies."""
    whole = galaxies.photo_z(2 * N, 3, None)
    return whole.take(np.arange(N)), whole.take(np.arange(N, 2 * N))


@cache
def lines() -> list[photoz.Line]:
    """Return the bench of the classical methods with posteriors on simulated galaxies."""
    seen, unseen = sets()
    methods = {"forest": photoz_classics.forest, "knn": photoz_classics.neighbours, "trainz": photoz_classics.train_z}
    made = [photoz._line("sim", name, partial(method, seen, 0), unseen) for name, method in methods.items()]
    return [line | {"model": line["method"] == "forest", "whole": 5 * N} for line in made]


# ---- photometry


def test_a_bright_magnitude_stays_as_it_is_and_a_faint_one_ends_at_the_limit() -> None:
    bright, limit = softened(np.array([[20.0]]), np.array([[0.01]]))
    assert bright[0, 0] == pytest.approx(20.0, abs=1e-3)
    assert 10 ** (-0.4 * (limit[0, 0] - 20.0)) == pytest.approx(0.01 * np.log(10) / 2.5)  # the flux's error over it
    faint, limit = softened(np.array([[35.0]]), np.array([[1e4]]))
    assert faint[0, 0] == pytest.approx(limit[0, 0], abs=1e-3)


def test_a_magnitude_without_error_is_taken_as_it_is() -> None:
    soft, limit = softened(np.array([[21.5, np.nan]]), np.array([[np.nan, 0.1]]))
    assert soft[0, 0] == 21.5
    assert np.isnan([soft[0, 1], *limit[0]]).all()


def test_the_trunk_reads_colours_and_a_missing_band_masks_what_needs_it() -> None:
    columns = {wanted.name: np.full(2, np.nan) for wanted in PHOTOMETRY}
    for k, band in enumerate(BANDS):
        columns[f"mag_{band}"] = 22.0 - 0.3 * k + np.zeros(2)
    columns["mag_g"][1] = np.nan
    values, present = np.split(Photometry().prepare(columns, PHOTOMETRY), 2, axis=1)
    np.testing.assert_allclose(values[0, 6:11], 0.3, atol=1e-5)
    assert present[0].tolist() == [1] * 11 + [0] * 6
    assert np.flatnonzero(present[0] != present[1]).tolist() == [1, 6, 7]  # g, u-g and g-r
    assert np.all(values[present == 0] == 0)


def test_a_band_that_training_never_saw_says_nothing() -> None:
    seen, unseen = (dict(examples.columns) for examples in sets())
    seen["mag_y"], seen["mag_err_y"] = np.full((2, N), np.nan)
    network = Photometry(width=8).build(Photometry().prepare(seen, PHOTOMETRY)).eval()
    without = unseen | {"mag_y": seen["mag_y"], "mag_err_y": seen["mag_y"]}
    with torch.inference_mode():
        one, other = (network(torch.from_numpy(Photometry().prepare(x, PHOTOMETRY))) for x in (unseen, without))
    np.testing.assert_array_equal(one, other)


def test_training_sees_photometry_as_it_could_have_been_measured() -> None:
    n = 20_000
    columns = {"mag_r": np.full(n, 20.0), "mag_err_r": np.full(n, 0.1), "mag_u": np.full(n, np.nan)}
    columns["mag_err_u"] = columns["mag_u"]
    seen = as_observed(columns, np.random.default_rng(0))
    known = np.isfinite(seen["mag_r"])
    assert np.std(seen["mag_r"][known]) == pytest.approx(0.1 * NOISE, rel=0.05)
    assert np.mean(~known) == pytest.approx(LOST, rel=0.2)
    assert np.isnan(seen["mag_u"]).all()
    assert np.isnan(seen["mag_err_r"][~known]).all()
    assert np.all(columns["mag_r"] == 20.0)


def test_colours_are_of_the_bands_that_are_there() -> None:
    found = with_colours({"mag_g": np.array([20.0]), "mag_i": np.array([19.5])})
    assert found["g-i"].tolist() == [0.5]


def test_neighbours_are_near_in_colours_and_one_magnitude_and_never_in_errors() -> None:
    bright = {"mag_g": np.array([20.0]), "mag_r": np.array([19.5]), "mag_err_r": np.array([0.1])}
    assert {name: x.tolist() for name, x in nearness(bright).items()} == {"g-r": [0.5], "mag_r": [19.5]}
    narrow = {"flux_nb455": np.array([3.0]), "flux_nb465": np.array([1.0]), "flux_err_nb455": np.array([0.2])}
    assert {name: x.tolist() for name, x in nearness(narrow).items()} == {"flux_nb455": [1.5], "flux_nb465": [0.5]}


# ---- rows


def test_photometric_redshifts_read_the_same_inputs_by_different_heads() -> None:
    rows = [row for row in map(registry.row, ("pz-mlp", "pz-bins", "pz-mdn")) if isinstance(row, Row)]
    assert all(row.inputs is PHOTOMETRY for row in rows)
    assert len({type(row.head) for row in rows}) == 3
    for row in rows:
        assert [target.high for target in row.on("sdss-mgs").targets] == [0.3]
        assert row.on("dc2").targets == row.targets


@pytest.mark.parametrize("name", ["pz-mlp", "pz-bins", "pz-mdn"])
def test_a_shallow_host_in_griz_without_errors_has_a_sensible_redshift(name: str) -> None:
    columns, truth = seds.hosts(4 * N, 11)
    griz = np.all([np.isfinite(columns[f"mag_{band}"]) for band in "griz"], axis=0)
    shallow = griz & np.isnan(columns["mag_err_r"])  # half of them are told without errors
    answer = serve.load(f"{name}@sim").fitted.answer(
        {f"mag_{band}": columns[f"mag_{band}"][shallow] for band in "griz"}
    )
    z, output = truth["redshift"][shallow], answer.outputs[0]
    assert answer.reason == [""] * len(z)
    assert sigma_nmad((output.value - z) / (1 + z)) < 0.6 * sigma_nmad((np.median(z) - z) / (1 + z))
    assert np.mean(np.abs(output.value - z) < 2 * output.sigma) > 0.8


# ---- the bench


def test_the_training_set_as_posterior_has_flat_ranks_and_the_worst_density_loss() -> None:
    figures = {line["method"]: {k: f["value"] for k, f in line["figures"].items()} for line in lines()}
    assert figures["trainz"]["pit"] < 0.05
    for method in ("forest", "knn"):
        assert figures[method]["cde_loss"] < figures["trainz"]["cde_loss"]
        assert figures[method]["sigma_nmad"] < 0.5 * figures["trainz"]["sigma_nmad"]


def test_points_are_those_of_the_baselines_that_rows_are_judged_by() -> None:
    seen, unseen = (examples.take(np.arange(300)) for examples in sets())
    for row in {row.id: row for group in photoz.groups(None) for row, _ in group}.values():
        classical = photoz._classical(row, seen, 2)
        assert {"forest", "knn", "trainz"} <= set(classical)
        for name in {"forest", "knn", "trainz"} & set(row.baselines):
            points = row.baselines[name](seen, 2)(unseen.columns)[:, 0]
            np.testing.assert_allclose(classical[name]()(unseen.columns).value, points, err_msg=f"{row.id}: {name}")


def test_simulated_galaxies_have_the_figures_of_the_rows_own_benches() -> None:
    results, checked, beside = table.read_results(table.results_root()), 0, 0
    for finding in results["pz-bench", "shown"]["findings"]:
        name, _, claim = finding["metric"].partition(": ")
        figure, _, model, _, other = claim.split()
        if name.startswith("sim"):
            own = results[model, "sim"]["metrics"][figure]
            assert finding["model"] == pytest.approx(own["model"], rel=1e-3), finding["metric"]
            checked += 1
            if other in own["baselines"]:  # trainZ is none of the rows'
                assert finding["baseline"] == pytest.approx(own["baselines"][other], rel=1e-3), finding["metric"]
                beside += 1
    assert (checked, beside) >= (8, 4)


def test_a_forests_posterior_holds_what_it_says() -> None:
    line = lines()[0]
    assert line["figures"]["coverage_68_error"]["value"] < 15.0
    assert sum(line["pit"]) == pytest.approx(photoz.PIT_BINS, abs=0.02)


def test_bins_of_redshift_hold_all_galaxies() -> None:
    for line in lines():
        assert sum(one["n"] for one in line["by_redshift"]) == N


def test_a_forest_answers_each_galaxy_by_itself() -> None:
    seen, unseen = sets()
    answer = photoz_classics.forest(seen.take(np.arange(300)), 0)
    whole, one = answer(unseen.take(np.arange(5)).columns), answer(unseen.take(np.array([3])).columns)
    np.testing.assert_array_equal(whole.parts["means"][3], one.parts["means"][0])


def test_the_page_has_every_method_and_the_picture_is_an_svg() -> None:
    page = photoz_page.page(lines(), "What is said.", "tocsin bench survey pz-bench")
    assert "**forest**" in page
    assert "## sim: 800 galaxies, the first fold of 4,000" in page
    assert "| trainz |" in page
    assert ET.fromstring(photoz_page.picture(lines())).tag.endswith("svg")


def test_rows_on_one_set_stand_together_and_real_sets_only_where_they_are() -> None:
    together = [[row.id for row, _ in group] for group in photoz.groups(None)]
    assert ["pz-bins", "pz-mdn", "pz-mlp"] in together
    assert all(not row.variants[name].real for group in photoz.groups(None) for row, name in group)


def test_what_is_said_follows_from_the_lines() -> None:
    findings = {finding.metric.split(": ")[1].split()[0]: finding for finding in photoz._findings("sim", lines())}
    assert set(findings) == {"sigma_nmad", "outliers", "cde_loss", "pit"}
    assert "the worst CDE loss of all on 1" in photoz._said(["sim"], lines())


# ---- real sets


@pytest.fixture(scope="module")
def folder() -> Path:
    found = os.environ.get("TOCSIN_TEST_DATA")
    if found is None:
        pytest.skip("TOCSIN_TEST_DATA is not set")
    return Path(found) / "survey"


def test_sdss_galaxies_are_whole(folder: Path) -> None:
    found = real_photoz.sdss_mgs(0, 0, folder)
    assert found.truth.shape == (len(found), 1)
    assert all(np.isfinite(column).all() for column in found.columns.values())
    assert np.all(found.columns["mag_r"] < 17.9)
    assert np.median(found.columns["mag_err_u"]) == pytest.approx(0.053, abs=0.01)


def test_dc2_galaxies_that_are_not_detected_have_no_magnitude(folder: Path) -> None:
    found = real_photoz.dc2(0, 0, folder)
    for name, column in found.columns.items():
        assert np.nanmax(column) < 90.0, name
    assert 0.05 < np.isnan(found.columns["mag_u"]).mean() < 0.1
    assert np.isfinite(found.columns["mag_i"]).all()
    np.testing.assert_array_equal(np.isnan(found.columns["mag_u"]), np.isnan(found.columns["mag_err_u"]))


def test_real_sets_need_their_folder(tmp_path: Path) -> None:
    with pytest.raises(TocsinError, match="TOCSIN_TEST_DATA"):
        real_photoz.dc2(0, 0, None)
    with pytest.raises(TocsinError, match="has no sdss_mgs_train"):
        real_photoz.sdss_mgs(0, 0, tmp_path)
