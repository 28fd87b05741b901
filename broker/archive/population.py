"""What flashes and varies in the simulated sky: classes, their mix, and the shape of their light curves.

Analytic curves with black-body colours, good enough that classifiers, cuts and counts see what they see at night, not
to train on. Rise and fade times and absolute magnitudes are near the medians by type of the ZTF Bright Transient
Survey's public table; periodic stars follow the OGLE-III catalogue; flares Davenport et al. 2014; microlensing
Paczynski 1986. Class ids are those of the ELAsTiCC taxonomy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from broker.core.batch import Floats

_HC_K = 1.438777e8  # Planck's hc/k, Å K
_REFERENCE_AA = 6000.0
_C_H0_MPC = 299792.458 / 70.0
_FLARE_RISE = (1.0, 1.941, -0.175, -2.246, -1.125)
_TERMS = 24  # of the random Fourier series that stands for a damped random walk


@dataclass(frozen=True, slots=True)
class Kind:
    """One class of objects.

    Attributes
    ----------
    name : str
    class_id : int
        ELAsTiCC id.
    transient : bool
        Explodes or is destroyed: what a follow-up observer calls a real transient.
    share : (float, float)
        Relative number among the real objects that alert, in ZTF and in Rubin.
    shape : callable
        (draws, t, wavelength) -> relative difference flux; see `_explosion`.
    m_peak, m_scatter : float
        Absolute magnitude at peak; NaN: no distance.
    rise_d, fade_d : float
        Median days from half peak to peak and back; scatter is 0.2 dex.
    hot_k, cool_k : float
        Colour temperature early and late.
    """

    name: str
    class_id: int
    transient: bool
    share: tuple[float, float]
    shape: Callable[[Draws, Floats, Floats], Floats]
    m_peak: float = np.nan
    m_scatter: float = 0.0
    rise_d: float = 10.0
    fade_d: float = 20.0
    hot_k: float = 12000.0
    cool_k: float = 5500.0

    @property
    def peaks(self) -> bool:
        """Whether the curve's zero is a peak that does not come again."""
        return self.shape in (_explosion, _plateau, _tidal, _kilonova, _lens, _flare)


@dataclass(frozen=True, slots=True)
class Draws:
    """What is drawn for n objects of one class; all (n, 1), ``u`` (n, 8) uniform and ``phases`` (n, terms).

    Attributes
    ----------
    kind : Kind
    rise_d, fade_d : float64
        In the object's frame.
    z : float64
        Redshift, 0 for stars.
    """

    kind: Kind
    rise_d: Floats
    fade_d: Floats
    z: Floats
    u: Floats
    phases: Floats

    def take(self, index: NDArray[np.int64]) -> Draws:
        """Return the objects at ``index``."""
        return Draws(
            self.kind, self.rise_d[index], self.fade_d[index], self.z[index], self.u[index], self.phases[index]
        )

    def at_redshift(self, z: Floats) -> Draws:
        """Return the same objects at other redshifts (n, 1)."""
        return Draws(self.kind, self.rise_d, self.fade_d, z, self.u, self.phases)


def draw(kind: Kind, n: int, rng: np.random.Generator) -> Draws:
    """Draw n objects of one class, at a provisional redshift."""
    return Draws(
        kind,
        kind.rise_d * 10 ** (0.2 * rng.standard_normal((n, 1))),
        kind.fade_d * 10 ** (0.2 * rng.standard_normal((n, 1))),
        np.full((n, 1), 0.05 if np.isfinite(kind.m_peak) else 0.0),
        rng.random((n, 8)),
        rng.random((n, _TERMS)) * 2 * np.pi,
    )


def phase_at_alert(draws: Draws, tries: int, rng: np.random.Generator) -> Floats:
    """Return possible times (n, tries), days since the curve's own zero, at which the object may alert."""
    u = rng.random((len(draws.z), tries))
    if draws.kind.shape is _flare:
        return np.asarray((u - 0.2) * 2.0 * draws.fade_d)
    if draws.kind.shape in (_explosion, _plateau, _tidal, _kilonova, _lens):
        low, high = -0.6 * draws.rise_d, 2.2 * draws.fade_d
        return np.asarray((low + (high - low) * u) * (1 + draws.z))
    return np.asarray(u * 1000.0)


def redshift(m_apparent: Floats, m_absolute: Floats) -> Floats:
    """Return the redshift (n,) at which ``m_absolute`` looks like ``m_apparent`` (no K correction, H0 = 70)."""
    distance_mpc = 10 ** (0.2 * (m_apparent - m_absolute) - 5.0)
    return np.asarray((np.sqrt(1.0 + 3.1 * distance_mpc / _C_H0_MPC) - 1.0) / 1.55)  # to z² at q0 = -0.55


