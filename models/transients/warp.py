"""Ordinary light curves made strange: stretched, recoloured, mixed, then observed again with their cadence and noise.

What a score of strangeness learns from (outlier exposure, Hendrycks et al. 2019) without a rare object: every factor
is drawn symmetrically in the logarithm, or from any black body, so that no kind of rare object is aimed at. Curves that
are not warped go the same way: nothing that observing again does to a curve tells the two apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from broker import gp
from broker.core.bands import SURVEYS
from broker.core.batch import Floats, Ints, Kind, LightCurves
from broker.models.transients.augment import Rng, of_points
from broker.score.window import GridRule, request

CHANCE = {"time": 0.6, "thermal": 0.4, "frozen": 0.15, "mixed": 0.1, "tilt": 0.6, "bump": 0.15, "power": 0.15}
"""How often a warped curve has each change; several at once are usual."""
STRETCH = 5.0
"""Rise and decay are stretched by factors between this and its inverse."""
TILT, DRIFT, BEND = 1.5, 1.0, 0.8
"""Standard deviations of the colour between the outer bands, in mag: constant, per 30 days, of its curvature."""
TEMPERATURE_K = (3e3, 5e4)
FADE = 0.5
"""Standard deviation of ln brightness, of all curves: how bright a curve is tells nothing."""
SMALL = 0.05
"""Standard deviation of ln stretch and of colour in mag, of all curves: what no two of one class have in common."""
_POISSON_NJY = {"lsst": 0.5, "ztf": 18.0}
"""Variance of a point over its flux: the flux of one photon in an exposure of 30 s."""
_FLOOR = 0.005
_AROUND = GridRule(points=256, before_d=60.0, after_d=120.0, longest_d=600.0, margin_d=40.0)
_FORGET_D = 20.0
_HC_OVER_K = 1.438777e8  # Angstrom K


@dataclass(frozen=True, slots=True)
class Known:
    """A light curves with what the Gaussian process says of their flux at any time.

    Attributes
    ----------
    survey : str
    curves : LightCurves
    begin, step : (A,) float64
        Of the grid of T times, MJD and days.
    flux : (A, B + 1, T) float64
        nJy; the last row is the mean over the bands, weighted by how well each is known.
    peak : (A,) float64
        MJD of the mean's largest flux.
    """

    survey: str
    curves: LightCurves
    begin: Floats
    step: Floats
    flux: Floats
    peak: Floats

    @classmethod
    def of(cls, survey: str, curves: LightCurves) -> Known:
        """Return what is known of light curves that have a detection each."""
        grid = request(curves, _AROUND)
        answer = gp.interpolate(grid.curves, SURVEYS[survey].wavelengths_aa, grid.times)
        flux = np.nan_to_num(answer.flux).astype(np.float64)
        floor = 0.01 * np.maximum(np.abs(flux).max(axis=(1, 2)), 1e-9) ** 2
        weight = 1.0 / (np.nan_to_num(answer.variance) + floor[:, None, None])
        mean = (flux * weight).sum(axis=1) / weight.sum(axis=1)
        peak = grid.times[np.arange(len(mean)), mean.argmax(axis=1)]
        step = (grid.times[:, -1] - grid.times[:, 0]) / (_AROUND.points - 1)
        both = np.concatenate((flux, mean[:, None]), axis=1)
        return cls(survey, curves, grid.times[:, 0], np.maximum(step, 1e-3), both, peak)

    def at(self, row: Ints, band: Ints, days: Floats) -> Floats:
        """Return the flux (D,) of curves ``row`` in ``band`` at days from their peak; it fades outside of the grid."""
        place = (self.peak[row] + days - self.begin[row]) / self.step[row]
        inside = np.clip(place, 0.0, self.flux.shape[2] - 1.001)
        left = inside.astype(np.int64)
        part = inside - left
        flux = self.flux[row, band, left] * (1.0 - part) + self.flux[row, band, left + 1] * part
        return np.asarray(flux * np.exp(-np.abs(place - inside) * self.step[row] / _FORGET_D))

    def mean_at(self, row: Ints, days: Floats) -> Floats:
        """Return the mean over the bands (D,) as `at` does."""
        return self.at(row, np.full(len(row), self.flux.shape[1] - 1), days)


@dataclass(frozen=True, slots=True)
class _Points:
    """Where the points of n new curves get their flux from.

    Attributes
    ----------
    rng : Rng
    curve, source : (D,) int64
        New curve; row of `Known`.
    band : (D,) int64
    days : (D,) float64
        From the peak, in the source's own time.
    colour : (D,) float64
        Place of the band, -0.5 for the bluest to 0.5 or so for the reddest, in the logarithm of the wavelength.
    warped : (n,) bool
    """

    rng: Rng
    curve: Ints
    source: Ints
    band: Ints
    days: Floats
    colour: Floats
    warped: NDArray[np.bool_]

    def chosen(self, change: str) -> NDArray[np.bool_]:
        """Return which new curves (n,) have a change."""
        return self.warped & (self.rng.random(len(self.warped)) < CHANCE[change])

    def normal(self, width: float, among: NDArray[np.bool_] | None = None) -> Floats:
        """Return a normal number per point (D,), one per curve; 0 where the curve is not ``among`` (n,)."""
        drawn = self.rng.normal(0.0, width, len(self.warped))
        return np.asarray(drawn if among is None else np.where(among, drawn, 0.0))[self.curve]


def observed(known: Known, rows: Ints, warped: NDArray[np.bool_], rng: Rng) -> LightCurves:
    """Return new curves (n,) of the objects ``rows`` (n,), warped or not, each with its object's cadence and noise.

    Some may have no detection left.
    """
    old = known.curves.take(rows)
    points = _points(known, rows, old, warped, rng)
    flux = _tilted(points, _profile(known, points))
    flux = _powered(known, points, _bumped(known, points, flux))
    return _noisy(old, flux * of_points(old, _brightness(old, flux, rng)), known.survey, rng)


def _points(known: Known, rows: Ints, old: LightCurves, warped: NDArray[np.bool_], rng: Rng) -> _Points:
    n = len(rows)
    curve = np.repeat(np.arange(n), old.counts)
    waves = np.log(SURVEYS[known.survey].wavelengths_aa)
    colour = (waves - waves.mean()) / (waves.max() - waves.min())
    band = old.band.astype(np.int64)
    points = _Points(rng, curve, rows[curve], band, np.zeros(0), colour[band], warped)
    days = old.mjd - known.peak[points.source] - points.normal(8.0)
    stretched = np.where(days < 0, *(days / factor[curve] for factor in _stretches(points)))
    return _Points(rng, curve, points.source, band, stretched, points.colour, warped)


def _stretches(points: _Points) -> tuple[Floats, Floats]:
    """Return the factors (n,) of rise and decay: half of the time one for both."""
    n, limit, rng = len(points.warped), np.log(STRETCH), points.rng
    rise = rng.uniform(-limit, limit, n)
    decay = np.where(rng.random(n) < 0.5, rise, rng.uniform(-limit, limit, n))
    on = points.chosen("time")

    def factor(log: Floats) -> Floats:
        return np.asarray(np.exp(np.where(on, log, 0.0) + rng.normal(0.0, SMALL, n)))

    return factor(rise), factor(decay)


def _profile(known: Known, points: _Points) -> Floats:
    """Return flux (D,) with the object's own colours, its colours at the peak, a black body's, or half another's."""
    row, band, days, curve = points.source, points.band, points.days, points.curve
    mean = known.mean_at(row, days)
    peak = np.zeros(len(row))
    at_peak = np.maximum(np.abs(known.mean_at(row, peak)), 1e-9)
    flux = known.at(row, band, days)
    flux = np.where(points.chosen("frozen")[curve], mean * known.at(row, band, peak) / at_peak, flux)
    flux = np.where(points.chosen("thermal")[curve], mean * _black_body(known.survey, points), flux)
    other = points.rng.integers(0, len(known.peak), len(points.warped))[curve]
    scale = at_peak / np.maximum(np.abs(known.mean_at(other, peak)), 1e-9)
    red = band >= points.rng.integers(0, known.flux.shape[1] - 1, len(points.warped))[curve]
    return np.asarray(np.where(points.chosen("mixed")[curve] & red, scale * known.at(other, band, days), flux))


