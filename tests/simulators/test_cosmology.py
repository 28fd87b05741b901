import numpy as np
import pytest

from broker.models.simulators import cosmology

Z = np.array([0.001, 0.01, 0.1, 0.5, 1.0, 3.0, 6.0, 12.0])


def test_distances_volumes_and_ages_are_those_of_astropy() -> None:
    astropy = pytest.importorskip("astropy.cosmology", reason="the oracle is astropy")
    theirs = astropy.FlatLambdaCDM(H0=cosmology.H0, Om0=cosmology.OMEGA_M)
    np.testing.assert_allclose(cosmology.luminosity_distance_mpc(Z), theirs.luminosity_distance(Z).value, rtol=5e-6)
    np.testing.assert_allclose(cosmology.distance_modulus(Z), theirs.distmod(Z).value, atol=1e-5)
    np.testing.assert_allclose(cosmology.age_gyr(Z), theirs.age(Z).value, rtol=1e-5)
    shell = theirs.differential_comoving_volume(Z).value * 4 * np.pi
    np.testing.assert_allclose(cosmology.volume_mpc3(Z), shell, rtol=5e-6)
