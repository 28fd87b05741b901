"""How much matter the universe has, from one galaxy."""

from broker.models.survey.baselines import boosting, linear, train_z
from broker.models.survey.haloes import OTHER_UNIVERSES, UNIVERSES
from broker.models.survey.heads import Mixture
from broker.models.survey.missing import hide
from broker.models.survey.row import Paper, Row, Target, Training, Variant
from broker.models.survey.scalings import power_law
from broker.models.survey.trunks import Mlp
from broker.sidecar.product import Input, Kind

INPUTS = (
    Input("log_stellar_mass", "log10(solMass)"),
    Input("log_subhalo_mass", "log10(solMass)"),
    Input("log_v_max", "log10(km / s)"),
    Input("log_dispersion", "log10(km / s)"),
    Input("log_stellar_radius", "log10(kpc)"),
    Input("log_half_radius", "log10(kpc)"),
    Input("log_max_radius", "log10(kpc)"),
    Input("stellar_metallicity", "dex"),
    Input("log_gas_mass", "log10(solMass)", required=False),
    Input("gas_metallicity", "dex", required=False),
    Input("log_black_hole_mass", "log10(solMass)", required=False),
    Input("log_sfr", "log10(solMass / yr)", required=False),
    Input("g_r", "mag", required=False),
)
TARGETS = (Target("omega_m", low=0.1, high=0.5),)

ROW = Row(
    id="camels-onegal",
    summary="the density of matter of the universe that one galaxy is of",
    papers=(Paper("Villaescusa-Navarro et al. 2022", "ApJ 929, 132"),),
    finding="single galaxies bear the imprint of the density of matter: to about 10 %, within one code",
    kind=Kind.CATALOG,
    inputs=INPUTS,
    trunk=Mlp(width=96, depth=3),
    head=Mixture(components=4),
    targets=TARGETS,
    variants={
        "sim": Variant(UNIVERSES.of(INPUTS, TARGETS), n=30_000),
        "sim-jet": Variant(OTHER_UNIVERSES.of(INPUTS, TARGETS), n=30_000),
    },
    baselines={
        "boosting": boosting(),
        "power law": power_law(
            "log_gas_mass",
            "log_stellar_mass",
            "stellar_metallicity",
            "log_subhalo_mass",
            "log_v_max",
            logarithmic=False,
        ),
        "linear": linear(),
        "prior": train_z(),
    },
    training=Training(epochs=30, members=2),
    judge="posterior",
    augment=hide(("log_gas_mass", "gas_metallicity", "log_black_hole_mass", "log_sfr", "g_r")),
)
