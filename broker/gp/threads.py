"""Interpolation on several cores: the solvers release the GIL, and no curve depends on another."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from broker.core.batch import Floats, Interpolated, LightCurves
from broker.gp.api import interpolate

LEAST = 32  # curves: below, handing out the work costs more than it saves


def interpolate_on(
    threads: int, curves: LightCurves, wavelengths_aa: Floats, times: Floats, *, solver: str = "fast"
) -> Interpolated:
    """Return `interpolate`'s answer, bit for bit, made by ``threads`` threads on parts of about as many points each."""
    parts = _parts(curves, min(threads, len(curves) // LEAST))
    if len(parts) < 2:
        return interpolate(curves, wavelengths_aa, times, solver=solver)
    with ThreadPoolExecutor(len(parts)) as pool:
        made = list(
            pool.map(lambda rows: interpolate(curves.take(rows), wavelengths_aa, times[rows], solver=solver), parts)
        )
    return Interpolated(*(np.concatenate([getattr(part, name) for part in made]) for name in Interpolated.__slots__))


def _parts(curves: LightCurves, threads: int) -> list[np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """Return the rows of each part."""
    share = curves.offsets[:-1] * max(threads, 1) // max(int(curves.offsets[-1]), 1)
    return [rows for part in range(threads) if len(rows := np.flatnonzero(share == part))]
