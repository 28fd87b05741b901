"""Simulated transients to begin training with (Pimentel et al. 2022): parametric curves, seen when real ones were.

Shape: the analytic supernova model of Villar et al. (2019), its times drawn from the half-times that each class has in
the Zwicky Bright Transient Survey (Perley et al. 2020). Colour: a black body that cools, as seen at the redshift.
There the model was fitted to each training object; here nothing is fitted but which nights and errors are taken.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from broker.core.bands import SURVEYS
from broker.core.batch import Floats, Ints, Kind, LightCurves
from broker.core.taxonomy import CLASSES
from broker.models.transients import augment
from broker.models.transients.data import Labelled
from broker.score.tensors import distance_gpc

Rng = np.random.Generator
MEASURED = 5.0
"""Signal to noise of a detection."""
REFERENCE_AA = 6231.0
"""Rest-frame wavelength of the peak magnitudes."""
_PLANCK_AA_K = 1.4388e8  # h c / k


@dataclass(frozen=True, slots=True)
class Family:
    """What is drawn for a class; medians, and the half width of a normal distribution (of log10 for the times).

    Attributes
    ----------
    slug : str
    rise, fade : (float, float)
        Days from half of the peak to it and back, at rest; dex.
    magnitude : (float, float)
        At the peak.
    hot, cool : float
        Temperature in K at the peak, and long after it.
    """

    slug: str
    rise: tuple[float, float]
    fade: tuple[float, float]
    magnitude: tuple[float, float]
    hot: float
    cool: float


FAMILIES = (
    Family("snia", (9.7, 0.12), (14.3, 0.11), (-19.2, 0.4), 11_000, 5_000),
    Family("sn91bg", (8.5, 0.12), (9.3, 0.15), (-18.0, 0.5), 7_500, 4_500),
    Family("sniax", (11.1, 0.15), (12.0, 0.09), (-17.9, 0.7), 9_000, 5_000),
    Family("snii", (11.3, 0.3), (30.0, 0.22), (-17.7, 0.85), 13_000, 5_500),
    Family("snibc", (12.0, 0.15), (14.0, 0.15), (-17.6, 0.8), 8_500, 4_800),
    Family("slsn", (30.2, 0.23), (30.0, 0.2), (-21.1, 0.8), 14_000, 6_500),
    Family("tde", (17.6, 0.3), (36.2, 0.25), (-19.8, 1.2), 25_000, 22_000),
    Family("kilonova", (0.6, 0.15), (1.5, 0.2), (-15.8, 0.6), 8_000, 3_000),
)
"""Half-times and magnitudes: percentiles of the survey's table of 2022; kilonova after AT 2017gfo; temperatures."""


def simulate(templates: Labelled, each: int, rng: Rng) -> Labelled:
    """Return up to ``each`` simulated objects of every family, those with two detections or more.

    Parameters
    ----------
    templates : Labelled
        Real objects of the Rubin bands: their nights, errors and redshifts are taken, never their fluxes. Labels are
        not looked at, but whoever trains with folds gives objects of the training folds alone.
    """
    extragalactic = np.flatnonzero(templates.host_z > 0)
    parts = []
    for number, family in enumerate(FAMILIES):
        chosen = templates.take(rng.choice(extragalactic, each))
        curves = _curves(chosen, family, rng)
        label = next(k for k, c in enumerate(CLASSES) if c.slug == family.slug)
        ids = np.arange(each, dtype=np.int64) + number * each
        z, err = chosen.host_z, chosen.host_z_err
        parts.append(Labelled(curves, ids, np.full(each, label, np.int64), z, err, z))
    made = _joined(parts)
    detected = np.concatenate(([0], np.cumsum(made.curves.kind == Kind.DETECTION)))
    counts = np.diff(detected[made.curves.offsets])
    return made.take(np.flatnonzero(counts >= 2))