def _black_body(survey: str, points: _Points) -> Floats:
    """Return a black body's flux (D,) over its flux in r: of any temperature, half of them constant in time."""
    n, rng = len(points.warped), points.rng
    start = rng.uniform(np.log(TEMPERATURE_K[0]), np.log(TEMPERATURE_K[1]), n)
    drift = np.where(rng.random(n) < 0.5, rng.normal(0.0, 1.0, n), 0.0)
    change = np.clip(drift[points.curve] * np.tanh(points.days / 30.0), -1.5, 1.5)
    kelvin = np.clip(np.exp(start[points.curve] + change), 2e3, 1e5)
    waves, bands = SURVEYS[survey].wavelengths_aa, SURVEYS[survey].bands

    def planck(wave: Any) -> Floats:
        return np.asarray(wave**-3.0 / np.expm1(np.clip(_HC_OVER_K / (wave * kelvin), 1e-3, 80.0)))

    return np.asarray(planck(waves[points.band]) / planck(waves[bands.index("r")]))


def _tilted(points: _Points, flux: Floats) -> Floats:
    """Return flux (D,) made bluer or redder, for good or more and more, and with another curvature."""
    on, rng, n = points.chosen("tilt"), points.rng, len(points.warped)
    tilt = points.normal(SMALL) + points.normal(TILT, on)
    drift = points.normal(DRIFT, on & (rng.random(n) < 0.5)) * np.clip(points.days / 30.0, -2.0, 2.0)
    bend = points.normal(BEND, on & (rng.random(n) < 0.5))
    x = points.colour
    return np.asarray(flux * 10.0 ** (-0.4 * (x * (tilt + drift) + 2.0 * bend * (x**2 - 0.1))))


