"""Stellar mass, star formation rate and dust luminosity of galaxies with redshifts, from 21 bands."""

from broker.models.survey import library, templates
from broker.models.survey.baselines import boosting
from broker.models.survey.galaxies import FAR_BANDS, far
from broker.models.survey.heads import Point
from broker.models.survey.missing import hide
from broker.models.survey.row import Paper, Row, Target, Training, Variant
from broker.models.survey.trunks_flux import Fluxes
from broker.sidecar.product import Input, Kind

NAMES = ("log_mass", "log_sfr", "log_dust")

ROW = Row(
    id="sps-mlp",
    summary="stellar mass, star formation rate and dust luminosity from 0.15 to 500 µm, with errors",
    papers=(
        Paper("Surana et al. 2020", "MNRAS 493, 4808"),
        Paper("Gilda, Lower & Narayanan 2021 (boosted trees)", "ApJ 916, 43"),
    ),
    finding="as accurate as fitting spectral energy distributions, and a few times as fast",
    kind=Kind.CATALOG,
    inputs=(
        Input("redshift"),
        *(Input(f"flux_{band}", "nJy", required=False) for band in FAR_BANDS),
        *(Input(f"flux_err_{band}", "nJy", required=False) for band in FAR_BANDS),
    ),
    at_least=10,
    trunk=Fluxes(width=128, depth=3),
    head=Point(),
    targets=(
        Target("log_mass", "log10(solMass)", 7.0, 12.5),
        Target("log_sfr", "log10(solMass / yr)", -5.0, 3.5),
        Target("log_dust", "log10(solLum)", 6.0, 13.5),
    ),
    variants={"sim": Variant(far, n=40_000)},
    training=Training(epochs=60, rate=3e-3),
    baselines={
        "sed fit": library.properties(FAR_BANDS, templates.fluxes(FAR_BANDS), NAMES, known_z="redshift"),
        "boosting": boosting(),
    },
    judge="posterior",
    augment=hide(tuple(f"flux_{band}" for band in FAR_BANDS)),
)
