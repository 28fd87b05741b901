"""Pictures of simulators, drawn as SVG: the same numbers give the same file."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "results" / "survey" / "simulators"
STYLE = {"svg.hashsalt": "tocsin", "svg.fonttype": "none", "font.sans-serif": ["DejaVu Sans"], "font.size": 8}


def draw(path: Path, panels: Sequence[Callable[[Any], None]]) -> None:
    """Write a picture of four panels, each of which draws on the axes that it is given."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9, 6.2), layout="constrained")
        for panel, axes in zip(panels, figure.subplots(2, 2).ravel(), strict=True):
            panel(axes)
        drawn = io.StringIO()
        figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None})
    path.parent.mkdir(parents=True, exist_ok=True)
    # A hundredth of a point is finer than any screen, and halves the file.
    path.write_text(re.sub(r"\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}", drawn.getvalue()))
