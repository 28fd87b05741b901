"""x-speed: rows and their baselines, timed side by side."""

from __future__ import annotations

from pathlib import Path

from broker.models.survey import bench, registry
from broker.models.survey.progress import silent
from broker.models.survey.row import Finding

Rates = dict[str, float]
"""Records per second, of ``model`` and of each baseline."""
CONSTANT = ("trainz", "prior")
"""Names of baselines that say the same of every record: no speed to be beside."""
SEEN = 2_000
"""Examples that a baseline is fitted to: the speed of a forest or a fit hardly depends on them, that of kNN does."""


def show(seed: int, data: Path | None) -> tuple[list[Finding], str]:
    """Time every row on a simulated set, and the methods that it is judged by; one thread each.

    ``data`` is not read.
    """
    timed = {name: _timed(name, seed) for name in registry.simulated(registry.OURS)}
    return [_finding(name, rates) for name, rates in timed.items()], said(list(timed.values()))


def said(timed: list[Rates]) -> str:
    """Say how the rows' networks compare with the slowest and with the fastest method of each."""
    slowest, fastest = (
        sorted(rates["model"] / pick(_others(rates).values()) for rates in timed) for pick in (min, max)
    )
    return (
        f"Networks are {slowest[0]:.2g} to {slowest[-1]:,.0f} times as fast as the slowest method that each is judged "
        f"by, {slowest[len(slowest) // 2]:.2g} times in the median; {_below(slowest)} of {len(timed)} are slower. "
        f"Beside the fastest method, often a formula or a linear fit, {_below(fastest)} of them are."
    )


def _below(ratios: list[float]) -> int:
    return sum(ratio < 1.0 for ratio in ratios)


def _others(rates: Rates) -> Rates:
    return {who: rate for who, rate in rates.items() if who not in ("model", *CONSTANT)}


def _timed(name: str, seed: int) -> Rates:
    """Return the speeds of a variant and of its baselines."""
    from broker.models.survey import serve

    served, (row, variant) = serve.load(name), registry.find(name)
    seen, examples = row.variants[variant].make(SEEN, seed, None), bench.fresh(row, variant, seed, bench.TIMED)
    return bench.speeds(served.fitted.answer, bench.baselines(row, seen, seed, silent), examples)


def _finding(name: str, rates: Rates) -> Finding:
    """Return the speeds of a variant and of its slowest baseline."""
    others, fast = _others(rates), rates["model"]
    slowest = min(others, key=others.__getitem__)
    return Finding(f"{name} beside {slowest}", "records/s", "more", fast, others[slowest], (fast, fast))