def distance_mpc(z: Floats) -> Floats:
    """Return the luminosity distance (n,) at which `redshift` is ``z`` (n,)."""
    return np.asarray(_C_H0_MPC * z * (1.0 + 0.775 * z))


def _color(wavelength: Floats, temperature: Floats, z: Floats) -> Floats:
    """Return a black body's flux density at ``wavelength`` over that at 6000 Å, both observed."""
    x, x0 = _HC_K * (1 + z) / (wavelength * temperature), _HC_K * (1 + z) / (_REFERENCE_AA * temperature)
    return np.asarray((_REFERENCE_AA / wavelength) ** 3 * np.expm1(np.minimum(x0, 50)) / np.expm1(np.minimum(x, 50)))


def _rising(t: Floats, scale_d: Floats) -> Floats:
    return np.asarray(1.0 / (1.0 + np.exp(np.clip(-t / scale_d, -60, 60))))


def _cooling(draws: Draws, t: Floats, wavelength: Floats) -> Floats:
    """Return the colour of photospheres that cool from ``hot_k`` to ``cool_k`` around peak."""
    kind = draws.kind
    temperature = kind.cool_k + (kind.hot_k - kind.cool_k) * (1 - _rising(t - draws.fade_d * 0.4, draws.rise_d * 0.7))
    return _color(wavelength, temperature, draws.z)


def _explosion(draws: Draws, t: Floats, wavelength: Floats) -> Floats:
    """Return the relative flux (n, m) at ``t`` (n, m) days since peak and ``wavelength`` (n, m) Å."""
    rest = t / (1 + draws.z)
    tau = draws.fade_d / np.log(2.0) * 0.85
    decline = np.exp(-np.clip(rest, 0, 1500) / tau)
    tail = 0.02 * np.exp(-np.clip(rest, 0, None) / 100.0)
    rise = _rising(rest + draws.rise_d, draws.rise_d * 0.28)
    return np.asarray(rise * (decline + tail) * _cooling(draws, rest, wavelength))


def _plateau(draws: Draws, t: Floats, wavelength: Floats) -> Floats:
    rest = t / (1 + draws.z)
    length = 40.0 + 70.0 * draws.u[:, :1]
    flat = 1.0 - 0.006 * np.clip(rest, 0, length)
    end = np.exp(-np.clip(rest - length, 0, 1500) / 15.0) * 0.93 + 0.07
    rise = _rising(rest + draws.rise_d, draws.rise_d * 0.28)
    return np.asarray(rise * flat * end * _cooling(draws, rest, wavelength))


def _tidal(draws: Draws, t: Floats, wavelength: Floats) -> Floats:
    rest = t / (1 + draws.z)
    rise = np.exp(-0.5 * np.minimum((np.minimum(rest, 0.0) / (draws.rise_d * 0.85)) ** 2, 600))
    fall = (1.0 + np.maximum(rest, 0.0) / draws.fade_d) ** (-5.0 / 3.0)
    temperature = draws.kind.cool_k + (draws.kind.hot_k - draws.kind.cool_k) * draws.u[:, :1]
    return np.asarray(rise * fall * _color(wavelength, temperature, draws.z))


def _kilonova(draws: Draws, t: Floats, wavelength: Floats) -> Floats:
    rest = t / (1 + draws.z)
    rise = _rising(rest + draws.rise_d, draws.rise_d * 0.25)
    fall = np.exp(-np.clip(rest, 0, 100) / draws.fade_d)
    temperature = np.maximum(2500.0, 8000.0 * np.exp(-np.clip(rest, 0, 20) / 2.5))
    return np.asarray(rise * fall * _color(wavelength, temperature, draws.z))


def _flare(draws: Draws, t: Floats, wavelength: Floats) -> Floats:
    x = t / draws.fade_d
    inside = np.clip(x, -1.0, 0.0)
    rise = np.where(x > -1.0, np.polyval(_FLARE_RISE[::-1], inside), 0.0)
    late = np.clip(x, 0.0, 200.0)
    fall = 0.689 * np.exp(-1.6005 * late) + 0.303 * np.exp(-0.2783 * late)
    return np.asarray(np.where(x < 0, rise, fall) * _color(wavelength, np.array(11000.0), draws.z))


