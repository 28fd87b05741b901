"""What a galaxy swallowed and when, as a joint posterior, from what is seen of it today."""

from broker.models.survey.baselines import forest, knn, linear, train_z
from broker.models.survey.haloes import HISTORIES
from broker.models.survey.heads import Flow
from broker.models.survey.missing import hide
from broker.models.survey.row import Paper, Row, Target, Training, Variant
from broker.models.survey.trunks import Mlp
from broker.sidecar.product import Input, Kind

INPUTS = (
    Input("redshift"),
    Input("log_stellar_mass", "log10(solMass)"),
    Input("log_half_radius", "log10(kpc)", required=False),
    Input("metallicity", "dex", required=False),
    Input("age", "Gyr", required=False),
    Input("g_r", "mag", required=False),
    Input("disc_share", required=False),
)
TARGETS = (
    Target("exsitu_share", low=0.0, high=1.0),
    Target("merger_lookback", "Gyr", low=0.0, high=13.0),
    Target("log_merger_ratio", "dex", low=-4.0, high=0.0),
)

ROW = Row(
    id="merger-cinn",
    summary="share of stars from elsewhere, and time and mass ratio of the last major merger: a joint posterior",
    papers=(Paper("Eisert et al. 2023", "MNRAS 519, 2199"),),
    finding="full posteriors of assembly histories from a row of observables, narrower than the prior and calibrated",
    kind=Kind.CATALOG,
    inputs=INPUTS,
    trunk=Mlp(width=64, depth=3),
    head=Flow(coupling=True, transforms=2),
    targets=TARGETS,
    variants={"sim": Variant(HISTORIES.of(INPUTS, TARGETS), n=20_000)},
    baselines={"forest": forest(100), "knn": knn(50), "linear": linear(), "prior": train_z()},
    training=Training(epochs=25),
    judge="posterior",
    augment=hide(("log_half_radius", "metallicity", "age", "g_r", "disc_share")),
)
