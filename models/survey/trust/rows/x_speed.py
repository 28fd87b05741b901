"""How much faster a network is than the classical method, on the same records of one run."""

from broker.models.survey.row import Capability, Paper
from broker.models.survey.trust import speed

ROW = Capability(
    id="x-speed",
    summary="records per second of every row and of its baseline, in one run",
    papers=(Paper("Huertas-Company & Lanusse 2023", "PASA 40, e001"),),
    finding="orders of magnitude faster than fitting",
    show=speed.show,
)