def _lens(draws: Draws, t: Floats, wavelength: Floats) -> Floats:
    u0 = 0.02 + 0.9 * draws.u[:, :1]
    u2 = u0**2 + (t / draws.fade_d) ** 2
    magnified = (u2 + 2.0) / np.sqrt(u2 * (u2 + 4.0)) - 1.0
    peak = (u0**2 + 2.0) / np.sqrt(u0**2 * (u0**2 + 4.0)) - 1.0
    return np.asarray(magnified / peak * _color(wavelength, 3500.0 + 3500.0 * draws.u[:, 1:2], draws.z))


def _pulsator(draws: Draws, t: Floats, wavelength: Floats) -> Floats:
    period = 0.35 + 0.35 * draws.u[:, :1]
    x = 2 * np.pi * t / period
    wave = np.sin(x) + 0.45 * np.sin(2 * x + 4.0) + 0.3 * np.sin(3 * x + 2.3)
    return np.asarray(wave * (5000.0 / wavelength) ** 1.5 + 0.2)


def _eclipse(draws: Draws, t: Floats, wavelength: Floats) -> Floats:
    period, width = 10 ** (-0.5 + 1.5 * draws.u[:, :1]), 0.02 + 0.05 * draws.u[:, 1:2]
    x = (t / period) % 1.0
    second = draws.u[:, 2:3] * np.exp(-0.5 * ((x - 0.5) / width) ** 2)
    first = np.exp(-0.5 * (np.minimum(x, 1.0 - x) / width) ** 2)
    mean = (1.0 + draws.u[:, 2:3]) * width * 2.5
    return np.asarray((mean - first - second) * (6000.0 / wavelength) ** 0.3)


def _mira(draws: Draws, t: Floats, wavelength: Floats) -> Floats:
    period = 334.0 * 10 ** (0.15 * (2 * draws.u[:, :1] - 1))
    x = np.sin(2 * np.pi * t / period + draws.phases[:, :1])
    return np.asarray((10 ** (0.6 * x) - 1.3) * (wavelength / 6000.0) ** 2.5)


def _walk(draws: Draws, t: Floats, wavelength: Floats) -> Floats:
    """Return a damped random walk as a Fourier series: with Cauchy frequencies the covariance is exp(-dt / tau)."""
    tau = 100.0 * 10 ** (0.8 * (2 * draws.u[:, :1] - 1))
    total = np.zeros_like(t)
    for k in range(_TERMS):
        frequency = np.tan(np.pi * (((draws.u[:, 3:4] + (k + 0.5) / _TERMS) % 1.0) - 0.5) * 0.98) / tau
        total += np.cos(frequency * t + draws.phases[:, k : k + 1])
    return np.asarray(total / np.sqrt(_TERMS / 2.0) * (6000.0 / wavelength) ** 0.8)


KINDS = (
    Kind("SN Ia", 2222, True, (0.22, 0.30), _explosion, -19.2, 0.3, 9.7, 14.3, 14000, 5500),
    Kind("SN Ibc", 2223, True, (0.05, 0.07), _explosion, -17.5, 0.6, 11.0, 13.5, 9000, 4800),
    Kind("SN II", 2224, True, (0.09, 0.14), _plateau, -17.4, 0.8, 9.0, 30.0, 16000, 5500),
    Kind("SN Iax", 2225, True, (0.01, 0.01), _explosion, -17.9, 0.7, 11.0, 12.0, 9000, 5000),
    Kind("SN 91bg", 2226, True, (0.01, 0.01), _explosion, -18.0, 0.4, 8.5, 9.3, 8500, 4800),
    Kind("KN", 2232, True, (0.005, 0.005), _kilonova, -15.8, 0.5, 0.5, 2.0, 8000, 2500),
    Kind("M-dwarf flare", 2233, False, (0.01, 0.01), _flare, rise_d=0.01, fade_d=0.02),
    Kind("microlensing", 2235, False, (0.02, 0.02), _lens, rise_d=22.0, fade_d=22.0),
    Kind("SLSN", 2242, True, (0.02, 0.03), _explosion, -21.1, 0.6, 28.0, 40.0, 16000, 7000),
    Kind("TDE", 2243, True, (0.02, 0.03), _tidal, -19.5, 1.0, 17.6, 50.0, 35000, 14000),
    Kind("RR Lyrae", 2323, False, (0.20, 0.11), _pulsator),
    Kind("eclipsing binary", 2325, False, (0.09, 0.06), _eclipse),
    Kind("Mira", 2326, False, (0.08, 0.05), _mira),
    Kind("AGN", 2332, False, (0.17, 0.155), _walk),
)
