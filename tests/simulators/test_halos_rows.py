"""Groups, galaxies and histories: what is known of them must come out of their rows."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.integrate import quad

from broker.models.simulators import assembly, halos, halos_galaxies, halos_groups
from broker.models.simulators.halos import Floats

MAKERS: dict[str, Callable[[int, int], dict[str, Floats]]] = {
    "groups": halos_groups.groups,
    "kinetic": lambda n, seed: halos_galaxies.galaxies(n, seed, "kinetic", (0.0, 3.0)),
    "jet": lambda n, seed: halos_galaxies.galaxies(n, seed, "jet"),
    "histories": assembly.histories,
}
MAY_LACK = {"log_black_hole_mass", "log_sfr"}


@pytest.mark.parametrize("name", MAKERS)
def test_rows_are_of_their_seed_and_finite(name: str) -> None:
    first, again, other = (MAKERS[name](300, seed) for seed in (1, 1, 2))
    for column, values in first.items():
        assert values.shape == (300,)
        np.testing.assert_array_equal(values, again[column])
        assert column in MAY_LACK or np.isfinite(values).all(), column
    assert any(not np.array_equal(first[column], other[column]) for column in first)


def test_satellites_are_poisson_about_the_occupation() -> None:
    log_mass = np.repeat([12.5, 13.5, 14.5], 4_000)
    galaxies = halos_groups.populate(log_mass, np.random.default_rng(0))
    number = np.bincount(galaxies.owner, minlength=len(log_mass)).reshape(3, -1) - 1.0
    mean = halos_groups.satellites(log_mass[::4_000]) * (1.0 + halos_groups.INTERLOPERS)
    assert mean[1] == pytest.approx(1.15 * (0.7 * 10.0**13.5 / 10.0**12.63) ** 1.02, rel=0.01)
    np.testing.assert_allclose(number.mean(axis=1), mean, rtol=0.04)
    np.testing.assert_allclose(number.var(axis=1) / mean, 1.0, atol=0.1)


def test_rich_groups_weigh_what_the_virial_theorem_says() -> None:
    log_mass = np.linspace(14.0, 15.2, 400)
    galaxies = halos_groups.populate(log_mass, np.random.default_rng(0))
    rows = halos_groups.observe(galaxies, log_mass)
    dynamical = np.log10(3.0 / halos.G) + 2.0 * rows["log_dispersion"] + rows["log_radius"]
    slope, at_14 = np.polyfit(rows["log_halo_mass"] - 14.0, dynamical - 14.0, 1)
    assert slope == pytest.approx(1.0, abs=0.06)
    assert at_14 == pytest.approx(0.0, abs=0.15)


def test_observables_of_a_group_are_those_of_its_members() -> None:
    rng = np.random.default_rng(0)
    log_mass = np.full(50, 14.0)
    galaxies = halos_groups.found(halos_groups.populate(log_mass, rng), rng)
    rows = halos_groups.observe(galaxies, log_mass)
    mine = galaxies.take(galaxies.owner == 7)
    assert 10.0 ** rows["log_richness"][7] == pytest.approx(len(mine.owner))
    heaviest = np.sort(mine.log_mass)[::-1]
    assert rows["log_brightest_mass"][7] == heaviest[0]
    assert rows["mass_gap"][7] == pytest.approx(heaviest[0] - heaviest[1])
    assert rows["log_stellar_mass"][7] == pytest.approx(np.log10(np.sum(10.0**mine.log_mass)))
    spread = np.sqrt(np.var(mine.velocity, ddof=1) - halos_groups.VELOCITY_ERR**2)
    assert 10.0 ** rows["log_dispersion"][7] == pytest.approx(spread)
    across = np.sqrt(np.var(mine.x, ddof=1) + np.var(mine.y, ddof=1))
    assert 10.0 ** rows["log_radius"][7] == pytest.approx(across)


@pytest.mark.parametrize("code", halos_galaxies.CODES)
def test_galaxies_obey_the_virial_theorem_in_every_universe(code: str) -> None:
    rows = halos_galaxies.galaxies(4_000, 3, code, (0.0, 1.0, 3.0))
    virial = 2.0 * rows["log_dispersion"] + rows["log_half_radius"] - np.log10(halos.G)
    ratio = rows["log_subhalo_mass"] - virial
    assert ratio.std() < 0.06
    assert np.median(ratio) == pytest.approx(np.log10(7.5), abs=0.15)  # of 3 sigma² = 0.4 G M / r_half (Spitzer 1969)


def test_more_matter_at_the_same_depth_means_fewer_stars_and_less_gas() -> None:
    rows = halos_galaxies.galaxies(20_000, 3, "kinetic")
    ratio = rows["log_gas_mass"] - rows["log_subhalo_mass"]
    slope = np.polyfit(np.log10(rows["omega_m"]), ratio, 1)[0]
    assert slope == pytest.approx(-1.0, abs=0.15)  # Ωb is fixed: baryons are Ωb / Ωm of the matter


def test_tides_take_nothing_from_what_is_whole() -> None:
    assert halos_galaxies.tidal_track(np.array([1.0]), 0.4, 0.3) == pytest.approx(1.0)
    assert halos_galaxies.tidal_track(np.array([0.1]), 0.4, 0.3) == pytest.approx(0.636, abs=0.01)  # their figure 6


def test_mergers_come_at_the_rate_of_the_integral_and_none_before_friction_lets_it() -> None:
    rate, _ = quad(lambda r: r**-1.995 * np.exp((r / 9.72e-3) ** 0.263), assembly.LEAST_RATIO, 1.0)
    assert assembly.merger_rate(np.array(1e12), np.array(0.0)) == pytest.approx(0.0104 * rate, rel=1e-3)
    rng = np.random.default_rng(0)
    branch = assembly.grow(np.full(300, 12.5), rng)
    merged = assembly.merge(branch, rng)
    expected = np.sum(assembly.merger_rate(branch.halo, branch.z)[:, 1:] * -np.diff(branch.z, axis=1))
    assert 0.05 * expected < len(merged.owner) < 0.8 * expected  # many were too light to have sunk
    assert np.all(merged.time > merged.left)
    assert np.all(merged.time < branch.time[merged.owner, -1])


def test_mergers_sink_in_the_time_of_simulated_orbits() -> None:
    equal, minor = assembly.friction_gyr(np.array([1.0, 0.1]), np.array(0.0), np.array(0.5))
    crossing = 977.8 / 70.0 / 10.0
    assert equal == pytest.approx(0.216 / np.log(2.0) * np.exp(0.95) * crossing)
    assert minor / equal == pytest.approx(10.0**1.3 * np.log(2.0) / np.log(11.0))


def test_the_more_massive_the_more_came_from_elsewhere() -> None:
    rows = assembly.histories(4_000, 3)
    bins = np.digitize(rows["log_stellar_mass"], [10.5, 11.0, 11.5])
    share = [np.median(rows["exsitu_share"][bins == k]) for k in range(4)]
    assert share == sorted(share)
    assert share[0] < 0.15
    assert share[-1] > 0.35  # Rodriguez-Gomez et al. 2016
    assert np.all(rows["log_merger_ratio"] <= 0.0)
    assert np.all(rows["log_merger_ratio"][rows["major"] == 1] > np.log10(assembly.MAJOR))
