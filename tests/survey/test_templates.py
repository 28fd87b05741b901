import numpy as np
import pytest

from broker.models.simulators.seds_bands import UGRIZY, magnitudes
from broker.models.survey import galaxies, templates
from broker.models.survey.judge import sigma_nmad
from broker.models.survey.row import Data, Examples


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


def test_a_model_of_the_grid_is_found_again() -> None:
    """Noise-free galaxies that are templates of 10^10 solar masses: their masses come back."""
    z = 0.62
    models = templates.grid(UGRIZY, (z,), fine=True)
    rows = np.arange(0, len(models.flux), 37)
    flux = models.flux[rows] * 1e10
    columns = {"redshift": np.full(len(rows), z)}
    columns |= {f"flux_{band}": flux[:, k] for k, band in enumerate(UGRIZY)}
    columns |= {f"flux_err_{band}": 0.001 * flux[:, k] for k, band in enumerate(UGRIZY)}
    read = templates.fluxes(UGRIZY)
    names = ("log_mass", "log_sfr", "log_dust")
    empty = Examples({}, np.empty((0, 3)), Data("none", "0", ""))
    found = templates.properties(UGRIZY, read, names, known_z="redshift")(empty, 0)(columns)
    true = models.values[rows][:, 1:4] + 10.0
    assert np.sqrt(np.mean((found[:, 0] - true[:, 0]) ** 2)) < 0.15


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
