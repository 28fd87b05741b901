"""Mass of a group's halo from its line in a catalogue of groups."""

from broker.models.survey.baselines import boosting, forest, linear
from broker.models.survey.haloes import GROUPS
from broker.models.survey.heads import Mixture
from broker.models.survey.missing import hide
from broker.models.survey.row import Paper, Row, Target, Training, Variant
from broker.models.survey.scalings import matched, virial
from broker.models.survey.trunks import Mlp
from broker.sidecar.product import Input, Kind

INPUTS = (
    Input("log_richness"),
    Input("log_stellar_mass", "log10(solMass)"),
    Input("log_brightest_mass", "log10(solMass)"),
    Input("mass_gap", "dex", required=False),
    Input("log_dispersion", "log10(km / s)", required=False),
    Input("log_radius", "log10(kpc)", required=False),
    Input("quiescent_share", required=False),
)
TARGETS = (Target("log_halo_mass", "log10(solMass)", low=11.5, high=15.5),)

ROW = Row(
    id="halo-ml",
    summary="mass of a group's halo from its line in a catalogue of groups",
    papers=(Paper("Calderon & Berlind 2019", "MNRAS 490, 2367"),),
    finding="machine learning on all columns is better than abundance matching and dynamical masses",
    kind=Kind.CATALOG,
    inputs=INPUTS,
    trunk=Mlp(width=64, depth=3),
    head=Mixture(components=3),
    targets=TARGETS,
    variants={"sim": Variant(GROUPS.of(INPUTS, TARGETS), n=20_000)},
    baselines={
        "abundance matching": matched("log_stellar_mass"),
        "dynamical mass": virial("log_dispersion", "log_radius"),
        "forest": forest(100),
        "boosting": boosting(),
        "linear": linear(),
    },
    training=Training(epochs=25, members=2),
    judge="posterior",
    augment=hide(("mass_gap", "log_dispersion", "log_radius", "quiescent_share")),
)
