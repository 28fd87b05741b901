"""Supernovae of PLAsTiCC brought nearer: the two-dimensional Gaussian process knows them at any time and wavelength."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from broker import gp
from broker.core.bands import SURVEYS
from broker.core.batch import Floats, Ints, Kind
from broker.models.transients.augment import Bools, Rng, of_points
from broker.models.transients.data import Labelled
from broker.score.window import GridRule, request

RATIO_STEP = 1.0 / 24.0
"""Redshift moves are rounded to this, so that objects can share one call of the Gaussian process."""
_RULE = GridRule(points=80, before_d=40.0, after_d=60.0, margin_d=40.0)
RUBIN_AA = SURVEYS["lsst"].wavelengths_aa
_R = SURVEYS["lsst"].bands.index("r")


@dataclass(frozen=True, slots=True)
class Templates:
    """Objects that were seen before and after their peak.

    Attributes
    ----------
    objects : Labelled
        T objects, cut to the window around their detections.
    peak, last : (T,) float64
        MJD of the peak in r; of the last point.
    """

    objects: Labelled
    peak: Floats
    last: Floats

    def take(self, index: Ints) -> Templates:
        """Return the templates at ``index`` (n,)."""
        return Templates(self.objects.take(index), self.peak[index], self.last[index])

    def of(self, label: int) -> Ints:
        """Return the rows of a class."""
        return np.flatnonzero(self.objects.label == label)


def templates(objects: Labelled, labels: tuple[int, ...]) -> Templates:
    """Return the objects of these classes whose light curves are good enough to be moved."""
    objects = objects.take(np.flatnonzero(np.isin(objects.label, labels) & (objects.moved_from_z > 0)))
    window = request(objects.curves, _RULE)
    answer = gp.interpolate(window.curves, RUBIN_AA, window.times)
    flux = answer.flux[:, _R]
    rows, top = np.arange(len(flux)), flux.argmax(axis=1)
    peak = window.times[rows, top]
    snr = flux[rows, top] / np.sqrt(np.maximum(answer.variance[rows, _R, top], 1e-12))
    points = window.curves
    since = points.mjd - of_points(points, peak)
    before = _count(len(objects), points.counts, (since < 0) & (since > -30.0))
    after = _count(len(objects), points.counts, (since > 0) & (since < 45.0))
    detections = _count(len(objects), points.counts, points.kind == Kind.DETECTION)
    good = np.flatnonzero((snr > 10.0) & (before >= 3) & (after >= 5) & (detections >= 6))
    last = points.mjd[points.offsets[1:] - 1]
    kept = objects.take(good)
    columns = (kept.object_id, kept.label, kept.host_z, kept.host_z_err, kept.moved_from_z)
    return Templates(Labelled(points.take(good), *columns), peak[good], last[good])


def curves(found: Templates, row: Ints, z: Floats, night: Floats, rng: Rng) -> Floats:
    """Return flux (A, 3, N) in ZTF's g, r, i at ``night`` (A, N) days from the peak, the brighter of g and r 1.

    Parameters
    ----------
    row : (A,) int64
        Template of each object.
    z : (A,) float64
        Redshift that it is moved to, rounded so that (1 + z) over the template's is a multiple of `RATIO_STEP`.
    """
    source_z = found.objects.moved_from_z[row]
    ratio = np.maximum(np.rint((1.0 + z) / (1.0 + source_z) / RATIO_STEP), 1.0) * RATIO_STEP
    stretch = np.exp(0.1 * rng.standard_normal(len(row)))
    out = np.zeros((len(row), 3, night.shape[1]))
    dense = np.linspace(-15.0, 30.0, 46)
    for value in np.unique(ratio):
        some = np.flatnonzero(ratio == value)
        days = np.concatenate((night[some], np.broadcast_to(dense, (len(some), 46))), axis=1)
        flux = _light(found, row[some], days / (value * stretch[some, None]), value)
        top = flux[:, :2, -46:].max(axis=(1, 2))
        out[some] = flux[:, :, :-46] / np.where(top > 0, top, np.inf)[:, None, None]
    return out


def _light(found: Templates, row: Ints, days: Floats, ratio: float) -> Floats:
    """Return (n, 3, T): the process's mean, and after the template's last point an exponential fade."""
    times = found.peak[row, None] + days
    held = np.minimum(times, found.last[row, None])
    order = np.argsort(held, axis=1, kind="stable")
    # The process is told its own bands first, then the ones that are wanted.
    waves = np.concatenate((RUBIN_AA, SURVEYS["ztf"].wavelengths_aa / ratio))
    answer = gp.interpolate(found.objects.curves.take(row), waves, np.take_along_axis(held, order, axis=1))
    flux = np.empty((len(row), 3, days.shape[1]))
    np.put_along_axis(flux, np.broadcast_to(order[:, None, :], flux.shape), answer.flux[:, -3:], axis=2)
    # Wavelengths far outside the survey's bands are the process's guess: it may not go below nothing.
    return np.maximum(np.nan_to_num(flux), 0.0) * np.exp(-(times - held) / 30.0)[:, None, :]


def _count(n: int, counts: Ints, flag: Bools) -> Ints:
    return np.bincount(np.repeat(np.arange(n), counts)[flag], minlength=n)
