"""Bands with the published central wavelengths and widths, as top-hats with round edges; depths and errors of surveys.

Wavelengths in nm, fluxes in nJy, magnitudes AB.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

ZERO_POINT = 31.4
"""AB magnitude of 1 nJy."""
NODES = 24


@dataclass(frozen=True, slots=True)
class Band:
    """A band: its name, central wavelength and full width at half maximum [nm]; ``edge`` is the part that is round."""

    name: str
    centre: float
    width: float
    edge: float = 0.1

    def response(self, wave: Floats) -> Floats:
        """Return the transmission, 1 in the middle, 1/2 at half the width from the centre."""
        half, soft = 0.5 * self.width, 0.5 * self.edge * self.width
        out = np.clip((np.abs(wave - self.centre) - half) / soft, -1.0, 1.0)
        return np.asarray(0.5 - 0.5 * np.sin(0.5 * np.pi * out))

    @property
    def span(self) -> tuple[float, float]:
        """From where to where it sees anything."""
        reach = 0.5 * self.width * (1.0 + self.edge)
        return self.centre - reach, self.centre + reach

    def nodes(self) -> tuple[Floats, Floats]:
        """Return the edges (NODES + 1,) of cells that are equal in ln λ, and their weights (NODES,), for a mean of f_ν.

        A detector counts photons: f_ν is weighted by response / λ dλ, as AB magnitudes are defined.
        """
        low, high = self.span
        edges = np.geomspace(low, high, NODES + 1)
        weights = self.response(np.sqrt(edges[1:] * edges[:-1]))
        return edges, weights / weights.sum()


def _bands(*rows: tuple[str, float, float]) -> dict[str, Band]:
    return {name: Band(name, centre, width) for name, centre, width in rows}


UGRIZY = ("u", "g", "r", "i", "z", "y")
GAMA = ("fuv", "nuv", "u", "g", "r", "i", "z", "Z", "Y", "J", "H", "K", "w1", "w2", "w3", "w4")
HERSCHEL = ("p100", "p160", "s250", "s350", "s500")
NARROW = tuple(f"nb{centre}" for centre in range(455, 846, 10))
"""The forty bands of PAUS, 12.5 nm wide, named by their centres (Padilla et al. 2019)."""

BANDS = (
    _bands(
        ("u", 368, 48), ("g", 480, 128), ("r", 622, 138), ("i", 755, 126), ("z", 869, 104), ("y", 971, 86),
        ("fuv", 153, 44), ("nuv", 228, 80),  # GALEX (Martin et al. 2005)
        ("Z", 878, 97), ("Y", 1021, 93), ("J", 1254, 172), ("H", 1646, 291), ("K", 2149, 309),  # VISTA
        ("w1", 3368, 663), ("w2", 4618, 1042), ("w3", 12_082, 5506), ("w4", 22_194, 4101),  # WISE (Wright et al. 2010)
        ("p100", 100_000, 33_000), ("p160", 160_000, 70_000),  # Herschel
        ("s250", 250_000, 75_000), ("s350", 350_000, 107_000), ("s500", 500_000, 190_000),
        ("irac1", 3550, 750), ("irac2", 4490, 1015),  # Spitzer
    )
    | {name: Band(name, float(name[2:]), 12.5, 0.15) for name in NARROW}
)  # fmt: skip
"""The bands by name; ugrizy are Rubin's (Ivezić et al. 2019, table 2)."""


