"""The classes that the networks know: PLAsTiCC's fourteen, under the class ids of ELAsTiCC, and the tree above them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class AstroClass:
    """One leaf of the tree.

    Attributes
    ----------
    id : int
        ELAsTiCC class id.
    plasticc : int
        ``target`` of the PLAsTiCC training set.
    slug : str
        Part of a topic's name: lower case, digits.
    name, short : str
        For people; ``short`` fits a table.
    parent : int
        Class id of the branch it hangs on.
    """

    id: int
    plasticc: int
    slug: str
    name: str
    short: str
    parent: int


CLASSES = (
    AstroClass(2222, 90, "snia", "Type Ia supernova", "SN Ia", 2220),
    AstroClass(2223, 62, "snibc", "Type Ib/c supernova", "SN Ib/c", 2220),
    AstroClass(2224, 42, "snii", "Type II supernova", "SN II", 2220),
    AstroClass(2225, 52, "sniax", "Type Iax supernova", "SN Iax", 2220),
    AstroClass(2226, 67, "sn91bg", "91bg-like supernova", "SN 91bg", 2220),
    AstroClass(2232, 64, "kilonova", "Kilonova", "KN", 2230),
    AstroClass(2233, 65, "mdwarf", "M-dwarf flare", "M-dwarf", 2230),
    AstroClass(2235, 6, "microlensing", "Microlensing event", "uLens", 2230),
    AstroClass(2242, 95, "slsn", "Superluminous supernova", "SLSN-I", 2240),
    AstroClass(2243, 15, "tde", "Tidal disruption event", "TDE", 2240),
    AstroClass(2323, 92, "rrlyrae", "RR Lyrae", "RR Lyr", 2320),
    AstroClass(2325, 16, "eclipsing", "Eclipsing binary", "EB", 2320),
    AstroClass(2326, 53, "mira", "Mira or other long-period variable", "Mira", 2320),
    AstroClass(2332, 88, "agn", "Active galactic nucleus", "AGN", 2330),
)
"""The order of the columns of every classifier."""

BRANCHES = {
    2200: ("Non-Recurring", None),
    2220: ("SN-like", 2200),
    2230: ("Fast", 2200),
    2240: ("Long", 2200),
    2300: ("Recurring", None),
    2320: ("Periodic", 2300),
    2330: ("Non-Periodic", 2300),
}
"""Branches: id to name and the id of the branch above (None: a root)."""

CLASS_IDS = tuple(c.id for c in CLASSES)
BRANCH_IDS = tuple(BRANCHES)
BY_ID = {c.id: c for c in CLASSES}
BY_PLASTICC = {c.plasticc: c for c in CLASSES}
COMMON = frozenset({2222, 2223, 2224, 2225, 2226})
"""Supernovae that a survey finds every night: what the anomaly score must tell the rare ones from."""
RARE = frozenset({2242, 2243, 2232})
"""What the anomaly score must find: superluminous supernovae, tidal disruptions, kilonovae."""


def ancestors(class_id: int) -> tuple[int, ...]:
    """Return the branches above a leaf or a branch, nearest first.

    Raises
    ------
    KeyError
        The id is in neither list.
    """
    parent = BY_ID[class_id].parent if class_id in BY_ID else BRANCHES[class_id][1]
    return () if parent is None else (parent, *ancestors(parent))


def over_branches(p: NDArray[np.floating], class_ids: Iterable[int] = CLASS_IDS) -> NDArray[np.floating]:
    """Return what the branches (..., N) hold, in the order of `BRANCH_IDS`: each the sum of its classes.

    Parameters
    ----------
    p : (..., K)
        Probabilities of the classes ``class_ids`` (K,).

    Raises
    ------
    KeyError
        A class is not in the tree.
    """
    under = [[branch in ancestors(class_id) for branch in BRANCH_IDS] for class_id in class_ids]
    return np.asarray(p @ np.array(under, p.dtype))
