"""The table of all rows, ``models/results/survey.md``: made from the rows' files and the results of their benches."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

from broker.models.survey import registry
from broker.models.survey.row import Capability, Finding, Paper, Row

Found = dict[str, Any]
CAPABILITY = "shown"
"""Takes the place of a variant in the name of a capability's result."""

HEADLINES = {
    "photo-z": ("sigma_nmad", "outliers", "cde_loss", "pit"),
    "posterior": ("rmse", "tarp", "pit"),
    "classes": ("accuracy", "auroc", "log_loss"),
}
"""Figures that the table prints, by the row's judge; a figure of one of several targets ends in these."""


def results_root(package: str = registry.OURS) -> Path:
    """Return the installed folder of results; that of other packages' rows is ``results``, wherever they are judged."""
    return Path(str(files("broker") / "models" / "results")) if package == registry.OURS else Path("results")


def path(root: Path, row: str, variant: str) -> Path:
    """Return where the result of a variant lies."""
    return root / "survey" / row / f"{variant}.json"


def write_result(root: Path, found: Found) -> Path:
    """Write the result of a bench; return its path."""
    place = path(root, found["row"], found["variant"])
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    return place


def read_results(root: Path) -> dict[tuple[str, str], Found]:
    """Return all results by (row, variant)."""
    found = (json.loads(place.read_text()) for place in sorted((root / "survey").glob("*/*.json")))
    return {(result["row"], result["variant"]): result for result in found}


def shown(row: Capability, findings: list[Finding], said: str, seed: int, seconds: float) -> Found:
    """Return the result of a capability, as it is written to a file."""
    return {
        "row": row.id,
        "variant": CAPABILITY,
        "seed": seed,
        "said": said,
        "findings": [asdict(finding) for finding in findings],
        "seconds": round(seconds, 1),
        "command": f"tocsin bench survey {row.id} --seed {seed}",
    }


def missing(found: Mapping[tuple[str, str], Found], package: str = registry.OURS) -> list[str]:
    """Return the names of what has no result yet: all that a package's rows are judged on, and every capability."""
    wanted = [
        (name, variant)
        for name, row in registry.rows(package).items()
        for variant in ([CAPABILITY] if isinstance(row, Capability) else row.sets)
    ]
    return [
        row if variant == CAPABILITY else f"{row}@{variant}" for row, variant in wanted if (row, variant) not in found
    ]


def text(found: Mapping[tuple[str, str], Found], package: str = registry.OURS) -> str:
    """Return the page of a package's rows."""
    rows = registry.rows(package)
    models = "".join(_model_lines(row, found) for row in rows.values() if isinstance(row, Row))
    capabilities = "".join(_capability_lines(row, found) for row in rows.values() if isinstance(row, Capability))
    return f"""# Survey models beside the stream

One line per row and figure, made by `tocsin bench survey x-bench` out of the results in [`survey/`](survey/); each
result names the command that makes it again. A simulator's variant is judged with the weights that ship, on 5,000
fresh examples; a real set by five folds, pooled out of fold, with networks trained for each fold; a set that only
judges, by the shipped weights of the variant that is named with it, which were not trained on any of it.

Sizes, epochs and the like of the rows were chosen on seed 0; the figures are of seed 1. Of simulators these are other
examples, but of a real set other folds of the same galaxies: its figures may be a little too good. By sets that only
judge nothing was chosen.

In brackets: 95 % interval, by drawing records again. `pit` and `tarp` are the largest distance of a posterior's ranks
from uniform, with an interval (Massart's band) that begins at 0 where chance alone may have made it. Of a row's
baselines the first is printed, and the best if that is another. Speeds are of one thread, model and baseline on the
same records of a run. **Toy**: the simulator stands for a physical one that is out of reach; believe the method, not
the number. The last column is what the papers or the review report, on their data: no figure of a toy is comparable
with it. **Given** sets are real, but for DC2, which others simulated. Where a row answers not all records, the set
says how many; all figures, the baselines' too, are of those.

| row | set | figure | model | baseline | records/s: model, baseline | reported |
|---|---|---|---|---|---|---|
{models}
## What serves the rows

| row | figure | with it | without, or baseline | what it says |
|---|---|---|---|---|
{capabilities}
## Papers

{_papers(rows)}"""


def _model_lines(row: Row, found: Mapping[tuple[str, str], Found]) -> str:
    lines = ""
    for variant in row.sets:
        if (result := found.get((row.id, variant))) is not None:
            for number, name in enumerate(_headlines(row, result)):
                lines += _model_line(row, result, name, first=number == 0)
    return lines


def _headlines(row: Row, result: Found) -> list[str]:
    wanted = HEADLINES[row.judge]
    return [name for name in result["metrics"] if name.split()[-1] in wanted]


def _model_line(row: Row, result: Found, name: str, *, first: bool) -> str:
    figure, speeds = result["metrics"][name], result["records_per_s"]
    main = next((each for each in speeds if each != "model"), "")
    fast = f"{speeds['model']:,.0f}, {speeds[main]:,.0f} ({main})" if first and main else ""
    data = f"{result['data']['id']} {result['data']['version']}"
    kind = "**toy**" if result["data"]["toy"] else "given" if result["data"]["real"] else "simulated"
    of = f", weights of {row.unseen[result['variant']].of}" if result["variant"] in row.unseen else ""
    share = result["metrics"].get("answered", {"model": 100.0})["model"]
    some = "" if share == 100.0 else f", {share:.4g} % answered"
    lead = [row.id, f"{result['variant']}: {data}, {kind}{of}{some}"] if first else ["", ""]
    low, high = figure["interval"]
    said = f"{_number(figure['model'])} [{_number(low)}, {_number(high)}]"
    title = f"{name}{' [' + figure['unit'] + ']' if figure['unit'] else ''}, {figure['better']} is better"
    return f"| {' | '.join([*lead, title, said, _baselines(figure), fast, row.finding if first else ''])} |\n"


def _baselines(figure: Found) -> str:
    """Return the row's first baseline, which the papers compare with, and the best one if it is another."""
    values = figure["baselines"]
    if not values:
        return "–"
    best = (min if figure["better"] == "less" else max)(values, key=values.__getitem__)
    return ", ".join(f"{_number(values[who])} ({who})" for who in dict.fromkeys((next(iter(values)), best)))


def _capability_lines(row: Capability, found: Mapping[tuple[str, str], Found]) -> str:
    result = found.get((row.id, CAPABILITY))
    if result is None:
        return ""
    lines = ""
    for number, finding in enumerate(result["findings"]):
        title = f"{finding['metric']}{' [' + finding['unit'] + ']' if finding['unit'] else ''}"
        values = [title, _number(finding["model"]), _number(finding["baseline"])]
        lines += f"| {' | '.join([row.id if number == 0 else '', *values, result['said'] if number == 0 else ''])} |\n"
    return lines


def _papers(rows: Mapping[str, Row | Capability]) -> str:
    return "".join(f"- **{row.id}**, {row.summary}: {'; '.join(map(_paper, row.papers))}\n" for row in rows.values())


def _paper(paper: Paper) -> str:
    return f"{paper.citation} ({paper.reference})"


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
