"""What all rows on broad-band photometry read: AB magnitudes and errors in ugrizy, whichever there are. n = records."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from broker.models.survey import templates
from broker.models.survey.baselines import boosting, forest, knn, linear, of, train_z
from broker.models.survey.row import Baseline, Columns, Floats
from broker.sidecar.product import Input

BANDS = "ugrizy"
AT_LEAST = 3
"""Inputs of a record: two magnitudes, and a third or an error."""

PHOTOMETRY = (
    *(Input(f"mag_{band}", "mag", required=False) for band in BANDS),
    *(Input(f"mag_err_{band}", "mag", required=False) for band in BANDS),
)

NOISE = 0.7
"""Share of its own error by which a magnitude of training is moved: more of it widens what is learned."""
LOST, UNTOLD = 0.03, 0.05
"""How often a band is lost in training, and all errors are."""
_PER_MAG = 2.5 / np.log(10)


@dataclass(frozen=True, slots=True)
class Photometry:
    """Trunk that reads `PHOTOMETRY` as an astronomer would: magnitudes, colours and how deep each measurement is.

    Attributes
    ----------
    width, depth, dropout
        As of `broker.models.survey.trunks.Mlp`, whose network it builds.
    """

    width: int = 64
    depth: int = 3
    dropout: float = 0.0

    def prepare(self, columns: Columns, inputs: tuple[Input, ...]) -> NDArray[np.float32]:
        """Return (n, 34): magnitudes, colours of neighbouring bands and depths, 0 where missing; a mask of each."""
        bands = [wanted.name.removeprefix("mag_err_") for wanted in inputs if wanted.name.startswith("mag_err_")]
        mag, err = (np.stack([columns[f"{what}_{band}"] for band in bands], axis=1) for what in ("mag", "mag_err"))
        soft, limit = softened(mag.astype(np.float64), err.astype(np.float64))
        values = np.concatenate([soft, soft[:, :-1] - soft[:, 1:], limit], axis=1)
        present = np.isfinite(values)
        return np.concatenate([np.where(present, values, 0.0), present], axis=1, dtype=np.float32)

    def build(self, example: NDArray[Any]) -> Any:
        """Return the network, with the scale of the values that are there."""
        from broker.models.survey.networks.mlp import Mlp as Network

        return Network(example, self.width, self.depth, self.dropout)


def softened(mag: Floats, err: Floats) -> tuple[Floats, Floats]:
    """Return magnitudes that noise cannot drive to any faintness, and 1-sigma limits.

    The magnitudes are Lupton et al.'s (1999), softened by each measurement's own error; as they are where it is not
    told. The limit, the magnitude of the flux's error, tells depth and, where the sky's noise rules, a galaxy's size.

    Parameters
    ----------
    mag, err : array, (n, bands)
        AB; NaN where missing.
    """
    ratio = np.where(err > 0, err, np.nan) / _PER_MAG  # of the flux's error to the flux
    limit = mag - 2.5 * np.log10(ratio)
    soft = limit - _PER_MAG * np.arcsinh(0.5 / ratio)
    return np.where(np.isfinite(soft), soft, mag), limit


def as_observed(columns: Columns, rng: np.random.Generator) -> Columns:
    """Return photometry that could as well have been measured: with more noise; now and then a band or all errors lost.

    Parameters
    ----------
    columns : dict of str to array, (n,)
        Some of `PHOTOMETRY`.
    """
    out = dict(columns)
    n = len(next(iter(columns.values())))
    untold = rng.random(n) < UNTOLD
    for band in measured(columns):
        mag, err = columns[f"mag_{band}"], columns[f"mag_err_{band}"]
        lost = rng.random(n) < LOST
        noise = NOISE * np.clip(np.nan_to_num(err), 0.0, 0.5) * rng.standard_normal(n)
        out[f"mag_{band}"] = np.where(lost, np.nan, mag + noise)
        out[f"mag_err_{band}"] = np.where(lost | untold, np.nan, err)
    return out


def measured(columns: Columns) -> list[str]:
    """Return the bands in which any record has a magnitude, blue to red."""
    return [band for band in BANDS if np.isfinite(columns.get(f"mag_{band}", np.array(np.nan))).any()]


def with_colours(columns: Columns) -> Columns:
    """Return the columns and the colours of neighbouring bands, which trees cannot find by themselves."""
    pairs = pairwise(band for band in BANDS if f"mag_{band}" in columns)
    colours = {f"{blue}-{red}": columns[f"mag_{blue}"] - columns[f"mag_{red}"] for blue, red in pairs}
    return {**columns, **colours}


def nearness(columns: Columns) -> Columns:
    """Return what neighbours are near in: colours, one magnitude, and fluxes as shares of their mean; no errors.

    A distance in an error brings galaxies together that were measured alike, not galaxies that are alike; one in every
    magnitude counts brightness as often as there are bands.
    """
    colours = {name: column for name, column in with_colours(columns).items() if name not in columns}
    brightness = next(({name: columns[name]} for name in ("mag_r", "mag_i") if name in columns), {})
    fluxes = {name: x for name, x in columns.items() if name.startswith("flux_") and "_err_" not in name}
    mean = np.nanmean(list(fluxes.values()), axis=0) if fluxes else 1.0
    return colours | brightness | {name: flux / mean for name, flux in fluxes.items()}


TREES, NEIGHBOURS = 100, 15
BASELINES: dict[str, Baseline] = {
    "forest": of(with_colours, forest(TREES, median=True)),
    "boosting": of(with_colours, boosting(median=True)),
    "knn": of(nearness, knn(NEIGHBOURS, median=True)),
    "linear": of(with_colours, linear()),
    "templates": templates.photo_z(tuple(BANDS)),
    "trainz": train_z(),
}
