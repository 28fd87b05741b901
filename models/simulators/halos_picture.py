"""Pictures of haloes, groups, galaxies and histories: ``python -m broker.models.simulators.halos_picture``."""

from __future__ import annotations

from typing import Any

import numpy as np

from broker.models.simulators import assembly, halos, halos_galaxies, halos_groups, pictures
from broker.models.simulators.halos import Floats

POINTS = 150


def _mass_function(axes: Any) -> None:
    mass = np.geomspace(1e10, 1e15, 60)
    for z in (0.0, 1.0, 3.0):
        axes.loglog(mass, halos.mass_function(mass, z) * np.log(10.0), lw=1.0, label=f"z = {z:g}")
    axes.set(title="haloes (Sheth & Tormen)", xlabel="mass [M☉]", ylabel="per dex and Mpc³", ylim=(1e-8, 1.0))
    axes.legend(fontsize=7)


def _groups(axes: Any) -> None:
    rows = halos_groups.groups(4_000, 0)
    for low, high in ((2, 3), (3, 10), (10, 1_000)):
        number = np.round(10.0 ** rows["log_richness"])
        of = np.flatnonzero((number >= low) & (number < high))[:POINTS]
        label = "2 members" if high == 3 else f"{low} to {high - 1}" if high < 1_000 else f"{low} and more"
        axes.plot(rows["log_halo_mass"][of], rows["log_stellar_mass"][of], ".", ms=2, label=label)
    axes.set(title="groups as found", xlabel="log10 halo mass [M☉]", ylabel="log10 stellar mass of the members [M☉]")
    axes.legend(fontsize=7)


def _virial(axes: Any) -> None:
    for code in halos_galaxies.CODES:
        rows = halos_galaxies.galaxies(POINTS, 0, code, (0.0, 3.0))
        virial = 2.0 * rows["log_dispersion"] + rows["log_half_radius"] - np.log10(halos.G)
        axes.plot(virial, rows["log_subhalo_mass"], ".", ms=2, label=code)
    axes.set(title="the virial theorem, z = 0 and 3", xlabel="log10 of sigma² R½ / G [M☉]")
    axes.set_ylabel("log10 subhalo mass [M☉]")
    axes.legend(title="code", fontsize=7)


def _baryons(axes: Any) -> None:
    for code in halos_galaxies.CODES:
        rows = halos_galaxies.galaxies(8_000, 0, code)
        baryons = np.log10(10.0 ** rows["log_gas_mass"] + 10.0 ** rows["log_stellar_mass"]) - rows["log_subhalo_mass"]
        _band(axes, rows["omega_m"], baryons, np.linspace(0.1, 0.5, 9), code)
    axes.set(title="baryons in a subhalo: median and 68 %", xlabel="Ωm", ylabel="log10 of their share")
    axes.legend(title="code", fontsize=7)


def _branches(axes: Any) -> None:
    rng = np.random.default_rng(1)
    branch = assembly.grow(np.array([11.8, 12.5, 13.5]), rng)
    merged = assembly.merge(branch, rng)
    for k, colour in enumerate(("C0", "C1", "C2")):
        formed = np.cumsum(branch.formed[k])
        axes.semilogy(branch.time[k], formed, lw=1.0, color=colour, label=f"{np.log10(branch.halo[k, -1]):.1f}")
        own = merged.owner == k
        axes.plot(merged.time[own], merged.stars[own], "o", ms=3, mfc="none", color=colour)
    axes.set(title="stars formed (lines), and brought by mergers", xlabel="age of the universe [Gyr]")
    axes.set(ylabel="mass [M☉]", ylim=(1e6, 1e12))
    axes.legend(title="log10 halo mass [M☉]", fontsize=7)


def _elsewhere(axes: Any) -> None:
    rows = assembly.histories(8_000, 0)
    _band(axes, rows["log_stellar_mass"], rows["exsitu_share"], np.arange(9.5, 12.2, 0.2), "")
    axes.set(title="stars from elsewhere: median and 68 %", xlabel="log10 stellar mass [M☉]", ylabel="share")


def _sizes(axes: Any) -> None:
    rows = assembly.histories(8_000, 0)
    for low, high in ((0.0, 0.1), (0.1, 0.4), (0.4, 1.0)):
        of = np.flatnonzero((rows["exsitu_share"] >= low) & (rows["exsitu_share"] < high))[:POINTS]
        axes.plot(rows["log_stellar_mass"][of], rows["log_half_radius"][of], ".", ms=2, label=f"{low:g} to {high:g}")
    axes.set(title="sizes", xlabel="log10 stellar mass [M☉]", ylabel="log10 half-mass radius [kpc]")
    axes.legend(title="share from elsewhere", fontsize=7)


def _discs(axes: Any) -> None:
    rows = assembly.histories(8_000, 0)
    for least, label in ((-0.6, "ratio above 1:4"), (-9.0, "less")):
        of = (rows["log_merger_ratio"] > least) & ((least > -1.0) | (rows["log_merger_ratio"] < -0.6))
        _band(axes, rows["merger_lookback"][of], rows["disc_share"][of], np.arange(0.0, 9.0), label)
    axes.set(title="discs: median and 68 %", xlabel="since the last major merger [Gyr]", ylabel="share of the stars")
    axes.legend(fontsize=7)


def _band(axes: Any, x: Floats, y: Floats, edges: Floats, label: str) -> None:
    number = np.digitize(x, edges) - 1
    full = [k for k in range(len(edges) - 1) if (number == k).sum() > 20]
    low, middle, high = np.array([np.percentile(y[number == k], [16, 50, 84]) for k in full]).T
    centres = 0.5 * (edges[:-1] + edges[1:])[full]
    axes.plot(centres, middle, "o-", ms=3, lw=1.0, label=label)
    axes.fill_between(centres, low, high, alpha=0.2, lw=0)


if __name__ == "__main__":
    pictures.draw(pictures.FOLDER / "halos.svg", (_mass_function, _groups, _virial, _baryons))
    pictures.draw(pictures.FOLDER / "assembly.svg", (_branches, _elsewhere, _sizes, _discs))
