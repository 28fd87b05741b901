"""Checks that both surveys share: whether an alert is on the sky and in time."""

from __future__ import annotations

import numpy as np

from broker.core.batch import Floats
from broker.core.reasons import Dead
from broker.decode.fields import Problem, TextFault

# Beyond it a time cannot be written in milliseconds; no alert is 27,000 years old.
MAX_MJD = 1e7


def check(
    ra_deg: Floats, dec_deg: Floats, mjd: Floats, position: str, time: str, text: list[tuple[str, list[TextFault]]]
) -> list[Problem]:
    """Return what is wrong with A alerts.

    Parameters
    ----------
    ra_deg, dec_deg, mjd : (A,) float64
        Degrees; MJD TAI.
    position, time : str
        Names of the fields that they came from.
    text : list of (str, list of TextFault)
        Names of text fields, with what is wrong in which alerts.
    """
    problems = [Problem(i, reason, f"the text in {name} {what}") for name, bad in text for i, reason, what in bad]
    off_sky = ~((ra_deg >= 0) & (ra_deg <= 360) & (np.abs(dec_deg) <= 90))
    for i in np.flatnonzero(off_sky).tolist():
        where = f"ra {ra_deg[i]}, dec {dec_deg[i]}"
        problems.append(Problem(i, Dead.BAD_POSITION, f"{position} is not on the sky: {where}"))
    for i in np.flatnonzero(~(np.abs(mjd) <= MAX_MJD)).tolist():
        problems.append(Problem(i, Dead.BAD_TIME, f"{time} is not a time: MJD {mjd[i]}"))
    return problems
