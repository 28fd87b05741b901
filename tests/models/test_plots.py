from __future__ import annotations

from pathlib import Path

import numpy as np

from broker.models.transients.protocols import plots

x = np.linspace(0, 1, 20)


def drawn(folder: Path) -> dict[str, bytes]:
    """Draw one of each; return the files' bytes."""
    rng = np.random.default_rng(0)
    names = tuple(f"class {k}" for k in range(14))
    plots.confusion(folder / "confusion.svg", rng.integers(0, 50, (14, 14)), names)
    plots.early_curves(folder / "early.svg", (0, 2, 5, 10), {name: rng.random(4) for name in names}, "AUC")
    plots.reliability(folder / "reliability.svg", {"a": (x, x**2), "b": (x, x)})
    plots.roc(folder / "roc.svg", {"a": (x, x**0.5)})
    plots.ranking(folder / "ranking.svg", {"a": (x, x**0.5), "b": (x, x)})
    plots.errors(folder / "errors.svg", {"a": x, "b": x**2})
    plots.labelled(folder / "labelled.svg", {"a": (0.1, 0.5), "b": (2.0, 0.7)}, ("ms", "loss"))
    curve = plots.Curve("one", ("g", "r"), {"g": rng.random((3, 5))}, x, rng.random((2, 20)), rng.random((2, 20)))
    plots.gp_examples(folder / "gp.svg", [curve] * 4)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_plots_are_small_and_the_same_each_time(tmp_path: Path) -> None:
    first = drawn(tmp_path)
    assert len(first) == 8
    for name, data in first.items():
        assert len(data) < 60_000, name
        assert b"<dc:date>" not in data
    for other, same in ((x**0.5, True), (x, False)):
        plots.roc(tmp_path / "roc.svg", {"a": (x, other)})
        assert ((tmp_path / "roc.svg").read_bytes() == first["roc.svg"]) is same
