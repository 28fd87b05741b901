"""Redshift augmentation: a supernova as it would look farther away, by the two-dimensional Gaussian process.

The process over time and wavelength gives the k-correction (Boone 2019): a filter at λ sees at redshift z' what one at
λ (1 + z) / (1 + z') saw at z. Time is stretched, light dimmed by distance, and the survey looks again with another
object's visits and errors. The process's own error is added to theirs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from broker import gp
from broker.core.bands import SURVEYS
from broker.core.batch import Floats, Ints, LightCurves
from broker.models.transients.augment import Rng, of_points
from broker.models.transients.data import Labelled
from broker.models.transients.vary import flagged
from broker.score.tensors import distance_gpc
from broker.score.window import GridRule, request

WAVES = SURVEYS["lsst"].wavelengths_aa
RATIO_STEP = 0.02
"""Moves are rounded to this in ln(1 + z), so that objects can share one call of the Gaussian process."""
BEYOND_D = 8.0
"""Days (of the source) past its last point that the process may be asked for; later points are not made."""
ALIKE = 20
"""An object's host is as well measured as one of so many before and behind it in redshift."""
_WIDE = GridRule(points=2, before_d=30.0, after_d=100.0, longest_d=400.0, margin_d=20.0)


@dataclass(frozen=True, slots=True)
class Noise:
    """Error of a point as a function of its flux: err² = sky² + shot · flux.

    Attributes
    ----------
    shot : (B,) float64
        nJy per band; the sky is that of the visit.
    """

    shot: Floats


@dataclass(frozen=True, slots=True)
class Move:
    """What is to be made: A objects.

    Attributes
    ----------
    source, donor : (A,) int64
        Which object is moved; whose visits see it.
    z : (A,) float64
        Where it goes. It need not be farther than it was, but nearer the sky knew more than the source's points do.
    """

    source: Ints
    donor: Ints
    z: Floats

    def take(self, index: Ints) -> Move:
        """Return the moves at ``index`` (n,)."""
        return Move(self.source[index], self.donor[index], self.z[index])


def noise_of(curves: LightCurves) -> Noise:
    """Return the noise model that the points of the curves show: the shot's part from points far above the sky."""
    shot = np.zeros(len(WAVES))
    for band in range(len(WAVES)):
        own = curves.band == band
        if own.any():
            flux, err = curves.flux_njy[own], curves.flux_err_njy[own]
            faint = flux < 3.0 * err
            sky = np.median(err[faint] if faint.any() else err)
            bright = flux > 30.0 * sky
            if bright.sum() >= 10:
                shot[band] = max(float(np.median((err[bright] ** 2 - sky**2) / flux[bright])), 0.0)
    return Noise(shot)


def moved(objects: Labelled, moves: Move, noise: Noise, snr: float, rng: Rng) -> Labelled:
    """Return the moved objects; rows whose light curve holds nothing to ask the process about come without points.

    Parameters
    ----------
    objects : Labelled
        Sources and donors; ``moved_from_z`` is their redshift.
    snr : float
        A point is a detection from this signal to noise on.

    Returns
    -------
    Labelled
        ``moved_from_z`` is the new redshift; the host's photometric one is as wrong as those of hosts there are.
    """
    source = objects.take(moves.source)
    ratio = np.log1p(moves.z) - np.log1p(source.moved_from_z)
    ratio = np.exp(np.round(ratio / RATIO_STEP) * RATIO_STEP)
    z = np.maximum(ratio * (1.0 + source.moved_from_z) - 1.0, 0.01)
    donor = objects.curves.take(moves.donor)
    curves = _observed(source.curves, donor, z, source.moved_from_z, ratio, noise, rng)
    host, err = _hosts(objects, z, rng)
    return replace(source, curves=flagged(curves, snr), host_z=host, host_z_err=err, moved_from_z=z)


def volumetric(z: Floats, rate: float, power: float) -> Floats:
    """Return events per year of the observer and unit of z over the whole sky, for a rate (1 + z)^power / yr / Mpc³."""
    step = 1e-3
    comoving = (distance_gpc(z + step) / (1.0 + z + step)) ** 3 - (distance_gpc(z) / (1.0 + z)) ** 3
    return np.asarray(4.0 / 3.0 * np.pi * 1e9 * comoving / step * rate * (1.0 + z) ** (power - 1.0))


