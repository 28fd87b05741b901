from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from broker.models.simulators import cosmology, seds, seds_bands, seds_light, seds_priors, seds_stars, seds_tables
from broker.models.simulators.seds_bands import BANDS, GAMA, HERSCHEL, NARROW, UGRIZY


@cache
def galaxies() -> seds.Galaxies:
    return seds.rows(400, 3)


def one(**changes: float) -> seds_tables.Light:
    """A galaxy of 10^10 solar masses formed 0.6 to 1.2 Gyr ago, without dust and gas."""
    formed = np.zeros((1, len(seds_stars.EDGES) - 1))
    formed[0, 6] = 1e10
    values = dict.fromkeys(seds_tables.Light.__dataclass_fields__, 0.0) | {"z": 0.3, "cold": 25.0} | changes
    del values["formed"]
    return seds_tables.Light(**{name: np.array([value]) for name, value in values.items()}, formed=formed)


def test_the_same_seed_gives_the_same_rows_and_another_seed_others() -> None:
    again, other = seds.rows(400, 3), seds.rows(400, 4)
    np.testing.assert_array_equal(galaxies().flux, again.flux)
    assert np.mean(galaxies().flux == other.flux) < 0.01


def test_a_flat_spectrum_has_its_own_flux_in_every_band() -> None:
    """The mean of a constant f_ν is that constant, whatever the band; a slope is integrated as by brute force."""
    wave = np.exp(np.linspace(np.log(90.0), np.log(30_000.0), 6000))
    for power in (0.0, -1.5, 2.0):
        per_nm = wave ** (-2.0 + power) * seds_tables.LIGHT_NM_HZ
        total = seds_tables.cumulative(wave, per_nm[None])
        for name in ("u", "nb555", "y", "K", "fuv"):
            edges, weights = BANDS[name].nodes()
            found = float(np.sum(seds_tables.cell_means(wave, total, edges[None])[0, 0] * weights))
            fine = np.linspace(*BANDS[name].span, 20_001)
            seen = BANDS[name].response(fine) / fine
            expected = np.trapezoid(fine**power * seen, fine) / np.trapezoid(seen, fine)
            assert found == pytest.approx(expected, rel=2e-3)


def test_the_light_of_a_galaxy_dims_and_reddens_as_its_spectrum_says() -> None:
    """A band's flux of the tables is that of the spectrum itself, moved to the redshift and integrated."""
    for z in (0.05, 0.3, 1.07):
        light = one(z=z)
        spectrum = seds_stars.populations()[3, 6] * 1e10
        for name in ("g", "i", "nb655"):
            fine = np.linspace(*BANDS[name].span, 4001)
            rest = np.interp(fine / (1 + z), seds_stars.WAVE, spectrum)
            per_hz = rest * (fine / (1 + z)) ** 2 / seds_tables.LIGHT_NM_HZ * seds_light.transmission(fine, z)
            seen = BANDS[name].response(fine) / fine
            mean = np.trapezoid(per_hz * seen, fine) / np.trapezoid(seen, fine)
            distance_cm = cosmology.luminosity_distance_mpc(np.array([z]))[0] * 3.085_677_6e24
            njy = mean * 3.828e33 * (1 + z) / (4 * np.pi * distance_cm**2) * 1e32
            assert seds_tables.fluxes(light, (name,))[0, 0] == pytest.approx(njy, rel=0.01)


def test_an_emission_line_adds_its_whole_flux_to_the_band_it_falls_in() -> None:
    """Hα of L at z: F = L / (4π d²); a narrow band's mean f_ν is F λ / (c ∫ response dlnλ) above the continuum."""
    z = 785.0 / 656.3 - 1.0
    dark, lit = one(z=z), one(z=z, halpha=1e8)
    more = seds_tables.fluxes(lit, ("nb785",)) - seds_tables.fluxes(dark, ("nb785",))
    distance_cm = cosmology.luminosity_distance_mpc(np.array([z]))[0] * 3.085_677_6e24
    flux = 1e8 * 3.828e33 / (4 * np.pi * distance_cm**2)
    wide = np.linspace(*BANDS["nb785"].span, 4001)
    width = np.trapezoid(BANDS["nb785"].response(wide) / wide, wide)
    nitrogen = seds_light.line_ratios(np.array([0.0]))[0, seds_light.LINE_WAVE == 658.4]
    expected = flux * (1 + nitrogen * 658.4 / 656.3) / 2.997_924_58e17 * 785.0 / width * 1e32
    assert more[0, 0] == pytest.approx(expected[0], rel=0.02)


