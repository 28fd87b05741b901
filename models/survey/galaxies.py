"""Simulated galaxies (`broker.models.simulators.seds`) as examples of rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from broker.models.simulators import seds, seds_bands
from broker.models.simulators.seds_priors import PRIORS
from broker.models.survey.row import Data, Examples

Floats = NDArray[np.float64]


def data_of(*priors: str) -> Data:
    """Return what cards and results say of galaxies of the priors."""
    return Data(seds.ID, seds.VERSION, "; ".join(PRIORS[name].about for name in priors))


def photo_z(n: int, seed: int, data: Path | None) -> Examples:
    """Return hosts as alerts tell of them, deep and shallow ones, in ugrizy: ``mag_u``, ``mag_err_u`` ...; truth: z."""
    columns, truth = seds.hosts(n, seed)
    return Examples(dict(columns), truth["redshift"][:, None], data_of("field", "hosts"))


NARROW_BANDS = (*seds_bands.NARROW, "u", "g", "r", "i", "z")
"""Forty narrow bands and five broad ones."""
FAR_BANDS = (*seds_bands.GAMA, *seds_bands.HERSCHEL)
"""GALEX, SDSS or VST, VISTA, WISE and Herschel: 21 bands."""
DEEP_BANDS = ("u", "g", "r", "i", "z", "Y", "J", "H", "K", "irac1", "irac2")
"""Like CANDELS': HST's and the ground's, in order of wavelength."""
FAINT = 21.5
"""True magnitude in i from which a galaxy of the narrow bands counts as faint."""
_ZERO_POINTS = np.random.default_rng(45).normal(0.0, 0.03, len(NARROW_BANDS))
"""What the simulated sky's zero points are wrong by [mag]: once and for all, as a survey's are."""


def narrow(n: int, seed: int, data: Path | None) -> Examples:
    """Return galaxies in forty narrow and five broad bands: ``flux_nb455``, ``mag_u``, their errors; truth: z.

    Each has zero points of its own, off by 0.02 mag: what a survey's will be is not known yet.
    """
    offsets = np.random.default_rng((seed, 709)).normal(0.0, 0.02, (n, len(NARROW_BANDS)))
    return _narrow(seds.rows(n, seed, bands=NARROW_BANDS, prior="paus", survey="paus", offsets=offsets), "paus")


def narrow_sky(n: int, seed: int, data: Path | None) -> Examples:
    """Return as `narrow`, of another sky: other galaxies, dust and lines, and zero points that are off."""
    found = seds.rows(n, seed, bands=NARROW_BANDS, prior="paus-sky", survey="paus", offsets=_ZERO_POINTS)
    return _narrow(found, "paus-sky")


def far(n: int, seed: int, data: Path | None) -> Examples:
    """Return nearby galaxies from 0.15 to 500 µm, with their redshifts; truth: log M*, log SFR, log L of dust."""
    found = seds.rows(n, seed, bands=FAR_BANDS, prior="gama", survey="gama")
    columns = {"redshift": found.truth["redshift"]} | found.fluxes(FAR_BANDS)
    return _examples(found, columns, ("log_mass", "log_sfr", "log_dust"), "gama")


def deep(n: int, seed: int, data: Path | None) -> Examples:
    """Return a semi-analytic model's galaxies in CANDELS-like bands; truth: z, log M*, log SFR, log Z."""
    found = seds.rows(n, seed, bands=DEEP_BANDS, prior="sam", survey="candels")
    return _examples(found, found.fluxes(DEEP_BANDS), ("redshift", "log_mass", "log_sfr", "log_metal"), "sam")


def _narrow(found: seds.Galaxies, prior: str) -> Examples:
    columns = found.fluxes(seds_bands.NARROW) | found.magnitudes(NARROW_BANDS[40:])
    made = _examples(found, columns, ("redshift",), prior)
    return replace(made, extra=made.extra | {"faint": made.extra["mag_true_i"] > FAINT})


def _examples(found: seds.Galaxies, columns: dict[str, Floats], names: tuple[str, ...], prior: str) -> Examples:
    """Return examples whose truths are those of the names, and the true magnitude in i for judges to bin by."""
    true = seds_bands.ZERO_POINT - 2.5 * np.log10(found.clean[:, found.bands.index("i")])
    truth = np.stack([found.truth[name] for name in names], axis=1)
    return Examples(dict(columns), truth, data_of(prior), {"mag_true_i": true})
