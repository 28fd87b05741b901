"""What a model was trained on is part of every answer; a simulation's prior is part of what it says."""

from broker.models.survey.row import Capability, Paper
from broker.models.survey.trust import simtrain

ROW = Capability(
    id="x-simtrain",
    summary="every answer names the simulator and version that trained its weights",
    papers=(
        Paper("Jacobs et al. 2017", "MNRAS 471, 167"),
        Paper("Vega-Ferrero et al. 2021", "MNRAS 506, 1927"),
    ),
    finding="trained on simulations, used on surveys: the gap between the two must be known",
    show=simtrain.show,
)
