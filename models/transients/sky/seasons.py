"""How `seasons.json` was made: statistics of ZTF's real pointings, one row per season of a field.

The pointings of June 2018 to September 2022 (760,343 exposures) ship in the PyPI package redback (GPL-3), which is read
as data and never imported. Run ``python -m broker.models.transients.sky.seasons CACHE`` to make the table again.
"""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from broker.models.transients.sky.wheels import POINTINGS, fetch

ROWS = 160
"""Seasons kept, drawn at random among those with at least `LEAST` nights."""
LEAST = 15
QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9, 0.97)
COLUMNS = (
    "length_d",
    *(f"gap_{q}" for q in QUANTILES),
    *(f"{name}_{band}" for band in "gri" for name in ("share", "visits", "depth", "scatter")),
)
"""Days from first to last night; quantiles of the days between nights; per band the share of nights that have it,
visits in such a night, median 5-sigma magnitude and its standard deviation.
"""


def table(wheel: Path, seed: int = 0) -> dict[str, Any]:
    """Return `COLUMNS` and `ROWS` rows of them."""
    rows = [row for field in _fields(wheel) for row in _seasons(field)]
    chosen = np.random.default_rng(seed).choice(len(rows), ROWS, replace=False)
    return {"columns": list(COLUMNS), "rows": [rows[i] for i in np.sort(chosen).tolist()]}


def _fields(wheel: Path) -> list[NDArray[np.float64]]:
    """Return (n, 3) of night, band and depth per field: pointings that agree to half a degree."""
    import pandas as pd

    with zipfile.ZipFile(wheel) as archive, archive.open("redback/tables/ztf.tar.gz") as file:
        visits = pd.read_csv(file, compression="gzip")
    # Palomar's nights lie between 2 h and 14 h UTC.
    night = np.floor(visits["expMJD"] - 0.05)
    band = visits["filter"].map({"ztfg": 0, "ztfr": 1, "ztfi": 2})
    ra, dec = (np.rint(np.degrees(visits[name]) * 2.0) for name in ("_ra", "_dec"))
    columns = np.stack((night, band, visits["fiveSigmaDepth"]), axis=1)
    return [columns[rows] for rows in visits.groupby([ra, dec]).indices.values()]


def _seasons(field: NDArray[np.float64]) -> list[list[float]]:
    nights = np.unique(field[:, 0])
    parts = np.split(nights, np.flatnonzero(np.diff(nights) > 60.0) + 1)
    return [_row(field, part) for part in parts if len(part) >= LEAST and part[-1] - part[0] < 330.0]


def _row(field: NDArray[np.float64], nights: NDArray[np.float64]) -> list[float]:
    season = field[(field[:, 0] >= nights[0]) & (field[:, 0] <= nights[-1])]
    row = [nights[-1] - nights[0], *np.quantile(np.diff(nights), QUANTILES)]
    for band in range(3):
        own = season[season[:, 1] == band]
        seen = len(np.unique(own[:, 0]))
        depth = own[:, 2] if len(own) > 1 else season[:, 2]
        row += [seen / len(nights), len(own) / max(seen, 1), np.median(depth), depth.std()]
    return [round(float(value), 2) for value in row]


if __name__ == "__main__":
    found = table(fetch(POINTINGS, Path(sys.argv[1])))
    rows = ",\n".join(json.dumps(row) for row in found["rows"])
    text = f'{{"columns": {json.dumps(found["columns"])},\n"rows": [\n{rows}\n]}}\n'
    Path(__file__).with_suffix(".json").write_text(text)
