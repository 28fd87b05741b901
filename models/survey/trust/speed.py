"""x-speed: rows and their baselines, timed side by side."""

from __future__ import annotations

from pathlib import Path

from broker.models.survey import bench, registry
from broker.models.survey.progress import silent
from broker.models.survey.row import Finding

SEEN = 2_000
"""Examples that a baseline is fitted to: the speed of a forest or a fit hardly depends on them, that of kNN does."""


def show(seed: int, data: Path | None) -> tuple[list[Finding], str]:
    """Time every row on a simulated set, and the slowest method that it is judged by; one thread each.

    ``data`` is not read.
    """
    findings = [_timed(name, seed) for name in registry.simulated()]
    ratios = sorted(finding.model / finding.baseline for finding in findings)
    said = (
        f"Networks are {ratios[0]:.1f} to {ratios[-1]:,.0f} times as fast as the slowest method that each is judged "
        f"by, {ratios[len(ratios) // 2]:.0f} times in the median: orders of magnitude where that method is a fit. "
        "A closed formula is faster than any network."
    )
    return findings, said


def _timed(name: str, seed: int) -> Finding:
    """Return the speeds of a variant and of its slowest baseline."""
    from broker.models.survey import serve

    served, (row, variant) = serve.load(name), registry.find(name)
    seen, examples = row.variants[variant].make(SEEN, seed, None), bench.fresh(row, variant, seed, bench.TIMED)
    rates = bench.speeds(served.fitted.answer, bench.baselines(row, seen, seed, silent), examples)
    fast = rates.pop("model")
    slowest = min(rates, key=rates.__getitem__)
    return Finding(f"{name} beside {slowest}", "records/s", "more", fast, rates[slowest], (fast, fast))
