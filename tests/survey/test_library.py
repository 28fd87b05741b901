import numpy as np
import pytest

from broker.models.simulators.seds_bands import UGRIZY
from broker.models.survey import library, templates
from broker.models.survey.galaxies import FAR_BANDS, far
from broker.models.survey.row import Columns, Data, Examples, Floats

NAMES = ("log_mass", "log_sfr", "log_dust")
EMPTY = Examples({}, np.empty((0, 3)), Data("none", "0", ""))


def seen(flux: Floats, bands: tuple[str, ...], z: Floats) -> Columns:
    """Return noise-free galaxies with errors of a thousandth."""
    columns = {f"flux_{band}": flux[:, k] for k, band in enumerate(bands)}
    errors = {f"flux_err_{band}": 0.001 * flux[:, k] + 1e-9 for k, band in enumerate(bands)}
    return {"redshift": z} | columns | errors


def test_a_model_of_the_library_is_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models of 10^10 solar masses come back where the redshift is known, and where it is not."""
    monkeypatch.setattr(library, "SOFT", 0.0)
    z = float(np.expm1(40 * templates.resolution(UGRIZY)))
    at = library.library(UGRIZY, library.AT_Z, z, z)
    over = library.library(UGRIZY, library.OVER_Z, 0.01, 4.0)
    for models, known_z in ((at, "redshift"), (over, "")):
        columns = seen(models.flux[:40] * 1e10, UGRIZY, models.values[:40, 0])
        fit = library.properties(UGRIZY, templates.fluxes(UGRIZY), library.QUANTITIES, known_z)
        np.testing.assert_allclose(
            fit(EMPTY, 0)(columns), models.values[:40] + 10.0 * library.GROWS, atol=0.1, err_msg=known_z
        )


def test_between_redshifts_masses_follow_the_distance(monkeypatch: pytest.MonkeyPatch) -> None:
    """The nearer a galaxy of the same fluxes, the less its mass: by the square of the distance, between steps, too."""
    monkeypatch.setattr(library, "SOFT", 0.0)
    z = np.linspace(0.0225, 0.037, 30)
    flux = np.repeat(library.library(UGRIZY, library.AT_Z, 0.025, 0.025).flux[:1] * 1e10, len(z), axis=0)
    fit = library.properties(UGRIZY, templates.fluxes(UGRIZY), NAMES, "redshift")
    mass = fit(EMPTY, 0)(seen(flux, UGRIZY, z))[:, 0]
    np.testing.assert_allclose(mass - mass[0], 2.0 * np.log10(z / z[0]), atol=0.01)  # Hubble's law


def test_simulated_galaxies_are_known_far_better_than_by_a_guess() -> None:
    """Of another prior than the library's."""
    asked = far(1500, 3, None)
    asked = asked.take(np.flatnonzero(np.abs(asked.columns["redshift"] - 0.2) < 0.02))
    found = library.properties(FAR_BANDS, templates.fluxes(FAR_BANDS), NAMES, "redshift")(EMPTY, 0)(asked.columns)
    assert len(asked) > 50
    assert np.all(np.std(found - asked.truth, axis=0) < 0.4 * np.std(asked.truth, axis=0))
