from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from broker.models.simulators.seds_bands import UGRIZY, magnitudes
from broker.models.survey import galaxies, templates
from broker.models.survey.judge import sigma_nmad
from broker.models.survey.row import Columns, Examples, Floats


def test_chi2_is_that_of_the_textbook_at_the_best_scale() -> None:
    rng = np.random.default_rng(0)
    flux, err, models = rng.normal(5, 1, (3, 6)), rng.uniform(0.1, 2, (3, 6)), rng.uniform(1, 3, (4, 6))
    flux[1, 2], err[2, 4] = np.nan, np.nan
    found, scale = templates.chi2(flux, err, models)
    for i in range(3):
        known = np.isfinite(flux[i]) & np.isfinite(err[i])
        for k in range(4):
            tried = np.linspace(0.9, 1.1, 2001)[:, None] * scale[i, k]
            pulls = (flux[i, known] - tried * models[k, known]) / err[i, known]
            brute = np.sum(pulls**2, axis=1)
            assert found[i, k] == pytest.approx(brute.min(), rel=1e-6)
            assert abs(int(np.argmin(brute)) - 1000) <= 1


def test_redshifts_of_simulated_galaxies_are_better_than_a_guess_and_gaps_are_no_errors() -> None:
    known, asked = galaxies.photo_z(400, 0, None), galaxies.photo_z(300, 1, None)
    fitted = templates.photo_z(UGRIZY)(known, 0)
    found, truth = fitted(asked.columns)[:, 0], asked.truth[:, 0]
    assert np.all(np.isfinite(found))
    guess = sigma_nmad((np.median(known.truth) - truth) / (1 + truth))
    assert sigma_nmad((found - truth) / (1 + truth)) < 0.4 * guess
    alone = fitted({name: column[:1] for name, column in asked.columns.items()})
    np.testing.assert_allclose(alone[0, 0], found[0], rtol=1e-9)


def test_magnitudes_are_read_as_the_fluxes_that_they_were() -> None:
    flux, err = np.array([[300.0, 5000.0]]), np.array([[30.0, 100.0]])
    mag, mag_err = magnitudes(flux, err)
    columns = {"mag_g": mag[:, 0], "mag_r": mag[:, 1], "mag_err_g": mag_err[:, 0]}
    read, read_err = templates.magnitudes(("g", "r", "i"))(columns)
    np.testing.assert_allclose(read[0, :2], flux[0])
    assert read_err[0, 0] == pytest.approx(30.0)
    assert read_err[0, 1] == pytest.approx(5000.0 * templates.UNTOLD / 1.0857, rel=1e-3)
    assert np.isnan(read[0, 2])


NARROW = galaxies.NARROW_BANDS[:40]
Make = Callable[[int, int, Path | None], Examples]
Fit = Callable[[Examples], Callable[[Columns], Floats]]


def narrow_fit(known: Examples) -> Callable[[Columns], Floats]:
    read = templates.together(templates.fluxes(NARROW), templates.magnitudes(galaxies.NARROW_BANDS[40:]))
    return templates.photo_z(galaxies.NARROW_BANDS, read, z_max=1.3, soft=0.1)(known, 0)


def broad_fit(known: Examples) -> Callable[[Columns], Floats]:
    return templates.photo_z(UGRIZY)(known, 0)


def errors(make: Make, fit: Fit) -> Floats:
    known, asked = make(300, 0, None), make(500, 1, None)
    z = asked.truth[:, 0]
    return np.asarray((fit(known)(asked.columns)[:, 0] - z) / (1.0 + z))


def figures(error: Floats) -> Floats:
    """Return scatter, share of outliers and bias."""
    return np.array([sigma_nmad(error), np.mean(np.abs(error) > 0.15), np.median(error)])


@pytest.mark.parametrize(("make", "fit"), [(galaxies.narrow_sky, narrow_fit), (galaxies.photo_z, broad_fit)])
def test_half_the_step_of_redshift_changes_no_figure(make: Make, fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond what drawing the galaxies again does."""
    rng = np.random.default_rng(0)
    found = errors(make, fit)
    monkeypatch.setattr(templates, "STEP", 0.5 * templates.STEP)
    noise = np.std([figures(found[rng.integers(0, len(found), len(found))]) for _ in range(200)], axis=0)
    assert np.all(np.abs(figures(errors(make, fit)) - figures(found)) < 2.0 * noise)


def test_a_step_as_wide_as_a_band_spoils_the_scatter(monkeypatch: pytest.MonkeyPatch) -> None:
    right = figures(errors(galaxies.narrow_sky, narrow_fit))[0]
    monkeypatch.setattr(templates, "STEP", 6.0)
    assert figures(errors(galaxies.narrow_sky, narrow_fit))[0] > 1.2 * right
