"""Units against hand-computed values and astropy's time scales."""

import numpy as np
import pytest

from broker.core import units


def test_magnitude_and_flux_invert() -> None:
    mag = np.array([10.0, 20.5, 31.4])
    np.testing.assert_allclose(31.4 - 2.5 * np.log10(units.mag_to_njy(mag)), mag)
    assert units.mag_to_njy(np.array([31.4]))[0] == pytest.approx(1.0)
    assert units.mag_to_njy(np.array([8.9]))[0] == pytest.approx(1e9)  # 1 Jy


def test_magnitude_error_is_first_order() -> None:
    flux = units.mag_to_njy(np.array([20.0]))
    brighter = units.mag_to_njy(np.array([20.0 - 1e-5]))
    assert units.mag_err_to_njy(flux, np.array([1e-5]))[0] == pytest.approx((brighter - flux)[0], rel=1e-4)


def test_time_scales_agree_with_astropy() -> None:
    time = pytest.importorskip("astropy.time", reason="astropy is the oracle of time scales")
    # both sides of every leap second since 1999 (midnight: within a leap day, MJD UTC itself is stretched), and today
    mjd = np.array(
        [51179.0, 53735.0, 53736.0, 54831.0, 54832.0, 56108.0, 56109.0, 57203.0, 57204.0, 57753.0, 57754.0, 61000.5]
    )
    expected = time.Time(mjd, format="mjd", scale="utc").tai.mjd
    np.testing.assert_allclose(units.utc_to_tai(mjd), expected, rtol=0, atol=1e-9)
    unix_ms = time.Time(expected, format="mjd", scale="tai").unix * 1000
    np.testing.assert_allclose(units.tai_to_unix_ms(expected), unix_ms, rtol=0, atol=0.1)
    assert np.isnan(units.utc_to_tai(np.array([np.nan]))).all()
