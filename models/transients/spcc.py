"""The supernova photometric classification challenge (Kessler et al. 2010) as the broker's own light curves.

21,319 simulated supernovae in g, r, i, z, types revealed: a folder with the public challenge's files ``DES_SN*.DAT``
(the unblinded set with host redshifts; in the history of github.com/COINtoolbox/ActSNClass at commit 1acbe008,
or from SNANA's archive), or a folder with the same in ``lc.parquet`` and ``objects.parquet``.

The files hold truth beside the data (redshift, time of the peak, template): none of it is read but the type.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from broker.core.batch import Floats, Ints, Kind, LightCurves
from broker.core.errors import TocsinError
from broker.core.taxonomy import CLASSES
from broker.core.units import NJY_ZERO_POINT, PLASTICC_ZERO_POINT
from broker.models.transients.data import Labelled

DETECTED = 5.0
"""A point is a detection from this signal to noise on: the challenge's files have no flag of their own."""
HOST_Z_ERR = 0.03
"""Error that every host's photometric redshift is given: the table of the Parquet form has none."""
_BANDS = {name: code for code, name in enumerate("ugrizy")}
_SLUG = {"Ia": "snia", "Ibc": "snibc", "II": "snii"}
_COLUMN = {name: k for name, slug in _SLUG.items() for k, c in enumerate(CLASSES) if c.slug == slug}


@dataclass(frozen=True, slots=True)
class Challenge:
    """The challenge's objects.

    Attributes
    ----------
    objects : Labelled
        In the order of their numbers, points in time; g, r, i, z are bands of ugrizy. ``moved_from_z`` is
        the spectroscopic redshift of those with a spectrum, the host's photometric one of the others.
    spectroscopic : (A,) bool
        The 1,103 that the challenge gave types of: brighter and nearer than the rest.
    """

    objects: Labelled
    spectroscopic: NDArray[np.bool_]

    def take(self, index: Ints) -> Self:
        """Return the objects at ``index`` (n,)."""
        return type(self)(self.objects.take(index), self.spectroscopic[index])


def load(source: Path) -> Challenge:
    """Return the challenge from a folder with ``DES_SN*.DAT`` (any depth), or with the two Parquet tables.

    Raises
    ------
    TocsinError
        The folder holds neither, or a file is not what it should be.
    """
    if (source / "lc.parquet").exists():
        import pandas as pd

        points = pd.read_parquet(source / "lc.parquet")
        return _challenge(points, pd.read_parquet(source / "objects.parquet"))
    files = sorted(source.rglob("DES_SN*.DAT"))
    if not files:
        raise TocsinError(f"{source} holds neither lc.parquet nor DES_SN*.DAT of the photometric challenge")
    return _challenge(*_tables(files))


def first_significant(curves: LightCurves, count: int, snr: float, *, nights: bool = False) -> LightCurves:
    """Return curves up to their ``count``-th point of more than ``snr`` sigma; whole where there are fewer.

    Parameters
    ----------
    nights : bool
        Count nights with such a point (12 h from the first) and keep the last one whole.
    """
    keep = np.ones(len(curves.mjd), dtype=bool)
    for a, b in zip(curves.offsets[:-1], curves.offsets[1:], strict=True):
        hits = a + np.flatnonzero(curves.flux_njy[a:b] > snr * curves.flux_err_njy[a:b])
        if nights:
            keep[a:b] = curves.mjd[a:b] <= _last_night(curves.mjd[hits], count)
        elif len(hits) >= count:
            keep[hits[count - 1] + 1 : b] = False
    return curves.keep(keep)


def _last_night(mjd: Floats, count: int) -> float:
    """Return the end of the ``count``-th night of the sorted mjd (n,); infinity where there are fewer."""
    begun: list[float] = []
    for t in mjd:
        if not begun or t > begun[-1] + 0.5:
            begun.append(float(t))
    return begun[count - 1] + 0.5 if len(begun) >= count else np.inf


