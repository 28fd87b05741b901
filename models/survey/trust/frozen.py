"""x-bench: the sets that rows are judged on are frozen, so that the table's figures come out again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from broker.models.survey import bench, registry, table
from broker.models.survey.row import Finding, Row


def show(seed: int, data: Path | None) -> tuple[list[Finding], str]:
    """Make the figures of every simulator's variant again, from the weights that ship.

    ``seed`` and ``data`` change nothing: each result names its own seed, and real sets need training.
    """
    found, rows = table.read_results(table.results_root()), registry.rows(registry.OURS)
    judged = [result for result in found.values() if "metrics" in result and result["row"] in rows]
    simulated = [result for result in judged if not result["data"]["real"]]
    again = [_share(result, result["seed"]) for result in simulated]
    other = [_share(result, result["seed"] + 1) for result in simulated]
    stated = sum(len(row.sets) if isinstance(row, Row) else 1 for row in rows.values())
    done = stated - len([name for name in table.missing(found) if name != "x-bench"])
    findings = [
        Finding("variants and services with a result", "", "more", done, stated, (done, done)),
        _finding("figures that come out equal", again, other),
    ]
    said = (
        f"{len(simulated)} simulated sets, made again by the same seed: equal to four digits. "
        "Without it: the same weights on other examples."
    )
    return findings, said


def _finding(metric: str, again: list[float], other: list[float]) -> Finding:
    mean = 100.0 * sum(again) / max(len(again), 1)
    return Finding(metric, "%", "more", mean, 100.0 * sum(other) / max(len(other), 1), (mean, mean))


def _share(result: dict[str, Any], seed: int) -> float:
    """Return how many of a result's figures come out equal on the examples of ``seed``."""
    from broker.models.survey import serve

    row, variant, wanted = registry.judged(f"{result['row']}@{result['variant']}")
    examples = bench.fresh(row, wanted, seed)
    made = bench.figures(row, serve.load(f"{row.id}@{variant}").fitted.answer(examples.columns), examples)
    equal: list[bool] = [made[name] == figure["model"] for name, figure in result["metrics"].items()]
    return sum(equal) / len(equal)
