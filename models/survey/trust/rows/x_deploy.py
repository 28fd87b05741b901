"""A sidecar that is killed again and again, and still says everything once."""

from broker.models.survey.row import Capability, Paper
from broker.models.survey.trust import deploy

ROW = Capability(
    id="x-deploy",
    summary="every record of a catalogue is answered exactly once, however often the sidecar is killed",
    papers=(Paper("Huertas-Company & Lanusse 2023", "PASA 40, e001, section 7.3.5"),),
    finding="benchmarking and deployment are named as what is missing",
    show=deploy.show,
)
