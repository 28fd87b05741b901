"""Real sets of photometric redshifts: SDSS main-sample galaxies, and simulated LSST galaxies of DC2 with survey noise.

Both hold AB magnitudes and their 1-sigma errors by the names of the survey models' inputs (``mag_g``, ``mag_err_g``),
and the redshift as truth (n, 1).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from broker.models.survey import real
from broker.models.survey.row import Columns, Data, Examples

SDSS_MGS = Data(
    id="sdss-mgs",
    version="mlz",
    prior="galaxies of the SDSS main sample, r < 17.8, z < 0.28, as common as in the survey",
    real=True,
    licence="SDSS public data; the table of the PyPI package MLZ",
)
DC2 = Data(
    id="dc2",
    version="rail",
    prior="simulated galaxies of LSST's DC2, i < 25.3, z < 3, with the noise of the full survey",
    real=True,
    licence="MIT; the table of the PyPI package pz-rail-base",
)
SDSS_OUTLIER = 0.05
"""|dz| / (1 + z) of an outlier, where the judges' usual 0.15 is half of the set's range."""
_NOT_DETECTED = 90.0  # DC2 writes 99 mag where the flux is not positive


def sdss_mgs(n: int, seed: int, data: Path | None) -> Examples:
    """Return the galaxies of ``sdss_mgs_train.txt``, ugriz; its colours only repeat the magnitudes."""
    columns = np.loadtxt(real.file(data, "sdss_mgs_train.txt"), dtype=np.float64)
    photometry = _photometry("ugriz", columns[:, 1:6], columns[:, 10:15])
    return Examples(photometry, columns[:, :1], SDSS_MGS, {"outlier": np.full(len(columns), SDSS_OUTLIER)})


def dc2(n: int, seed: int, data: Path | None) -> Examples:
    """Return the galaxies of ``rail_dc2_train.parquet``, ugrizy.

    Its ids are left out: they follow the redshift, as no survey's do.
    """
    import pyarrow.parquet as pq

    table = pq.read_table(real.file(data, "rail_dc2_train.parquet"))
    mag, mag_err = (
        np.stack([table[f"{name}_{band}_lsst"].to_numpy() for band in "ugrizy"], axis=1).astype(np.float64)
        for name in ("mag", "mag_err")
    )
    seen = mag < _NOT_DETECTED
    columns = _photometry("ugrizy", np.where(seen, mag, np.nan), np.where(seen, mag_err, np.nan))
    return Examples(columns, table["redshift"].to_numpy()[:, None], DC2)


def _photometry(bands: str, mag: NDArray[np.float64], mag_err: NDArray[np.float64]) -> Columns:
    """Return magnitudes and errors (n, bands) as columns."""
    columns: Columns = {f"mag_{band}": mag[:, k] for k, band in enumerate(bands)}
    return columns | {f"mag_err_{band}": mag_err[:, k] for k, band in enumerate(bands)}
