"""How often a sidecar runs a trunk."""

from __future__ import annotations

import pytest

from broker.core.batch import PacketBatch
from broker.core.metrics import Recorded
from broker.core.topics import Topics
from broker.models.survey.fitted import Trunks
from broker.models.survey.row import Row
from broker.models.survey.serve import Served
from broker.sidecar.answer import Embedded
from broker.sidecar.product import Table
from broker.sidecar.step import Sidecar


def passes(models: list[Served], batch: PacketBatch, monkeypatch: pytest.MonkeyPatch) -> int:
    """Return how often a sidecar that runs the models runs a trunk for a batch."""
    seen: list[int] = []
    embed = Trunks.embed

    def counted(self: Trunks, row: Row, table: Table) -> Embedded:
        seen.extend([len(table)] if len(table) else [])  # none: it asks what an answer looks like
        return embed(self, row, table)

    with monkeypatch.context() as patched:
        patched.setattr(Trunks, "embed", counted)
        outcomes = Sidecar(models, Topics("t"), Recorded(), "test", lambda: 0)(batch)
    assert len(outcomes.records) == len(batch)
    return len(seen)
