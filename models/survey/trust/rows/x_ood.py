"""How unlike the training set a record is: a rank in every answer."""

from broker.models.survey.row import Capability, Paper
from broker.models.survey.trust import ood

ROW = Capability(
    id="x-ood",
    summary="a rank in every answer of how unlike the training set its record is",
    papers=(Paper("Huertas-Company & Lanusse 2023", "PASA 40, e001"),),
    finding="networks answer with confidence far from what they were trained on; records there must be told",
    show=ood.show,
)
