"""x-ood: how unlike the training set a record is, as every answer tells, on sets that are shifted on purpose.

The sets are fresh galaxies of the simulator that trained the row, and the same with something wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import NormalDist

import numpy as np

from broker.models.survey import bench, judge, registry
from broker.models.survey.row import Columns, Finding, Floats
from broker.sidecar.answer import Answer

ROW_OF_IT, VARIANT = "pz-mdn", "sim"
RECORDS = 4000
WAVELENGTHS = {"u": 367.0, "g": 483.0, "r": 622.0, "i": 755.0, "z": 869.0, "y": 971.0}
"""Of LSST's bands [nm]."""
UNLIKE = 0.99
"""Rank above which a record is called unlike the training set: one in a hundred of those that are like it."""


def show(seed: int, data: Path | None) -> tuple[list[Finding], str]:
    """Judge the ranks of the row's weights that ship beside the largest z-score of a column. ``data`` is not read."""
    row, variant = registry.find(f"{ROW_OF_IT}@{VARIANT}")
    from broker.models.survey import serve  # torch, which rows are stated without

    served = serve.load(f"{ROW_OF_IT}@{VARIANT}")
    seen, fresh = (bench.fresh(row, variant, seed + k, RECORDS).columns for k in (1, 0))
    findings = measured(served.fitted.answer, seen, fresh, seed)
    areas = {finding.metric.removeprefix("AUROC, "): finding.model for finding in findings[:-1]}
    worst, best = (pick(areas, key=areas.__getitem__) for pick in (min, max))
    said = (
        f"The rank separates shifted galaxies from like ones, worst {worst} ({areas[worst]:.2f}) and best {best} "
        f"({areas[best]:.2f}). What galaxies' own colours can mimic, it cannot find."
    )
    return findings, said


def measured(answer: Callable[[Columns], Answer], seen: Columns, fresh: Columns, seed: int) -> list[Finding]:
    """Return an area under the ROC curve for each of `SHIFTS`, and last the calibration.

    Parameters
    ----------
    answer : callable
        Of the row.
    seen, fresh : dict of str to array, (n,)
        Photometry of the training set's kind: the baseline knows the first, the second is shifted.
    """
    rng = np.random.default_rng(seed)
    own, others = answer(fresh).out_of_domain, z_score(seen, fresh)
    findings = []
    for name, shift in SHIFTS.items():
        wrong = shift(fresh, rng)
        ours = _separation(own, answer(wrong).out_of_domain)
        findings.append(_finding(f"AUROC, {name}", ours, _separation(others, z_score(seen, wrong))))
    limit = NormalDist().inv_cdf(1.0 - 0.5 * (1.0 - UNLIKE) / len(seen))  # were the columns Gaussian and independent
    ours, theirs = (
        judge.figure(100.0 * flagged, _off_one, "%", "less")
        for flagged in (own[np.isfinite(own)] > UNLIKE, others > limit)
    )
    return [*findings, _finding("share of like records above 0.99, off 1 %", ours, theirs)]


def z_score(seen: Columns, columns: Columns) -> Floats:
    """Return the largest distance of a record's columns (n,) from their means, in standard deviations."""
    scores = [np.abs(columns[name] - np.nanmean(x)) / np.nanstd(x) for name, x in seen.items()]
    largest: Floats = np.nan_to_num(scores).max(axis=0)
    return largest


def zero_point(columns: Columns, rng: np.random.Generator) -> Columns:
    """Return g half a magnitude too bright."""
    return {**columns, "mag_g": columns["mag_g"] - 0.5}


def swapped(columns: Columns, rng: np.random.Generator) -> Columns:
    """Return g as z and z as g."""
    return {**columns, "mag_g": columns["mag_z"], "mag_z": columns["mag_g"]}


def one_bad(columns: Columns, rng: np.random.Generator) -> Columns:
    """Return one band of each record a magnitude too bright or too faint."""
    n = len(columns["mag_g"])
    bad, sign = rng.integers(0, len(WAVELENGTHS), n), rng.choice([-1.0, 1.0], n)
    return {
        **columns,
        **{f"mag_{band}": columns[f"mag_{band}"] + sign * (bad == k) for k, band in enumerate(WAVELENGTHS)},
    }


def stars(columns: Columns, rng: np.random.Generator) -> Columns:
    """Return black bodies of 3,000 to 9,000 K, as bright in i, with each band's own error."""
    kelvin = rng.uniform(3000.0, 9000.0, len(columns["mag_i"]))
    bodies = {band: wave**-3 / np.expm1(1.4388e7 / (wave * kelvin)) for band, wave in WAVELENGTHS.items()}
    found = dict(columns)
    for band, light in bodies.items():
        noise = np.clip(np.nan_to_num(columns[f"mag_err_{band}"]), 0.0, 0.5) * rng.normal(size=len(kelvin))
        colour = -2.5 * np.log10(light / bodies["i"]) + noise
        found[f"mag_{band}"] = np.where(np.isfinite(columns[f"mag_{band}"]), columns["mag_i"] + colour, np.nan)
    return found


def quasars(columns: Columns, rng: np.random.Generator) -> Columns:
    """Return galaxies with as much light in i again from a nucleus, whose flux goes as the wavelength's root."""
    found = dict(columns)
    for band, wave in WAVELENGTHS.items():
        share = (wave / WAVELENGTHS["i"]) ** 0.5 * 10.0 ** (-0.4 * (columns["mag_i"] - columns[f"mag_{band}"]))
        found[f"mag_{band}"] = columns[f"mag_{band}"] - 2.5 * np.log10(1.0 + share)
        found[f"mag_err_{band}"] = columns[f"mag_err_{band}"] / (1.0 + share)
    return found


SHIFTS: dict[str, Callable[[Columns, np.random.Generator], Columns]] = {
    "zero point of g 0.5 mag off": zero_point,
    "g and z swapped": swapped,
    "one band 1 mag off": one_bad,
    "stars": stars,
    "quasar light": quasars,
}


def _separation(like: Floats, unlike: Floats) -> judge.Figure:
    scores = np.concatenate((like, unlike))
    pairs = np.stack((scores, np.arange(len(scores)) >= len(like)), axis=1)
    return judge.figure(pairs[np.isfinite(scores)], _areas, "", "more")


def _areas(pairs: Floats) -> Floats:
    """Return the area under the ROC curve (...) of pairs (..., n, 2) of a score and whether it is to be found."""
    if pairs.ndim == 3:
        return np.array([_areas(one) for one in pairs])
    return np.asarray(judge.auroc(pairs[:, 0], pairs[:, 1] > 0))


def _off_one(flagged: Floats) -> Floats:
    off: Floats = np.abs(np.mean(flagged, axis=-1) - 1.0)
    return off


def _finding(metric: str, model: judge.Figure, baseline: judge.Figure) -> Finding:
    return Finding(metric, model.unit, model.better, model.value, baseline.value, model.interval())
