"""Density heads that every row can call, shown to give the posterior where it is known."""

from broker.models.survey.row import Capability, Paper
from broker.models.survey.trust import density

ROW = Capability(
    id="x-density",
    summary="bins, mixtures and flows as posteriors; PIT, CDE loss and TARP to judge them by",
    papers=(
        Paper("Kodi Ramanah et al. 2020", "MNRAS 499, 1985"),
        Paper("Lemos et al. 2023 (TARP)", "ICML 202, 19256"),
    ),
    finding="mixture and flow heads give calibrated posteriors where the truth has several peaks",
    show=density.show,
)
