"""Simulated galaxies (`broker.models.simulators.seds`) as examples of rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from broker.models.simulators import seds
from broker.models.simulators.seds_priors import PRIORS
from broker.models.survey.row import Columns, Data, Examples


def data_of(*priors: str) -> Data:
    """Return what cards and results say of galaxies of the priors."""
    return Data(seds.ID, seds.VERSION, "; ".join(PRIORS[name].about for name in priors))


def photo_z(n: int, seed: int, data: Path | None) -> Examples:
    """Return hosts as alerts tell of them, deep and shallow ones, in ugrizy: ``mag_u``, ``mag_err_u`` ...; truth: z."""
    columns, truth = seds.hosts(n, seed)
    return Examples(dict(columns), truth["redshift"][:, None], data_of("field", "hosts"))


def examples(found: seds.Galaxies, columns: Columns, names: tuple[str, ...], prior: str) -> Examples:
    """Return examples whose truths are those of the names, for judges with the true magnitude in i or r to bin by."""
    band = "i" if "i" in found.bands else found.bands[0]
    true = 31.4 - 2.5 * np.log10(found.clean[:, found.bands.index(band)])
    truth = np.stack([found.truth[name] for name in names], axis=1)
    return Examples(columns, truth, data_of(prior), {f"mag_true_{band}": true})
