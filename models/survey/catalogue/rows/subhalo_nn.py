"""Mass of a galaxy's subhalo from the galaxy's row: a virial theorem that a network learns."""

from broker.models.survey.baselines import boosting, linear
from broker.models.survey.haloes import OTHER_SUBHALOES, SUBHALOES
from broker.models.survey.heads import Mixture
from broker.models.survey.missing import hide
from broker.models.survey.row import Paper, Row, Target, Training, Variant
from broker.models.survey.scalings import power_law, virial
from broker.models.survey.trunks import Mlp
from broker.sidecar.product import Input, Kind

INPUTS = (
    Input("log_v_max", "log10(km / s)"),
    Input("log_dispersion", "log10(km / s)"),
    Input("log_half_radius", "log10(kpc)"),
    Input("log_stellar_mass", "log10(solMass)", required=False),
    Input("stellar_metallicity", "dex", required=False),
    Input("log_black_hole_mass", "log10(solMass)", required=False),
    Input("log_sfr", "log10(solMass / yr)", required=False),
    Input("g_r", "mag", required=False),
)
TARGETS = (Target("log_subhalo_mass", "log10(solMass)", low=8.5, high=14.0),)

ROW = Row(
    id="subhalo-nn",
    summary="mass of a galaxy's subhalo from its velocities, radius and stars",
    papers=(Paper("Shao et al. 2022 (CAMELS)", "ApJ 927, 85"),),
    finding="over 99 % within 0.2 dex, at all redshifts, codes and cosmologies: a generalised virial theorem",
    kind=Kind.CATALOG,
    inputs=INPUTS,
    trunk=Mlp(width=64, depth=3),
    head=Mixture(components=3),
    targets=TARGETS,
    variants={
        "sim": Variant(SUBHALOES.of(INPUTS, TARGETS), n=20_000),
        "sim-jet": Variant(OTHER_SUBHALOES.of(INPUTS, TARGETS), n=20_000),
    },
    baselines={
        "virial theorem": virial("log_dispersion", "log_half_radius"),
        "power law": power_law("log_v_max", "log_dispersion", "log_half_radius"),
        "boosting": boosting(),
        "linear": linear(),
    },
    training=Training(epochs=40, rate=6e-3, members=2),
    judge="posterior",
    augment=hide(("log_stellar_mass", "stellar_metallicity", "log_black_hole_mass", "log_sfr", "g_r")),
)
