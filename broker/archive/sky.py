"""A chunk of simulated objects: who they are, when in their lives they alert, and their flux at any time and band."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from broker.archive import population
from broker.core.batch import Floats, Ints
from broker.core.taxonomy import BY_ID
from broker.core.units import NJY_ZERO_POINT

ARTEFACT, SOLAR_SYSTEM = -1, -2
DETECTED = 5.0  # signal to noise
_TRIES = 12
_COLUMN = {"ztf": 0, "lsst": 1}


@dataclass(frozen=True, slots=True)
class Mix:
    """What a night's alerts are, as fractions.

    Attributes
    ----------
    artefact, solar_system : float
        Of all alerts; the rest are objects of `population.KINDS`.
    partnership : float
        ZTF alerts with ``programid`` 2.
    test : float
        Rubin alerts of injected sources (ZTF marks no tests).
    newborn : float
        Alerts without any history.
    fast : float
        Factor on the share of flares and kilonovae, which have few detections.
    min_snr : float
        Faintest signal to noise of an alert.
    shares : tuple of (str, float)
        Classes (slugs of `broker.core.taxonomy`) and their parts of the objects of `population.KINDS`; the classes that
        are not named share what is left as they usually do.
    """

    artefact: float = 0.10
    solar_system: float = 0.08
    partnership: float = 0.03
    test: float = 0.01
    newborn: float = 0.04
    fast: float = 1.0
    min_snr: float = 6.0
    shares: tuple[tuple[str, float], ...] = ()


# For measurements: nearly everything can be scored by every network, so that every stage works on every alert.
BENCH = Mix(artefact=0.01, solar_system=0.005, partnership=0.002, test=0.001, newborn=0.0, fast=0.3, min_snr=12.0)


@dataclass(frozen=True, slots=True)
class Objects:
    """n objects that alert.

    Attributes
    ----------
    kind : (n,) int64
        Index into `population.KINDS`, or `ARTEFACT`, `SOLAR_SYSTEM`.
    snr : (n,) float64
        Of the alerting detection, without its noise.
    z : (n,) float64
        NaN for what has no distance.
    age_d : (n,) float64
        Days since the flux was first there; inf where it always is.
    peak_d : (n,) float64
        Days from the alert to the light curve's zero, its peak; NaN for what has none.
    groups : list of (rows, draws, phase, amplitude)
        One per class; phase (m, 1) is the curve's own time at the alert, amplitude (m, 1) in nJy.
    """

    kind: Ints
    snr: Floats
    z: Floats
    age_d: Floats
    peak_d: Floats
    groups: list[tuple[Ints, population.Draws, Floats, Floats]]

    def flux(self, t: Floats, wavelength: Floats) -> Floats:
        """Return the true difference flux (n, m), nJy, ``t`` (n, m) days since the alert at ``wavelength`` (n, m) Å."""
        out = np.zeros_like(t)
        for rows, draws, phase, amplitude in self.groups:
            out[rows] = amplitude * draws.kind.shape(draws, t[rows] + phase, wavelength[rows])
        return out

    def at(self, rows: Ints, later_d: Floats) -> Objects:
        """Return the objects in ``rows`` (n,) as they are ``later_d`` (n,) days after the alert; without their flux."""
        age, peak = np.maximum(self.age_d[rows] + later_d, 0.02), self.peak_d[rows] - later_d
        return Objects(self.kind[rows], self.snr[rows], self.z[rows], age, peak, [])


def draw(survey: str, mix: Mix, wavelength: Floats, sigma: Floats, rng: np.random.Generator) -> Objects:
    """Draw n objects whose alerting detections are in the bands and as noisy as given.

    Parameters
    ----------
    wavelength, sigma : (n,) float64
        Å and nJy of the alerting detection.
    """
    n = len(sigma)
    kind = _kinds(survey, mix, n, rng)
    snr = np.minimum(mix.min_snr * (1.0 - rng.random(n)) ** (-1 / 1.3), 300.0)
    z, age, peak_d = np.full(n, np.nan), np.full(n, np.inf), np.full(n, np.nan)
    groups = []
    for index in np.unique(kind[kind >= 0]).tolist():
        rows = np.flatnonzero(kind == index)
        draws = population.draw(population.KINDS[index], len(rows), rng)
        phase, peak = _phase(draws, wavelength[rows, None], rng)
        at_alert = draws.kind.shape(draws, phase, wavelength[rows, None])
        wanted = (snr * sigma)[rows, None]
        if np.isfinite(draws.kind.m_peak):
            m_absolute = draws.kind.m_peak + draws.kind.m_scatter * rng.standard_normal((len(rows), 1))
            m_peak = NJY_ZERO_POINT - 2.5 * np.log10(wanted * peak / np.abs(at_alert))
            draws = draws.at_redshift(np.clip(population.redshift(m_peak, m_absolute), 0.001, 1.5))
            z[rows] = draws.z[:, 0]
            at_alert = draws.kind.shape(draws, phase, wavelength[rows, None])
        if draws.kind.transient or draws.kind.name == "M-dwarf flare":
            age[rows] = np.maximum(phase[:, 0] + 1.6 * draws.rise_d[:, 0] * (1 + draws.z[:, 0]), 0.02)
        if draws.kind.peaks:
            peak_d[rows] = -phase[:, 0]
        groups.append((rows, draws, phase, wanted / np.maximum(np.abs(at_alert), 1e-6)))
    return Objects(kind, snr, z, age, peak_d, groups)


def measure(objects: Objects, flux: Floats, sigma: Floats, alert: Ints, rng: np.random.Generator) -> Floats:
    """Return measured fluxes (n, m), nJy: with noise, the spikes of artefacts, and an alerting detection.

    Column ``alert`` (n,) is a detection of at least `DETECTED`: that is why there is an alert.
    """
    own = np.arange(len(flux)), alert
    noise = rng.standard_normal(flux.shape)
    measured = flux + sigma * noise
    artefact = objects.kind == ARTEFACT
    spike = (rng.random(flux.shape) < 0.12) & artefact[:, None]
    measured = np.where(spike, sigma * (DETECTED + 3.0 * noise**2) * np.sign(noise), measured)
    solar = objects.kind == SOLAR_SYSTEM
    measured[solar] = (sigma * np.clip(noise, -3, 3))[solar]
    sign = np.where(flux[own] < 0, -1.0, 1.0)
    sign[artefact & (noise[own] < 0)] = -1.0
    measured[own] = sign * np.maximum(objects.snr + noise[own], DETECTED + 0.1) * sigma[own]
    return np.asarray(measured)


def index_of(slug: str) -> int:
    """Return the number of a class in `population.KINDS`.

    Raises
    ------
    KeyError
        There is none of that name.
    """
    return {BY_ID[kind.class_id].slug: index for index, kind in enumerate(population.KINDS)}[slug]


def _kinds(survey: str, mix: Mix, n: int, rng: np.random.Generator) -> Ints:
    weight = {"KN": mix.fast, "M-dwarf flare": mix.fast}
    share = np.array([kind.share[_COLUMN[survey]] * weight.get(kind.name, 1.0) for kind in population.KINDS])
    named = {index_of(slug): part for slug, part in mix.shares}
    if named:
        share[list(named)] = 0.0
        left = max(0.0, 1.0 - sum(named.values()))
        share *= left / share.sum() if share.sum() else 0.0
        share[list(named)] = list(named.values())
    kind = rng.choice(len(share), n, p=share / share.sum())
    u = rng.random(n)
    kind = np.where(u < mix.artefact + mix.solar_system, SOLAR_SYSTEM, kind)
    return np.asarray(np.where(u < mix.artefact, ARTEFACT, kind), dtype=np.int64)


def _phase(draws: population.Draws, wavelength: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Return when each object alerts and its peak there, both (n, 1): the first of some times at which it is bright."""
    tries = population.phase_at_alert(draws, _TRIES, rng)
    flux = np.abs(draws.kind.shape(draws, tries, wavelength + np.zeros_like(tries)))
    peak = flux.max(axis=1, keepdims=True)
    first = np.argmax(flux >= 0.25 * peak, axis=1)[:, None]
    return np.take_along_axis(tries, first, axis=1), peak
