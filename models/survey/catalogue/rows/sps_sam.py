"""Redshift, stellar mass, star formation rate and metallicity of deep galaxies, learned on a model of how they form."""

from broker.models.survey import library, templates
from broker.models.survey.baselines import boosting
from broker.models.survey.galaxies import DEEP_BANDS, deep
from broker.models.survey.heads import Mixture
from broker.models.survey.missing import hide
from broker.models.survey.row import Paper, Row, Target, Training, Variant
from broker.models.survey.trunks_flux import Fluxes
from broker.sidecar.product import Input, Kind

NAMES = ("redshift", "log_mass", "log_sfr", "log_metal")

ROW = Row(
    id="sps-sam",
    summary="redshift, stellar mass, star formation rate and metallicity together, from eleven bands",
    papers=(Paper("Simet et al. 2019", "ApJ 908, 47"),),
    finding="networks that learn from mocks of a semi-analytic model compete with template fitting",
    kind=Kind.CATALOG,
    inputs=(
        *(Input(f"flux_{band}", "nJy", required=False) for band in DEEP_BANDS),
        *(Input(f"flux_err_{band}", "nJy", required=False) for band in DEEP_BANDS),
    ),
    at_least=8,
    trunk=Fluxes(width=128, depth=3),
    head=Mixture(components=4),
    targets=(
        Target("redshift", "", 0.0, 4.2),
        Target("log_mass", "log10(solMass)", 7.5, 12.5),
        Target("log_sfr", "log10(solMass / yr)", -5.0, 4.0),
        Target("log_metal", "dex", -1.4, 0.5),
    ),
    variants={"sim": Variant(deep, n=40_000)},
    training=Training(epochs=60, rate=3e-3),
    baselines={
        "template fit": library.properties(DEEP_BANDS, templates.fluxes(DEEP_BANDS), NAMES),
        "boosting": boosting(),
    },
    judge="posterior",
    augment=hide(tuple(f"flux_{band}" for band in DEEP_BANDS)),
)
