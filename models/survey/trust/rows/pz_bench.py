"""All photometric redshifts on one table."""

from broker.models.survey.row import Capability, Paper
from broker.models.survey.trust import photoz

ROW = Capability(
    id="pz-bench",
    summary="every row of photometric redshifts beside forest, neighbours, boosting, templates and trainZ, in one run",
    papers=(Paper("Schmidt et al. 2020", "MNRAS 499, 1587"),),
    finding="networks on photometry are comparable with template codes; trainZ, of no use, does well in PIT",
    show=photoz.show,
    pages=photoz.pages,
)