def shape(days: Floats, rise: Floats, fade: Floats, plateau: Floats, slope: Floats) -> Floats:
    """Return the flux (n,) of the analytic model at rest-frame days since its t0, where it is half of its amplitude.

    Parameters
    ----------
    days, rise, fade, plateau, slope : (n,)
        Days; τ_rise, τ_fall and γ of the paper in days; β per day.
    """
    front = 1.0 / (1.0 + np.exp(np.clip(-days / rise, -60.0, 60.0)))
    slow = 1.0 - slope * np.minimum(days, plateau)
    return np.asarray(front * slow * np.exp(-np.maximum(days - plateau, 0.0) / fade))


def black_body(wavelength_aa: Floats, kelvin: Floats) -> Floats:
    """Return the flux per frequency (n,) of a black body over its flux at `REFERENCE_AA`."""

    def per_frequency(wavelength: Floats | float) -> Floats:
        return np.asarray(
            np.asarray(wavelength) ** -3.0 / np.expm1(np.minimum(_PLANCK_AA_K / wavelength / kelvin, 80.0))
        )

    return np.asarray(per_frequency(wavelength_aa) / per_frequency(REFERENCE_AA))


def _curves(chosen: Labelled, family: Family, rng: Rng) -> LightCurves:
    curves, n = chosen.curves, len(chosen)
    rise = family.rise[0] * 10.0 ** (family.rise[1] * rng.standard_normal(n))
    fade = family.fade[0] * 10.0 ** (family.fade[1] * rng.standard_normal(n))
    # The logistic takes four of its τ from a half to nearly one; the decline loses a half on plateau and exponential.
    plateau, slope = fade * rng.uniform(0.2, 0.9, n), rng.uniform(0.0, 0.4, n) / fade
    first, last = curves.mjd[curves.offsets[:-1]], curves.mjd[curves.offsets[1:] - 1]
    begin = rng.uniform(first, last)

    def of_points(value: Floats) -> Floats:
        return np.asarray(augment.of_points(curves, value))

    stretch = of_points(1.0 + chosen.host_z)
    days = (curves.mjd - of_points(begin)) / stretch
    flux = shape(days, of_points(rise / 4.0), of_points(fade / 1.3), of_points(plateau), of_points(slope))
    cooling = family.cool + (family.hot - family.cool) * np.exp(-np.maximum(days, 0.0) / of_points(1.5 * fade))
    wavelength = SURVEYS["lsst"].wavelengths_aa[curves.band] / stretch
    flux = flux * black_body(wavelength, cooling) * of_points(_peak(chosen.host_z, family, rng))
    flux = flux + curves.flux_err_njy * rng.standard_normal(len(flux))
    kind = np.where(flux > MEASURED * curves.flux_err_njy, Kind.DETECTION, Kind.FORCED).astype(np.int8)
    return LightCurves(curves.offsets, curves.mjd, flux, curves.flux_err_njy, curves.band, kind)


def _peak(z: Floats, family: Family, rng: Rng) -> Floats:
    """Return the peak flux (n,) in nJy, at the reference wavelength at rest."""
    magnitude = family.magnitude[0] + family.magnitude[1] * rng.standard_normal(len(z))
    modulus = 5.0 * np.log10(distance_gpc(z) * 1e8)  # Gpc in units of 10 pc
    return np.asarray((1.0 + z) * 10.0 ** (-0.4 * (magnitude + modulus - 31.4)))


def _joined(parts: list[Labelled]) -> Labelled:
    counts: Ints = np.concatenate([part.curves.counts for part in parts])
    points = ("mjd", "flux_njy", "flux_err_njy", "band", "kind")
    columns = (np.concatenate([getattr(part.curves, name) for part in parts]) for name in points)
    curves = LightCurves(np.concatenate(([0], np.cumsum(counts))).astype(np.int64), *columns)
    rest = ("object_id", "label", "host_z", "host_z_err", "moved_from_z")
    return Labelled(curves, *(np.concatenate([getattr(part, name) for part in parts]) for name in rest))
