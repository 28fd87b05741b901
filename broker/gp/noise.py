"""Errors that the model can believe: its noise is white and as large as the stated errors, and some are not.

A run is points of one band with gaps below `GAP_D`, in which no transient bends. Two rules:

1. *Bad errors.* The distance of a point to the straight line between its neighbours in the run, in stated errors, is
   z. Where a band has `LINES` of them or more, the median of |z| measures its errors. If it is larger than right errors
   allow, the band's errors grow by the ratio to what the median should be.
2. *Outliers.* A point of a run that is `SPIKE` of these errors or more off the median of the (up to four) points
   nearest to it in the run, while those agree with each other, gets that distance as its error: it may be anything.

A limit is no measurement: it takes part in neither. A curve that neither rule touches stays what it was, bit for bit.
Points without such neighbours are believed: a deviating night is what a transient looks like.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from broker.core.batch import Floats, Ints, Kind, LightCurves
from broker.core.jit import jit

GAP_D = 0.02
"""Half an hour: an RR Lyrae star leaves the line by 3 % of its range in it, a supernova by nothing."""
LINES = 12
SPIKE = 7.0
AGREE = 1.0 / 3.0
"""The points around an outlier differ from each other by less than this part of its distance."""
NORMAL_MEDIAN = 0.6744897501960817
"""Of |z|, z standard normal."""
SURE = 4.0
"""Errors grow where the median of |z| is this many of its standard deviations too large."""
NEAREST = 4
LIMIT = int(Kind.LIMIT)


def believable(curves: LightCurves, bands: int) -> LightCurves:
    """Return the light curves, sorted in time, with errors that their own close exposures confirm.

    Parameters
    ----------
    curves : LightCurves
        In time order within each curve; ones with points that no solver can use may be among them, and stay.
    bands : int
        Number of bands, B.
    """
    error = np.zeros(len(curves.mjd))
    columns = (curves.mjd, curves.flux_njy, curves.flux_err_njy, curves.band, curves.kind)
    if not _mend(curves.offsets, *columns, bands, error):
        return curves
    return replace(curves, flux_err_njy=np.where(error > 0.0, error, curves.flux_err_njy))


@jit()
def _mend(
    offsets: Ints,
    mjd: Floats,
    flux: Floats,
    stated: Floats,
    band: NDArray[np.int8],
    kind: NDArray[np.int8],
    bands: int,
    error: Floats,
) -> bool:
    """Write the errors that differ from the stated ones; say whether any does."""
    most = int(np.max(np.diff(offsets))) if len(offsets) > 1 else 0
    z2, before, after = np.empty(most), np.empty(most, np.int64), np.empty(most, np.int64)
    last, lines, larger = np.empty(bands, np.int64), np.empty(bands, np.int64), np.empty(bands, np.int64)
    growth, top, near = np.empty(bands), np.empty(bands), np.empty(NEAREST)
    changed = False
    for curve in range(len(offsets) - 1):
        low, high = offsets[curve], offsets[curve + 1]
        jumps = _link(low, high, mjd, flux, stated, band, kind, last, before, after, z2, lines)
        for b in range(bands):
            growth[b] = 1.0
            # |z| has a median that scatters by 0.79 / √m for m normal ones; neighbours share points: m is about 2 / 3
            least = NORMAL_MEDIAN + SURE * 0.79 / np.sqrt(max(lines[b], 1) * 2.0 / 3.0)
            top[b] = least**2 if lines[b] >= LINES else np.inf
            larger[b] = 0
        for i in range(low, high):
            if z2[i - low] > 0.0 and z2[i - low] > top[band[i]]:
                larger[band[i]] += 1
        for b in range(bands):
            if 2 * larger[b] > lines[b]:
                growth[b] = _growth(b, low, high, band, lines[b], z2)
                jumps = True
        if not jumps:
            continue
        for i in range(low, high):
            if kind[i] == LIMIT or band[i] < 0 or band[i] >= bands:
                continue
            sigma = stated[i] * growth[band[i]]
            j, k, least = before[i - low], after[i - low], SPIKE * sigma
            if (j >= 0 and abs(flux[i] - flux[j]) >= least) or (k >= 0 and abs(flux[i] - flux[k]) >= least):
                sigma = max(sigma, _distance(i, low, flux, before, after, least, near))
            if sigma != stated[i]:
                error[i], changed = sigma, True
    return changed


@jit()
def _link(
    low: int,
    high: int,
    mjd: Floats,
    flux: Floats,
    stated: Floats,
    band: NDArray[np.int8],
    kind: NDArray[np.int8],
    last: Ints,
    before: Ints,
    after: Ints,
    z2: Floats,
    lines: Ints,
) -> bool:
    """Write the neighbours in its run of each point (counted from ``low``; -1: none) and z²; 0 where there is no line.

    ``lines`` (B,) gets each band's number of them. Returns whether neighbours differ by as much as an outlier would.
    """
    last[:], lines[:] = -1, 0
    jumps = False
    for i in range(low, high):
        z2[i - low], before[i - low], after[i - low] = 0.0, -1, -1
        b = band[i]
        if kind[i] == LIMIT or b < 0 or b >= len(last):
            continue
        j, last[b] = last[b], i
        if j < 0 or not mjd[i] - mjd[j] <= GAP_D:
            continue
        jumps = jumps or abs(flux[i] - flux[j]) >= SPIKE * min(stated[i], stated[j])
        before[i - low], after[j - low] = j, i
        h = before[j - low]
        if h >= 0 and mjd[i] > mjd[h]:
            part = (mjd[j] - mjd[h]) / (mjd[i] - mjd[h])
            line = flux[h] + part * (flux[i] - flux[h])
            variance = stated[j] ** 2 + ((1.0 - part) * stated[h]) ** 2 + (part * stated[i]) ** 2
            square = (flux[j] - line) ** 2 / variance
            z2[j - low] = square if np.isfinite(square) else 0.0
            lines[b] += 1
    return jumps


@jit()
def _growth(b: int, low: int, high: int, band: NDArray[np.int8], lines: int, z2: Floats) -> float:
    """Return the ratio of the median of a band's |z| to what it should be."""
    sizes = np.zeros(lines)
    n = 0
    for i in range(low, high):
        if band[i] == b and z2[i - low] > 0.0:
            sizes[n] = np.sqrt(z2[i - low])
            n += 1
    return float(np.median(sizes) / NORMAL_MEDIAN)


@jit()
def _distance(i: int, low: int, flux: Floats, before: Ints, after: Ints, least: float, near: Floats) -> float:
    """Return a point's distance to the points around it in its run; 0 if it is below ``least`` or they disagree.

    ``near`` (NEAREST,) is scratch.
    """
    j, k = before[i - low], after[i - low]
    count = 0
    while count < NEAREST and (j >= 0 or k >= 0):
        if j >= 0:
            near[count], j = flux[j], before[j - low]
            count += 1
        if k >= 0 and count < NEAREST:
            near[count], k = flux[k], after[k - low]
            count += 1
    if count < 2:
        return 0.0
    for a in range(1, count):
        for b in range(a, 0, -1):
            near[b - 1], near[b] = min(near[b - 1], near[b]), max(near[b - 1], near[b])
    middle = 0.5 * (near[(count - 1) // 2] + near[count // 2])
    spread = near[2] - near[1] if count == NEAREST else near[count - 1] - near[0]
    off = abs(flux[i] - middle)
    return float(off) if off >= least and spread < AGREE * off else 0.0
