"""x-speed: rows and their baselines, timed side by side."""

from __future__ import annotations

from pathlib import Path

from broker.models.survey import bench, registry
from broker.models.survey.progress import silent
from broker.models.survey.row import Finding, Row

SEEN = 2_000
"""Examples that a baseline is fitted to: the speed of a forest or a fit hardly depends on them, that of kNN does."""


def show(seed: int, data: Path | None) -> tuple[list[Finding], str]:
    """Time every row on a simulated set beside each baseline; one thread each. ``data`` is not read."""
    findings = [
        finding
        for row in registry.rows().values()
        if isinstance(row, Row)
        for name, variant in row.variants.items()
        if not variant.real
        for finding in _timed(row, name, seed)
    ]
    ratios = sorted(finding.model / finding.baseline for finding in findings)
    said = (
        f"The network is {ratios[0]:.1f} to {ratios[-1]:,.0f} times as fast as the methods that it is judged by, "
        f"{ratios[len(ratios) // 2]:.0f} times in the median."
    )
    return findings, said


def _timed(row: Row, variant: str, seed: int) -> list[Finding]:
    """Return one finding for each baseline of a variant."""
    from broker.models.survey import serve

    served = serve.load(f"{row.id}@{variant}")
    seen, examples = row.variants[variant].make(SEEN, seed, None), bench.fresh(row, variant, seed, bench.TIMED)
    rates = bench.speeds(served.fitted.answer, bench.baselines(row, seen, seed, silent), examples)
    fast = rates.pop("model")
    return [
        Finding(f"{row.id}@{variant} beside {who}", "records/s", "more", fast, rate, (fast, fast))
        for who, rate in rates.items()
    ]
