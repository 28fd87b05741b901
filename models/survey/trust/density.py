"""x-density: the heads' densities beside posteriors that are known.

The toy is the distance of a point from the origin: theta uniform in a square (d targets), and one measurement of its
squared length with Gaussian noise. The posterior is two peaks for d = 1, a ring for d = 2; no Gaussian is near it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from broker.models.survey import judge, posterior
from broker.models.survey.heads import Bins, Flow, Head, Mixture, Point
from broker.models.survey.judge import Figure
from broker.models.survey.row import Data, Examples, Finding, Floats, Row, Target, Training, Variant
from broker.models.survey.trunks import Mlp
from broker.sidecar.answer import Output
from broker.sidecar.product import Input, Kind

SIDE, NOISE = 1.5, 0.15
"""Half of the square's side; 1-sigma error of the measured square."""
TRAIN, TEST = 12_000, 5_000
HEADS: dict[str, Head] = {
    "bins": Bins(bins=60, smoothing=0.7),
    "mixture": Mixture(components=6),
    "flow": Flow(hidden=32, samples=256),
}
JOINT = Flow(hidden=32, samples=128)
TOY = Data("squared-length", "1", "theta uniform in a square around the origin")


def show(seed: int, data: Path | None) -> tuple[list[Finding], str]:
    """Train every head on the toy and compare with its posterior; ``data`` is not read."""
    test = examples(1, TEST, seed + 1000)
    truth, exact = test.truth[:, 0], exact_posterior(test.columns["square"])
    gauss = _figures(fitted(Point(), 1, seed, test)[0], truth, exact)
    findings = [
        _finding(f"{metric}, {name}", figure, gauss[metric])
        for name, head in HEADS.items()
        for metric, figure in _figures(fitted(head, 1, seed, test)[0], truth, exact).items()
    ]
    findings.append(_joint(seed))
    above = max(finding.model for finding in findings if finding.metric.startswith("CDE"))
    own = float(posterior.deviation(posterior.pit(exact, truth)))
    said = (
        f"Two-peaked posteriors beside a Gaussian's: bins, mixture and flow are within {above:.3f} of the true "
        f"posterior's CDE loss. The truth's own ranks deviate by {own:.3f} on these records. TARP's baseline is "
        "the flow's own marginals, drawn one by one."
    )
    return findings, said


def examples(d: int, n: int, seed: int) -> Examples:
    """Return measured squares (n,), and truths (n, d)."""
    rng = np.random.default_rng(seed)
    theta = rng.uniform(-SIDE, SIDE, (n, d))
    return Examples({"square": np.sum(theta**2, axis=1) + NOISE * rng.normal(size=n)}, theta, TOY)


def exact_posterior(square: Floats) -> Output:
    """Return the posterior (n, 601) of one target on a grid, for measured squares (n,)."""
    grid = np.linspace(-SIDE, SIDE, 601)
    log_pdf = -0.5 * ((square[:, None] - grid**2) / NOISE) ** 2
    pdf = np.exp(log_pdf - log_pdf.max(axis=1, keepdims=True))
    pdf /= np.trapezoid(pdf, grid, axis=1)[:, None]
    blank = np.zeros(len(square))
    return Output("theta", "", "grid", blank, blank, {"grid": grid, "pdf": pdf})


def fitted(head: Head, d: int, seed: int, test: Examples) -> tuple[Output, ...]:
    """Return the outputs of a head that is trained on the toy, for test examples."""
    from broker.models.survey import train  # torch

    row = Row(
        id="toy", summary="", papers=(), finding="", kind=Kind.CATALOG, inputs=(Input("square"),),
        trunk=Mlp(width=64, depth=2), head=head, judge="posterior", baselines={}, variants={"sim": Variant(_toy)},
        targets=tuple(Target(f"theta_{i}", low=-SIDE, high=SIDE) for i in range(d)), training=Training(epochs=30),
    )  # fmt: skip
    return train.fit(row, examples(d, TRAIN, seed), seed).answer(test.columns).outputs


def _toy(n: int, seed: int, data: Path | None) -> Examples:
    return examples(1, n, seed)


def _figures(output: Output, truth: Floats, exact: Output) -> dict[str, Figure]:
    """Return how far the ranks are from uniform, and the CDE loss that the true posterior does not have."""
    above = posterior.cde_loss(output, truth) - posterior.cde_loss(exact, truth)
    return {
        "PIT deviation": judge.uniform(posterior.pit(output, truth)),
        "CDE loss above the truth's": judge.figure(above, judge.mean, "", "less"),
    }


def _joint(seed: int) -> Finding:
    """Return TARP of a joint flow, and of the same samples with each target's in an order of its own."""
    test = examples(2, TEST, seed + 2000)
    samples = np.stack([output.parts["samples"] for output in fitted(JOINT, 2, seed, test)], axis=2)
    apart = samples.copy()
    np.random.default_rng(seed).shuffle(apart[:, :, 1], axis=1)
    ours, theirs = (judge.uniform(posterior.tarp(drawn, test.truth, seed)) for drawn in (samples, apart))
    return _finding("TARP deviation, joint flow", ours, theirs)


def _finding(metric: str, model: Figure, baseline: Figure) -> Finding:
    return Finding(metric, model.unit, model.better, model.value, baseline.value, model.interval())