def test_what_dust_takes_it_gives_back() -> None:
    """All light that leaves, from the far ultraviolet to the far infrared, is all light that the stars made."""
    light = one(av=1.2, slope=-0.2, warm=0.1, aromatic=0.08)
    made = np.trapezoid(seds_stars.populations()[3, 6], seds_stars.WAVE) * 1e10
    curve = seds_light.attenuation(seds_stars.WAVE, -0.2)
    left = np.trapezoid(seds_stars.populations()[3, 6] * 10 ** (-0.4 * 1.2 * curve), seds_stars.WAVE) * 1e10
    emitted = seds_tables.dust_luminosity(light)[0]
    assert emitted == pytest.approx(made - left, rel=0.03)
    np.testing.assert_allclose(np.trapezoid(seds_light.dust_emission(), seds_light.DUST_WAVE), 1.0, rtol=1e-6)


def test_the_laws_have_the_published_values() -> None:
    """Calzetti+2000: k(B) - k(V) = 1; Madau 1995, fig. 3: half of the light below Lyα passes at z = 3.5 or so."""
    assert seds_light.RV * np.diff(seds_light.attenuation(np.array([550.0, 440.0])))[0] == pytest.approx(1.0, abs=0.04)
    assert seds_light.RV * seds_light.attenuation(np.array([160.0]))[0] == pytest.approx(9.97, abs=0.1)
    z = 3.5
    between = np.linspace(105.0, 117.0, 50) * (1 + z)
    assert 0.45 < seds_light.transmission(between, z).mean() < 0.65
    assert seds_light.transmission(np.array([600.0]), 3.0) == 1.0
    assert seds_light.transmission(np.array([300.0]), 3.0) < 0.25


def test_old_stars_are_as_red_and_as_dim_as_those_of_libraries() -> None:
    """Bruzual & Charlot 2003 (Chabrier, the Sun's metals): u-g, g-r, r-i at 0.1, 1 and 10 Gyr and luminosity at 10."""
    rows = {1e8: (0.62, 0.0, 0.03), 9e8: (1.37, 0.37, 0.18), 1e10: (1.88, 0.76, 0.41)}
    for age, colours in rows.items():
        spectrum = seds_stars.simple(age, 1.0)
        seen = [
            -2.5 * np.log10(np.mean((spectrum * seds_stars.WAVE**2)[np.abs(seds_stars.WAVE - centre) < half]))
            for centre, half in ((354, 30), (477, 69), (622, 69), (763, 75))
        ]
        np.testing.assert_allclose(-np.diff(seen), colours, atol=0.25)
    assert np.trapezoid(seds_stars.simple(1e10, 1.0), seds_stars.WAVE) == pytest.approx(0.27, rel=0.4)


def test_hot_stars_are_black_bodies_where_nothing_absorbs() -> None:
    """Wien: λ T = 2.898e6 nm K, for a star whose peak is clear of lines and breaks."""
    k = int(np.argmin(np.abs(seds_stars.TEMPERATURES - 5000.0)))
    spectrum = seds_stars.spectra(0.05)[k]
    assert seds_stars.WAVE[np.argmax(spectrum)] * seds_stars.TEMPERATURES[k] == pytest.approx(2.898e6, rel=0.06)


