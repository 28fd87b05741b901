"""Active galaxies as damped random walks with a survey's own cadence and noise; some of them change their state.

Amplitude and time scale follow MacLeod et al. (2010) with the constants of Suberlak et al. (2021); a change of state is
what Sanchez-Saez et al. (2021) look for: over months the mean, the amplitude and the colour become others.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from broker.core.bands import SURVEYS
from broker.core.batch import Floats, Kind, LightCurves
from broker.core.units import mag_to_njy
from broker.models.transients.augment import Rng

_SF = (-0.476, -0.479, 0.118, 0.118)
_TAU = (2.597, 0.17, 0.035, 0.141)
"""log10 of SF_inf (mag) and of tau (days): constant, and slopes in log10(wavelength / 4000 Å), M_i + 23, log10 mass."""
BRIGHT, FAINT = 18.0, 22.0
"""Mean r magnitudes."""
SLOPE = 0.5
"""Of the mean spectrum, f ~ wavelength^SLOPE per frequency."""
SHIFT_MAG = (0.7, 2.0)
CHANGE_D = (30.0, 300.0)
_TEMPLATE_D = 200.0


@dataclass(frozen=True, slots=True)
class Galaxies:
    """What n active galaxies are.

    Attributes
    ----------
    sf_mag, tau_d : (n,) float64
        Asymptotic structure function at 4000 Å and time scale as observed.
    wave_ratio : (n,) float64
        1 / (1 + z): from observed wavelengths to those at rest.
    mean_njy : (n,) float64
        Mean flux in r.
    """

    sf_mag: Floats
    tau_d: Floats
    wave_ratio: Floats
    mean_njy: Floats


def galaxies(n: int, rng: Rng) -> Galaxies:
    """Return n galaxies: redshift 0.1 to 2, M_i -24 ± 1.2, mass 10^(8.5 ± 0.5), more at the faint end."""
    z = rng.uniform(0.1, 2.0, n)
    luminosity, mass = rng.normal(-24.0, 1.2, n) + 23.0, rng.normal(8.5, 0.5, n) - 9.0
    sf, tau = (10.0 ** (c[0] + c[2] * luminosity + c[3] * mass) for c in (_SF, _TAU))
    low, high = 10.0 ** (0.3 * np.array([BRIGHT, FAINT]))
    mag = np.log10(rng.uniform(low, high, n)) / 0.3
    return Galaxies(sf, tau * (1.0 + z), 1.0 / (1.0 + z), mag_to_njy(mag))


def walk(mjd: Floats, tau_d: float, rng: Rng) -> Floats:
    """Return a damped random walk (D,) of unit variance at sorted times (D,): exact, with Gaussian innovations."""
    keep = np.exp(-np.diff(mjd) / tau_d)
    drawn = rng.standard_normal(len(mjd))
    out = np.empty(len(mjd))
    out[:1] = drawn[:1]
    for i in range(1, len(mjd)):
        out[i] = keep[i - 1] * out[i - 1] + np.sqrt(1.0 - keep[i - 1] ** 2) * drawn[i]
    return out


def observe(cadence: LightCurves, survey: str, changing: NDArray[np.bool_], rng: Rng) -> LightCurves:
    """Return difference fluxes of one galaxy per curve of ``cadence`` (n,), at its visits and with its errors.

    Parameters
    ----------
    changing : (n,) bool
        Which galaxies change their state while we look.
    """
    drawn = galaxies(len(cadence), rng)
    flux = np.empty(len(cadence.mjd))
    for i in range(len(cadence)):
        points = slice(cadence.offsets[i], cadence.offsets[i + 1])
        flux[points] = _difference(cadence.mjd[points], cadence.band[points], drawn, i, survey, bool(changing[i]), rng)
    err = np.hypot(cadence.flux_err_njy, 0.01 * np.abs(flux))
    seen = flux + err * rng.standard_normal(len(flux))
    kind = np.where(np.abs(seen) >= 5.0 * err, Kind.DETECTION, Kind.FORCED).astype(np.int8)
    return LightCurves(cadence.offsets, cadence.mjd, seen, err, cadence.band, kind)


def _difference(
    mjd: Floats, band: NDArray[np.int8], drawn: Galaxies, i: int, survey: str, changing: bool, rng: Rng
) -> Floats:
    """Return flux minus the template's (D,), nJy, of galaxy i; the template is older than the first visit."""
    waves = SURVEYS[survey].wavelengths_aa
    times = np.concatenate(([mjd[0] - _TEMPLATE_D], mjd))
    driver = walk(times, float(drawn.tau_d[i]), rng) * drawn.sf_mag[i] / 2.0**0.5
    shift = np.zeros(len(times))
    if changing:
        done = _transition(times, rng)
        driver = driver * (1.0 + done * (np.exp(rng.uniform(-0.7, 0.7)) - 1.0))
        shift = done * rng.choice([-1.0, 1.0]) * rng.uniform(*SHIFT_MAG)
    blue = waves * drawn.wave_ratio[i] / 4000.0
    # A galaxy that brightens becomes bluer: the new state more than the walk.
    mag = driver[:, None] * blue ** _SF[1] + shift[:, None] * blue ** (2.0 * _SF[1])
    mean = drawn.mean_njy[i] * (waves / waves[SURVEYS[survey].bands.index("r")]) ** SLOPE
    flux = mean * 10.0 ** (-0.4 * mag)
    return np.asarray((flux[1:] - flux[0])[np.arange(len(mjd)), band])


def _transition(times: Floats, rng: Rng) -> Floats:
    """Return how far the change has come (D,), from 0 to 1, its middle in the middle half of the visits."""
    first, last = times[1], times[-1]
    middle = rng.uniform(first + 0.25 * (last - first), last - 0.25 * (last - first))
    width = np.exp(rng.uniform(np.log(CHANGE_D[0]), np.log(CHANGE_D[1])))
    return np.asarray(1.0 / (1.0 + np.exp(np.clip(-4.0 * (times - middle) / width, -60.0, 60.0))))