def _bumped(known: Known, points: _Points, flux: Floats) -> Floats:
    """Return flux (D,) with the curve once more, fainter, before or after."""
    n, rng = len(points.warped), points.rng
    on = points.chosen("bump")
    delay = np.exp(rng.uniform(np.log(15.0), np.log(120.0), n)) * rng.choice([-1.0, 1.0], n)
    amplitude = np.where(on, np.exp(rng.uniform(np.log(0.2), 0.0, n)), 0.0)
    again = known.at(points.source, points.band, points.days - delay[points.curve])
    return np.asarray(flux + amplitude[points.curve] * again)


def _powered(known: Known, points: _Points, flux: Floats) -> Floats:
    """Return flux (D,) raised to a power, over its peak: a sharper or a flatter curve."""
    on = points.chosen("power")
    power = np.where(on, np.exp(points.rng.uniform(-0.9, 0.9, len(on))), 1.0)[points.curve]
    top = np.abs(known.mean_at(points.source, np.zeros(len(flux)))) + 1e-9
    return np.asarray(np.sign(flux) * top * (np.abs(flux) / top) ** power)


def _brightness(old: LightCurves, flux: Floats, rng: Rng) -> Floats:
    """Return the factor (n,) that makes the new curve's largest flux the old one's, but for a common scatter."""
    curve = np.repeat(np.arange(len(old)), old.counts)
    new, was = np.full(len(old), 1e-9), np.full(len(old), 1e-9)
    np.maximum.at(new, curve, np.abs(flux))
    np.maximum.at(was, curve, np.where(old.kind == Kind.DETECTION, np.abs(old.flux_njy), 0.0))
    return np.asarray(np.clip(was / new, 0.02, 50.0) * np.exp(rng.normal(0.0, FADE, len(old))))


def _noisy(old: LightCurves, flux: Floats, survey: str, rng: Rng) -> LightCurves:
    """Return the flux (D,) as the old curves' visits would measure it: the sky's noise stays, the source's changes."""
    variance, photons = old.flux_err_njy**2, _POISSON_NJY[survey]
    sky = np.maximum(variance - photons * np.maximum(old.flux_njy, 0.0), 0.25 * variance)
    err = np.sqrt(sky + photons * np.maximum(flux, 0.0) + (_FLOOR * flux) ** 2)
    seen = flux + err * rng.standard_normal(len(flux))
    snr = seen / err
    # PLAsTiCC's chance of a detection, 5.5 ± 1.4; ZTF's is a cut.
    detected = snr > (rng.normal(5.5, 2.0**0.5, len(snr)) if survey == "lsst" else 5.0)
    # A curve whose non-detections were limits has limits again.
    limits = np.zeros(len(old), dtype=bool)
    limits[np.repeat(np.arange(len(old)), old.counts)[old.kind == Kind.LIMIT]] = True
    missed = np.where(of_points(old, limits), Kind.LIMIT, Kind.FORCED)
    kind = np.where(detected, Kind.DETECTION, missed).astype(np.int8)
    return LightCurves(old.offsets, old.mjd, np.where(kind == Kind.LIMIT, 0.0, seen), err, old.band, kind)
