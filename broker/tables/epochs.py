"""What was known of an object at an epoch: its points up to so many days after the first detection."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from broker.core.batch import Floats, Ints, Kind, LightCurves
from broker.core.errors import TocsinError
from broker.core.jit import jit

WHOLE = np.nan
"""The epoch of a whole curve."""
HISTORY_D = {"ztf": 30.0, "lsst": 365.0}
"""Days of history in a packet."""
_DETECTION = int(Kind.DETECTION)
_COLUMNS = ("mjd", "flux_njy", "flux_err_njy", "band", "kind")


@dataclass(frozen=True, slots=True)
class Epochs:
    """Objects × epochs as one list of N light curves, object by object.

    Attributes
    ----------
    start, stop : (N,) int64
        The points of the curve; equal where nothing was known yet.
    """

    start: Ints
    stop: Ints


def parse(text: str) -> Floats:
    """Return days (K,) of ``0,2,5,all``; NaN is the whole curve.

    Raises
    ------
    TocsinError
        Something is neither a number from 0 on nor ``all``, or is there twice.
    """
    found: list[float] = []
    for part in (part.strip() for part in text.split(",")):
        try:
            days = WHOLE if part == "all" else float(part)
        except ValueError:
            days = -1.0
        if days < 0 or np.isinf(days) or (part != "all" and np.isnan(days)):
            raise TocsinError(f"--at {part!r}: days after the first detection, from 0 on, or all")
        found.append(days)
    if len({str(days) for days in found}) < len(found):
        raise TocsinError(f"--at {text} names an epoch twice")
    return np.array(found)


def cuts(curves: LightCurves, at: Floats, history_d: float | None = None) -> Epochs:
    """Return the points of A clean curves that were known at each of K epochs; N = A K.

    Parameters
    ----------
    at : (K,) float64
        Days after the first detection, that time included; NaN: the whole curve.
    history_d : float, optional
        What an alert shows: the latest detection by then and the days before it.
    """
    n = len(curves) * len(at)
    start, stop = np.zeros(n, np.int64), np.zeros(n, np.int64)
    _cuts(curves.offsets, curves.mjd, curves.kind, at, history_d is not None, history_d or 0.0, start, stop)
    return Epochs(start, stop)


def cut(curves: LightCurves, start: Ints, stop: Ints) -> LightCurves:
    """Return the points ``start`` to ``stop`` (N,) of the curves' points as N curves."""
    counts = stop - start
    offsets = np.concatenate(([0], np.cumsum(counts)))
    points = np.arange(offsets[-1]) + np.repeat(start - offsets[:-1], counts)
    return LightCurves(offsets, *(getattr(curves, name)[points] for name in _COLUMNS))


@jit()
def _cuts(
    offsets: Ints, mjd: Floats, kind: NDArray[np.int8], at: Floats, alert: bool, history: float,
    start: Ints, stop: Ints,
) -> None:  # fmt: skip
    for i in range(len(offsets) - 1):
        begin, end = offsets[i], offsets[i + 1]
        first = begin
        while first < end and kind[first] != _DETECTION:
            first += 1
        for k in range(len(at)):
            a, b = begin, end
            if not np.isnan(at[k]):
                while b > begin and (first == end or mjd[b - 1] - mjd[first] > at[k]):
                    b -= 1
            if alert:
                last = b - 1
                while last >= begin and kind[last] != _DETECTION:
                    last -= 1
                while b > begin and (last < begin or mjd[b - 1] > mjd[last]):
                    b -= 1
                while a < b and mjd[last] - mjd[a] > history:
                    a += 1
            start[i * len(at) + k], stop[i * len(at) + k] = a, b
