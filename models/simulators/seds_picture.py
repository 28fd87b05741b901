"""A picture of simulated galaxies: ``python -m broker.models.simulators.seds_picture``."""

from __future__ import annotations

from typing import Any

import numpy as np

from broker.models.simulators import seds, seds_light, seds_stars, seds_tables
from broker.models.simulators.pictures import FOLDER, draw
from broker.models.simulators.seds_bands import BANDS, GAMA, HERSCHEL, NARROW, UGRIZY, ZERO_POINT


def _stars(axes: Any) -> None:
    seen = slice(0, None, 4)
    for age in (1e7, 1e8, 1e9, 1e10):
        spectrum = seds_stars.simple(age, 1.0) * seds_stars.WAVE
        axes.loglog(seds_stars.WAVE[seen], spectrum[seen], lw=0.8, label=f"{age / 1e6:g} Myr")
    axes.set(title="stars of one age, solar metals", xlabel="wavelength [nm]", xlim=(91, 5000), ylim=(1e-3, 300))
    axes.set_ylabel("λ L(λ) of a solar mass [L☉]")
    axes.legend(fontsize=7)


def _narrow(axes: Any) -> None:
    found = seds.rows(300, 5, bands=NARROW + UGRIZY, prior="paus", survey="paus")
    brightness = ZERO_POINT - 2.5 * np.log10(found.clean[:, found.bands.index("i")])
    k = int(np.argmax((brightness > 20.5) & (brightness < 21.5) & (np.abs(found.truth["redshift"] - 0.25) < 0.05)))
    for bands, fmt in ((NARROW, "k."), (UGRIZY[:5], "rs")):
        flux, err = found.pick(bands)
        centres = [BANDS[b].centre for b in bands]
        axes.errorbar(centres, flux[k] / 1e3, err[k] / 1e3, fmt=fmt, ms=3, lw=0.7)
    z = found.truth["redshift"][k]
    for wave, name in ((372.7, "OII"), (486.1, "Hβ"), (500.7, "OIII"), (656.3, "Hα")):
        axes.axvline(wave * (1 + z), color="0.7", lw=0.6, zorder=0)
        axes.text(wave * (1 + z), 1.0, name, transform=axes.get_xaxis_transform(), fontsize=6, va="bottom")
    axes.set(xlabel="wavelength [nm]", ylabel="flux [µJy]", xlim=(340, 920))
    axes.set_title(f"forty narrow and five broad bands, z = {z:.2f}", pad=12)


def _far(axes: Any) -> None:
    bands = GAMA + HERSCHEL
    found = seds.rows(300, 6, bands=bands, prior="gama", survey="gama")
    quiet = found.truth["log_sfr"] - found.truth["log_mass"] < -11
    for kind, colour, label in ((quiet, "C3", "quiescent"), (~quiet, "C0", "star-forming")):
        scaled = found.clean[kind] / found.clean[kind][:, 4:5]
        low, middle, high = np.percentile(scaled, [16, 50, 84], axis=0)
        centres = [BANDS[b].centre / 1e3 for b in bands]
        order = np.argsort(centres)
        x = np.array(centres)[order]
        axes.loglog(x, middle[order], "o-", ms=2, lw=0.8, color=colour, label=label)
        axes.fill_between(x, np.maximum(low[order], 1e-4), high[order], color=colour, alpha=0.2, lw=0)
    axes.set(title="21 bands, r < 19.8: median and 68 %", xlabel="wavelength [µm]", ylabel="flux over that in r")
    axes.set_ylim(1e-3, 3e3)
    axes.legend(fontsize=7)


def _colours(axes: Any) -> None:
    z = np.expm1(np.arange(0.01, 1.6, 0.01))
    for label, bin_, av in (
        ("9 to 14 Gyr", -1, 0.0),
        ("0.1 to 0.25 Gyr", 4, 0.0),
        ("0.1 to 0.25 Gyr, A(V) = 1", 4, 1.0),
    ):
        formed = np.zeros((len(z), len(seds_stars.EDGES) - 1))
        formed[:, bin_] = 1e10
        same = np.zeros_like(z)
        light = seds_tables.Light(z, formed, same, same + av, same, same, same, same + 22.0, same, same)
        flux = seds_tables.fluxes(light, ("g", "r"))
        axes.plot(z, -2.5 * np.log10(flux[:, 0] / flux[:, 1]), lw=1.0, label=label)
    axes.set(title="colour with redshift", xlabel="redshift", ylabel="g - r [mag]", ylim=(-0.6, 3.5))
    passed = seds_light.transmission(np.array([480.0]), z)
    axes.plot(z, passed - 0.5, color="0.6", lw=0.8, label="hydrogen lets through at 480 nm, - 0.5")
    axes.legend(fontsize=6)


if __name__ == "__main__":
    draw(FOLDER / "seds.svg", (_stars, _narrow, _far, _colours))
