from itertools import pairwise

import numpy as np
import pytest
from scipy.integrate import quad

from broker.models.simulators import halos

MASS = 1e14


@pytest.mark.parametrize(("a", "p"), [(0.707, 0.3), (1.0, 0.0)], ids=["Sheth-Tormen", "Press-Schechter"])
def test_all_matter_is_in_haloes(a: float, p: float) -> None:
    total, _ = quad(lambda ln: float(halos.multiplicity(np.exp(ln), a, p)), -30.0, 4.0, limit=200)
    assert total == pytest.approx(1.0, abs=2e-4)


@pytest.mark.parametrize("index", [-2.0, -1.0])
def test_a_power_law_of_power_is_a_power_law_of_mass(index: float) -> None:
    near, far = halos.top_hat(np.array([1.0, 10.0]), 0.0, index)
    assert near / far == pytest.approx(10.0 ** ((index + 3.0) / 2.0), rel=1e-3)


def test_the_rms_is_normalised_at_eight_megaparsec_and_interpolated_faithfully() -> None:
    density = 3.0 * 70.0**2 / (8.0 * np.pi * halos.G * 1e-3) * 0.25  # M☉ / Mpc³ of Ωm = 0.25
    sphere = 4.0 / 3.0 * np.pi * (8.0 / 0.7) ** 3 * density
    assert halos.fluctuation(sphere, 0.25) == pytest.approx(halos.SIGMA_8, rel=2e-3)
    mass = np.geomspace(1e10, 1e15, 7)
    table = halos.COLLAPSE / halos.peak_height(mass, 0.0, 0.25, 0.9)
    np.testing.assert_allclose(table, halos.fluctuation(mass, 0.25) * 0.9 / halos.SIGMA_8, rtol=0.01)


@pytest.mark.parametrize("omega_m", [0.1, 0.3, 0.5])
def test_growth_is_that_of_the_integral(omega_m: float) -> None:
    def exact(z: float) -> float:
        rest, _ = quad(lambda y: (1.0 + y) / float(halos.expansion(y, omega_m)) ** 3, z, np.inf)
        return float(float(halos.expansion(z, omega_m)) * rest)

    for z in (0.5, 1.0, 3.0):
        assert halos.growth(z, omega_m) == pytest.approx(exact(z) / exact(0.0), rel=0.03)


def test_haloes_are_drawn_as_common_as_the_mass_function_says() -> None:
    drawn = halos.draw_log_mass(40_000, 12.0, 15.0, np.random.default_rng(0))
    edges = np.array([12.0, 12.3, 12.8, 13.5, 15.0])
    counts = np.histogram(drawn, edges)[0]
    grid = np.linspace(12.0, 15.0, 3_001)
    density = halos.mass_function(10.0**grid)
    expected = np.array([density[(grid >= a) & (grid < b)].sum() for a, b in pairwise(edges)])
    expected *= len(drawn) / expected.sum()
    assert np.all(np.abs(counts - expected) < 4.0 * np.sqrt(expected))


@pytest.mark.parametrize("c", [4.0, 10.0, 25.0])
def test_mass_and_peak_velocity_are_those_of_the_integrated_profile(c: float) -> None:
    radius = float(halos.radius_200(MASS))
    scale = radius / c

    def within(x: float) -> float:
        return quad(lambda u: u / (1.0 + u) ** 2, 0.0, x)[0]  # type: ignore[no-any-return]

    np.testing.assert_allclose(halos.enclosed(np.array([0.5, c])), [within(0.5), within(c)], rtol=1e-6)
    np.testing.assert_allclose(halos.radius_of(halos.enclosed(np.array([0.3, c]))), [0.3, c], rtol=1e-4)
    x = np.linspace(0.5, 5.0, 4_000)
    circular = np.sqrt(halos.G * MASS * halos.enclosed(x) / halos.enclosed(c) / (x * scale))
    assert halos.peak_velocity(MASS, radius, c) == pytest.approx(circular.max(), rel=1e-5)
    assert x[circular.argmax()] == pytest.approx(halos.PEAK, abs=2e-3)
    volume = 4.0 / 3.0 * np.pi * radius**3
    critical = 3.0 * (70.0 / 1e3) ** 2 / (8.0 * np.pi * halos.G)
    assert MASS / volume == pytest.approx(200.0 * critical, rel=1e-6)


@pytest.mark.parametrize("c", [5.0, 10.0])
def test_dispersions_obey_the_virial_theorem_and_jeans_equation(c: float) -> None:
    radius = float(halos.radius_200(MASS))
    norm = float(halos.enclosed(c))
    energy, _ = quad(lambda x: float(halos.enclosed(x)) / (1.0 + x) ** 2, 0.0, c)  # G M(r) rho(r) r, integrated
    potential = halos.G * MASS / radius * c * energy / norm**2
    assert 3.0 * halos.virial_dispersion(MASS, radius, c) ** 2 == pytest.approx(potential, rel=1e-3)

    def pressure(x: float) -> float:  # of isotropic orbits, with the matter beyond the radius
        return quad(lambda y: float(halos.enclosed(y)) / (y**3 * (1.0 + y) ** 2), x, np.inf)[0]  # type: ignore[no-any-return]

    total, _ = quad(lambda x: x**2 * pressure(x), 0.0, c, epsrel=1e-3)
    jeans = np.sqrt(halos.G * MASS / radius * c / norm**2 * total)
    assert halos.cluster_dispersion(MASS) == pytest.approx(jeans, rel=0.08)


def test_stars_are_a_broken_power_of_the_halo() -> None:
    mass = 10.0 ** np.array([9.0, 9.01, 11.59, 15.0, 15.01])
    log_stars = np.log10(halos.stellar_mass(mass))
    slopes = np.diff(log_stars)[[0, -1]] / 0.01
    np.testing.assert_allclose(slopes, [2.376, 0.392], atol=0.01)
    assert 10.0 ** log_stars[2] / mass[2] == pytest.approx(0.0351)
