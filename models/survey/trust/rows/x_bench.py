"""Frozen sets, and one command that prints model, baseline and speed of every row."""

from broker.models.survey.row import Capability, Paper
from broker.models.survey.trust import frozen

ROW = Capability(
    id="x-bench",
    summary="one table of every row beside its baseline, whose figures come out again",
    papers=(
        Paper("Hložek et al. 2020", "arXiv:2012.12392"),
        Paper("Lintott et al. 2008", "MNRAS 389, 1179"),
    ),
    finding="public challenges made methods comparable",
    show=frozen.show,
)