def test_histories_form_what_they_say() -> None:
    age, wanted = np.array([1.0, 5.0, 10.0, 12.0]), np.array([-8.8, -9.7, -10.5, -12.0])
    formed = seds_priors.history(age, wanted, np.zeros(4))
    np.testing.assert_allclose(formed.sum(axis=1), 1.0, rtol=1e-9)
    recent = formed[:, seds_stars.EDGES[1:] <= 1e8].sum(axis=1) / 1e8
    np.testing.assert_allclose(np.log10(recent), wanted, atol=0.12)
    assert np.all(formed[0, seds_stars.EDGES[:-1] > 1e9] == 0.0)


def test_errors_scatter_as_they_say() -> None:
    found = seds.rows(3000, 1, bands=("g", "i", "Y"), prior="gama", survey="gama")
    pull = (found.flux - found.clean) / found.flux_err
    assert np.all(np.abs(pull.mean(axis=0)) < 0.08)
    np.testing.assert_allclose(pull.std(axis=0), 1.0, atol=0.05)
    depth = seds_bands.SURVEYS["paus"]
    at_limit = 10 ** (-0.4 * (22.5 - seds_bands.ZERO_POINT))
    assert at_limit / depth.flux_err(("nb655",), np.array([[at_limit]]))[0, 0] == pytest.approx(5.0, rel=0.02)


def test_errors_tell_nothing_of_the_flux_without_noise() -> None:
    """A survey knows the flux that it sees, and no other; of errors by the true flux, trees read the true flux."""
    for survey, bands in (("gama", GAMA + HERSCHEL), ("paus", NARROW), ("lsst", UGRIZY)):
        found = seds.rows(300, 1, bands=bands, prior="gama", survey=survey)
        np.testing.assert_array_equal(found.flux_err, seds_bands.SURVEYS[survey].flux_err(bands, found.flux))


def test_rows_obey_their_prior() -> None:
    for name in ("field", "paus-sky", "gama", "sam"):
        prior = seds_priors.PRIORS[name]
        found = seds.rows(300, 0, bands=(prior.band,), prior=name, survey="candels" if name == "sam" else "gama")
        z, mass = found.truth["redshift"], found.truth["log_mass"]
        assert np.all((z >= prior.z_low) & (z <= prior.z_high) & (mass > prior.log_mass - 0.1))
        assert np.all(31.4 - 2.5 * np.log10(found.clean[:, 0]) < prior.limit)
        assert all(np.all(np.isfinite(values)) for values in found.truth.values())


def test_star_formers_are_bluer_than_quiescent_galaxies_and_dust_shines_in_the_far_infrared() -> None:
    found = seds.rows(1500, 2, bands=GAMA + HERSCHEL, prior="gama", survey="gama")
    quiet = found.truth["log_sfr"] - found.truth["log_mass"] < -11.0
    colour = -2.5 * np.log10(found.clean[:, 2] / found.clean[:, 4])
    assert np.median(colour[quiet]) > np.median(colour[~quiet]) + 0.5
    distance = cosmology.luminosity_distance_mpc(found.truth["redshift"])
    far = np.log10(found.clean[:, len(GAMA)] * distance**2)
    assert np.corrcoef(far, found.truth["log_dust"])[0, 1] > 0.9


def test_a_band_of_another_list_changes_no_flux() -> None:
    light = one(av=0.4, halpha=1e8)
    alone = seds_tables.fluxes(light, ("i",))
    among = seds_tables.fluxes(light, UGRIZY + NARROW)[:, 3:4]
    np.testing.assert_allclose(alone, among, rtol=1e-6)
    assert seds_tables.fluxes(replace(light, av=np.array([1.4])), ("u",)) < seds_tables.fluxes(light, ("u",))


def test_hosts_lack_what_alerts_lack() -> None:
    columns, truth = seds.hosts(2000, 0)
    missing = {name: np.mean(np.isnan(values)) for name, values in columns.items()}
    assert missing["mag_r"] < 0.1 < missing["mag_u"] < 0.6
    told = np.isfinite(columns["mag_g"])
    assert 0.15 < np.mean(np.isnan(columns["mag_err_g"][told])) < 0.35
    assert np.all(np.isfinite(truth["redshift"]))
