"""The PLAsTiCC training set, read from a package on PyPI, as the broker's own light curves.

The set (7,848 objects, 14 classes, ugrizy, data CC-BY-4.0) ships inside the wheel ``snmachine`` 2.0.0.post3 (BSD-3).
The same wheel holds 5,000 supernovae of the test set; protocol E alone reads them: never train or choose by them.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from broker.core.batch import Floats, Ints, Kind, LightCurves
from broker.core.errors import TocsinError
from broker.core.taxonomy import BY_PLASTICC, CLASSES
from broker.core.units import NJY_ZERO_POINT, PLASTICC_ZERO_POINT

WHEEL = "snmachine-2.0.0.post3-py3-none-any.whl"
WHEEL_SHA256 = "09faca95f69566b36a0d798ce01d24b25cc11367fb3b5323c4aa552421f715da"
_FOLDER = "snmachine/example_data/"
_BANDS = {name: code for code, name in enumerate("ugrizy")}
_COLUMN = {c.id: k for k, c in enumerate(CLASSES)}


@dataclass(frozen=True, slots=True)
class Labelled:
    """Light curves with what is known of them.

    Attributes
    ----------
    curves : LightCurves
        A objects, bands ugrizy, nJy; PLAsTiCC's detection flag decides between detection and forced.
    object_id : (A,) int64
    label : (A,) int64
        Column of `broker.core.taxonomy.CLASSES`.
    host_z, host_z_err : (A,) float64
        Photometric redshift of the host; exactly 0 for Galactic objects, as PLAsTiCC has it.
    moved_from_z : (A,) float64
        Best redshift of the host (spectroscopic where there is one): only for moving an object in augmentation.
    """

    curves: LightCurves
    object_id: Ints
    label: Ints
    host_z: Floats
    host_z_err: Floats
    moved_from_z: Floats

    def __len__(self) -> int:
        return len(self.label)

    def take(self, index: Ints) -> Self:
        """Return the objects at ``index`` (n,)."""
        columns: tuple[Any, ...] = (self.object_id, self.label, self.host_z, self.host_z_err, self.moved_from_z)
        return type(self)(self.curves.take(index), *(column[index] for column in columns))


def fetch(cache: Path) -> Path:
    """Return the wheel in ``cache``, downloaded with pip on first use.

    Raises
    ------
    TocsinError
        pip cannot download it, or what came is not the file that we know.
    """
    path = cache / WHEEL
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "-d", str(cache)]
        result = subprocess.run([*command, "snmachine==2.0.0.post3"], capture_output=True, text=True, check=False)
        if result.returncode != 0:
            raise TocsinError(f"cannot download snmachine 2.0.0.post3 (82 MB): {result.stderr.strip()[-300:]}")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != WHEEL_SHA256:
        raise TocsinError(f"{path} has the SHA-256 {digest}, expected {WHEEL_SHA256}: delete it and try again")
    return path


def load(source: Path) -> Labelled:
    """Return the training set from the wheel, or from a folder with ``lc.parquet`` and ``objects.parquet``.

    Objects in the order of their ids, points in time.
    """
    if source.is_dir():
        import pandas as pd

        points = pd.read_parquet(source / "lc.parquet").rename(columns={"fluxerr": "flux_err"})
        points["passband"] = points["band"].map(_BANDS).astype(int)
        return _labelled(points, pd.read_parquet(source / "objects.parquet"))
    names = ("plasticc_train_lightcurves.csv", "plasticc_train_metadata.csv")
    return _labelled(*(_normal(_read(source, name)) for name in names))


def _read(wheel: Path, name: str) -> Any:
    import pandas as pd

    with zipfile.ZipFile(wheel) as archive, archive.open(_FOLDER + name) as file:
        return pd.read_csv(file, skipinitialspace=True)


def _normal(table: Any) -> Any:
    return table.rename(columns={"object_id": "obj", "detected_bool": "det", "detected": "det"})


def _labelled(points: Any, objects: Any) -> Labelled:
    objects, points = objects.sort_values("obj"), points.sort_values(["obj", "mjd", "passband"], kind="stable")
    ids = objects["obj"].to_numpy(np.int64)
    first = np.searchsorted(points["obj"].to_numpy(np.int64), ids)
    to_njy = 10.0 ** (0.4 * (NJY_ZERO_POINT - PLASTICC_ZERO_POINT))
    curves = LightCurves(
        offsets=np.append(first, len(points)).astype(np.int64),
        mjd=points["mjd"].to_numpy(np.float64),
        # Rounded through float32: the two sources then hold the same numbers to the last bit.
        flux_njy=points["flux"].to_numpy(np.float32).astype(np.float64) * to_njy,
        flux_err_njy=points["flux_err"].to_numpy(np.float32).astype(np.float64) * to_njy,
        band=points["passband"].to_numpy(np.int8),
        kind=np.where(points["det"].to_numpy(bool), Kind.DETECTION, Kind.FORCED).astype(np.int8),
    )
    spectroscopic = objects["hostgal_specz"].to_numpy(np.float64)
    photometric = objects["hostgal_photoz"].to_numpy(np.float64)
    label = np.array([_COLUMN[BY_PLASTICC[t].id] for t in objects["target"]], dtype=np.int64)
    best = np.where(spectroscopic > 0, spectroscopic, photometric)
    return Labelled(curves, ids, label, photometric, objects["hostgal_photoz_err"].to_numpy(np.float64), best)