def brightest_mjd(curves: LightCurves) -> Floats:
    """Return the MJD (A,) of the most significant point."""
    out = np.full(len(curves), np.nan)
    snr = curves.flux_njy / curves.flux_err_njy
    for i, (a, b) in enumerate(zip(curves.offsets[:-1], curves.offsets[1:], strict=True)):
        if b > a:
            out[i] = curves.mjd[a + int(np.argmax(snr[a:b]))]
    return out


def _observed(
    source: LightCurves, visits: LightCurves, z: Floats, z_from: Floats, ratio: Floats, noise: Noise, rng: Rng
) -> LightCurves:
    """Return noisy light curves of the sources, moved, at the visits (A curves both)."""
    peak = brightest_mjd(source)
    begin, end = source.mjd[source.offsets[:-1]], source.mjd[source.offsets[1:] - 1]
    # The event may be anywhere in the season, as the donor's was, give or take.
    at = brightest_mjd(visits) + rng.normal(0.0, 12.0, len(source))
    owner = np.repeat(np.arange(len(visits)), visits.counts)
    when = peak[owner] + (visits.mjd - at[owner]) / ratio[owner]
    asked = (when <= end[owner] + BEYOND_D) & (when >= begin[owner] - 60.0)
    visits, when, owner = visits.keep(asked), when[asked], owner[asked]
    dim = of_points(visits, (distance_gpc(z_from) / distance_gpc(z)) ** 2 * ratio)
    flux, unsure = (np.nan_to_num(part) * dim for part in _flux(source, visits, when, ratio))
    shot = noise.shot[visits.band]
    sky = np.maximum(visits.flux_err_njy**2 - shot * np.maximum(visits.flux_njy, 0.0), 0.25 * visits.flux_err_njy**2)
    err = np.sqrt(sky + shot * np.maximum(flux, 0.0))
    flux = flux + err * rng.standard_normal(len(flux))
    # Without this, what the process made up between the source's points would stand as measured.
    return replace(visits, flux_njy=flux, flux_err_njy=np.hypot(err, unsure))


def _flux(source: LightCurves, visits: LightCurves, when: Floats, ratio: Floats) -> tuple[Floats, Floats]:
    """Return flux and its error (D,), nJy, of each source at its visits' moved bands, at its own ``when`` (D,)."""
    out = np.full((2, len(when)), np.nan)
    window = request(source, _WIDE).curves
    fitted = gp.fit(window, WAVES)
    place = np.arange(len(when)) - of_points(visits, visits.offsets[:-1])
    for value in np.unique(ratio):
        rows = np.flatnonzero(ratio == value)
        waves = np.concatenate((WAVES, WAVES / value))
        grid = np.full((len(rows), max(int(visits.counts[rows].max(initial=0)), 1)), np.nan)
        inside = np.flatnonzero(np.isin(_owner(visits), rows))
        row = np.searchsorted(rows, _owner(visits)[inside])
        grid[row, place[inside]] = when[inside]
        at = gp.Fit(*(getattr(fitted, name)[rows] for name in gp.Fit.__slots__))
        answer = gp.interpolate(window.take(rows), waves, _filled(grid), at=at)
        cells = row, len(WAVES) + visits.band[inside], place[inside]
        out[:, inside] = answer.flux[cells], np.sqrt(np.maximum(answer.variance[cells], 0.0))
    return out[0], out[1]


def _hosts(objects: Labelled, z: Floats, rng: Rng) -> tuple[Floats, Floats]:
    """Return photometric redshifts of hosts at z (A,), and their errors: off, in (1 + z), as one nearby in z is.

    How wrong they are depends on how far they are: a near object's error must not be taken along.
    """
    order = np.argsort(objects.moved_from_z, kind="stable")
    place = np.searchsorted(objects.moved_from_z[order], z) + rng.integers(-ALIKE, ALIKE, len(z))
    like = order[np.clip(place, 0, len(order) - 1)]
    ratio = (1.0 + z) / (1.0 + objects.moved_from_z[like])
    host = ratio * (1.0 + objects.host_z[like]) - 1.0
    return np.maximum(host, 0.01), ratio * objects.host_z_err[like]


def _owner(curves: LightCurves) -> Ints:
    return np.repeat(np.arange(len(curves)), curves.counts)


def _filled(grid: Floats) -> NDArray[np.float64]:
    """Return the times with the last of a row in place of its NaN: the process wants them in order."""
    last = np.fmax.accumulate(grid, axis=1)
    return np.where(np.isfinite(last), last, 0.0)
