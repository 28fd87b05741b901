"""What gas and dust do to starlight: attenuation, emission lines, dust's own emission, intergalactic hydrogen.

Wavelengths in nm; luminosities in the Sun's.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RV = 4.05
HALPHA_PER_SFR = 10**41.27 / 3.828e33
"""Luminosity of Hα of a star formation rate of 1 solar mass per year (Kennicutt & Evans 2012)."""
COLD = np.array([15.0, 18.0, 21.0, 25.0, 30.0, 36.0])
"""Temperatures of cold dust [K] whose emission is tabulated."""


def attenuation(wave: Floats, slope: Floats | float = 0.0) -> Floats:
    """Return A(λ) / A(V) of starburst galaxies (Calzetti et al. 2000), times (λ/550 nm)^slope (Noll et al. 2009).

    Beyond 2.2 µm it falls on as λ^-1.5; below 120 nm it goes on as a straight line.
    """
    micron = np.asarray(wave) * 1e-3
    x = 1.0 / np.minimum(micron, 2.2)
    blue = 2.659 * (-2.156 + 1.509 * x - 0.198 * x**2 + 0.011 * x**3) + RV
    red = 2.659 * (-1.857 + 1.040 * x) + RV
    edge = 1.0 / 0.12
    bluest = 2.659 * (-2.156 + 1.509 * edge - 0.198 * edge**2 + 0.011 * edge**3) + RV
    far = bluest + 2.659 * (1.509 - 0.396 * edge + 0.033 * edge**2) * (x - edge)
    k = np.where(micron < 0.12, far, np.where(micron < 0.63, blue, red))
    return np.asarray(k / RV * np.maximum(micron / 2.2, 1.0) ** -1.5 * (np.asarray(wave) / 550.0) ** slope)


# wavelength [nm], luminosity over that of Hα at 0.2 and at 1 times the Sun's metallicity (case B and mean ratios of HII
# regions, after Anders & Fritze-v. Alvensleben 2003)
LINES = np.array(
    [
        (121.57, 0.80, 0.30),  # Lyα, of which most is lost on the way
        (190.9, 0.08, 0.02),
        (279.9, 0.05, 0.06),
        (372.7, 0.70, 1.05),
        (386.9, 0.15, 0.08),
        (410.2, 0.090, 0.090),
        (434.0, 0.164, 0.164),
        (486.1, 0.350, 0.350),
        (495.9, 0.60, 0.17),
        (500.7, 1.75, 0.50),
        (587.6, 0.040, 0.035),
        (630.0, 0.02, 0.05),
        (656.3, 1.0, 1.0),
        (658.4, 0.06, 0.42),
        (671.6, 0.13, 0.17),
        (673.1, 0.10, 0.13),
        (906.9, 0.07, 0.09),
        (953.1, 0.18, 0.24),
        (1282.0, 0.057, 0.057),
        (1875.0, 0.12, 0.12),
    ]
)
LINE_WAVE = LINES[:, 0]
FORBIDDEN = np.isin(LINE_WAVE, [372.7, 386.9, 495.9, 500.7, 630.0, 658.4, 671.6, 673.1, 906.9, 953.1])
"""Lines that scatter together from galaxy to galaxy, as the gas is more or less excited."""


def line_ratios(log_metal: Floats) -> Floats:
    """Return luminosities over Hα's (n, lines) for gas of log10 metallicities (n,), the Sun's = 0."""
    share = np.clip((np.asarray(log_metal) + 0.7) / 0.7, -0.6, 1.5)[:, None]
    return np.asarray(np.exp((1.0 - share) * np.log(LINES[:, 1]) + share * np.log(LINES[:, 2])))


def transmission(observed: Floats, z: Floats | float) -> Floats:
    """Return what hydrogen between a source at redshift z and us lets through (Madau 1995), mean over lines of sight.

    The Lyman series' first four lines, and the photoelectric absorption in Madau's approximation (his footnote 3).
    """
    stretch = 1.0 + np.asarray(z)
    depth = np.zeros(np.broadcast_shapes(np.shape(observed), np.shape(z)))
    for line, strength in zip((121.567, 102.572, 97.254, 94.974), (0.0036, 0.0017, 0.0012, 0.00093), strict=True):
        depth += np.where(observed < line * stretch, strength * (observed / line) ** 3.46, 0.0)
    near, far = np.minimum(observed / 91.2, stretch), stretch
    near = np.maximum(near, 1.0)
    photo = 0.25 * near**3 * (far**0.46 - near**0.46) + 9.4 * near**1.5 * (far**0.18 - near**0.18)
    photo = photo - 0.7 * near**3 * (near**-1.32 - far**-1.32) - 0.023 * (far**1.68 - near**1.68)
    return np.asarray(np.exp(-depth - np.where(observed < 91.2 * stretch, np.maximum(photo, 0.0), 0.0)))


DUST_WAVE = np.exp(np.linspace(np.log(2500.0), np.log(3e6), 700))
_FEATURES = (
    (3300, 40, 1.0),
    (6200, 110, 2.6),
    (7700, 350, 7.0),
    (8600, 170, 1.6),
    (11_300, 150, 2.2),
    (12_700, 350, 1.6),
)


def dust_emission() -> Floats:
    """Return spectra of dust (components, wavelengths) [1/nm] on `DUST_WAVE`, each with an integral of 1.

    The components: grey bodies (emissivity ~ ν^1.8) at the temperatures `COLD`; warm dust of 60 K with a tail of 200 K;
    the features of aromatic molecules from 3 to 13 µm.
    """
    shapes = [_grey(kelvin) for kelvin in COLD]
    shapes.append(0.75 * _grey(60.0) + 0.25 * _grey(200.0))
    widths = [((DUST_WAVE - c) / w, a / w) for c, w, a in _FEATURES]
    shapes.append(np.sum([a / (1.0 + x**2) for x, a in widths], axis=0) * np.exp(-((DUST_WAVE / 25_000.0) ** 4)))
    return np.array([shape / np.trapezoid(shape, DUST_WAVE) for shape in shapes])


def _grey(kelvin: float) -> Floats:
    shape = DUST_WAVE ** (-5.0 - 1.8) / np.expm1(np.minimum(1.438_777e7 / (DUST_WAVE * kelvin), 600.0))
    return np.asarray(shape / np.trapezoid(shape, DUST_WAVE))
