"""Units of files and of what rows read."""

from __future__ import annotations


def factor(unit: str, wanted: str) -> float | None:
    """Return what values in ``unit`` are to be multiplied by to be in ``wanted``; None where that cannot be.

    ``log10(solMass)``, as rows write it, is ``dex(solMass)`` to astropy.
    """
    from astropy import units

    if unit == wanted:
        return 1.0
    try:
        ours, theirs = (units.Unit(text.replace("log10(", "dex(")) for text in (wanted, unit))
        if ours == theirs or (wanted == "mag" and theirs == units.ABmag):
            return 1.0
        return None if isinstance(ours, units.FunctionUnitBase) else float(theirs.to(ours))
    except (ValueError, TypeError, units.UnitsError):
        return None