@dataclass(frozen=True, slots=True)
class Survey:
    """Depths, and the law of errors.

    Attributes
    ----------
    depth : dict of str to float
        AB magnitude of a signal of five sigma in each band.
    floor : float
        The part of an error that no exposure beats [mag].
    stray : float
        Share of measurements in narrow bands that hold stray light, which their errors do not allow for.
    """

    depth: dict[str, float]
    floor: float = 0.005
    stray: float = 0.0

    def flux_err(self, bands: tuple[str, ...], flux: Floats) -> Floats:
        """Return the 1-sigma errors (n, bands) of fluxes (n, bands) [nJy].

        Ivezić et al. 2019, eq. 5: σ² = (0.04 - γ) x + γ x² with x = 10^(0.4 (m - m5)), γ = 0.039 (0.038 in u), here as
        errors of the flux, with the sky's part alone for what is too faint to see.
        """
        limit = 10 ** (-0.4 * (np.array([self.depth[b] for b in bands]) - ZERO_POINT))
        gamma = np.where(np.array(bands) == "u", 0.038, 0.039)
        bright = np.maximum(flux, 0.0)
        variance = (0.04 - gamma) * bright * limit + gamma * limit**2 + (self.floor * bright) ** 2
        return np.asarray(np.sqrt(variance))

    def observe(self, bands: tuple[str, ...], flux: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """Return fluxes with noise, and the errors that the survey states (n, bands), those of the fluxes it sees.

        Errors of the true fluxes would tell those without noise. Stray light is up to some ten errors, and positive.
        """
        hit = (rng.random(flux.shape) < self.stray) & np.isin(bands, NARROW)
        noise = rng.standard_normal(flux.shape) + np.where(hit, rng.exponential(6.0, flux.shape), 0.0)
        seen = flux + self.flux_err(bands, flux) * noise
        return seen, self.flux_err(bands, seen)


def _same(bands: tuple[str, ...], depth: float) -> dict[str, float]:
    return dict.fromkeys(bands, depth)


SURVEYS = {
    # Rubin after ten years and after one (1.25 mag less)
    "lsst": Survey(dict(zip(UGRIZY, (26.1, 27.4, 27.5, 26.8, 26.1, 24.9), strict=True))),
    "lsst-1yr": Survey(dict(zip(UGRIZY, (24.85, 26.15, 26.25, 25.55, 24.85, 23.65), strict=True))),
    # SDSS in u, Pan-STARRS 3π in the others (Chambers et al. 2016): what alerts say of hosts
    "shallow": Survey(dict(zip(UGRIZY, (22.0, 23.3, 23.2, 23.1, 22.3, 21.4), strict=True)), floor=0.01),
    # narrow bands (Eriksen et al. 2019) with scattered light (Cabayol et al. 2021), and CFHTLenS-like broad ones
    "paus": Survey(
        _same(NARROW, 22.5) | dict(zip(UGRIZY, (25.2, 25.6, 24.9, 24.5, 23.5, 23.0), strict=True)), 0.01, 0.03
    ),
    # matched apertures from the ultraviolet to Herschel (Driver et al. 2016)
    "gama": Survey(
        dict(
            zip(
                GAMA + HERSCHEL,
                (
                    *(23.5, 23.5, 22.0, 23.0, 22.8, 22.3, 20.8, 23.1, 22.3, 22.1, 21.5, 21.4, 20.0, 19.5, 16.9, 14.8),
                    *(12.2, 11.7, 12.7, 12.6, 12.5),
                ),
                strict=True,
            )
        ),
        0.02,
    ),
    # HST and ground, in CANDELS' ACS, WFC3 and IRAC order of wavelength, by the names of like bands
    "candels": Survey(
        dict(
            zip(
                ("u", "g", "r", "i", "z", "Y", "J", "H", "K", "irac1", "irac2"),
                (27.7, 28.3, 28.2, 28.1, 27.9, 27.6, 27.4, 27.2, 25.5, 25.6, 25.4),
                strict=True,
            )
        ),
        0.02,
    ),
}


def magnitudes(flux: Floats, flux_err: Floats) -> tuple[Floats, Floats]:
    """Return AB magnitudes and their errors; NaN where the flux is below one sigma: not detected."""
    seen = flux > flux_err
    safe = np.where(seen, flux, 1.0)
    mag = np.where(seen, ZERO_POINT - 2.5 * np.log10(safe), np.nan)
    return mag, np.where(seen, 2.5 / np.log(10.0) * flux_err / safe, np.nan)
