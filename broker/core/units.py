"""Fluxes, magnitudes and times: named constants and their conversions.

Fluxes are nJy on the AB system, zero point 31.4 (m = 31.4 - 2.5 log10 f). Times are MJD TAI.
"""

from __future__ import annotations

import numpy as np

from broker.core.batch import Floats

NJY_ZERO_POINT = 31.4
PLASTICC_ZERO_POINT = 27.5
JD_TO_MJD = 2400000.5
MJD_UNIX_EPOCH = 40587.0
SECONDS_PER_DAY = 86400.0

# (MJD UTC at which it starts, TAI - UTC in seconds), IERS Bulletin C; the last leap second was 2017-01-01 and
# none is announced. Alerts before 1999 do not exist.
_LEAP_SECONDS = np.array(
    [(51179, 32), (53736, 33), (54832, 34), (56109, 35), (57204, 36), (57754, 37)], dtype=np.float64
)


def tai_minus_utc_s(mjd_utc: Floats) -> Floats:
    """Return TAI - UTC in seconds at ``mjd_utc`` (n,); dates before 1999 get 32 s."""
    index = np.searchsorted(_LEAP_SECONDS[:, 0], mjd_utc, side="right") - 1
    return np.asarray(_LEAP_SECONDS[np.maximum(index, 0), 1])


def utc_to_tai(mjd_utc: Floats) -> Floats:
    """Return MJD TAI (n,) of MJD UTC (n,). NaN stays NaN."""
    return mjd_utc + tai_minus_utc_s(mjd_utc) / SECONDS_PER_DAY


def tai_to_unix_ms(mjd_tai: Floats) -> Floats:
    """Return Unix milliseconds UTC (n,) of MJD TAI (n,); off by a second only within a leap second."""
    utc = mjd_tai - tai_minus_utc_s(mjd_tai) / SECONDS_PER_DAY
    return (utc - MJD_UNIX_EPOCH) * SECONDS_PER_DAY * 1000.0


def mag_to_njy(mag: Floats) -> Floats:
    """Return flux in nJy (n,) of AB magnitudes (n,)."""
    return np.asarray(10.0 ** (0.4 * (NJY_ZERO_POINT - mag)))


def mag_err_to_njy(flux_njy: Floats, mag_err: Floats) -> Floats:
    """Return the flux error in nJy (n,) of a magnitude error (n,), to first order."""
    return np.asarray(np.abs(flux_njy) * mag_err * np.log(10.0) / 2.5)
