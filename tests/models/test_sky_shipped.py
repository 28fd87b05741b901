"""The ZTF weights in the tree, by the command, on bright RR Lyrae as tables have them: a guard, no figure."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from broker.cli.main import tocsin
from broker.core.batch import LightCurves
from broker.core.units import NJY_ZERO_POINT, mag_to_njy
from broker.models.transients.sky import observe, pointings, variables

N = 120


def stars(total: bool) -> LightCurves:
    """Return two seasons of RR Lyrae between magnitudes 14 and 17.5, whole or as differences."""
    rng = np.random.default_rng(11)
    visits = pointings.draw(N, rng)
    light, reference = variables.rr_lyrae(visits.mjd, rng)
    scale = mag_to_njy(rng.uniform(14.0, 17.5, N))
    no = np.zeros(N, bool)
    told = observe.Form(np.full(N, total), no, no, np.full(N, 2 if total else 1), no, no)
    return observe.observe(visits, light * scale[:, None, None], reference * scale[:, None], told, rng)


def magnitudes(curves: LightCurves) -> list[np.ndarray]:
    mag = NJY_ZERO_POINT - 2.5 * np.log10(curves.flux_njy)
    return [mag, 2.5 / np.log(10.0) * curves.flux_err_njy / curves.flux_njy]


def recall(path: Path, names: str, curves: LightCurves, values: list[np.ndarray], *options: str) -> float:
    obj = np.repeat(np.arange(N), curves.counts)
    with path.open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["obj", "mjd", "band", *names.split()])
        lines.writerows(zip(obj, 59000.0 + curves.mjd, np.array(list("gri"))[curves.band], *values, strict=True))
    out = path.with_name("out.csv")
    arguments = ["score", str(path), "--survey", "ztf", "--out", str(out), *options]
    done = CliRunner().invoke(tocsin, arguments)
    assert done.exit_code == 0, done.output
    with out.open() as file:
        rows = list(csv.DictReader(file))
    classes = [name for name in rows[0] if name.startswith("p_") and not name.endswith("_unc")]
    return float(np.mean([max(classes, key=lambda name: float(row[name] or 0.0)) == "p_rrlyrae" for row in rows]))


@pytest.mark.parametrize("baseline", ["auto", "none"])
def test_an_rr_lyrae_is_one_as_magnitudes(baseline: str, tmp_path: Path) -> None:
    curves = stars(total=True)
    found = recall(tmp_path / "a.csv", "mag mag_err", curves, magnitudes(curves), "--baseline", baseline)
    assert found > 0.8


def test_an_rr_lyrae_is_one_as_differences(tmp_path: Path) -> None:
    curves = stars(total=False)
    values = [curves.flux_njy, curves.flux_err_njy]
    assert recall(tmp_path / "a.csv", "flux flux_err", curves, values) > 0.8
    detected = (abs(curves.flux_njy) >= 5.0 * curves.flux_err_njy).astype(int)
    assert recall(tmp_path / "b.csv", "flux flux_err detected", curves, [*values, detected]) > 0.8


def test_an_rr_lyrae_is_one_as_the_last_month_of_its_magnitudes(tmp_path: Path) -> None:
    curves = stars(total=True)
    assert recall(tmp_path / "a.csv", "mag mag_err", curves, magnitudes(curves), "--packet") > 0.65
