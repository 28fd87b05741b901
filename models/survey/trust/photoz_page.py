"""The page and the picture of pz-bench: Markdown and SVG of its lines."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from broker.models.survey.trust.photoz import Line

FIGURES = ("sigma_nmad", "outliers", "bias", "pit", "cde_loss", "coverage_68_error")
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999")
"""Okabe & Ito (2008): told apart by colour-blind readers."""
TITLE = "# Photometric redshifts side by side"


def page(lines: list[Line], said: str, command: str) -> str:
    """Return the page in Markdown; rows of this tree are in bold."""
    sets = "".join(_set(name, [x for x in lines if x["set"] == name]) for name in _sets(lines))
    return f"""{TITLE}

{said}

Made by `{command}`. Errors are dz / (1 + z); outliers are beyond 0.15, of sdss-mgs beyond 0.05. `pit` is the largest
distance of the posterior's ranks from uniform, `cde_loss` the conditional density loss (less is better), and
`coverage_68_error` how far the central 68 % interval is from holding 68 %. In brackets: 95 % interval, by drawing
records again; of `pit` Massart's band, which begins at 0 where chance alone may have made it. Speeds are of one thread,
all in one run; training on simulated galaxies is loading the weights that ship. Methods without posteriors have no
figures of them.

Galaxies, methods and training are those of the rows' own results, in [the table of all rows](../../survey.md). Of
simulated galaxies so are the figures; of a given set this is the first of its five folds, and there all five are
pooled: figures differ as the intervals let them, and methods whose intervals overlap may stand in another order.

![PIT histograms and bias](pz-bench.svg)
{sets}"""


def picture(lines: list[Line]) -> str:
    """Return an SVG: for each set PIT histograms, and bias by redshift."""
    from matplotlib import use

    use("svg")
    from matplotlib import pyplot as plt

    sets = _sets(lines)
    with plt.rc_context({"svg.hashsalt": "tocsin", "font.size": 8}):
        figure, axes = plt.subplots(len(sets), 2, figsize=(9, 2.6 * len(sets)), squeeze=False)
        for (left, right), name in zip(axes, sets, strict=True):
            _panels(left, right, name, [x for x in lines if x["set"] == name])
        figure.tight_layout()
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None})
        plt.close(figure)
    return out.getvalue()


def _panels(left: Any, right: Any, name: str, lines: list[Line]) -> None:
    for number, line in enumerate(lines):
        style = {"color": COLOURS[number % len(COLOURS)], "lw": 1.6 if line["model"] else 0.9, "label": line["method"]}
        if line["pit"]:
            left.stairs(line["pit"], np.linspace(0, 1, len(line["pit"]) + 1), **style)
        bins = line["by_redshift"]
        right.plot([(b["low"] + b["high"]) / 2 for b in bins], [b["bias"] for b in bins], marker=".", **style)
    left.set(title=f"{name}: PIT", xlabel="rank of the truth", ylabel="density", ylim=(0, 2.5))
    right.set(title=f"{name}: bias by redshift", xlabel="z", ylabel="median dz / (1 + z)")
    right.axhline(0, color="0.7", lw=0.6)
    right.set_ylim(*(np.array([-1, 1]) * _spread(lines)))
    right.legend(fontsize=6, ncol=2)


def _spread(lines: list[Line]) -> float:
    """Return a limit of the bias that trainZ, which is off everywhere, does not set."""
    told = [abs(b["bias"]) for line in lines if line["method"] != "trainz" for b in line["by_redshift"]]
    return 1.2 * float(np.nanmax(told))


def _sets(lines: list[Line]) -> list[str]:
    return list(dict.fromkeys(line["set"] for line in lines))


def _set(name: str, lines: list[Line]) -> str:
    head = " | ".join(FIGURES)
    rows = "".join(
        f"| {_name(line)} | {' | '.join(_figure(line, each) for each in FIGURES)} "
        f"| {line['train_s']:.1f} | {line['galaxies_per_s']:,.0f} |\n"
        for line in lines
    )
    return f"""
## {name}: {lines[0]["galaxies"]:,} galaxies{_share(lines[0])}

| method | {head} | training [s] | galaxies/s |
|---|{"---|" * (len(FIGURES) + 2)}
{rows}
{_bins("redshift", lines)}
{_bins("magnitude", lines)}"""


def _share(line: Line) -> str:
    return f", the first fold of {line['whole']:,}" if line["whole"] else ""


def _bins(by: str, lines: list[Line]) -> str:
    """Return a table of bias and scatter in bins; empty where nothing is known to bin by."""
    bins = lines[0][f"by_{by}"]
    if not bins:
        return ""
    head = " | ".join(f"{b['low']:.3g} to {b['high']:.3g}" for b in bins)

    rows = "".join(f"| {_name(line)} | {' | '.join(_both(b) for b in line[f'by_{by}'])} |\n" for line in lines)
    return f"""Bias and scatter by {by}:

| method | {head} |
|---|{"---|" * len(bins)}
{rows}"""


def _both(one: dict[str, Any]) -> str:
    return f"{one['bias']:+.4f}, {one['sigma_nmad']:.4f}"


def _name(line: Line) -> str:
    return f"**{line['method']}**" if line["model"] else str(line["method"])


def _figure(line: Line, name: str) -> str:
    figure = line["figures"].get(name)
    if figure is None:
        return "–"
    low, high = figure["interval"]
    return f"{figure['value']:.4g} [{low:.3g}, {high:.3g}]"