def _challenge(points: Any, objects: Any) -> Challenge:
    objects, points = objects.sort_values("obj"), points.sort_values(["obj", "mjd", "band"], kind="stable")
    ids = objects["obj"].to_numpy(np.int64)
    first = np.searchsorted(points["obj"].to_numpy(np.int64), ids)
    flux, err = points["flux"].to_numpy(np.float64), points["fluxerr"].to_numpy(np.float64)
    to_njy = 10.0 ** (0.4 * (NJY_ZERO_POINT - PLASTICC_ZERO_POINT))
    curves = LightCurves(
        offsets=np.append(first, len(points)).astype(np.int64),
        mjd=points["mjd"].to_numpy(np.float64),
        flux_njy=flux * to_njy,
        flux_err_njy=err * to_njy,
        band=points["band"].map(_BANDS).to_numpy(np.int8),
        kind=np.where(flux >= DETECTED * err, Kind.DETECTION, Kind.FORCED).astype(np.int8),
    )
    photometric, measured = objects["host_photoz"].to_numpy(np.float64), objects["z_spec"].to_numpy(np.float64)
    label = objects["cls"].map(_COLUMN).to_numpy(np.int64)
    best = np.where(measured > 0, measured, photometric)
    labelled = Labelled(curves, ids, label, photometric, np.full(len(ids), HOST_Z_ERR), best)
    return Challenge(labelled, objects["in_spec_train"].to_numpy(bool))


def _tables(files: list[Path]) -> tuple[Any, Any]:
    import pandas as pd

    rows: list[tuple[int, float, str, float, float]] = []
    objects = []
    for path in files:
        own, points = _parsed(path)
        objects.append(own)
        rows.extend((own["obj"], *point) for point in points)
    return pd.DataFrame(rows, columns=["obj", "mjd", "band", "flux", "fluxerr"]), pd.DataFrame(objects)


def _parsed(path: Path) -> tuple[dict[str, Any], list[tuple[float, str, float, float]]]:
    """Return an object's row and its points; keys as SNANA writes them."""
    keys: dict[str, str] = {}
    points: list[tuple[float, str, float, float]] = []
    names: list[str] = []
    try:
        for key, value in _lines(path):
            if key == "VARLIST":
                names = value.split()
            elif key == "OBS":
                row = dict(zip(names, value.split(), strict=True))
                points.append((float(row["MJD"]), row["FLT"], float(row["FLUXCAL"]), float(row["FLUXCALERR"])))
            else:
                keys.setdefault(key, value)
        return _object(keys), points
    except (KeyError, ValueError, IndexError) as error:
        raise TocsinError(f"{path} is no file of the photometric challenge: {error!r}") from error


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    for line in path.read_text(encoding="ascii", errors="replace").splitlines():
        key, colon, value = line.partition(":")
        if colon:
            yield key.strip(), value.strip()


def _object(keys: dict[str, str]) -> dict[str, Any]:
    # "SN Type = II , MODEL = SDSS-017564": Ib, Ic and Ibc are one class, as are all of II.
    kind = keys["SIM_COMMENT"].split("Type =")[1].split(",")[0].strip()
    return {
        "obj": int(keys["SNID"]),
        "cls": {"Ia": "Ia", "Ib": "Ibc", "Ic": "Ibc", "Ibc": "Ibc"}.get(kind) or _of_type_two(kind),
        "in_spec_train": int(keys["SNTYPE"].split()[0]) > 0,
        "host_photoz": float(keys["HOST_GALAXY_PHOTO-Z"].split()[0]),
        "z_spec": float(keys["REDSHIFT_SPEC"].split()[0]),
    }


def _of_type_two(kind: str) -> str:
    if kind not in {"II", "IIn", "IIP", "IIL"}:
        raise ValueError(f"SN Type = {kind}")
    return "II"
